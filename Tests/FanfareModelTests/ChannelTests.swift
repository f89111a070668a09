import FanfareModel
import Testing

@Suite struct ChannelTests {
    private static func user(_ text: String) -> UserID { UserID(unchecked: text) }

    @Test(
        arguments: [
            ("room:42", .room), ("room:a:b", .room), ("room:#$&*/", .room), ("stream:7", .stream),
            ("user:u_1.-A", .user(user("u_1.-A"))), ("dm:a:b", .direct(user("a"), user("b"))),
            ("dm:B:a", .direct(user("B"), user("a"))), ("dm:a:ab", .direct(user("a"), user("ab"))),
            ("room:" + String(repeating: "x", count: 250), .room),
        ] as [(String, Channel.Kind)]) func parses(name: String, kind: Channel.Kind) throws
    {
        let channel = try Channel(name)
        #expect(channel.kind == kind)
        #expect(channel.description == name)
    }

    @Test(
        arguments: [
            // No such kind.
            ("lobby", 102), ("", 102), ("chat:1", 102), (":1", 102), ("Room:1", 102), ("$room:1", 102),
            // Malformed within a kind.
            ("room:", 107), ("stream:", 107), ("user:", 107), ("user:a:b", 107), ("user:a/b", 107), ("dm:a", 107),
            ("dm:", 107), ("dm:a:", 107), ("dm::a", 107), ("dm:a:a", 107), ("dm:b:a", 107), ("dm:a:b:c", 107),
            ("dm:a:b!", 107), ("user:" + String(repeating: "x", count: 65), 107),
            // Characters and length.
            ("room:é", 107), ("user:ü", 107), ("room:a b", 107), ("room:\u{7f}", 107), ("room:\n", 107),
            ("room:" + String(repeating: "x", count: 251), 107),
        ] as [(String, UInt32)]) func refuses(name: String, code: UInt32)
    {
        #expect {
            try Channel(name)
        } throws: {
            ($0 as? FanfareError)?.code == code
        }
    }

    @Test func userChannelIsWhatParsingGives() throws {
        let user = try #require(UserID("u1"))
        #expect(try Channel("user:u1") == .user(user))
        #expect(try Channel("user:u1").kind == Channel.user(user).kind)
    }
}
