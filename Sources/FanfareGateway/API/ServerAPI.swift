package import FanfareFabric
internal import FanfareModel
internal import FanfareProtocol
internal import HTTPTypes
internal import Hummingbird
internal import Metrics

/// The server API: `POST /api/<method>` with JSON and the API key.
package struct ServerAPI: Sendable {
    /// Bytes of a request's body: a batch of some dozens of the largest publications, or 10 000 users.
    package static let maximumBody = 4 << 20
    private static let errorMode = HTTPField.Name("X-Centrifugo-Error-Mode")

    private let methods: MethodRouter
    private let key: APIKey?

    /// - Parameter key: nil switches the API off: 404.
    package init(methods: MethodRouter, key: APIKey?) {
        self.methods = methods
        self.key = key
    }

    package func addRoutes(to router: GatewayRouter) {
        router.post("/api/:method") { request, context in
            try await self.respond(to: request, method: context.parameters.get("method") ?? "")
        }
        for method in [HTTPRequest.Method.get, .head, .put, .patch, .delete, .options] {
            router.on("/api/:method", method: method) { _, _ in
                var response = Response.text("the server API is called by POST", status: .methodNotAllowed)
                response.headers[.allow] = "POST"
                return response
            }
        }
    }

    private func respond(to request: Request, method name: String) async throws -> Response {
        if let refusal = self.refusal(of: request, method: name) {
            _ = try await request.body(upTo: 0)
            return refusal
        }
        guard let body = try await request.body(upTo: ServerAPI.maximumBody) else {
            return .text("the body is larger than \(ServerAPI.maximumBody) bytes", status: .contentTooLarge)
        }
        guard let method = Method(rawValue: name) else { return .text("unknown method", status: .notFound) }
        do {
            _ = try JSONObject(body)
        } catch {
            return .text("the body is no JSON object: \(error)", status: .badRequest)
        }
        let isTransportMode = ServerAPI.errorMode.flatMap { request.headers[$0] } == "transport"
        return await self.call(method, body, isTransportMode: isTransportMode)
    }

    /// What is wrong with a request but for its body.
    private func refusal(of request: Request, method name: String) -> Response? {
        guard let key = self.key else { return .text("the server API is off: no key is set", status: .notFound) }
        guard key.admits(request) else { return Response(status: .unauthorized) }
        guard Method(rawValue: name) != nil else { return .text("unknown method", status: .notFound) }
        guard ServerAPI.isServed(contentType: request.headers[.contentType]) else {
            return .text("send JSON", status: .unsupportedMediaType)
        }
        return nil
    }

    private func call(_ method: Method, _ body: Bytes, isTransportMode: Bool) async -> Response {
        do throws(FanfareError) {
            let result = try await self.methods.call(method, body, by: .server)
            ServerAPI.count(method, code: 0)
            // A batch's replies stand alone.
            guard method != .batch else { return .json(result) }
            return .json(JSON.object([.init("result", .raw(result))]).serialize())
        } catch {
            ServerAPI.count(method, code: error.code)
            let description = MethodRouter.error(error)
            guard isTransportMode else {
                return .json(JSON.object([.init("error", description)]).serialize())
            }
            let status = ServerAPI.status(of: error)
            let delay = max(1, ((error.retryAfterMilliseconds ?? 1000) + 999) / 1000)
            let isForLater = status == .tooManyRequests || status == .serviceUnavailable
            return .json(
                description.serialize(), status: status, retryAfterSeconds: isForLater ? Int(delay) : nil)
        }
    }

    /// What `curl -d` sends by itself is taken for JSON, as whoever sends it means.
    private static func isServed(contentType: String?) -> Bool {
        guard let contentType else { return true }
        let type = contentType.prefix { $0 != ";" }.trimmingSpaces().lowercased()
        return type.isEmpty || type == "application/json" || type.hasSuffix("+json")
            || ["application/x-www-form-urlencoded", "application/octet-stream", "text/plain"].contains(type)
    }

    static func status(of error: FanfareError) -> HTTPResponse.Status {
        switch error.code {
        case 101: .unauthorized
        case 102, 104, 1003: .notFound
        case 103, 1007: .forbidden
        case 106, 107, 108: .badRequest
        case 111, 1008: .tooManyRequests
        case 112: .rangeNotSatisfiable
        case 113, 1001, 1002, 1006: .conflict
        case 1004, 1005: .serviceUnavailable
        default: .internalServerError
        }
    }

    private static func count(_ method: Method, code: UInt32) {
        Counter(
            label: "fanfare_api_requests_total", dimensions: [("method", method.rawValue), ("code", String(code))]
        ).increment()
    }
}

extension Substring {
    fileprivate func trimmingSpaces() -> Substring {
        let start = self.drop { $0 == " " || $0 == "\t" }
        return start.lastIndex { $0 != " " && $0 != "\t" }.map { start[...$0] } ?? ""
    }
}
