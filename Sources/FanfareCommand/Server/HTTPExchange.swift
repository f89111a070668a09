import FanfareModel
import NIOCore
import NIOHTTP1
import NIOPosix

#if canImport(Glibc)
    import Glibc
#endif

/// One HTTP/1.1 request on a connection of its own.
enum HTTPExchange {
    struct Response: Sendable {
        var status: Int
        var body: Bytes
    }

    /// A longer answer is refused.
    static let maximumBody = 64 << 20

    /// Posts JSON.
    /// - Parameter time: for all of it, connecting included.
    /// - Throws: where there is no complete answer in time.
    static func post(
        _ body: Bytes, to path: String, at address: ServerAddress, headers: [(String, String)], time: Duration
    ) async throws(CommandError) -> Response {
        let outcome: Result<Response, CommandError>
        do {
            let channel = try await ClientBootstrap(group: MultiThreadedEventLoopGroup.singleton)
                .connectTimeout(.nanoseconds(time.nanoseconds))
                .connect(host: address.host, port: address.port) { channel in
                    channel.eventLoop.makeCompletedFuture {
                        try channel.pipeline.syncOperations.addHTTPClientHandlers()
                        return try NIOAsyncChannel<HTTPClientResponsePart, HTTPClientRequestPart>(
                            wrappingChannelSynchronously: channel)
                    }
                }
            // Ends the wait below: the channel's stream finishes early, which is told as a time-out.
            let deadline = channel.channel.eventLoop.scheduleTask(in: .nanoseconds(time.nanoseconds)) {
                channel.channel.close(promise: nil)
            }
            defer { deadline.cancel() }
            outcome = try await channel.executeThenClose { inbound, outbound in
                try await self.exchange(body, path, address, headers, inbound, outbound)
            }
        } catch {
            throw CommandError("cannot reach \(address.description): \(self.reason(error))")
        }
        return try outcome.get()
    }

    private static func exchange(
        _ body: Bytes, _ path: String, _ address: ServerAddress, _ headers: [(String, String)],
        _ inbound: NIOAsyncChannelInboundStream<HTTPClientResponsePart>,
        _ outbound: NIOAsyncChannelOutboundWriter<HTTPClientRequestPart>
    ) async throws -> Result<Response, CommandError> {
        var fields = HTTPHeaders(headers)
        fields.add(name: "Host", value: address.authority)
        fields.add(name: "Content-Type", value: "application/json")
        fields.add(name: "Content-Length", value: String(body.count))
        fields.add(name: "Connection", value: "close")
        let head = HTTPRequestHead(version: .http1_1, method: .POST, uri: address.basePath + path, headers: fields)
        try await outbound.write(.head(head))
        try await outbound.write(.body(.byteBuffer(ByteBuffer(bytes: body))))
        try await outbound.write(.end(nil))
        var response = Response(status: 0, body: [])
        for try await part in inbound {
            switch part {
            case .head(let head): response.status = Int(head.status.code)
            case .body(let buffer):
                guard response.body.count + buffer.readableBytes <= self.maximumBody else {
                    return .failure(CommandError("the answer of \(address.description) is too long"))
                }
                response.body += buffer.readableBytesView
            case .end: return .success(response)
            }
        }
        return .failure(CommandError("\(address.description) did not answer in time or broke the connection"))
    }

    static func reason(_ error: any Error) -> String {
        if let error = error as? NIOConnectionError {
            if error.connectionErrors.isEmpty { return "the host name is not known" }
            return self.reason(error.connectionErrors[0].error)
        }
        if let error = error as? ChannelError, case .connectTimeout = error { return "no connection in time" }
        if let error = error as? IOError {
            switch error.errnoCode {
            case ECONNREFUSED: return "connection refused"
            case ECONNRESET: return "connection reset"
            case EHOSTUNREACH, ENETUNREACH: return "no route to the host"
            case ETIMEDOUT: return "no connection in time"
            default: break
            }
        }
        return "\(error)"
    }
}
