package import FanfareFabric
package import FanfareModel
internal import FanfareProtocol

/// Sends every message back: for conformance suites and for measuring what the delivery loops cost by themselves.
///
/// Used on its connection's loop alone, hence safe to share (`@unchecked`).
package final class EchoHandler: SessionHandler, @unchecked Sendable {
    private var transport: (any SessionTransport)?

    package init(transport: any SessionTransport) { self.transport = transport }

    package func received(_ message: Bytes, isText: Bool) {
        self.transport?.send(SharedFrame(bytes: FrameEncoder.frame(message: message, isText: isText), publications: 0))
    }

    package func closed() { self.transport = nil }
}
