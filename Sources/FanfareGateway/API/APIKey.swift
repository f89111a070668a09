internal import FanfareModel
internal import HTTPTypes
package import Hummingbird

/// The server API's key, and where requests carry it.
package struct APIKey: Sendable {
    private static let field = HTTPField.Name("X-API-Key")
    private let key: Bytes

    /// - Returns: nil for an empty key.
    package init?(_ key: String) {
        guard !key.isEmpty else { return nil }
        self.key = Bytes(key.utf8)
    }

    /// Whether the request carries the key: `X-API-Key: K`, `Authorization: apikey K` or `?api_key=K`.
    package func admits(_ request: Request) -> Bool {
        if let key = APIKey.field.flatMap({ request.headers[$0] }) { return self.matches(key) }
        if let authorization = request.headers[.authorization] {
            let parts = authorization.split(separator: " ", maxSplits: 1)
            guard parts.count == 2, parts[0].lowercased() == "apikey" else { return false }
            return self.matches(String(parts[1]))
        }
        guard let key = request.uri.queryParameters["api_key"] else { return false }
        return self.matches(String(key))
    }

    /// Takes the same time wherever the first difference is; only the length of the key can be told by time.
    func matches(_ candidate: String) -> Bool {
        let candidate = Bytes(candidate.utf8)
        var difference = candidate.count ^ self.key.count
        for index in candidate.indices { difference |= Int(candidate[index] ^ self.key[index % self.key.count]) }
        return difference == 0
    }
}
