import FanfareModel
import Foundation
import SwiftProtobuf
import Testing

@testable import FanfareProtocol

@Suite struct ProtobufTests {
    private static func framed(_ commands: [WireCommand]) throws -> Bytes {
        var message = Bytes()
        for command in commands {
            let object: Bytes = try command.serializedBytes()
            ProtocolVariant.protobuf.append(object: object, to: &message)
        }
        return message
    }

    private static func decode(_ change: (inout WireCommand) -> Void) throws -> [Command] {
        try ProtocolVariant.protobuf.decode(try self.framed([WireCommand.with(change)]))
    }

    // MARK: Bytes that must never change

    @Test func framing() throws {
        var message = Bytes()
        ProtocolVariant.protobuf.append(object: ProtocolVariant.protobuf.ping, to: &message)
        #expect(message == [0x00])
        ProtocolVariant.protobuf.append(
            object: ProtocolVariant.protobuf.encode(Reply(id: 3, body: .publish)), to: &message)
        #expect(message == [0x00, 0x04, 0x08, 0x03, 0x42, 0x00])
        #expect(try ProtocolVariant.protobuf.decode([0x00]) == [Command(id: 0, body: .pong)])
        // Longer than one byte of length.
        var long = Bytes()
        ProtocolVariant.protobuf.append(object: Bytes(repeating: 1, count: 300), to: &long)
        #expect(long.prefix(2) == [0xac, 0x02])
    }

    @Test func golden() throws {
        // {id: 1, connect: {token: "t", subs: {"c": {recover, epoch "e", offset 5}}}}
        let connect: Bytes = [
            0x17, 0x08, 0x01, 0x22, 0x13, 0x0a, 0x01, 0x74, 0x1a, 0x0e, 0x0a, 0x01, 0x63, 0x12, 0x09, 0x18, 0x01, 0x32,
            0x01, 0x65, 0x38, 0x05, 0x40, 0x00,
        ]
        let expected = ConnectRequest(token: "t", subs: ["c": RecoverRequest(recover: true, offset: 5, epoch: "e")])
        #expect(try ProtocolVariant.protobuf.decode(connect) == [Command(id: 1, body: .connect(expected))])
        // {push: {channel: "c", pub: {data: "1", offset: 2}}}
        let push = ProtocolVariant.protobuf.encode(
            .publication(Publication(offset: 2, data: Bytes(text: "1"))), channel: "c")
        #expect(push == [0x22, 0x0a, 0x12, 0x01, 0x63, 0x22, 0x05, 0x22, 0x01, 0x31, 0x30, 0x02])
        // {id: 8, error: {code: 112, message: "m"}}
        let error = ProtocolVariant.protobuf.encode(Reply(id: 8, body: .error(FanfareError(code: 112, message: "m"))))
        #expect(error == [0x08, 0x08, 0x12, 0x05, 0x08, 0x70, 0x12, 0x01, 0x6d])
    }

    // MARK: Commands

