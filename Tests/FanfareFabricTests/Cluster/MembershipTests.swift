import FanfareCore
import FanfareEngines
import FanfareModel
import Testing

@testable import FanfareFabric
@testable import FanfareTesting

@Suite("Membership of a node") struct MembershipTests {
    @Test("who asks while a heartbeat is under way shares the next one") func coalescing() async {
        let (requests, answered) = await onOwnThread {
            let bench = Bench()
            bench.run(.milliseconds(100))
            let before = bench.engine.requests
            let answered = Box(0)
            bench.loop.execute {
                for _ in 0..<100 {
                    bench.node.membershipChanged()
                    bench.loop.task {
                        await bench.node.membership.refresh()
                        answered.value += 1
                    }
                }
            }
            _ = bench.scheduler.run(for: .milliseconds(100)) { answered.value == 100 }
            return (bench.engine.requests - before, answered.value)
        }
        #expect(answered == 100)
        #expect((1...3).contains(requests), "\(requests) heartbeats")
    }

    @Test("nobody waits for a heartbeat that nobody answers") func failing() async {
        let (answered, problem, recovered) = await onOwnThread {
            let bench = Bench()
            bench.engine.partitioned.insert(NodeID("n0"))
            let answered = bench.wait { await bench.node.membership.refresh() } != nil
            let problem = bench.wait { await bench.node.membership.problem }
            bench.engine.reconnect(NodeID("n0"))
            bench.run(.seconds(2))
            return (answered, problem ?? nil, bench.wait { await bench.node.membership.problem })
        }
        #expect(answered)
        #expect(problem?.contains("partitioned") == true)
        #expect(recovered == .some(nil))
    }

    @Test("an engine that came back from before a view goes on above it: its number stands for no other one")
    func lostView() async {
        let (before, after) = await onOwnThread {
            let bench = Bench()
            let snapshot = bench.engine.state
            let other = Member(node: NodeID("other"), incarnation: "i", address: "")
            _ = try? bench.engine.state.heartbeat(
                other, lease: .seconds(60), newGeneration: "g", now: bench.scheduler.now)
            bench.node.membershipChanged()
            bench.run()
            let before = bench.node.map.view
            bench.engine.restart(with: snapshot)
            bench.run(.seconds(2))
            return (before, bench.node.map.view)
        }
        #expect(before?.members.count == 2)
        #expect(after?.members.count == 1)
        #expect(before?.number.generation == after?.number.generation)
        #expect((before?.number.number ?? 0) < (after?.number.number ?? 0))
    }

    @Test("a node whose name another process has owns nothing, admits nobody, and waits until the name is free")
    func namesake() async {
        let result = await onOwnThread {
            let bench = Bench()
            let map = bench.node.map
            var log: [String] = []
            func note(_ what: String) {
                log.append("\(what): \(map.ownedSlots().count) \(map.bearsName) \(map.nameConflict ?? "-")")
            }
            note("alone")
            let before = bench.position("1", to: "room:1")
            // It falls silent for long enough, and another process takes its name.
            let other = Member(node: NodeID("n0"), incarnation: "other", address: "elsewhere")
            bench.engine.partitioned.insert(NodeID("n0"))
            bench.run(.seconds(3))
            let numbers = Box<Set<UInt64>>([])
            let lives = Box(true)
            @Sendable func beat() {
                guard lives.value else { return }
                _ = try? bench.engine.state.heartbeat(
                    other, lease: .seconds(3), newGeneration: "h", now: bench.scheduler.now)
                if let number = bench.engine.state.view?.number.number { numbers.value.insert(number) }
                bench.engine.loop.schedule(after: .seconds(1)) { beat() }
            }
            beat()
            bench.engine.reconnect(NodeID("n0"))
            bench.run(.seconds(10))
            note("taken")
            let refused = bench.publish("2", to: "room:1")
            let late = bench.open()
            late.send(#"{"id":1,"connect":{}}"#)
            bench.run()
            let views = numbers.value.count
            // The other one ends.
            lives.value = false
            _ = bench.engine.state.leave(other)
            bench.run(.seconds(2))
            note("free")
            return (log, refused, late.transport.closed?.code, views, before, bench.position("2", to: "room:1"))
        }
        #expect(
            result.0 == [
                "alone: 1024 true -", "taken: 0 false the name is in use at elsewhere", "free: 1024 true -",
            ])
        #expect(result.1 == .failure(.brokerUnavailable))
        #expect(result.2 == 3001)
        #expect(result.3 == 1, "the view flips")
        #expect(result.5?.offset == 2 && result.5?.epoch == result.4?.epoch)
    }
}
