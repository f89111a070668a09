package import FanfareModel

/// How a session speaks: chosen at the handshake.
///
/// An *object* is one reply, push or ping as `encode…` writes it; a *message* is what goes into one WebSocket frame: one
/// object or several, put together by `append(object:to:)`.
package enum ProtocolVariant: Hashable, Sendable, CaseIterable {
    case json
    case protobuf

    /// Limits on what one message may hold.
    package struct Limits: Hashable, Sendable {
        /// SDKs send their subscriptions in one message after a reconnect.
        package var commands: Int
        /// How deep a payload may nest: beyond it the command that carries it is refused, and nothing else.
        package var depth: Int

        package init(commands: Int = 1024, depth: Int = JSONScanner.maximumDepth) {
            self.commands = commands
            self.depth = depth
        }
    }

    /// Whether messages go as text frames.
    package var isText: Bool { self == .json }

    /// The commands of one WebSocket message, in order.
    /// - Throws: `Disconnect.badRequest` where anything in it is malformed.
    package func decode(_ message: Bytes, limits: Limits = Limits()) throws(Disconnect) -> [Command] {
        switch self {
        case .json: try JSONCodec.decode(message, limits: limits)
        case .protobuf: try ProtobufCodec.decode(message, limits: limits)
        }
    }

    /// Appends the reply as an object.
    package func encode(_ reply: Reply, into object: inout Bytes) {
        switch self {
        case .json: JSONCodec.encode(reply, into: &object)
        case .protobuf: ProtobufCodec.encode(reply, into: &object)
        }
    }

    /// Appends the push as an object.
    /// - Parameter channel: Empty for a push that belongs to no channel.
    package func encode(_ push: Push, channel: String, into object: inout Bytes) {
        switch self {
        case .json: JSONCodec.encode(push, channel: channel, into: &object)
        case .protobuf: ProtobufCodec.encode(push, channel: channel, into: &object)
        }
    }

    package func encode(_ reply: Reply) -> Bytes {
        var object = Bytes()
        self.encode(reply, into: &object)
        return object
    }

    package func encode(_ push: Push, channel: String) -> Bytes {
        var object = Bytes()
        self.encode(push, channel: channel, into: &object)
        return object
    }

    /// The server's ping: an empty reply.
    package var ping: Bytes { self == .json ? [UInt8(ascii: "{"), UInt8(ascii: "}")] : [] }

    /// Puts an object at the end of a message: a newline before all but the first (JSON), its length before it (protobuf).
    package func append(object: Bytes, to message: inout Bytes) {
        switch self {
        case .json:
            if !message.isEmpty { message.append(0x0a) }
        case .protobuf:
            Varint.append(UInt64(object.count), to: &message)
        }
        message.append(contentsOf: object)
    }

    /// How many bytes `append(object:to:)` adds at the most.
    package static func framedLength(of object: Bytes) -> Int { object.count + Varint.maximumLength }
}
