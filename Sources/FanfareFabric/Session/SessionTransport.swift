package import FanfareCore
package import FanfareModel
package import FanfareProtocol

/// What a session writes to: one client's connection. Confined to its loop: every call is made there.
package protocol SessionTransport: AnyObject, Sendable {
    /// Queues one encoded protocol object (a reply or a push: a JSON line without its newline, or a protobuf message without
    /// its length prefix). Objects of one turn of the loop leave together, at most 16 in a WebSocket message, in the order in
    /// which they and shared frames were given.
    func send(_ object: Bytes)

    /// Queues a complete WebSocket message that all subscribers of a room share.
    func send(_ frame: SharedFrame)

    /// Flushes what is queued as far as it goes, sends the close frame and ends the connection within a bounded time.
    /// Afterwards nothing is sent and `SessionHandler.closed` is called once, later on the loop.
    func close(_ disconnect: Disconnect)

    /// Bytes queued and not yet taken by the socket.
    var queuedBytes: Int { get }
}

/// A WebSocket message with its frame header, encoded once and written to many connections.
package final class SharedFrame: Sendable {
    package let bytes: Bytes
    /// How many publications it carries.
    package let publications: Int

    package init(bytes: Bytes, publications: Int) {
        self.bytes = bytes
        self.publications = publications
    }
}

/// The session's side of a connection. Confined to the loop.
package protocol SessionHandler: AnyObject, Sendable {
    /// One complete message of the client. Text messages are valid UTF-8.
    func received(_ message: Bytes, isText: Bool)
    /// The connection is gone, for whatever reason. Called once.
    func closed()
}

/// What is known of a connection when its session begins.
package struct SessionOpening: Sendable {
    package var variant: ProtocolVariant
    package var remoteAddress: String
    /// Whether the client is on this machine.
    package var isLocal: Bool
    package var loop: any Loop

    package init(variant: ProtocolVariant, remoteAddress: String, isLocal: Bool = false, loop: any Loop) {
        self.variant = variant
        self.remoteAddress = remoteAddress
        self.isLocal = isLocal
        self.loop = loop
    }
}
