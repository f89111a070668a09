import FanfareCore
import FanfareEngines
import FanfareModel
import FanfareProtocol
import Testing

@testable import FanfareFabric
@testable import FanfareTesting

@Suite("Slots and their engine") struct SlotWriterTests {
    @Test("the same key gives the same position") func idempotency() async {
        let positions = await onOwnThread {
            let bench = Bench()
            return [("1", "k"), ("2", "k"), ("3", "l")].map { bench.position($0, to: "room:1", key: $1)?.offset }
        }
        #expect(positions == [1, 1, 2])
    }

    /// At the limit a retry gets its first result, and what is refused was not appended.
    @Test func keysAtTheLimit() async {
        let (results, history, later) = await onOwnThread {
            let bench = Bench { $0.idempotencyKeys = 2 }
            let keys: [(data: String, key: String?)] = [
                ("1", "a"), ("1", "a"), ("1", "a"), ("2", "b"), ("x", "c"), ("2", "b"), ("1", "a"), ("3", nil),
                ("x", "c"),
            ]
            let results = keys.map { bench.publish($0.data, to: "room:1", key: $0.key) }
            let history = bench.engine.state.read("room:1", since: 0, limit: 10, now: bench.scheduler.now)
            // Forgotten by the node a portion of the window late.
            bench.run(NodeConfiguration(name: NodeID("n")).retention.idempotencyWindow + .seconds(10))
            return (results, history?.bodies.count, bench.position("4", to: "room:1", key: "c")?.offset)
        }
        let offsets = results.map { result -> UInt64? in (try? result?.get()).flatMap { $0?.offset } }
        #expect(offsets == [1, 1, 1, 2, nil, 2, 1, 3, nil])
        #expect(results[4] == .failure(.tooManyRequests) && results[8] == .failure(.tooManyRequests))
        #expect(history == 3)
        #expect(later == 4)
    }

    /// A proven owner puts back what the engine lost, under the same epoch.
    @Test(arguments: [false, true]) func restores(everything: Bool) async {
        let (before, after, history) = await onOwnThread {
            let bench = Bench()
            let before = bench.position("1", to: "room:1")
            let snapshot = bench.engine.state
            _ = bench.position("2", to: "room:1")
            bench.engine.restart(with: everything ? nil : snapshot)
            let after = bench.position("3", to: "room:1")
            let history = bench.engine.state.read("room:1", since: 0, limit: 10, now: bench.scheduler.now)
            return (before, after, history?.bodies.count)
        }
        #expect(after?.offset == 3)
        #expect(after?.epoch == before?.epoch)
        #expect(history == 3)
    }

    /// Where another node may have owned the slot while the owner was away, its memory proves nothing: a rollback gives the
    /// room a new epoch. The other node was there as long as its own view is remembered by it, whatever the engine lost.
    @Test(arguments: [false, true]) func comesBackToARollback(otherWasThere: Bool) async {
        let (before, after) = await onOwnThread {
            let bench = Bench()
            let before = bench.position("1", to: "room:1")
            let snapshot = bench.engine.state
            bench.engine.partitioned.insert(NodeID("n0"))
            bench.run(.seconds(5))
            let other = Member(node: NodeID("other"), incarnation: "i", address: "")
            var seen: ViewNumber?
            func beat() {
                let answer = try? bench.engine.state.heartbeat(
                    other, lease: .seconds(3), newGeneration: "h", seen: seen, now: bench.scheduler.now)
                seen = answer?.view.number
            }
            if otherWasThere { beat() }
            bench.engine.restart(with: snapshot)
            if otherWasThere {
                beat()
                _ = bench.engine.state.leave(other)
            }
            bench.engine.reconnect(NodeID("n0"))
            bench.run(.seconds(3))
            return (before, bench.position("2", to: "room:1"))
        }
        #expect(after?.offset == 2)
        #expect(before != nil && (after?.epoch != before?.epoch) == otherWasThere)
    }

    @Test("what does not fit is refused for now") func bounds() async {
        let codes = await onOwnThread {
            let bench = Bench { $0.slot.waitingCount = 2 }
            let codes = Box<[UInt32]>([])
            bench.loop.execute {
                for index in 0..<5 {
                    bench.loop.task {
                        do throws(FanfareError) {
                            let order = PublishOrder(channel: try Channel("room:1"), data: Bytes("\(index)".utf8))
                            _ = try await bench.node.publish(order, by: .server)
                            codes.value.append(0)
                        } catch {
                            codes.value.append(error.code)
                        }
                    }
                }
            }
            bench.run(.seconds(2))
            return codes.value.sorted()
        }
        #expect(codes == [0, 0, 111, 111, 111])
    }