    @Test func decodesEveryMethod() throws {
        func body(_ change: (inout WireCommand) -> Void) throws -> CommandBody {
            let commands = try Self.decode {
                $0.id = 9
                change(&$0)
            }
            let command = try #require(commands.first)
            #expect(command.id == 9)
            return command.body
        }
        #expect(try body { $0.unsubscribe.channel = "c" } == .unsubscribe(channel: "c"))
        #expect(try body { $0.presence.channel = "c" } == .presence(channel: "c"))
        #expect(try body { $0.presenceStats.channel = "c" } == .presenceStats(channel: "c"))
        #expect(try body { $0.refresh.token = "t" } == .refresh(token: "t"))
        #expect(
            try body {
                $0.rpc = .with {
                    $0.method = "m"; $0.data = Data([0xff])
                }
            } == .rpc(method: "m", data: [0xff]))
        #expect(try body { $0.send.data = Data([1]) } == .send(data: [1]))
        #expect(
            try body {
                $0.subRefresh = .with {
                    $0.channel = "c"; $0.token = "t"
                }
            }
                == .subRefresh(channel: "c", token: "t"))
        // Payloads go into lines of JSON: line breaks become spaces.
        #expect(
            try body {
                $0.publish = .with {
                    $0.channel = "c"; $0.data = Data("[\r\n1]".utf8)
                }
            }
                == .publish(channel: "c", data: Bytes(text: "[  1]")))
        #expect(
            try body {
                $0.history = .with {
                    $0.channel = "c"
                    $0.limit = -1
                    $0.since = .with {
                        $0.offset = 7; $0.epoch = "e"
                    }
                    $0.reverse = true
                }
            }
                == .history(
                    channel: "c",
                    filter: HistoryFilter(limit: -1, since: StreamPosition(offset: 7, epoch: "e"), reverse: true)))
        #expect(
            try body {
                $0.subscribe = .with {
                    $0.channel = "c"
                    $0.token = "t"
                    $0.recover = true
                    $0.epoch = "e"
                    $0.offset = 4
                    $0.data = Data([2])
                    $0.positioned = true
                    $0.recoverable = true
                    $0.joinLeave = true
                    $0.delta = "fossil"
                    $0.tf = WireEmpty()
                    $0.flag = 2
                    $0.type = 1
                }
            }
                == .subscribe(
                    SubscribeRequest(
                        channel: "c", token: "t", recover: true, offset: 4, epoch: "e", data: [2], positioned: true,
                        recoverable: true, joinLeave: true, delta: true, hasTagFilter: true, flag: 2, type: 1)))
    }

    @Test func refuses() throws {
        let refused: [(inout WireCommand) -> Void] = [
            { $0.id = 1 }, { $0.connect = WireConnectRequest() },
            {
                $0.id = 1; $0.ping = WireEmpty()
            },
            { $0.ping = WireEmpty() },
            {
                $0.id = 1; $0.subscribe = WireSubscribeRequest()
            },
            {
                $0.id = 1; $0.presence = WireChannelRequest()
            },
            {
                $0.id = 1;
                $0.subscribe = .with {
                    $0.channel = "c"; $0.delta = "x"
                }
            },
        ]
        for change in refused { #expect(throws: Disconnect.badRequest) { try Self.decode(change) } }
        let malformed: [Bytes] = [
            [], [0x01], [0x02, 0x08], [0x80], [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01],
            Bytes(repeating: 0x80, count: 20), [0x02, 0x08, 0x01, 0x05],
            // Text that is no UTF-8.
            [0x07, 0x08, 0x01, 0x72, 0x03, 0x0a, 0x01, 0xff],
        ]
        for message in malformed {
            #expect(throws: Disconnect.badRequest) { try ProtocolVariant.protobuf.decode(message) }
        }
        #expect(try ProtocolVariant.protobuf.decode(Bytes(repeating: 0, count: 1024)).count == 1024)
        #expect(throws: Disconnect.badRequest) {
            try ProtocolVariant.protobuf.decode(Bytes(repeating: 0, count: 1025))
        }
    }

    @Test func firstMethodWinsAndUnknownFieldsAreSkipped() throws {
        let commands = try Self.decode {
            $0.id = 1
            $0.rpc.method = "m"
            $0.publish.channel = "c"
        }
        #expect(commands == [Command(id: 1, body: .publish(channel: "c", data: []))])
        // Field 100, a varint; field 101, bytes.
        let unknown: Bytes = [0xa0, 0x06, 0x07, 0xaa, 0x06, 0x02, 0xff, 0xff]
        let object: Bytes = [0x08, 0x01, 0x72, 0x03, 0x0a, 0x01, 0x74] + unknown
        #expect(
            try ProtocolVariant.protobuf.decode([UInt8(object.count)] + object)
                == [Command(id: 1, body: .refresh(token: "t"))])
    }

    // MARK: Replies and pushes, read back

    @Test(arguments: Samples.replies) func encodesReply(json: String, reply: Reply) throws {
        let wire = try WireReply(serializedBytes: ProtocolVariant.protobuf.encode(reply))
        #expect(wire.id == reply.id)
        #expect(try self.normalized(wire.jsonString()) == self.normalized(json))
    }

    @Test(arguments: Samples.pushes) func encodesPush(json: String, channel: String, push: Push) throws {
        let wire = try WireReply(serializedBytes: ProtocolVariant.protobuf.encode(push, channel: channel))
        #expect(try self.normalized(wire.jsonString()) == self.normalized(json))
    }

    /// The values as protobuf's own JSON mapping has them: bytes in base64, 64-bit numbers as text, zero left out, names in
    /// camel case. Both sides are brought to that form.
    private func normalized(_ text: String) throws -> JSON {
        func normal(_ value: JSON, key: String) -> JSON? {
            if ["data", "connInfo", "chanInfo"].contains(key), !self.isProtobufBytes(value) {
                return .string(Data(value.serialize()).base64EncodedString())
            }
            switch value {
            case .object(let members):
                let isEntry = ["tags", "subs", "presence"].contains(key)
                let kept = members.compactMap { member -> JSON.Member? in
                    let name = isEntry ? member.key : self.camelCase(member.key)
                    guard let value = normal(member.value, key: isEntry ? "" : name) else {
                        return isEntry ? JSON.Member(name, .string("")) : nil
                    }
                    return JSON.Member(name, value)
                }
                return .object(kept.sorted { $0.key < $1.key })
            case .array(let elements):
                return elements.isEmpty ? nil : .array(elements.compactMap { normal($0, key: "") })
            case .number(let text): return text == "0" ? nil : .string(text)
            case .string(let text): return text.isEmpty ? nil : value
            case .bool, .null, .raw: return value
            }
        }
        return try #require(self.dropEmptyMaps(normal(JSON.parse(Bytes(text: text)), key: "")))
    }

    private func dropEmptyMaps(_ value: JSON?) -> JSON? {
        guard case .object(let members) = value else { return value }
        return .object(
            members.compactMap { member in
                if member.key == "presence", case .object(let inner) = member.value, inner.isEmpty, members.count == 1 {
                    return nil
                }
                return self.dropEmptyMaps(member.value).map { JSON.Member(member.key, $0) }
            })
    }

    private func isProtobufBytes(_ value: JSON) -> Bool {
        guard case .string(let text) = value, let data = Data(base64Encoded: text) else { return false }
        return JSONScanner.isValid(Bytes(data))
    }

    private func camelCase(_ name: String) -> String {
        let parts = name.split(separator: "_")
        return parts.dropFirst().reduce(String(parts.first ?? "")) { $0 + $1.prefix(1).uppercased() + $1.dropFirst() }
    }

    @Test func survivesFuzzing() throws {
        let corpus = try [
            Self.framed([
                .with {
                    $0.id = 1;
                    $0.connect = .with {
                        $0.token = "t"; $0.subs["c"] = .with { $0.offset = 5 }
                    }
                }
            ]),
            Self.framed([
                .with {
                    $0.id = 2;
                    $0.publish = .with {
                        $0.channel = "c"; $0.data = Data("{\"a\":1}".utf8)
                    }
                }, WireCommand(),
            ]),
            Self.framed([
                .with {
                    $0.id = 3;
                    $0.history = .with {
                        $0.channel = "c"; $0.since.offset = 7
                    }
                }
            ]),
        ]
        let failure = Fuzzing.run("protobuf commands", corpus: corpus) { input, _ in
            guard let commands = try? ProtocolVariant.protobuf.decode(input) else { return true }
            return commands.count <= max(1, input.count)
        }
        #expect(failure == nil)
    }
}
