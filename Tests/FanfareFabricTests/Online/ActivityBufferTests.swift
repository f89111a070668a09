import FanfareFabric
import FanfareModel
import Testing

@Suite struct ActivityBufferTests {
    @Test func eachUserOnce() {
        var buffer = ActivityBuffer(limit: 3)
        for user in [1, 2, 1, 3, 2] { buffer.add(UserKey(Int64(user)), Shard(index: user)) }
        #expect(buffer.count == 3 && buffer.dropped == 0)
        // Full: who waits already is no newcomer.
        buffer.add(UserKey(4), Shard(index: 4))
        buffer.add(UserKey(3), Shard(index: 3))
        #expect(buffer.count == 3 && buffer.dropped == 1)
        let some = buffer.take(2)
        #expect(some.count == 2 && buffer.count == 1)
        buffer.add(UserKey(4), Shard(index: 4))
        let rest = buffer.take(10)
        #expect(Set((some + rest).map(\.key.rawValue)) == [1, 2, 3, 4] && buffer.count == 0)
        #expect((some + rest).allSatisfy { Int($0.key.rawValue) == $0.shard.index })
        #expect(buffer.take(1).isEmpty)
    }
}