    @Test("without an engine publishers are told, and afterwards it goes on") func away() async {
        let (refused, after) = await onOwnThread {
            let bench = Bench()
            _ = bench.position("1", to: "room:1")
            bench.engine.partitioned.insert(NodeID("n0"))
            let refused = bench.publish("2", to: "room:1")
            bench.engine.reconnect(NodeID("n0"))
            bench.run(.seconds(3))
            return (refused, bench.position("3", to: "room:1"))
        }
        #expect(refused == .failure(.brokerUnavailable))
        #expect(after?.offset == 2)
    }

    @Test("no more rooms are opened than may be; those not in use are closed, and make room") func rooms() async {
        let result = await onOwnThread {
            let bench = Bench {
                $0.slot.rooms = 3
                $0.session.pingInterval = .seconds(3600)
            }
            let reader = bench.connect()
            let client = bench.connect()
            _ = client.ask(2, #""subscribe":{"channel":"room:kept"}"#)
            _ = bench.publish("1", to: "room:kept")
            var codes: [Int64] = []
            for number in 1...4 {
                _ = reader.ask(number + 1, "\"history\":{\"channel\":\"room:invented-\(number)\",\"limit\":1}")
                codes.append(reader.error(number + 1) ?? 0)
            }
            let full = bench.publish("1", to: "room:new")
            let known = bench.publish("2", to: "room:kept")
            let stored = bench.engine.state.roomCount
            // Those that were read have been idle for long enough; the subscriber's room has not.
            for _ in 0..<70 {
                bench.run(.seconds(1))
                _ = bench.publish("x", to: "room:kept")
            }
            let before = bench.node.budget.count
            _ = bench.publish("1", to: "room:new")
            bench.run(.seconds(2))
            return (codes, full, known, stored, before, bench.position("1", to: "room:new")?.offset)
        }
        #expect(result.0 == [0, 0, 111, 111])
        #expect(result.1 == .failure(.tooManyRequests))
        #expect(result.2 != nil && result.2 != .failure(.tooManyRequests))
        #expect(result.3 == 3)
        #expect(result.4 == 3)
        #expect(result.5 == 1)
    }

    @Test("rooms of a slot that is lost count no more, whatever was under way", arguments: [false, true])
    func lostSlots(underWay: Bool) async {
        let (before, after) = await onOwnThread {
            let bench = Bench()
            for number in 1...20 { _ = bench.position("1", to: "room:\(number)") }
            let before = bench.node.budget.count
            bench.engine.partitioned.insert(NodeID("n0"))
            bench.loop.execute {
                guard underWay else { return }
                for number in 1...20 {
                    bench.loop.task {
                        guard let channel = try? Channel("room:\(number)") else { return }
                        _ = try? await bench.node.publish(PublishOrder(channel: channel, data: [0x31]), by: .server)
                    }
                }
            }
            bench.run(.milliseconds(50))
            bench.loop.execute {
                bench.node.map.lostName("elsewhere")
                bench.node.slots.viewChanged(bench.node.map)
            }
            bench.run(.seconds(1))
            return (before, bench.node.budget.count)
        }
        #expect(before == 20)
        #expect(after == 0)
    }

    @Test("the epoch of a room that nobody wrote to is kept as long as somebody is there, and forgotten soon after")
    func emptyRooms() async {
        let result = await onOwnThread {
            let bench = Bench {
                $0.retention = Retention(emptyTime: .seconds(100))
                $0.session.pingInterval = .seconds(3600)
            }
            func stored(_ room: String) -> StreamPosition? {
                bench.engine.state.read(room, since: nil, limit: 0, now: bench.scheduler.now)?.top
            }
            let client = bench.connect()
            let kept = client.ask(2, #""subscribe":{"channel":"room:kept"}"#)?["subscribe"]?["epoch"]?.stringValue
            let read = client.ask(3, #""history":{"channel":"room:read","limit":1}"#)?["history"]?["epoch"]?.stringValue
            let before = stored("room:read")
            bench.run(.seconds(300))
            let after = (stored("room:kept"), stored("room:read"))
            // The owner still knows what it told, and goes on with it.
            return (kept, read, before, after, bench.position("1", to: "room:read"))
        }
        #expect(result.0 != nil && result.1 != nil)
        #expect(result.2 == result.1.map { StreamPosition(offset: 0, epoch: $0) })
        #expect(result.3.0 == result.0.map { StreamPosition(offset: 0, epoch: $0) })
        #expect(result.3.1 == nil)
        #expect(result.4 == result.1.map { StreamPosition(offset: 1, epoch: $0) })
    }
}
