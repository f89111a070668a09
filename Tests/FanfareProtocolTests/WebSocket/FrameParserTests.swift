import FanfareModel
import FanfareProtocol
import Testing

@Suite struct FrameParserTests {
    typealias Event = FrameParser.Event

    /// A client's frame.
    static func frame(
        _ opcode: UInt8, _ payload: Bytes, isFinal: Bool = true, key: Bytes = [0x37, 0xfa, 0x21, 0x3d]
    ) -> Bytes {
        var frame: Bytes = [opcode | (isFinal ? 0x80 : 0)]
        switch payload.count {
        case ..<126: frame.append(0x80 | UInt8(payload.count))
        case ..<65536: frame += [0x80 | 126, UInt8(payload.count >> 8), UInt8(payload.count & 0xff)]
        default: frame += [0x80 | 127] + (0..<8).reversed().map { UInt8(payload.count >> (8 * $0) & 0xff) }
        }
        frame += key
        for (index, byte) in payload.enumerated() { frame.append(byte ^ key[index % 4]) }
        return frame
    }

    static func text(_ text: String, isFinal: Bool = true) -> Bytes {
        self.frame(1, Bytes(text: text), isFinal: isFinal)
    }
    static func close(_ code: UInt16, _ reason: Bytes = []) -> Bytes {
        self.frame(8, [UInt8(code >> 8), UInt8(code & 0xff)] + reason)
    }
    static func violation(_ code: UInt16) -> [Event] { [.violation(code: code)] }

    static let conversations: [(name: String, input: Bytes, events: [Event])] = [
        // RFC 6455, 5.7.
        (
            "masked hello", [0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58],
            [.message(Bytes(text: "Hello"), isText: true)]
        ),
        ("empty text", text(""), [.message([], isText: true)]),
        ("binary", frame(2, [0xff, 0, 1]), [.message([0xff, 0, 1], isText: false)]),
        (
            "fragments with a ping between",
            text("Hel", isFinal: false) + frame(9, [1]) + frame(0, [], isFinal: false)
                + frame(0, Bytes(text: "lo")), [.ping([1]), .message(Bytes(text: "Hello"), isText: true)]
        ),
        (
            "a character over fragments",
            frame(1, [0xf0, 0x9f], isFinal: false) + frame(0, [0x98], isFinal: false)
                + frame(0, [0x80]), [.message(Bytes(text: "😀"), isText: true)]
        ),
        (
            "several messages", text("a") + frame(2, [1]) + text("b"),
            [
                .message(Bytes(text: "a"), isText: true), .message([1], isText: false),
                .message(Bytes(text: "b"), isText: true),
            ]
        ),
        (
            "125 bytes", frame(2, Bytes(repeating: 7, count: 125)),
            [.message(Bytes(repeating: 7, count: 125), isText: false)]
        ),
        (
            "126 bytes", frame(2, Bytes(repeating: 7, count: 126)),
            [.message(Bytes(repeating: 7, count: 126), isText: false)]
        ),
        (
            "65536 bytes", frame(2, Bytes(repeating: 7, count: 65536)),
            [.message(Bytes(repeating: 7, count: 65536), isText: false)]
        ),
        ("pong", frame(10, [1, 2]), [.pong([1, 2])]),
        ("long ping", frame(9, Bytes(repeating: 1, count: 125)), [.ping(Bytes(repeating: 1, count: 125))]),
        // Closing: nothing behind it is read.
        ("close", frame(8, []) + text("x"), [.close(code: nil, reason: "")]),
        ("close with reason", close(1000, Bytes(text: "bye")) + text("x"), [.close(code: 1000, reason: "bye")]),
        ("close by application", close(4999), [.close(code: 4999, reason: "")]),
        ("close within a message", text("x", isFinal: false) + close(1001), [.close(code: 1001, reason: "")]),
        ("close with one byte", frame(8, [3]), violation(1002)),
        ("close with broken text", close(1000, [0xff]), violation(1007)),
        ("close with cut text", close(1000, [0xe2, 0x82]), violation(1007)),
        // Violations: nothing behind them is read.
        ("unmasked", [0x81, 0x01, 0x61], violation(1002)),
        ("reserved bit 1", [0xc1, 0x80], violation(1002)),
        ("reserved bit 2", [0xa1, 0x80], violation(1002)),
        ("reserved bit 3", [0x91, 0x80], violation(1002)),
        ("fragmented ping", frame(9, [], isFinal: false), violation(1002)),
        ("fragmented close", frame(8, [], isFinal: false), violation(1002)),
        ("ping of 126", frame(9, Bytes(repeating: 1, count: 126)), violation(1002)),
        ("continuation of nothing", frame(0, []), violation(1002)),
        (
            "continuation after the end", text("a") + frame(0, []),
            [.message(Bytes(text: "a"), isText: true), .violation(code: 1002)]
        ),
        ("text within a message", text("a", isFinal: false) + text("b"), violation(1002)),
        ("binary within a message", frame(2, [], isFinal: false) + frame(2, []), violation(1002)),
        ("length in a longer form, 16 bits", [0x82, 0xfe, 0x00, 0x7d, 0, 0, 0, 0], violation(1002)),
        ("length in a longer form, 64 bits", [0x82, 0xff, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0, 0, 0, 0], violation(1002)),
        ("length with the highest bit", [0x82, 0xff, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], violation(1002)),
        (
            "length beyond all", [0x82, 0xff, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0],
            violation(1009)
        ),
        ("broken text", frame(1, [0x61, 0xff, 0x61]), violation(1007)),
        ("surrogate", frame(1, [0xed, 0xa0, 0x80]), violation(1007)),
        ("cut text", frame(1, [0xe2, 0x82]), violation(1007)),
        ("cut text in fragments", frame(1, [0xe2], isFinal: false) + frame(0, [0x82]), violation(1007)),
        (
            "broken over fragments, told early", frame(1, [0xe2], isFinal: false) + frame(0, [0x20], isFinal: false),
            violation(1007)
        ),
        ("nothing complete", Bytes(text("hello").dropLast()), []),
    ]

