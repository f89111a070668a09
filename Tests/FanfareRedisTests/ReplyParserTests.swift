import FanfareEngines
import FanfareModel
import FanfareTesting
import Testing

@testable import FanfareRedis

@Suite("RESP")
struct ReplyParserTests {
    private static func parse(
        _ pieces: [Bytes], limit: Int = 1 << 20
    ) -> (replies: [RedisReply], violation: ProtocolViolation?) {
        var replies: [RedisReply] = []
        do {
            var parser = try ReplyParser(byteLimit: limit)
            for piece in pieces {
                let bytes = UnsafeMutableRawBufferPointer.allocate(byteCount: piece.count, alignment: 1)
                defer { bytes.deallocate() }
                bytes.copyBytes(from: piece)
                try parser.feed(UnsafeRawBufferPointer(bytes), into: &replies)
            }
            return (replies, nil)
        } catch {
            return (replies, error)
        }
    }

    private static let samples: [(String, RedisReply)] = [
        ("+OK\r\n", .status("OK")), ("-ERR no\r\n", .error("ERR no")), (":42\r\n", .integer(42)),
        (":-9223372036854775808\r\n", .integer(.min)), ("$-1\r\n", .null), ("$0\r\n\r\n", .bulk([])),
        ("$5\r\na\r\nb\0\r\n", .bulk(Array("a\r\nb\0".utf8))), ("*0\r\n", .array([])), ("*-1\r\n", .null),
        ("*2\r\n$1\r\nx\r\n*1\r\n:1\r\n", .array([.bulk([120]), .array([.integer(1)])])),
    ]

    @Test("replies", arguments: samples)
    func replies(text: String, expected: RedisReply) {
        let (replies, violation) = Self.parse([Array(text.utf8)])
        #expect(replies == [expected])
        #expect(violation == nil)
    }

    @Test("pieces of any size give the same")
    func pieces() {
        let all = Self.samples.flatMap { Array($0.0.utf8) }
        for size in 1...17 {
            let pieces = stride(from: 0, to: all.count, by: size).map { Array(all[$0..<min($0 + size, all.count)]) }
            let (replies, violation) = Self.parse(pieces)
            #expect(replies == Self.samples.map(\.1))
            #expect(violation == nil)
        }
    }

    @Test(
        "violations end the link",
        arguments: ["x\r\n", "%1\r\n", ":x\r\n", "*2000000\r\n", "$99999999999999999999\r\n", "\r\n"])
    func violations(text: String) {
        #expect(Self.parse([Array(text.utf8)]).1 != nil)
    }

    @Test("a reply is bounded, complete or not")
    func bounded() {
        let header = Array("$100000000\r\n".utf8)
        let filler = Bytes(repeating: 0, count: 64 * 1024)
        let (replies, violation) = Self.parse([header] + Array(repeating: filler, count: 20))
        #expect(replies.isEmpty)
        #expect(violation?.description == "a reply is longer than 1048576 bytes")
        #expect(Self.parse([Array("+".utf8)] + Array(repeating: filler, count: 20)).1 != nil)
    }

    @Test("random and mutated bytes never do more than end the link")
    func fuzz() {
        let seed = UInt64.random(in: .min ... .max)
        var generator = SeededGenerator(seed: seed)
        let valid = Self.samples.flatMap { Array($0.0.utf8) }
        let alphabet = Array("+-:$*0123456789\r\nOK".utf8)
        var violations = 0
        for round in 0..<20_000 {
            var bytes: Bytes
            switch round % 3 {
            case 0:
                bytes = (0..<Int.random(in: 0...64, using: &generator)).map { _ in
                    .random(in: 0...255, using: &generator)
                }
            case 1:
                bytes = (0..<Int.random(in: 0...64, using: &generator)).map { _ in
                    alphabet[.random(in: 0..<alphabet.count, using: &generator)]
                }
            default:
                bytes = valid
                for _ in 0..<Int.random(in: 1...4, using: &generator) {
                    bytes[.random(in: 0..<bytes.count, using: &generator)] = .random(in: 0...255, using: &generator)
                }
            }
            let cut = Int.random(in: 0...bytes.count, using: &generator)
            let (whole, first) = Self.parse([bytes])
            let (parts, second) = Self.parse([Array(bytes[..<cut]), Array(bytes[cut...])])
            #expect(whole == parts, "seed \(seed), round \(round)")
            #expect((first == nil) == (second == nil), "seed \(seed), round \(round)")
            violations += first == nil ? 0 : 1
        }
        #expect(violations > 1000, "seed \(seed)")
    }

    @Test("commands are written as RESP")
    func commands() {
        var output = Bytes()
        RedisCommand("SET", [Array("k".utf8), [0, 13, 10]]).encode(into: &output)
        #expect(output == Array("*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$3\r\n\0\r\n\r\n".utf8))
        #expect(RedisCommand("SET", "a", "b").encodedSize >= output.count)
    }
}

@Suite("Batches on channels")
struct BatchCodecTests {
    private static func randomBatch(_ generator: inout SeededGenerator) -> PublishedBatch {
        PublishedBatch(
            epoch: String(repeating: "é", count: .random(in: 0...9, using: &generator)),
            firstOffset: .random(in: 0...UInt64.max / 2, using: &generator),
            bodies: (0..<Int.random(in: 0...5, using: &generator)).map { _ in
                (0..<Int.random(in: 0...40, using: &generator)).map { _ in .random(in: 0...255, using: &generator) }
            })
    }

    @Test("what is encoded is decoded; what is cut or mutated is refused or differs, and never a crash")
    func roundTrip() {
        let seed = UInt64.random(in: .min ... .max)
        var generator = SeededGenerator(seed: seed)
        for round in 0..<5000 {
            let batch = Self.randomBatch(&generator)
            var bytes = BatchCodec.encode(batch)
            #expect(BatchCodec.decode(bytes) == batch, "seed \(seed), round \(round)")
            #expect(BatchCodec.decode(Array(bytes.dropLast())) == nil, "seed \(seed), round \(round)")
            #expect(BatchCodec.decode(bytes + [0]) == nil, "seed \(seed), round \(round)")
            bytes[.random(in: 0..<bytes.count, using: &generator)] = .random(in: 0...255, using: &generator)
            if let other = BatchCodec.decode(bytes) { _ = BatchCodec.encode(other) }
            _ = BatchCodec.decode((0..<20).map { _ in .random(in: 0...3, using: &generator) })
        }
    }

    @Test("huge counts and offsets are refused")
    func hugeNumbers() {
        let full = Bytes(repeating: 0xff, count: 8)
        #expect(BatchCodec.decode([1, 0, 0] + full + [0xff, 0xff, 0xff, 0xff]) == nil)
        #expect(BatchCodec.decode([1, 0, 0] + full + [0, 0, 0, 1, 0, 0, 0, 0]) == nil)
        #expect(BatchCodec.decode([2, 0, 0] + full + [0, 0, 0, 0]) == nil)
        #expect(BatchCodec.decode([]) == nil)
    }
}
