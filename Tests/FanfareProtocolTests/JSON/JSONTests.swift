import FanfareModel
import FanfareProtocol
import Foundation
import Testing

@Suite struct JSONTests {
    @Test(arguments: [
        "null", "true", "false", "0", "-0", "1", "-1", "10", "0.5", "-1.25e+10", "1E-3", "1e400",
        "123456789012345678901234567890.123456789", "\"\"", "\"a\"", "\"\\u0000\\uD800\\\"\\/\"", "\"é😀\"", "[]", "{}",
        "[1,2]",
        " [ 1 , {\"a\" : null} ] ", "\t\r\n1\n", "{\"\":{}}", "{\"a\":1,\"a\":2}", "\"12345678\"", "\"1234567\\n\"",
    ]) func accepts(text: String) {
        #expect(JSONScanner.isValid(Bytes(text: text)))
        #expect(throws: Never.self) { try JSON.parse(Bytes(text: text)) }
    }

    @Test(arguments: [
        "", " ", "nul", "nulll", "True", "01", "-", "+1", ".5", "1.", "1e", "1e+", "0x1", "1 2", "\"", "\"\\\"",
        "\"\\x\"",
        "\"\\u12\"", "\"\\u12g4\"", "\"\u{1}\"", "\"1234567\n\"", "\"12345678\t\"", "[", "]", "[1", "[1,]", "[,1]",
        "[1 2]", "{", "}",
        "{\"a\"}", "{\"a\":}", "{\"a\":1,}", "{a:1}", "{1:1}", "{\"a\" 1}", "[}", "{]", "NaN", "Infinity", "//", "'a'",
        "\u{feff}1",
    ]) func refuses(text: String) {
        #expect(!JSONScanner.isValid(Bytes(text: text)))
        #expect(throws: JSONError.self) { try JSON.parse(Bytes(text: text)) }
    }

