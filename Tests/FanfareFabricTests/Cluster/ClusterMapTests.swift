import FanfareCore
import FanfareEngines
import FanfareModel
import Testing

@testable import FanfareFabric

@Suite("Who owns what, and who may do what") struct ClusterMapTests {
    private static func view(_ number: UInt64, _ generation: String = "g") -> View {
        View(
            number: ViewNumber(generation: generation, number: number),
            members: [Member(node: NodeID("a"), incarnation: "i", address: "")])
    }

    private static func at(_ seconds: Int64) -> MonotonicInstant {
        MonotonicInstant(nanoseconds: seconds * 1_000_000_000)
    }

    @Test("an older view never replaces a newer one of its generation") func views() {
        let map = ClusterMap(node: NodeID("a"), incarnation: "i")
        let steps: [(UInt64, String, Bool)] = [
            (2, "g", true), (2, "g", false), (1, "g", false), (3, "g", true), (1, "h", true), (2, "h", true),
        ]
        for (number, generation, isNew) in steps {
            #expect(map.renewed(Self.view(number, generation), leaseEnds: Self.at(3), at: Self.at(1)) == isNew)
        }
        #expect(map.view?.number == ViewNumber(generation: "h", number: 2))
    }

    @Test("a missed view ends the tenure, and a generation that began without a lease") func tenure() {
        let map = ClusterMap(node: NodeID("a"), incarnation: "i")
        var tenures: [UInt64] = []
        let steps: [(UInt64, String, Int64, Int64)] = [
            (1, "g", 3, 0), (1, "g", 4, 1), (2, "g", 5, 2), (4, "g", 6, 3), (4, "g", 9, 6), (1, "h", 9, 7),
            (2, "i", 9, 10),
        ]
        for (number, generation, ends, now) in steps {
            _ = map.renewed(Self.view(number, generation), leaseEnds: Self.at(ends), at: Self.at(now))
            tenures.append(map.tenure)
        }
        #expect(tenures == [1, 1, 1, 2, 2, 2, 3])
        #expect(map.holdsLease(at: Self.at(8)))
        #expect(!map.holdsLease(at: Self.at(9)))
    }

    @Test(arguments: [
        ("*", "", true), ("*", "room:1", true), ("room:*", "room:1", true), ("room:*", "dm:a:b", false),
        ("room:?", "room:1", true), ("room:?", "room:12", false), ("*:1*", "room:21:12", true), ("", "", true),
        ("", "a", false), ("a*b*c", "aXbXbXc", true), ("a*b*c", "aXbXbX", false), ("**", "x", true),
    ]) func globs(_ pattern: String, _ text: String, _ matches: Bool) {
        #expect(Glob.matches(pattern, text) == matches)
    }

    @Test(arguments: [
        ("", "room:1", true, false), ("a", "room:1", true, true), ("a", "stream:1", true, false),
        ("a", "user:a", true, false), ("b", "user:a", false, false), ("", "user:a", false, false),
        ("a", "dm:a:b", true, true), ("b", "dm:a:b", true, true), ("c", "dm:a:b", false, false),
    ]) func rules(_ name: String, _ channel: String, _ maySubscribe: Bool, _ mayPublish: Bool) throws {
        let user = name.isEmpty ? UserID.anonymous : UserID(unchecked: name)
        let channel = try Channel(channel)
        #expect(ChannelRules.maySubscribe(user, to: channel) == maySubscribe)
        #expect(ChannelRules.mayPublish(user, to: channel) == mayPublish)
    }
}
