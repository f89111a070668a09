import FanfareModel
import FanfareProtocol
import Testing

@Suite struct TaggedTests {
    static let publications = [
        Publication(data: []), Publication(data: Bytes(text: "1")),
        Publication(
            data: Bytes(text: #"{"a":1}"#),
            info: ClientInfo(
                user: UserID(unchecked: "u1"), client: ClientID("c1"), connectionInfo: Bytes(text: "{}"),
                channelInfo: Bytes(text: "[]")), tags: ["k": "v", "": "é"], time: 1_700_000_000_000),
        Publication(data: [0xff], info: ClientInfo(user: .anonymous, client: ClientID("")), time: -1),
    ]

    @Test(arguments: publications) func publicationsAreReadBack(publication: Publication) throws {
        #expect(try PublicationBody.decode(PublicationBody.encode(publication)) == publication)
    }

    /// Bodies lie in logs: a newer release must read them.
    @Test func goldenBody() throws {
        let publication = Publication(
            data: Bytes(text: "1"), info: ClientInfo(user: UserID(unchecked: "u"), client: ClientID("c")),
            tags: ["k": "v"], time: 300)
        let bytes: Bytes = [
            1, 1, 1, 0x31, 2, 1, 0x75, 3, 1, 0x63, 6, 6, 1, 1, 0x6b, 2, 1, 0x76, 7, 2, 0xac, 0x02,
        ]
        #expect(PublicationBody.encode(publication) == bytes)
        #expect(try PublicationBody.decode(bytes) == publication)
        // The offset is the log's.
        var numbered = publication
        numbered.offset = 9
        #expect(PublicationBody.encode(numbered) == bytes)
        // Fields of a newer release are skipped, a newer layout is refused.
        #expect(try PublicationBody.decode(bytes + [0x90, 0x03, 2, 0xff, 0xff]) == publication)
        #expect(throws: EnvelopeError.newerVersion(2)) { try PublicationBody.decode([2] + bytes.dropFirst()) }
    }

    @Test func malformedBodies() {
        let bodies: [Bytes] = [
            [], [0x80], [1, 1], [1, 1, 2, 0x31], [1, 0x80],
            [1, 1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01],
            [1, 2, 1, 0xff], [1, 6, 0], [1, 6, 1, 1], [1, 7, 0], [1, 7, 2, 1, 1],
            Bytes(repeating: 0xff, count: 30),
        ]
        for body in bodies { #expect(throws: EnvelopeError.malformed, "\(body)") { try PublicationBody.decode(body) } }
    }

    @Test func fieldsOfEveryKind() throws {
        var writer = TaggedWriter()
        writer.header(1)
        writer.header(.max)
        writer.field(1, [1, 2] as Bytes)
        writer.field(2, "é")
        writer.field(3, UInt64.max)
        writer.field(4, signed: .min)
        writer.field(5, true)
        writer.field(.max) { $0.field(1, 7 as UInt64) }
        var reader = TaggedReader(writer.bytes)
        #expect(try reader.header() == 1)
        #expect(try reader.header() == .max)
        #expect(try reader.next()?.data == [1, 2])
        #expect(try reader.next()?.string() == "é")
        #expect(try reader.next()?.number() == .max)
        #expect(try reader.next()?.signed() == .min)
        #expect(try reader.next()?.bool() == true)
        let nested = try #require(try reader.next())
        #expect(nested.tag == .max)
        var inner = nested.fields
        #expect(try inner.next()?.number() == 7)
        #expect(try inner.next() == nil)
        #expect(reader.isAtEnd)
        #expect(try reader.next() == nil)
    }

    @Test(arguments: [0, 1, 127, 128, 16383, 16384, UInt64(Int64.max), .max] as [UInt64]) func varints(value: UInt64) {
        var bytes = Bytes()
        Varint.append(value, to: &bytes)
        #expect(bytes.count <= Varint.maximumLength)
        bytes.withUnsafeBufferPointer { buffer in
            var position = 0
            #expect(Varint.read(buffer, at: &position) == value)
            #expect(position == buffer.count)
            var cut = 0
            #expect(Varint.read(UnsafeBufferPointer(rebasing: buffer.dropLast()), at: &cut) == nil)
            #expect(cut == 0)
        }
    }

    @Test func survivesFuzzing() {
        let failure = Fuzzing.run("publication bodies", corpus: Self.publications.map(PublicationBody.encode)) {
            input, _ in
            guard let publication = try? PublicationBody.decode(input) else { return true }
            return (try? PublicationBody.decode(PublicationBody.encode(publication))) == publication
        }
        #expect(failure == nil)
    }

    @Test func readerSurvivesFuzzing() {
        let failure = Fuzzing.run("tagged fields", corpus: Self.publications.map(PublicationBody.encode)) { input, _ in
            var reader = TaggedReader(input)
            var total = 0
            while let field = try? reader.next() {
                total += field.bytes.count
                _ = try? field.string()
                _ = try? field.number()
                var inner = field.fields
                while (try? inner.next()) != nil {}
            }
            return total <= input.count
        }
        #expect(failure == nil)
    }
}
