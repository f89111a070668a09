import FanfareCore
import FanfareEngines
import FanfareModel
import FanfareTesting
import Synchronization
import Testing

@testable import FanfareRedis

@Suite("Redis fails", .serialized)
struct LinkFailureTests {
    private static let room = "room:1"
    private static let slot = Slot(of: "room:1")

    private static func open(_ node: BrokerNode) async throws -> (fence: Fence, stored: StoredRoom) {
        let view = try await node.broker.heartbeat(
            node.member(), lease: .seconds(60), newGeneration: surroundings.letters())
        let fence = try await node.broker.claim(Self.slot, view: view.number, node: node.id, incarnation: "first")
        let stored = try await node.broker.open(
            Self.room, fence: fence, newEpoch: surroundings.letters(), retention: Retention())
        return (fence, stored)
    }

    private static func append(
        _ text: String, _ node: BrokerNode, at position: StreamPosition, fence: Fence
    ) async throws -> RoomAppendOutcome {
        let append = RoomAppend(
            room: Self.room, expected: position, entries: [AppendEntry(body: Array(text.utf8))], retention: Retention())
        return try await node.broker.append([append], slot: Self.slot, fence: fence)[0]
    }

    private static func code(_ body: () async throws -> Void) async -> EngineError.Code? {
        do { try await body() } catch { return (error as? EngineError)?.code }
        return nil
    }

