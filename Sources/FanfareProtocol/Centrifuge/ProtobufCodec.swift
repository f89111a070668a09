import FanfareModel
import SwiftProtobuf

#if canImport(FoundationEssentials)
    import FoundationEssentials
#else
    import Foundation
#endif

/// The protocol as protobuf messages, each after its length.
enum ProtobufCodec {
    /// Fields that Fanfare does not read are dropped unparsed, so that nesting cannot hide in them.
    private static let options: BinaryDecodingOptions = {
        var options = BinaryDecodingOptions()
        options.messageDepthLimit = 8
        options.discardUnknownFields = true
        return options
    }()

    static func decode(_ message: Bytes, limits: ProtocolVariant.Limits) throws(Disconnect) -> [Command] {
        var commands: [Command] = []
        var position = 0
        repeat {
            guard commands.count < limits.commands,
                let length = message.withUnsafeBufferPointer({ Varint.read($0, at: &position) }),
                length <= UInt64(message.count - position)
            else { throw .badRequest }
            let end = position + Int(length)
            commands.append(try self.command(message[position..<end]))
            position = end
        } while position < message.count
        return commands
    }

    private static func command(_ bytes: ArraySlice<UInt8>) throws(Disconnect) -> Command {
        guard let wire = try? WireCommand(serializedBytes: Bytes(bytes), options: self.options),
            let body = self.body(of: wire), body.hasChannel
        else { throw .badRequest }
        switch body {
        case .pong: guard wire.id == 0 else { throw .badRequest }
        case .send: break
        default: guard wire.id > 0 else { throw .badRequest }
        }
        return Command(id: wire.id, body: body)
    }

    /// The first method in schema order; nil for one that is not spoken or malformed.
    private static func body(of wire: WireCommand) -> CommandBody? {
        if wire.hasConnect { return .connect(self.request(wire.connect)) }
        if wire.hasSubscribe { return self.request(wire.subscribe).map(CommandBody.subscribe) }
        if wire.hasUnsubscribe { return .unsubscribe(channel: wire.unsubscribe.channel) }
        if wire.hasPublish {
            return .publish(channel: wire.publish.channel, data: self.line(wire.publish.data))
        }
        if wire.hasPresence { return .presence(channel: wire.presence.channel) }
        if wire.hasPresenceStats { return .presenceStats(channel: wire.presenceStats.channel) }
        if wire.hasHistory {
            let request = wire.history
            let since =
                request.hasSince
                ? StreamPosition(offset: request.since.offset, epoch: request.since.epoch) : nil
            let filter = HistoryFilter(limit: Int(request.limit), since: since, reverse: request.reverse)
            return .history(channel: request.channel, filter: filter)
        }
        if wire.hasPing { return nil }
        if wire.hasSend { return .send(data: Bytes(wire.send.data)) }
        if wire.hasRpc { return .rpc(method: wire.rpc.method, data: Bytes(wire.rpc.data)) }
        if wire.hasRefresh { return .refresh(token: wire.refresh.token) }
        if wire.hasSubRefresh { return .subRefresh(channel: wire.subRefresh.channel, token: wire.subRefresh.token) }
        return .pong
    }

    private static func request(_ wire: WireConnectRequest) -> ConnectRequest {
        ConnectRequest(
            token: wire.token, data: Bytes(wire.data),
            subs: wire.subs.mapValues { RecoverRequest(recover: $0.recover, offset: $0.offset, epoch: $0.epoch) },
            name: wire.name, version: wire.version)
    }

    private static func request(_ wire: WireSubscribeRequest) -> SubscribeRequest? {
        guard wire.delta.isEmpty || wire.delta == "fossil" else { return nil }
        return SubscribeRequest(
            channel: wire.channel, token: wire.token, recover: wire.recover, offset: wire.offset, epoch: wire.epoch,
            data: Bytes(wire.data), positioned: wire.positioned, recoverable: wire.recoverable,
            joinLeave: wire.joinLeave, delta: !wire.delta.isEmpty, hasTagFilter: wire.hasTf, flag: wire.flag,
            type: wire.type)
    }

    /// A payload that other clients may get inside a line of JSON.
    private static func line(_ data: Data) -> Bytes { Bytes(data).withUnsafeBufferPointer { JSONScanner.line($0) } }

    static func encode(_ reply: Reply, into object: inout Bytes) {
        self.append(WireReply(reply), to: &object)
    }

    static func encode(_ push: Push, channel: String, into object: inout Bytes) {
        self.append(WireReply.with { $0.push = WirePush(push, channel: channel) }, to: &object)
    }

    private static func append(_ message: WireReply, to object: inout Bytes) {
        // A proto3 message without required fields always serializes.
        let bytes: Bytes = (try? message.serializedBytes()) ?? []
        object.append(contentsOf: bytes)
    }
}
