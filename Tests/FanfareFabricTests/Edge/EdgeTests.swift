import FanfareCore
import FanfareEngines
import FanfareModel
import FanfareProtocol
import Testing

@testable import FanfareFabric
@testable import FanfareTesting

@Suite("Edges") struct EdgeTests {
    /// Publishes so many, then subscribes with recovery from an offset, with or without an edge that knows the end.
    @Test(arguments: [
        (5, 2, true), (5, 5, true), (150, 10, true), (150, 10, false), (300, 0, false), (350, 10, false),
        (350, 10, true), (5, 9, true),
    ])
    func recovery(published: Int, from offset: Int, withEdge: Bool) async {
        let (recovered, offsets) = await onOwnThread {
            let bench = Bench()
            let other = withEdge ? bench.connect() : nil
            _ = other?.ask(2, #""subscribe":{"channel":"room:1"}"#)
            var epoch = ""
            for index in 0..<published { epoch = bench.position("\(index)", to: "room:1")?.epoch ?? "" }
            let client = bench.connect()
            let reply = client.ask(
                2, "\"subscribe\":{\"channel\":\"room:1\",\"recover\":true,\"offset\":\(offset),\"epoch\":\"\(epoch)\"}"
            )
            let result = reply?["subscribe"]
            return (
                result?["recovered"]?.boolValue ?? false,
                (result?["publications"]?.arrayValue ?? []).compactMap { $0["offset"]?.integerValue }
            )
        }
        let isPossible = offset <= published && published - offset <= 300
        #expect(recovered == isPossible)
        #expect(offsets == (isPossible ? (offset..<published).map { Int64($0 + 1) } : []))
    }

    @Test("what the link lost is read from the log") func gap() async {
        let offsets = await onOwnThread {
            let bench = Bench()
            let client = bench.connect()
            _ = client.ask(2, #""subscribe":{"channel":"room:1"}"#)
            _ = bench.publish("1", to: "room:1")
            bench.engine.unsubscribe(NodeID("n0"), "room:1")
            for index in 2...4 { _ = bench.publish("\(index)", to: "room:1") }
            bench.engine.subscribe(NodeID("n0"), "room:1")
            _ = bench.publish("5", to: "room:1")
            bench.run()
            return client.offsets
        }
        #expect(offsets == [1, 2, 3, 4, 5])
    }

    @Test("what was lost while the link was away is read when it is back, without waiting for the next publication")
    func linkRestored() async {
        let (before, after) = await onOwnThread {
            let bench = Bench()
            let client = bench.connect()
            _ = client.ask(2, #""subscribe":{"channel":"room:1"}"#)
            _ = bench.publish("1", to: "room:1")
            bench.engine.unsubscribe(NodeID("n0"), "room:1")
            for index in 2...3 { _ = bench.publish("\(index)", to: "room:1") }
            bench.engine.subscribe(NodeID("n0"), "room:1")
            bench.run(.seconds(2))
            let before = client.offsets
            bench.node.linkRestored()
            bench.run()
            return (before, client.offsets)
        }
        #expect(before == [1])
        #expect(after == [1, 2, 3])
    }

    @Test("what is gone from the log is told with 2500") func insufficientState() async {
        let (offsets, code) = await onOwnThread {
            let bench = Bench()
            let client = bench.connect()
            _ = client.ask(2, #""subscribe":{"channel":"room:1"}"#)
            _ = bench.publish("1", to: "room:1")
            bench.engine.unsubscribe(NodeID("n0"), "room:1")
            _ = bench.publish("2", to: "room:1")
            _ = bench.wait {
                if let channel = try? Channel("room:1") { try? await bench.node.removeHistory(channel) }
            }
            bench.engine.subscribe(NodeID("n0"), "room:1")
            _ = bench.publish("3", to: "room:1")
            bench.run(.seconds(2))
            return (client.offsets, client.pushes.last?["unsubscribe"]?["code"]?.integerValue)
        }
        #expect(offsets == [1])
        #expect(code == 2500)
    }

    @Test("batches of an epoch that is over, or repeated, disturb nobody") func stragglers() async {
        let (offsets, steps) = await onOwnThread {
            let bench = Bench()
            let client = bench.connect()
            _ = client.ask(2, #""subscribe":{"channel":"room:1"}"#)
            let position = bench.position("1", to: "room:1")
            let body = PublicationBody.encode(Publication(data: Bytes("0".utf8)))
            let batches = [
                PublishedBatch(epoch: "over", firstOffset: 9, bodies: [body]),
                PublishedBatch(epoch: position?.epoch ?? "", firstOffset: 1, bodies: [body]),
                PublishedBatch(epoch: position?.epoch ?? "", firstOffset: 7, bodies: [body]),
            ]
            for batch in batches { bench.node.received(batch, room: "room:1") }
            let before = bench.scheduler.steps
            bench.run(.seconds(20))
            let steps = bench.scheduler.steps - before
            _ = bench.publish("2", to: "room:1")
            bench.run()
            return (client.offsets, steps)
        }
        #expect(offsets == [1, 2])
        #expect(steps < 2000)
    }

    @Test("an edge without subscribers stays for a while, then goes") func linger() async {
        let counts = await onOwnThread {
            let bench = Bench()
            let client = bench.connect()
            _ = client.ask(2, #""subscribe":{"channel":"room:1"}"#)
            _ = client.ask(3, #""unsubscribe":{"channel":"room:1"}"#)
            let before = bench.node.subscriptions.roomCount
            bench.run(.seconds(3))
            return [before, bench.node.subscriptions.roomCount]
        }
        #expect(counts == [1, 0])
    }
}