    /// The boundaries of table 3-7 of the Unicode standard.
    @Test func textIsWellFormedUTF8() {
        let good: [Bytes] = [
            [0x7f], [0xc2, 0x80], [0xdf, 0xbf], [0xe0, 0xa0, 0x80], [0xed, 0x9f, 0xbf], [0xee, 0x80, 0x80],
            [0xef, 0xbf, 0xbf], [0xf0, 0x90, 0x80, 0x80], [0xf4, 0x8f, 0xbf, 0xbf],
        ]
        let bad: [Bytes] = [
            [0x80], [0xbf], [0xc0, 0x80], [0xc1, 0xbf], [0xc2], [0xc2, 0x20], [0xe0, 0x9f, 0xbf], [0xed, 0xa0, 0x80],
            [0xe1, 0x80], [0xf0, 0x8f, 0xbf, 0xbf], [0xf4, 0x90, 0x80, 0x80], [0xf5, 0x80, 0x80, 0x80], [0xfe], [0xff],
            [0xf1, 0x80, 0x80], [0xe1, 0x80, 0xc0],
        ]
        // At every distance from the eight bytes that are looked at together.
        for padding in 0..<9 {
            let start = [0x22] + Bytes(repeating: 0x61, count: padding)
            for sequence in good { #expect(JSONScanner.isValid(start + sequence + [0x22])) }
            for sequence in bad { #expect(!JSONScanner.isValid(start + sequence + [0x22]), "\(sequence)") }
        }
    }

    @Test func depthIsLimited() {
        func nested(_ open: String, _ close: String, _ depth: Int) -> Bytes {
            Bytes(text: String(repeating: open, count: depth) + "1" + String(repeating: close, count: depth))
        }
        for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
            #expect(JSONScanner.isValid(nested(open, close, 512)))
            #expect(!JSONScanner.isValid(nested(open, close, 513)))
            #expect(!JSONScanner.isValid(nested(open, close, 30_000)))
            #expect(JSONScanner.isValid(nested(open, close, 1_000_000), maximumDepth: .max))
            #expect(!JSONScanner.isValid(Bytes(nested(open, close, 1_000_000).dropLast()), maximumDepth: .max))
            #expect(JSONScanner.isValid(nested(open, close, 3), maximumDepth: 3))
            #expect(!JSONScanner.isValid(nested(open, close, 4), maximumDepth: 3))
            #expect(throws: JSONError.self) { try JSON.parse(nested(open, close, 65)) }
            #expect(throws: JSONError.self) { try JSON.parse(nested(open, close, 30_000), maximumDepth: .max) }
        }
        #expect(JSONScanner.isValid(Bytes(text: "1"), maximumDepth: 0))
        #expect(!JSONScanner.isValid(Bytes(text: "[]"), maximumDepth: 0))
    }

    /// The kinds of 64 and more open containers are told apart.
    @Test(arguments: 0..<20 as Range<UInt64>)
    func bracketsMatchAtAnyDepth(seed: UInt64) {
        var generator = SeededGenerator(seed: seed)
        let kinds = (0..<Int.random(in: 1...400, using: &generator)).map { _ in Bool.random(using: &generator) }
        var text = Bytes()
        for isObject in kinds { text += Bytes(text: isObject ? "{\"k\": [], \"x\":" : "[{} ,") }
        text += Bytes(text: "-0.5e+3")
        for isObject in kinds.reversed() { text += Bytes(text: isObject ? ", \"y\":{} }" : ",null\n]") }
        #expect(JSONScanner.isValid(text), "seed \(seed)")
        // One closing bracket of the other kind.
        let closing = text.indices.filter { text[$0] == UInt8(ascii: "}") || text[$0] == UInt8(ascii: "]") }
        let index = closing[Int.random(in: 0..<closing.count, using: &generator)]
        text[index] = text[index] == UInt8(ascii: "}") ? UInt8(ascii: "]") : UInt8(ascii: "}")
        #expect(!JSONScanner.isValid(text), "seed \(seed)")
    }

    @Test func theDepthOfWhatWasSkippedIsKnown() throws {
        for (text, depth) in [("1", 0), ("[]", 1), ("{}", 1), ("[[],[[1]],{}]", 3), (#"{"a":{"b":{}}} "#, 3)] {
            try Bytes(text: text).withUnsafeBufferPointer { buffer in
                var scanner = JSONScanner(buffer)
                _ = try scanner.skipValue()
                #expect(scanner.lastDepth == depth, "\(text)")
            }
        }
    }

    @Test func treeKeepsOrderAndNumbers() throws {
        let text = #"{"z":1.50,"a":[true,null,"x\n"],"n":123456789012345678901234567890}"#
        let tree = try JSON.parse(Bytes(text: text))
        #expect(tree.serialize().text == text)
        #expect(tree["a"]?.arrayValue == [true, .null, "x\n"])
        #expect(tree["z"]?.doubleValue == 1.5)
        #expect(tree["z"]?.integerValue == nil)
        #expect(tree["missing"] == nil)
        // Of repeated keys the last counts, in the first's place.
        #expect(try JSON.parse(Bytes(text: #"{"a":1,"b":2,"a":3}"#)) == ["a": 3, "b": 2])
        let built: JSON = ["raw": .raw(Bytes(text: "{ }")), "s": "\"\u{8}\u{1f}", "i": .integer(UInt64.max)]
        #expect(built.serialize().text == #"{"raw":{ },"s":"\"\b\u001f","i":18446744073709551615}"#)
    }

    @Test(arguments: [Int64.min, -1, 0, 7, 10, 12_345, Int64.max]) func writesIntegers(value: Int64) {
        #expect(JSON.integer(value).serialize().text == String(value))
        var writer = JSONWriter()
        writer.integer(value)
        #expect(writer.bytes.text == String(value))
    }

    @Test func objectKeepsMembersRaw() throws {
        let body = Bytes(
            text: """
                { "channel": "c", "data": {"b" : 1.0,
                  "a":"\\u0041"}, "limit": -5, "on": true, "none": null, "since": {"offset": 18446744073709551615},
                  "users": ["a", "\\u0062"], "tags": {"k": "v"}, "list": [1, {"x" : 2}] }
                """)
        let object = try JSONObject(body)
        #expect(object.raw("data")?.text == "{\"b\" : 1.0,   \"a\":\"\\u0041\"}")
        #expect(object.raw("none")?.text == "null")
        #expect(object.raw("missing") == nil)
        #expect(try object.string("channel") == "c")
        #expect(try object.string("none") == nil)
        #expect(try object.integer("limit", as: Int.self) == -5)
        #expect(try object.bool("on") == true)
        #expect(try object.object("since")?.integer("offset", as: UInt64.self) == .max)
        #expect(try object.object("none") == nil)
        #expect(try object.strings("users") == ["a", "b"])
        #expect(try object.stringMap("tags") == ["k": "v"])
        #expect(try object.array("list")?.map(\.text) == ["1", "{\"x\" : 2}"])
        #expect(object.keys.count == 9)
        for problem in ["channel", "data"] {
            #expect {
                try object.integer(problem, as: Int.self)
            } throws: {
                ($0 as? JSONError)?.problem == .unexpectedType(member: problem)
            }
        }
        #expect(throws: JSONError.self) { try object.integer("limit", as: UInt32.self) }
        for text in ["", "[]", "1", "{", "{} x", "{\"a\":[}"] {
            #expect(throws: JSONError.self) { try JSONObject(Bytes(text: text)) }
        }
    }

    @Test func survivesFuzzing() {
        let corpus = [
            #"{"a":[1,-2.5e3,true,false,null,"x\u00e9\ud83d\ude00\n"],"b":{"c":{}},"é":"😀"}"#, "[[[[]]]]", "\"text\"",
            "-0.1E+5",
        ].map(Bytes.init(text:))
        let failure = Fuzzing.run("JSON", corpus: corpus) { input, _ in
            let tree = try? JSON.parse(input)
            guard JSONScanner.isValid(input) == (tree != nil) else { return false }
            guard let tree else { return true }
            let written = tree.serialize()
            guard (try? JSON.parse(written)) == tree else { return false }
            // What was accepted is JSON to others too, apart from numbers that are too big for them.
            return written.contains { (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0) }
                || (try? JSONSerialization.jsonObject(with: Data(written), options: .fragmentsAllowed)) != nil
        }
        #expect(failure == nil)
    }
}