    @Test(arguments: conversations) func eventsAreTheSameInAllChunks(name: String, input: Bytes, events: [Event]) {
        var whole = FrameParser()
        #expect(whole.parse(input) == events, "\(name)")
        var byByte = FrameParser()
        #expect(input.flatMap { byByte.parse([$0]) } == events, "\(name)")
        // Cut once, at every place.
        for cut in 0...min(input.count, 200) {
            var parser = FrameParser()
            #expect(
                parser.parse(Bytes(input[..<cut])) + parser.parse(Bytes(input[cut...])) == events, "\(name) at \(cut)")
        }
    }

    @Test func reservedOpcodes() {
        for opcode in [3, 4, 5, 6, 7, 0xb, 0xc, 0xd, 0xe, 0xf] as [UInt8] {
            var parser = FrameParser()
            #expect(parser.parse(Self.frame(opcode, [])) == [.violation(code: 1002)])
        }
    }

    @Test func closeCodes() {
        let legal: [UInt16] = [
            1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999, 4000, 4999,
        ]
        let illegal: [UInt16] = [0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535]
        for code in legal {
            var parser = FrameParser()
            #expect(parser.parse(Self.close(code)) == [.close(code: code, reason: "")])
        }
        for code in illegal {
            var parser = FrameParser()
            #expect(parser.parse(Self.close(code)) == [.violation(code: 1002)])
        }
    }

    @Test func messageLimit() {
        func events(_ input: Bytes) -> [Event] {
            var parser = FrameParser(maximumMessageLength: 200)
            return parser.parse(input)
        }
        let byte = { Bytes(repeating: 0x61, count: $0) }
        #expect(events(Self.frame(1, byte(200))) == [.message(byte(200), isText: true)])
        // Told by the header, before the payload came.
        #expect(events(Bytes(Self.frame(1, byte(201)).prefix(8))) == [.violation(code: 1009)])
        let halves = Self.frame(2, byte(100), isFinal: false)
        #expect(events(halves + Self.frame(0, byte(100))) == [.message(byte(200), isText: false)])
        #expect(events(halves + Self.frame(0, byte(101))) == [.violation(code: 1009)])
        var parser = FrameParser()
        #expect(parser.parse(Self.frame(2, byte(128 * 1024))).count == 1)
        #expect(parser.parse(Self.frame(2, byte(128 * 1024 + 1))) == [.violation(code: 1009)])
    }

    @Test func clientReadsUnmaskedFramesAlone() {
        var parser = FrameParser(role: .client)
        #expect(
            parser.parse(FrameEncoder.frame(message: Bytes(text: "hi"), isText: true)) == [
                .message(Bytes(text: "hi"), isText: true)
            ])
        #expect(parser.parse(Self.text("x")) == [.violation(code: 1002)])
    }

    @Test func idleMeansNothingIncomplete() {
        var parser = FrameParser()
        #expect(parser.isIdle)
        _ = parser.parse([0x81])
        #expect(!parser.isIdle)
        parser = FrameParser()
        _ = parser.parse(Self.text("a", isFinal: false))
        #expect(!parser.isIdle)
        _ = parser.parse(Self.frame(0, []))
        #expect(parser.isIdle)
    }

    @Test(arguments: [0, 1, 3, 7, 8, 9, 125, 126, 127, 65535, 65536, 100_000]) func encodedFramesAreReadBack(
        length: Int
    ) {
        var generator = SeededGenerator(seed: UInt64(length))
        let payload = (0..<length).map { _ in UInt8.random(in: 0...255, using: &generator) }
        var masked = Bytes()
        FrameEncoder.append(message: payload, isText: false, maskingKey: 0xdead_beef, to: &masked)
        #expect(masked == Self.frame(2, payload, key: [0xef, 0xbe, 0xad, 0xde]))
        var server = FrameParser()
        #expect(server.parse(masked) == [.message(payload, isText: false)])
        var client = FrameParser(role: .client)
        #expect(client.parse(FrameEncoder.frame(message: payload, isText: false)) == [.message(payload, isText: false)])
    }

    @Test func encodesControlFrames() {
        var bytes = Bytes()
        FrameEncoder.append(ping: Bytes(text: "Hello"), to: &bytes)
        #expect(bytes == [0x89, 0x05, 0x48, 0x65, 0x6c, 0x6c, 0x6f])
        bytes = []
        FrameEncoder.append(pong: Bytes(text: "Hello"), maskingKey: 0x3d21_fa37, to: &bytes)
        #expect(bytes == [0x8a, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58])
        bytes = []
        FrameEncoder.append(Disconnect.invalidToken, to: &bytes)
        #expect(bytes == [0x88, 0x0f, 0x0d, 0xac] + Bytes(text: "invalid token"))
        bytes = []
        FrameEncoder.append(closeCode: 1006, reason: "never sent", to: &bytes)
        #expect(bytes == [0x88, 0x00])
        // Too long a reason is cut before a character, not within.
        bytes = []
        FrameEncoder.append(closeCode: 3001, reason: String(repeating: "é", count: 100), to: &bytes)
        var parser = FrameParser(role: .client)
        #expect(parser.parse(bytes) == [.close(code: 3001, reason: String(repeating: "é", count: 61))])
    }

    @Test func survivesFuzzing() {
        let failure = Fuzzing.run(
            "WebSocket frames", corpus: Self.conversations.map(\.input).filter { $0.count < 1000 }
        ) {
            input, generator in
            var whole = FrameParser(maximumMessageLength: 4096)
            let expected = whole.parse(input)
            var pieces = FrameParser(maximumMessageLength: 4096)
            var events: [Event] = []
            var start = 0
            while start < input.count {
                let end = min(input.count, start + Int.random(in: 1...20, using: &generator))
                events += pieces.parse(Bytes(input[start..<end]))
                start = end
            }
            return events == expected && whole.isIdle == pieces.isIdle
        }
        #expect(failure == nil)
    }
}