    @Test("a crash that loses everything: links come back, old fences do not, rooms are restored")
    func crashWithoutData() async throws {
        let server = try RedisServer()
        let cluster = try await redisCluster(server, nodes: 2)
        let (one, two) = (cluster.nodes[0], cluster.nodes[1])
        let (fence, stored) = try await Self.open(one)
        try await two.broker.subscribe(room: Self.room)
        _ = try await Self.append("a", one, at: stored.top, fence: fence)
        // The server answers the append first: killed at once, it may never send the publication.
        try await eventually("the publication arrives") { two.receiver.publications(Self.room).count == 1 }

        server.kill()
        try await eventually("the loss is seen") {
            cluster.nodes.allSatisfy { !$0.broker.health.commands && !$0.broker.health.subscriptions }
        }
        #expect(await Self.code { _ = try await Self.open(one) } == .unavailable)
        #expect(await Self.code { try await one.broker.subscribe(room: "room:new") } == .unavailable)
        try await eventually("the breaker opens") { one.broker.health.breaker == "open" }
        #expect(one.broker.health.problem != nil)

        try server.start()
        try await eventually(within: .seconds(10), "links come back") { one.broker.isUp && two.broker.isUp }
        #expect(two.receiver.count(of: .linkLost) == 1)
        try await eventually("the restoration is told") { two.receiver.count(of: .linkRestored) == 1 }
        let top = StreamPosition(offset: 1, epoch: stored.top.epoch)
        #expect(await Self.code { _ = try await Self.append("b", one, at: top, fence: fence) } == .fenced)

        let view = try await one.broker.heartbeat(one.member(), lease: .seconds(60), newGeneration: "second")
        #expect(view.number == ViewNumber(generation: "second", number: 1))
        let next = try await one.broker.claim(Self.slot, view: view.number, node: one.id, incarnation: "first")
        #expect(try await Self.append("b", one, at: top, fence: next) == .mismatch(nil))
        let room = StoredRoom(top: top, bodies: [Array("a".utf8)], firstOffset: 1)
        #expect(
            try await one.broker.restore(Self.room, to: room, from: nil, fence: next, retention: Retention()))
        _ = try await Self.append("b", one, at: top, fence: next)
        try await eventually("the subscription is back") { two.receiver.publications(Self.room).count == 2 }
        await cluster.stop()
    }

    @Test("a crash that loses nothing: the same fence goes on")
    func crashWithData() async throws {
        let server = try RedisServer(keepsData: true)
        let cluster = try await redisCluster(server, nodes: 1)
        let node = cluster.nodes[0]
        let (fence, stored) = try await Self.open(node)
        _ = try await Self.append("a", node, at: stored.top, fence: fence)
        try server.restart()
        try await eventually(within: .seconds(10), "links come back") {
            guard node.broker.isUp else { return false }
            let code = await Self.code { _ = try await node.broker.read(Self.room, since: nil, limit: 0) }
            return code == nil
        }
        func claim(held: Fence?) async throws -> Fence {
            let view = try await node.broker.heartbeat(node.member(), lease: .seconds(60), newGeneration: "other")
            return try await node.broker.claim(
                Self.slot, view: view.number, node: node.id, incarnation: "first", held: held)
        }
        #expect(try await claim(held: fence) == fence)
        let top = StreamPosition(offset: 1, epoch: stored.top.epoch)
        func reopened() async throws -> StoredRoom {
            try await node.broker.open(Self.room, fence: fence, newEpoch: "unused", retention: Retention())
        }
        #expect(!stored.mayHaveRolledBack)
        #expect(
            try await reopened()
                == StoredRoom(top: top, bodies: [Array("a".utf8)], firstOffset: 1, mayHaveRolledBack: true))
        let outcome = try await Self.append("b", node, at: top, fence: fence)
        let position = StreamPosition(offset: 2, epoch: stored.top.epoch)
        #expect(outcome == .appended([AppendedEntry(position: position, isDuplicate: false)]))
        #expect(try await !reopened().mayHaveRolledBack)
        try server.restart()
        try await eventually(within: .seconds(10), "links come back") { node.broker.isUp }
        #expect(await Self.code { _ = try await reopened() } == .fenced)
        #expect(try await claim(held: fence) == fence)
        let room = try await reopened()
        #expect(room.mayHaveRolledBack)
        #expect(
            try await node.broker.restore(Self.room, to: room, from: room.top, fence: fence, retention: Retention()))
        #expect(try await !reopened().mayHaveRolledBack)
        await cluster.stop()
    }

    @Test("a restart: no slot is given until all were heard, and a fence that was not held last is not given again")
    func claimsAfterARestart() async throws {
        let server = try RedisServer(keepsData: true)
        let cluster = try await redisCluster(server, nodes: 2)
        let (one, two) = (cluster.nodes[0], cluster.nodes[1])
        let (fence, _) = try await Self.open(one)
        _ = try await two.broker.heartbeat(two.member(), lease: .seconds(60), newGeneration: "other")
        try server.restart()
        try await eventually(within: .seconds(10), "links come back") { one.broker.isUp && two.broker.isUp }
        let view = try await one.broker.heartbeat(one.member(), lease: .seconds(60), newGeneration: "other").number
        func claim(_ view: ViewNumber, held: Fence?) async throws -> Fence {
            try await one.broker.claim(Self.slot, view: view, node: one.id, incarnation: "first", held: held)
        }
        #expect(await Self.code { _ = try await claim(view, held: fence) } == .fenced)
        // The other one saw a view that this server lost: whoever was given the slot by that has written.
        let seen = ViewNumber(generation: view.generation, number: view.number + 5)
        let newest = try await two.broker.heartbeat(
            two.member(), lease: .seconds(60), newGeneration: "other", seen: seen
        ).number
        #expect(newest.number == seen.number + 1)
        #expect(await Self.code { _ = try await claim(view, held: fence) } == .fenced)
        let next = try await claim(newest, held: nil)
        #expect(next.number > seen.number)
        #expect(try await claim(newest, held: nil) == next)
        await cluster.stop()
    }

    @Test("a restart ends no lease: whoever comes back first counts nobody out")
    func leasesAfterARestart() async throws {
        let server = try RedisServer(keepsData: true)
        let cluster = try await redisCluster(server, nodes: 2)
        let (one, two) = (cluster.nodes[0], cluster.nodes[1])
        let lease = Duration.milliseconds(300)
        _ = try await one.broker.heartbeat(one.member(), lease: .seconds(60), newGeneration: "g")
        let before = try await two.broker.heartbeat(two.member(), lease: lease, newGeneration: "g")
        let ended = ContinuousClock.now + lease
        try server.restart()
        try await eventually("the lease is over") { ContinuousClock.now > ended }
        try await eventually(within: .seconds(10), "links come back") { one.broker.isUp }
        let after = try await one.broker.heartbeat(one.member(), lease: .seconds(60), newGeneration: "g")
        #expect(after == before)
        await cluster.stop()
    }

    @Test("the subscription link is cut: it comes back with all its rooms")
    func subscriptionLinkCut() async throws {
        let server = try RedisServer()
        let cluster = try await redisCluster(server, nodes: 1)
        let node = cluster.nodes[0]
        let rooms = (0..<3000).map { "room:\($0)" }
        try await withThrowingTaskGroup(of: Void.self) { group in
            for room in rooms { group.addTask { try await node.broker.subscribe(room: room) } }
            try await group.waitForAll()
        }
        node.broker.unsubscribe(room: rooms[7])
        for cut in 1...3 {
            _ = try server.command("CLIENT", "KILL", "TYPE", "pubsub")
            try await eventually("the loss is told") { node.receiver.count(of: .linkLost) == cut }
            try await eventually("the restoration is told") { node.receiver.count(of: .linkRestored) == cut }
            #expect(node.broker.health.subscriptions)
        }
        #expect(try server.command("PUBSUB", "NUMSUB", "nothing") == "nothing\n0")
        for room in rooms {
            try await node.broker.broadcast(PublishedBatch(epoch: "e", firstOffset: 1, bodies: [[1]]), room: room)
        }
        try await eventually("all rooms deliver") {
            node.receiver.events.count { if case .batch = $0 { true } else { false } } >= rooms.count - 1
        }
        #expect(node.receiver.batches(rooms[7]).isEmpty)
        await cluster.stop()
    }

    @Test("the command link is cut: what was sent is unknown, and it comes back")
    func commandLinkCut() async throws {
        let server = try RedisServer()
        let cluster = try await redisCluster(server, nodes: 1)
        let node = cluster.nodes[0]
        server.pause()
        async let lost = Self.code { try await node.broker.sendToAll([1]) }
        async let lostRead = Self.code { _ = try await node.broker.read("room:1", since: nil, limit: 0) }
        #expect(await lost == .unknownOutcome)
        #expect(await lostRead == .unavailable)
        server.resume()
        try await eventually(within: .seconds(10), "links come back") { node.broker.isUp }
        try await node.broker.sendToAll([2])
        try await eventually("it delivers again") { node.receiver.messages.last == [2] }
        await cluster.stop()
    }

    @Test("a silent server is noticed within 2 s, and so is its return")
    func silentServer() async throws {
        let server = try RedisServer()
        let cluster = try await redisCluster(server, nodes: 1)
        let node = cluster.nodes[0]
        let begin = ContinuousClock.now
        server.pause()
        try await eventually("the silence is noticed") { !node.broker.health.subscriptions }
        let elapsed = ContinuousClock.now - begin
        #expect(elapsed < .milliseconds(2500), "\(elapsed)")
        try await eventually("the loss is told") { node.receiver.count(of: .linkLost) == 1 }
        server.resume()
        try await eventually(within: .seconds(10), "links come back") { node.broker.isUp }
        try await eventually("the restoration is told") { node.receiver.count(of: .linkRestored) == 1 }
        await cluster.stop()
    }

    @Test("a link that answers pings and delivers nothing is rebuilt")
    func subscribedGreenAndSilent() async throws {
        let server = try RedisServer()
        let proxy = try FaultyProxy(to: server.port)
        let cluster = try await redisCluster(server, nodes: 1) { $0.url.port = proxy.port }
        let node = cluster.nodes[0]
        proxy.swallow("message")
        try await eventually("the silence is noticed") { node.receiver.count(of: .linkLost) >= 1 }
        proxy.swallow(nil)
        try await eventually(within: .seconds(10), "the link delivers again") {
            guard node.broker.isUp else { return false }
            try? await node.broker.sendToAll([1])
            return !node.receiver.messages.isEmpty
        }
        await cluster.stop()
        proxy.stop()
    }

    @Test("commands under way are bounded by number and bytes")
    func overload() async throws {
        let server = try RedisServer()
        let cluster = try await redisCluster(server, nodes: 1) { configuration in
            configuration.commandLimit = 8
            configuration.commandByteLimit = 100_000
            configuration.probeInterval = .seconds(60)
        }
        let node = cluster.nodes[0]
        server.pause()
        let codes = await withTaskGroup(of: EngineError.Code?.self) { group in
            for _ in 0..<20 { group.addTask { await Self.code { try await node.broker.sendToAll([1]) } } }
            return await group.reduce(into: []) { $0.append($1) }
        }
        server.resume()
        #expect(codes.count { $0 == .overloaded } == 12)
        #expect(codes.count { $0 == .unknownOutcome } == 8)
        try await eventually(within: .seconds(10), "links come back") { node.broker.isUp }
        server.pause()
        let big = Bytes(repeating: 0, count: 60_000)
        let bigCodes = await withTaskGroup(of: EngineError.Code?.self) { group in
            for _ in 0..<3 { group.addTask { await Self.code { try await node.broker.sendToAll(big) } } }
            return await group.reduce(into: []) { $0.append($1) }
        }
        server.resume()
        #expect(bigCodes.count { $0 == .overloaded } == 2)
        await cluster.stop()
    }

    @Test("stopping fails what waits, and nothing works afterwards")
    func stopping() async throws {
        let server = try RedisServer()
        let cluster = try await redisCluster(server, nodes: 1)
        let node = cluster.nodes[0]
        server.pause()
        let sent = Task { await Self.code { try await node.broker.sendToAll([1]) } }
        let subscribed = Task { await Self.code { try await node.broker.subscribe(room: "room:1") } }
        await node.broker.stop()
        // Whichever came first.
        let code = await sent.value
        #expect(code == .unknownOutcome || code == .unavailable)
        #expect(await subscribed.value == .unavailable)
        #expect(await Self.code { try await node.broker.sendToAll([1]) } == .unavailable)
        #expect(await Self.code { try await node.broker.subscribe(room: "room:1") } == .unavailable)
        #expect(!node.broker.isUp)
        await node.broker.stop()
        server.resume()
    }
}
