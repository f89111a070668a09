import FanfareModel
import Testing

@testable import FanfareFabric

@Suite("Chains of pushes") struct PushChainTests {
    static let shard = Shard(index: 7)
    static func fence(_ number: UInt64) -> Fence { Fence(generation: "g", number: number) }

    /// What a node finds broken when these messages arrive: each as (owner's fence, how often it was sent, which copies came).
    struct Case: Sendable {
        var name: String
        /// Fence of each message, in the order of sending; nil: the next one is lost.
        var sent: [UInt64?]
        /// For each message that came, whether inboxes are compared before it.
        var compared: [Bool]
    }

    static let cases: [Case] = [
        Case(name: "the first", sent: [1], compared: [true]),
        Case(name: "one after the other", sent: [1, 1, 1], compared: [true, false, false]),
        Case(name: "one lost", sent: [1, nil, 1, 1, 1], compared: [true, true, false]),
        Case(name: "another owner", sent: [1, 1, 2, 2], compared: [true, false, true, false]),
        Case(name: "there and back", sent: [1, 2, 3], compared: [true, true, true]),
        Case(name: "the first lost", sent: [nil, 1, 1], compared: [true]),
    ]

    @Test(arguments: cases) func breaks(_ one: Case) {
        var source = PushChainSource(salt: 1)
        var sink = PushChainSink()
        var compared: [Bool] = []
        var isLost = false
        for number in one.sent {
            guard let number else {
                isLost = true
                continue
            }
            let links = source.next([Self.shard], by: [Self.shard: Self.fence(number)])
            defer { isLost = false }
            guard !isLost else { continue }
            compared.append(!sink.broken(by: links).isEmpty)
            sink.follow(links)
            #expect(sink.broken(by: links).isEmpty, "the same message again")
        }
        #expect(compared == one.compared, "\(one.name)")
    }

    @Test("an owner that lost its fence in between does not go on where it was")
    func straggler() {
        var (old, new) = (PushChainSource(salt: 1), PushChainSource(salt: 1))
        var sink = PushChainSink()
        sink.follow(old.next([Self.shard], by: [Self.shard: Self.fence(1)]))
        sink.follow(new.next([Self.shard], by: [Self.shard: Self.fence(2)]))
        #expect(sink.broken(by: old.next([Self.shard], by: [Self.shard: Self.fence(1)])) == [Self.shard])
    }

    @Test("shards have chains apart")
    func shards() {
        let (a, b) = (Shard(index: 1), Shard(index: 2))
        let fences = [a: Self.fence(1), b: Self.fence(1)]
        var source = PushChainSource(salt: 1)
        var sink = PushChainSink()
        sink.follow(source.next([a], by: fences))
        let both = source.next([b, a], by: fences)
        #expect(both.map(\.index) == [2, 1])
        #expect(sink.broken(by: both) == [b])
    }

    @Test("a source that was forgotten does not count on where it was")
    func forgotten() {
        var sink = PushChainSink()
        for salt: UInt64 in 1...3 {
            var source = PushChainSource(salt: salt)
            let links = source.next([Self.shard], by: [Self.shard: Self.fence(1)])
            #expect(sink.broken(by: links) == [Self.shard])
            sink.follow(links)
        }
    }
}
