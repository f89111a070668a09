import FanfareModel
package import FanfareProtocol

/// The server API of a running node, as the commands use it.
package struct ServerAPI: Sendable {
    package let address: ServerAddress
    private let key: String
    private let time: Duration

    /// - Parameters:
    ///   - key: `FANFARE_API_KEY`.
    ///   - time: for each call.
    /// - Throws: where the key is missing or cannot stand in a header field.
    package init(address: ServerAddress, key: String?, time: Duration = .seconds(15)) throws(CommandError) {
        guard let key, !key.isEmpty else {
            throw CommandError("no API key: set FANFARE_API_KEY (./cluster/up keeps it in .cluster/env)")
        }
        guard key.utf8.allSatisfy({ (0x20...0x7e).contains($0) }) else {
            throw CommandError("FANFARE_API_KEY has characters that no HTTP field may have")
        }
        self.address = address
        self.key = key
        self.time = time
    }

    /// - Returns: the method's `result`.
    /// - Throws: where the node is out of reach, refuses the key, or answers with an error.
    package func call(_ method: String, _ parameters: JSON) async throws(CommandError) -> JSON {
        let response = try await HTTPExchange.post(
            parameters.serialize(), to: "/api/" + method, at: self.address, headers: [("X-API-Key", self.key)],
            time: self.time)
        return try ServerAPI.result(of: response.body, status: response.status, address: self.address)
    }

    /// What an answer says.
    static func result(of body: Bytes, status: Int, address: ServerAddress) throws(CommandError) -> JSON {
        let answer = try? JSON.parse(body)
        if let error = answer?["error"], let code = error["code"]?.integerValue {
            throw CommandError("error \(code): \(error["message"]?.stringValue ?? "no message")")
        }
        switch status {
        case 200:
            guard let result = answer?["result"] else {
                throw CommandError(
                    "\(address.description) answered with something else than a result: is it a Fanfare node?")
            }
            return result
        case 401, 403: throw CommandError("\(address.description) refuses the API key")
        case 404: throw CommandError("\(address.description) has no such method: is its server API on?")
        case 429, 503: throw CommandError("\(address.description) is busy or not ready (HTTP \(status)): try again")
        default: throw CommandError("\(address.description) answered with HTTP status \(status)")
        }
    }
}
