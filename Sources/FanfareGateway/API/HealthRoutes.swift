package import FanfareModel
internal import FanfareProtocol
internal import HTTPTypes
internal import Hummingbird
internal import HummingbirdCore

/// Whether the node can do its work, part by part.
package struct Readiness: Sendable, Hashable {
    package struct Part: Sendable, Hashable {
        /// `broker`, `database`, `membership`, `delivery` …
        package var name: String
        /// `ok`, `degraded`, `failed`, `off`, `draining` …
        package var state: String
        /// Why, for operators.
        package var problem: String?
        /// The circuit breaker around it: `closed`, `open`, `half_open`; nil where there is none.
        package var breaker: String?
        /// Those of its classes of work, where there are several; `breaker` is the worst.
        package var breakers: [String: String]
        /// Without it the node must not get new clients.
        package var isReady: Bool

        package init(
            name: String, state: String, problem: String? = nil, breaker: String? = nil,
            breakers: [String: String] = [:], isReady: Bool
        ) {
            self.name = name
            self.state = state
            self.problem = problem
            self.breaker = breaker
            self.breakers = breakers
            self.isReady = isReady
        }
    }

    package var parts: [Part]
    package var isReady: Bool { self.parts.allSatisfy(\.isReady) }

    package init(parts: [Part]) { self.parts = parts }

    var json: JSON {
        let parts = self.parts.map { part in
            var members: [JSON.Member] = [.init("state", .string(part.state))]
            if let breaker = part.breaker { members.append(.init("breaker", .string(breaker))) }
            if !part.breakers.isEmpty {
                let states = part.breakers.sorted { $0.key < $1.key }.map { JSON.Member($0.key, .string($0.value)) }
                members.append(.init("breakers", .object(states)))
            }
            if let problem = part.problem { members.append(.init("problem", .string(problem))) }
            return JSON.Member(part.name, .object(members))
        }
        return ["status": .string(self.isReady ? "ready" : "not ready"), "parts": .object(parts)]
    }
}

/// `/health/live`, `/health/ready` and `/metrics`.
package struct HealthRoutes: Sendable {
    private let readiness: @Sendable () async -> Readiness
    private let metrics: @Sendable () -> Bytes

    /// - Parameters:
    ///   - readiness: answers within a second.
    ///   - metrics: in Prometheus' text format.
    package init(
        readiness: @escaping @Sendable () async -> Readiness, metrics: @escaping @Sendable () -> Bytes
    ) {
        self.readiness = readiness
        self.metrics = metrics
    }

    package func addRoutes(to router: GatewayRouter) {
        self.add("/health/live", to: router) { Response.json(Bytes(#"{"status":"live"}"#.utf8)) }
        self.add("/health/ready", to: router) {
            let readiness = await self.readiness()
            let body = readiness.json.serialize()
            return readiness.isReady
                ? Response.json(body) : Response.json(body, status: .serviceUnavailable, retryAfterSeconds: 1)
        }
        self.add("/metrics", to: router) {
            Response.bytes(self.metrics(), contentType: "text/plain; version=0.0.4; charset=utf-8")
        }
    }

    /// GET, HEAD, which load balancers send, and 405 for the rest.
    private func add(_ path: RouterPath, to router: GatewayRouter, _ answer: @escaping @Sendable () async -> Response) {
        router.get(path) { _, _ in await answer() }
        router.head(path) { _, _ in await answer().createHeadResponse() }
        for method in [HTTPRequest.Method.post, .put, .patch, .delete, .options] {
            router.on(path, method: method) { _, _ in
                var response = Response.text("this path is read by GET", status: .methodNotAllowed)
                response.headers[.allow] = "GET, HEAD"
                return response
            }
        }
    }
}
