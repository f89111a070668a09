package import FanfareCore
package import FanfareEngines
package import FanfareLoops
package import FanfareModel
package import Logging
import Synchronization

/// The broker on one Redis (7.0 or newer): two connections on one loop, all writes as scripts that check their fence.
package final class RedisBroker: Broker {
    /// Publications per append, and bytes of bodies: larger batches are refused, so that no script holds the server up.
    package static let appendEntryLimit = 4096
    package static let appendByteLimit = 32 << 20

    private let keys: RedisKeys
    private let channels: NodeChannels
    private let shared: LinkSurroundings
    private let commands: CommandLink
    private let subscriptions = Mutex<SubscriptionLink?>(nil)

    /// - Parameters:
    ///   - loop: runs both links; receivers are called on it.
    ///   - surroundings: of its random numbers come the jitter and the name of the probe channel.
    /// - Throws: where the configuration is not legal.
    package init(
        _ configuration: RedisConfiguration, node: NodeID, loop: EdgeLoop, surroundings: Surroundings, logger: Logger
    ) throws(RedisConfiguration.Invalid) {
        try configuration.validate()
        self.keys = RedisKeys(prefix: configuration.prefix, database: configuration.url.database)
        self.channels = NodeChannels(
            inbox: self.keys.inboxChannel(node), all: self.keys.allChannel, view: self.keys.viewChannel,
            probe: self.keys.probeChannel(surroundings.uuid()))
        self.shared = LinkSurroundings(
            configuration: configuration, loop: loop, random: surroundings.random, health: LinkHealth(),
            metrics: RedisMetrics(), logger: logger, clientName: Self.clientName(configuration.prefix, node))
        self.commands = CommandLink(self.shared)
    }

    /// The server takes printable characters without blanks.
    private static func clientName(_ prefix: String, _ node: NodeID) -> String {
        let characters = "\(prefix):\(node)".utf8.map { (0x21...0x7e).contains($0) ? $0 : UInt8(ascii: "_") }
        return String(decoding: characters.prefix(128), as: UTF8.self)
    }

    package func start(receiver: any BrokerReceiver) {
        let link = SubscriptionLink(
            self.shared, commands: self.commands, channels: self.channels, keys: self.keys, receiver: receiver)
        let isFirst = self.subscriptions.withLock { subscriptions in
            guard subscriptions == nil else { return false }
            subscriptions = link
            return true
        }
        guard isFirst else { return }
        let commands = self.commands
        self.shared.loop.execute {
            commands.assumeIsolated { $0.start() }
            link.assumeIsolated { $0.start() }
        }
    }

    package func stop() async {
        let link = self.subscriptions.withLock { $0 }
        await link?.stop()
        await self.commands.stop()
    }

    package var health: BrokerHealth { self.shared.health.current }

    // MARK: Membership

    package func heartbeat(
        _ member: Member, lease: Duration, newGeneration: String, seen: ViewNumber?
    ) async throws(EngineError) -> View {
        guard let text = MemberCodec.encode(member) else {
            throw EngineError(.rejected, "the incarnation contains a line feed")
        }
        let reply = try await self.run(
            .heartbeat, keys: self.membershipKeys, .heartbeat,
            [
                member.node.rawValue, text, Self.milliseconds(lease), newGeneration, self.channels.view,
                seen?.generation ?? "", String(seen?.number ?? 0), member.incarnation,
            ])
        guard let view = Self.view(reply) else { throw Self.malformed(.heartbeat) }
        return view
    }

    private static func view(_ reply: RedisReply) -> View? {
        guard let elements = reply.elements, elements.count >= 2, elements.count.isMultiple(of: 2),
            let generation = elements[0].text, let number = elements[1].number
        else { return nil }
        var members: [Member] = []
        for index in stride(from: 2, to: elements.count, by: 2) {
            guard let node = elements[index].text, let text = elements[index + 1].text,
                let member = MemberCodec.decode(text, node: node)
            else { return nil }
            members.append(member)
        }
        return View(number: ViewNumber(generation: generation, number: number), members: members)
    }

    package func leave(_ member: Member) async throws(EngineError) {
        _ = try await self.run(
            .leave, keys: self.membershipKeys, .leave,
            [member.node.rawValue, member.incarnation, self.channels.view])
    }

    private var membershipKeys: [String] { [self.keys.view, self.keys.members, self.keys.leases, self.keys.awaited] }

    package func claim(
        _ slot: Slot, view: ViewNumber, node: NodeID, incarnation: String, held: Fence?
    ) async throws(EngineError) -> Fence {
        let held = held.flatMap { $0.generation == view.generation ? String($0.number) : nil } ?? ""
        let reply = try await self.run(
            .claim, keys: [self.keys.fence(slot), self.keys.view, self.keys.awaited], .claim,
            [view.generation, String(view.number), node.rawValue, incarnation, held])
        guard let number = reply.number else { throw Self.malformed(.claim) }
        return Fence(generation: view.generation, number: number)
    }

    // MARK: Messages

    package func broadcast(_ batch: PublishedBatch, room: String) async throws(EngineError) {
        let channel = self.keys.roomChannel(room, Slot(of: room))
        _ = try await self.publish(BatchCodec.encode(batch), on: channel, .broadcast)
    }

    package func send(_ message: Bytes, to node: NodeID) async throws(EngineError) -> Bool {
        try await self.publish(message, on: self.keys.inboxChannel(node), .send) > 0
    }

    package func sendToAll(_ message: Bytes) async throws(EngineError) {
        _ = try await self.publish(message, on: self.keys.allChannel, .sendToAll)
    }

    /// - Returns: how many got it.
    private func publish(
        _ message: Bytes, on channel: String, _ operation: BrokerOperation
    ) async throws(EngineError) -> UInt64 {
        let command = RedisCommand("PUBLISH", [Array(channel.utf8), message])
        return try await self.commands.perform(command, operation).number ?? 0
    }

    package func subscribe(room: String) async throws(EngineError) {
        guard let link = self.subscriptions.withLock({ $0 }) else {
            throw EngineError(.unavailable, "the broker is not started")
        }
        try await link.subscribe(room)
    }

    package func unsubscribe(room: String) {
        guard let link = self.subscriptions.withLock({ $0 }) else { return }
        self.shared.loop.execute { link.assumeIsolated { $0.unsubscribe(room) } }
    }

    // MARK: Rooms

    package func open(
        _ room: String, fence: Fence, newEpoch: String, retention: Retention
    ) async throws(EngineError) -> StoredRoom {
        let reply = try await self.run(
            .open, keys: self.roomKeys(room), .open,
            Self.words(fence) + [newEpoch, Self.milliseconds(retention.emptyTime)])
        guard let elements = reply.elements, elements.count == 4, let top = Self.position(elements[0], elements[1]),
            let bodies = Self.bodies(elements[2]), UInt64(bodies.count) <= top.offset
        else { throw Self.malformed(.open) }
        return StoredRoom(
            top: top, bodies: bodies, firstOffset: top.offset - UInt64(bodies.count) + 1,
            mayHaveRolledBack: elements[3] != .integer(0))
    }

    package func append(
        _ batch: [RoomAppend], slot: Slot, fence: Fence
    ) async throws(EngineError) -> [RoomAppendOutcome] {
        guard !batch.isEmpty else { return [] }
        let call = try AppendCall(batch, slot: slot, fence: fence, keys: self.keys)
        let reply = try await self.commands.perform(
            .append, keys: call.keys, arguments: call.arguments, .append)
        guard let outcomes = call.outcomes(reply) else { throw Self.malformed(.append) }
        return outcomes
    }

    package func restore(
        _ name: String, to room: StoredRoom, from found: StreamPosition?, fence: Fence, retention: Retention
    ) async throws(EngineError) -> Bool {
        guard room.isContiguous else { throw EngineError(.rejected, "the bodies to restore do not end at the top") }
        var bytes = 0
        let kept = room.bodies.suffix(max(0, retention.count)).reversed().prefix { body in
            bytes += body.count
            return bytes <= retention.bytes
        }.reversed()
        let words =
            Self.words(fence) + [
                found?.epoch ?? "", String(found?.offset ?? 0), room.top.epoch, String(room.top.offset),
                String(kept.reduce(0) { $0 + $1.count }),
                Self.milliseconds(retention.time),
                Self.milliseconds(room.top.offset == 0 ? retention.emptyTime : retention.positionTime),
            ]
        let reply = try await self.commands.perform(
            .restore, keys: self.roomKeys(name), arguments: words.map { Array($0.utf8) } + kept, .restore)
        return reply.number == 1
    }

    package func read(_ room: String, since: UInt64?, limit: Int) async throws(EngineError) -> StoredRoom? {
        let slot = Slot(of: room)
        // Lua's numbers are exact up to 2^53, which no offset reaches.
        let after = since.map { min($0, 1 << 53) }
        let reply = try await self.run(
            .read, keys: [self.keys.meta(room, slot), self.keys.history(room, slot)], .read,
            [limit > 0 ? after.map { String($0) } ?? "" : "", String(min(max(limit, 1), 1 << 31))])
        if reply == .null { return nil }
        guard let elements = reply.elements, elements.count == 4, let top = Self.position(elements[0], elements[1]),
            let first = elements[2].number, let bodies = Self.bodies(elements[3])
        else { throw Self.malformed(.read) }
        return StoredRoom(top: top, bodies: bodies, firstOffset: bodies.isEmpty ? top.offset + 1 : first)
    }

    package func removeHistory(_ room: String, fence: Fence) async throws(EngineError) {
        _ = try await self.run(.removeHistory, keys: self.roomKeys(room), .removeHistory, Self.words(fence))
    }

    // MARK: Helpers

    private func run(
        _ script: RedisScript, keys: [String], _ operation: BrokerOperation, _ words: [String]
    ) async throws(EngineError) -> RedisReply {
        try await self.commands.perform(script, keys: keys, arguments: words.map { Array($0.utf8) }, operation)
    }

    private func roomKeys(_ room: String) -> [String] {
        let slot = Slot(of: room)
        return [self.keys.fence(slot), self.keys.meta(room, slot), self.keys.history(room, slot)]
    }

    static func words(_ fence: Fence) -> [String] { [fence.generation, String(fence.number)] }

    /// The server refuses a time of 0.
    static func milliseconds(_ duration: Duration) -> String { String(max(1, duration.milliseconds)) }

    static func position(_ epoch: RedisReply, _ offset: RedisReply) -> StreamPosition? {
        guard let epoch = epoch.text, let offset = offset.number, offset < .max else { return nil }
        return StreamPosition(offset: offset, epoch: epoch)
    }

    private static func bodies(_ reply: RedisReply) -> [Bytes]? {
        guard let elements = reply.elements else { return nil }
        let bodies = elements.compactMap(\.bytes)
        return bodies.count == elements.count ? bodies : nil
    }

    private static func malformed(_ operation: BrokerOperation) -> EngineError {
        EngineError(.rejected, "the answer to \(operation.rawValue) is malformed: are the keys another program's?")
    }
}
