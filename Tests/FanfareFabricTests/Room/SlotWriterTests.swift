import FanfareCore
import FanfareEngines
import FanfareModel
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
}
