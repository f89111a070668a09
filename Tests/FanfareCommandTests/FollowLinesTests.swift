import FanfareModel
import Testing

@testable import FanfareCommand

@Suite struct FollowLinesTests {
    private func read(_ text: String, chunk: Int) -> [String] {
        var lines = FollowLines()
        var results: [Result<FollowLines.Follow, FollowLines.BadLine>] = []
        let bytes = Array(text.utf8)
        for start in stride(from: 0, to: bytes.count, by: chunk) {
            results += lines.feed(bytes[start..<min(start + chunk, bytes.count)])
        }
        results += lines.finish()
        return results.map { result in
            switch result {
            case .success(let follow): "\(follow.line): \(follow.streamer)<\(follow.follower)"
            case .failure(let bad): "\(bad)"
            }
        }
    }

    @Test(arguments: [1, 2, 3, 7, 1000]) func anyChunking(chunk: Int) {
        let text =
            "\u{feff}Streamer, follower\r\ns1,a\n\n  \"s1\" ,\tb \r\nno comma\ns1,not a user!\n,x\ns1,a,b\n"
            + String(repeating: "x", count: 600) + ",y\ns2,c"
        #expect(
            self.read(text, chunk: chunk) == [
                "2: s1<a", "4: s1<b", "line 5: not two fields, streamer,follower, but 1",
                "line 6: the follower is no user id", "line 7: the streamer is no user id",
                "line 8: not two fields, streamer,follower, but 3", "line 9: longer than 512 bytes", "10: s2<c",
            ])
    }

    @Test func aHeaderIsTheFirstLineOnly() {
        #expect(self.read("a,b\nstreamer,follower\n", chunk: 5) == ["1: a<b", "2: streamer<follower"])
        #expect(self.read("", chunk: 1).isEmpty && self.read("\n\n", chunk: 1).isEmpty)
    }

    @Test func anyBytesAreHarmless() {
        var state = 42 as UInt64
        func next() -> UInt8 {
            state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
            return [0, 10, 13, 34, 44, 97, 200, 255][Int(state >> 60) % 8]
        }
        for _ in 0..<200 {
            var lines = FollowLines()
            var count = 0
            for _ in 0..<20 { count += lines.feed((0..<50).map { _ in next() }).count }
            count += lines.finish().count
            #expect(count <= lines.lines)
        }
    }

    @Test func progress() {
        let start = MonotonicInstant(nanoseconds: 0)
        var terminal = ImportProgress(totalBytes: 1000, isTerminal: true, now: start)
        terminal.readBytes = 500
        terminal.imported = 1_234_567
        terminal.skipped = 2
        #expect(terminal.due(now: start + .milliseconds(100)) == nil)
        #expect(
            terminal.due(now: start + .seconds(10))
                == "[###############...............] 50 % (10s left) 1 234 567 follows, 123 456/s, 2 lines skipped")
        #expect(terminal.due(now: start + .milliseconds(10_100)) == nil)
        var pipe = ImportProgress(totalBytes: nil, isTerminal: false, now: start)
        pipe.imported = 10
        #expect(pipe.due(now: start + .seconds(4)) == nil)
        #expect(pipe.due(now: start + .seconds(5)) == "10 follows, 2/s")
    }

    @Test func filesAndFolders() throws {
        let error = #expect(throws: CommandError.self) { try ByteSource("no-such-file.csv") }
        #expect(try #require(error).description == "cannot read 'no-such-file.csv': No such file or directory")
        #expect(throws: CommandError.self) { try ByteSource("/tmp") }
        let source = try ByteSource("/dev/null")
        #expect(try source.next() == nil && source.size == nil)
    }
}
