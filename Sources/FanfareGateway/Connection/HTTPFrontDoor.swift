internal import FanfareModel
internal import Glibc
package import HummingbirdCore
package import Logging
package import NIOCore
package import NIOPosix

/// Serves HTTP on sockets that were accepted elsewhere: NIO and Hummingbird read the request that the listener has only
/// peeked at.
package final class HTTPFrontDoor: Sendable {
    /// Answers a request.
    package typealias Responder =
        @concurrent @Sendable (Request, consuming ResponseWriter, any NIOCore.Channel) async throws -> Void

    private let channel: HTTP1Channel
    private let group: MultiThreadedEventLoopGroup
    private let logger: Logger
    private let descriptors: AsyncStream<HandedSocket>
    private let continuation: AsyncStream<HandedSocket>.Continuation

    /// Sockets that wait for `run` to take them.
    private static let maximumWaiting = 1024

    struct HandedSocket: Sendable {
        let descriptor: CInt
        /// Called once when the connection is over.
        let ended: @Sendable () -> Void
    }

    /// - Parameter idleTimeout: a connection without a request for this long is closed.
    package init(
        responder: @escaping Responder, group: MultiThreadedEventLoopGroup, logger: Logger,
        idleTimeout: Duration = .seconds(75)
    ) {
        self.channel = HTTP1Channel(
            responder: responder,
            configuration: .init(
                idleTimeout: .nanoseconds(idleTimeout.nanoseconds),
                httpDecoderConfiguration: .init(
                    maxHeaderFieldSize: 16 << 10, maxHeaderListSize: 32 << 10, maxHeaderFieldCount: 100)))
        self.group = group
        self.logger = logger
        (self.descriptors, self.continuation) = AsyncStream.makeStream(
            bufferingPolicy: .bufferingOldest(HTTPFrontDoor.maximumWaiting))
    }

    /// Takes over a connected socket; where too many wait, it is closed. Callable from any thread.
    func accept(_ socket: HandedSocket) {
        switch self.continuation.yield(socket) {
        case .enqueued: break
        case .dropped(let dropped): HTTPFrontDoor.drop(dropped)
        case .terminated: HTTPFrontDoor.drop(socket)
        @unknown default: HTTPFrontDoor.drop(socket)
        }
    }

    private static func drop(_ socket: HandedSocket) {
        close(socket.descriptor)
        socket.ended()
    }

    /// Takes no more connections: `run` returns when those that are open have ended, or at once when it is cancelled.
    package func finish() { self.continuation.finish() }

    /// Called once; ends on cancellation, or after `finish`.
    package func run() async {
        await withDiscardingTaskGroup { tasks in
            for await socket in self.descriptors {
                tasks.addTask { await self.serve(socket) }
            }
        }
        self.continuation.finish()
    }

    private func serve(_ socket: HandedSocket) async {
        defer { socket.ended() }
        let channel = self.channel
        let logger = self.logger
        let value: HTTP1Channel.Value
        do {
            value = try await ClientBootstrap(group: self.group).withConnectedSocket(socket.descriptor) { connected in
                channel.setup(channel: connected, logger: logger)
            }
        } catch {
            // The peer is gone already; NIO has closed the socket.
            logger.debug("HTTP connection could not be taken over", metadata: ["error": "\(error)"])
            return
        }
        await channel.handle(value: value, logger: logger)
    }
}
