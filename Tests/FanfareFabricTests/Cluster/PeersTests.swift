import FanfareCore
import FanfareEngines
import FanfareModel
import FanfareProtocol
import Logging
import Testing

@testable import FanfareFabric
@testable import FanfareTesting

@Suite("Requests between nodes") struct PeersTests {
    private static let ghost = NodeID("ghost")

    private static func failure(_ bench: Bench, of node: NodeID, _ peers: Peers) -> (PeerFailure?, Duration) {
        let began = bench.scheduler.now
        let failure = bench.wait { () -> PeerFailure? in
            do throws(PeerFailure) {
                _ = try await peers.request(.info, of: node, timeout: .seconds(1))
                return nil
            } catch {
                return error
            }
        }
        return (failure ?? nil, bench.scheduler.now - began)
    }

    enum Silence: Sendable { case nobody, deaf, partitioned }

    @Test(
        "no answer is told in time, and says whether something may have been done",
        arguments: [
            (Silence.nobody, PeerFailure.unreachable, 0.0...0.1), (.deaf, .timeout, 0.9...1.1),
            (.partitioned, .unavailable, 0.0...0.3),
        ])
    func silence(_ kind: Silence, _ expected: PeerFailure, _ seconds: ClosedRange<Double>) async {
        let (failure, took) = await onOwnThread {
            let bench = Bench()
            switch kind {
            case .nobody: break
            case .deaf: _ = bench.engine.makeBroker(for: Self.ghost, loop: bench.scheduler.makeLoop(name: "ghost"))
            case .partitioned: bench.engine.partitioned.insert(NodeID("n0"))
            }
            return Self.failure(bench, of: Self.ghost, bench.node.peers)
        }
        #expect(failure == expected)
        #expect(seconds.contains(Double(took.nanoseconds) / 1e9), "\(took)")
    }

    @Test("who leaves the view answers no more: its requests end at once") func leaving() async {
        let (failure, took) = await onOwnThread {
            let bench = Bench()
            _ = bench.engine.makeBroker(for: Self.ghost, loop: bench.scheduler.makeLoop(name: "ghost"))
            let member = Member(node: Self.ghost, incarnation: "i", address: "")
            _ = try? bench.engine.state.heartbeat(
                member, lease: .seconds(60), newGeneration: "g", now: bench.scheduler.now)
            bench.node.membershipChanged()
            bench.run(.milliseconds(100))
            bench.loop.schedule(after: .milliseconds(100)) {
                _ = bench.engine.state.leave(member)
                bench.node.membershipChanged()
            }
            return Self.failure(bench, of: Self.ghost, bench.node.peers)
        }
        #expect(failure == .timeout)
        #expect(took < .milliseconds(300))
    }

    @Test("more requests than may wait are refused, and answers make room again") func overload() async {
        let failures = await onOwnThread {
            let bench = Bench()
            _ = bench.engine.makeBroker(for: Self.ghost, loop: bench.scheduler.makeLoop(name: "ghost"))
            let peers = Peers(
                node: NodeID("n0"), incarnation: "i",
                broker: bench.engine.makeBroker(for: NodeID("n0"), loop: bench.loop), loop: bench.loop,
                maximumWaiting: 2, logger: Logger(label: "peers") { _ in SwiftLogNoOpLogHandler() })
            let failures = Box<[PeerFailure]>([])
            bench.loop.execute {
                for _ in 0..<4 {
                    bench.loop.task {
                        do throws(PeerFailure) {
                            _ = try await peers.request(.info, of: Self.ghost, timeout: .seconds(1))
                        } catch {
                            failures.value.append(error)
                        }
                    }
                }
            }
            bench.run(.seconds(2))
            let after = Self.failure(bench, of: Self.ghost, peers).0
            return failures.value + (after.map { [$0] } ?? [])
        }
        #expect(failures == [.overloaded, .overloaded, .timeout, .timeout, .timeout])
    }

    @Test("a request of a newer version is refused politely, and one that cannot be read disturbs nobody")
    func newer() async throws {
        let (messages, works) = await onOwnThread {
            let bench = Bench()
            let receiver = RecordingReceiver()
            let broker = bench.engine.makeBroker(for: Self.ghost, loop: bench.scheduler.makeLoop(name: "ghost"))
            broker.start(receiver: receiver)
            var writer = TaggedWriter()
            writer.header(PeerMessage.version)
            writer.header(1)
            writer.field(1, UInt64(5))
            writer.field(2, Self.ghost.rawValue)
            writer.field(3, "its incarnation")
            writer.field(4, UInt64(77))
            let known = PeerMessage.request(id: 6, from: Self.ghost, incarnation: "its incarnation", .info).encoded()
            let newer: Bytes = [2] + Bytes(known.dropFirst())
            let messages: [Bytes] = [writer.bytes, newer, [], [255], known]
            for message in messages {
                bench.node.received(message: message)
            }
            bench.run()
            return (receiver.messages, bench.position("1", to: "room:1") != nil)
        }
        let answers: [PeerMessage] = try messages.map { try PeerMessage.decode($0) }
        #expect(answers.count == 2)
        #expect(answers.first == .response(id: 5, to: "its incarnation", .refused(.refused(.notAvailable))))
        guard case .response(6, "its incarnation", .info) = answers.last else {
            Issue.record("\(answers)")
            return
        }
        #expect(works)
    }
}
