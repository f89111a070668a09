import FanfareModel
import Testing

@Suite struct StableHashTests {
    /// Owners, shards and stored rows follow from these: they must never change.
    @Test(
        arguments: [
            ("", 0xefd0_1f60_ba99_2926), ("a", 0x82a2_a958_a9be_ce5b), ("room:42", 0x6017_3117_2947_d59f),
            ("user:u1", 0x0093_5682_62cd_fe68), ("ünï", 0xbd46_82f3_c47e_a1e3),
        ] as [(String, UInt64)]) func golden(text: String, hash: UInt64)
    {
        #expect(StableHash.hash(text) == hash)
        #expect(StableHash.hash(Array(text.utf8)) == hash)
    }

    @Test func goldenSlotsAndShards() throws {
        #expect(Slot(of: "room:42").index == 415)
        #expect(Slot(of: "user:u1").index == 616)
        #expect(Shard(of: UserID(unchecked: "u1")).index == 177)
        #expect(Shard(index: 7).slot.index == 700)
        #expect(try Channel("room:42").slot == Slot(of: "room:42"))
    }

    /// 100 keys a slot on the average: the chi-squared statistic stays near its 1023 degrees of freedom (sd 45).
    @Test(arguments: ["room:", "user:", "", "00000000"]) func spreadsShortKeysEvenly(prefix: String) {
        var counts = [Int](repeating: 0, count: Slot.count)
        for number in 0..<(100 * Slot.count) { counts[Slot(of: prefix + String(number)).index] += 1 }
        let statistic = counts.reduce(0.0) { $0 + Double(($1 - 100) * ($1 - 100)) / 100 }
        #expect((750...1300).contains(statistic))
    }

    @Test func everyShardIsUsed() {
        let shards = Set((0..<5000).map { Shard(of: UserID(unchecked: "u\($0)")) })
        #expect(shards.count == Shard.count)
        #expect(Slot.all.count == Slot.count)
    }
}
