import FanfareModel
import FanfareProtocol
import Testing

@Suite struct JSONCommandTests {
    private static func subscribe(_ channel: String, _ change: (inout SubscribeRequest) -> Void = { _ in })
        -> CommandBody
    {
        var request = SubscribeRequest(channel: channel)
        change(&request)
        return .subscribe(request)
    }

    static let accepted: [(line: String, command: Command)] = [
        // The example exchanges of the protocol notes, E1–E20.
        (
            #"{"id":1,"connect":{"token":"t","name":"js","version":"5.7.1"}}"#,
            Command(id: 1, body: .connect(ConnectRequest(token: "t", name: "js", version: "5.7.1")))
        ),
        (#"{"id":2,"subscribe":{"channel":"chat:lobby"}}"#, Command(id: 2, body: subscribe("chat:lobby"))),
        ("{}", Command(id: 0, body: .pong)),
        (
            #"{"id":3,"publish":{"channel":"chat:lobby","data":{"a":1}}}"#,
            Command(id: 3, body: .publish(channel: "chat:lobby", data: Bytes(text: #"{"a":1}"#)))
        ),
        (#"{"id":4,"presence":{"channel":"c"}}"#, Command(id: 4, body: .presence(channel: "c"))),
        (#"{"id":5,"presence_stats":{"channel":"c"}}"#, Command(id: 5, body: .presenceStats(channel: "c"))),
        (
            #"{"id":6,"history":{"channel":"c","limit":2,"since":{"offset":1,"epoch":"wiYOOjvq"}}}"#,
            Command(
                id: 6,
                body: .history(
                    channel: "c",
                    filter: HistoryFilter(limit: 2, since: StreamPosition(offset: 1, epoch: "wiYOOjvq"))))
        ),
        (
            #"{"id":7,"history":{"channel":"c"}}"#,
            Command(id: 7, body: .history(channel: "c", filter: HistoryFilter(limit: 0)))
        ),
        (
            #"{"id":7,"history":{"channel":"c","limit":-1,"reverse":true}}"#,
            Command(id: 7, body: .history(channel: "c", filter: HistoryFilter(limit: -1, reverse: true)))
        ),
        (
            #"{"id":2,"subscribe":{"channel":"c","recover":true,"offset":18446744073709551615,"epoch":"e"}}"#,
            Command(
                id: 2,
                body: subscribe("c") {
                    $0.recover = true
                    $0.offset = .max
                    $0.epoch = "e"
                })
        ),
        (
            #"{"id":10,"subscribe":{"channel":"priv:q","token":"t","data":[1],"positioned":true,"recoverable":true,"join_leave":true,"delta":"fossil","tf":{"key":"k"},"flag":3,"type":1,"phase":9}}"#,
            Command(
                id: 10,
                body: subscribe("priv:q") {
                    $0.token = "t"
                    $0.data = Bytes(text: "[1]")
                    $0.positioned = true
                    $0.recoverable = true
                    $0.joinLeave = true
                    $0.delta = true
                    $0.hasTagFilter = true
                    $0.flag = 3
                    $0.type = 1
                })
        ),
        (
            #"{"id":11,"sub_refresh":{"channel":"priv:q","token":"t"}}"#,
            Command(id: 11, body: .subRefresh(channel: "priv:q", token: "t"))
        ),
        (#"{"id":15,"unsubscribe":{"channel":"c"}}"#, Command(id: 15, body: .unsubscribe(channel: "c"))),
        (#"{"id":16,"refresh":{"token":"t"}}"#, Command(id: 16, body: .refresh(token: "t"))),
        (
            #"{"id":17,"rpc":{"method":"time","data":{}}}"#,
            Command(id: 17, body: .rpc(method: "time", data: Bytes(text: "{}")))
        ),
        (#"{"id":17,"rpc":{"method":"time"}}"#, Command(id: 17, body: .rpc(method: "time", data: []))),
        (#"{"send":{"data":{"seen":55}}}"#, Command(id: 0, body: .send(data: Bytes(text: #"{"seen":55}"#)))),
        (
            #"{"id":1,"connect":{"token":"t","subs":{"user:u1":{"recover":true,"offset":5,"epoch":"AbCdEfGh"},"x":null}}}"#,
            Command(
                id: 1,
                body: .connect(
                    ConnectRequest(
                        token: "t",
                        subs: [
                            "user:u1": RecoverRequest(recover: true, offset: 5, epoch: "AbCdEfGh"),
                            "x": RecoverRequest(),
                        ])))
        ),
        // Unknown members are ignored, whatever they hold; null is absence; order and whitespace do not matter.
        (
            " {\"x\":[{\"y\":null}],\"presence\" : {\"channel\":\"c\", \"z\":-1.5e+3},\t\"id\" :4294967295}\r",
            Command(id: .max, body: .presence(channel: "c"))
        ),
        (
            #"{"id":1,"connect":{"token":null,"headers":{"a":"b"},"flag":1}}"#,
            Command(id: 1, body: .connect(ConnectRequest()))
        ),
        (#"{"id":1,"connect":null,"refresh":{"token":"t"}}"#, Command(id: 1, body: .refresh(token: "t"))),
        (#"{"id":null}"#, Command(id: 0, body: .pong)),
        (#"{"x":1}"#, Command(id: 0, body: .pong)),
        (#"{"id":1,"subscribe":{"channel":"c","tf":null,"delta":""}}"#, Command(id: 1, body: subscribe("c"))),
        // The first method in schema order wins; of repeated keys the last.
        (
            #"{"sub_refresh":{"channel":"a"},"ping":{},"id":1,"publish":{"channel":"b","data":1},"rpc":5}"#,
            Command(id: 1, body: .publish(channel: "b", data: Bytes(text: "1")))
        ),
        (
            #"{"id":1,"presence":{"channel":"a"},"presence":{"channel":"b"},"id":2}"#,
            Command(id: 2, body: .presence(channel: "b"))
        ),
        // Text is unescaped, keys too; payloads are kept byte for byte, except for line breaks.
        (
            #"{"\u0069d":1,"presence":{"channel":"\u0063\"\\\/\b\f\n\r\té\ud83d\ude00"}}"#,
            Command(id: 1, body: .presence(channel: "c\"\\/\u{8}\u{c}\n\r\té😀"))
        ),
        (
            #"{"id":1,"presence":{"channel":"\ud83dx\ude00"}}"#,
            Command(id: 1, body: .presence(channel: "\u{fffd}x\u{fffd}"))
        ),
        (
            "{\"id\":1,\"publish\":{\"channel\":\"c\",\"data\": {\"b\" : 1.50,\r\t\"a\":\"\\ud800\\/\"} }}",
            Command(id: 1, body: .publish(channel: "c", data: Bytes(text: "{\"b\" : 1.50, \t\"a\":\"\\ud800\\/\"}")))
        ),
        (
            #"{"id":1,"publish":{"channel":"c","data":null}}"#,
            Command(id: 1, body: .publish(channel: "c", data: Bytes(text: "null")))
        ),
        (#"{"id":1,"publish":{"channel":"c"}}"#, Command(id: 1, body: .publish(channel: "c", data: []))),
    ]

    @Test(arguments: accepted) func decodes(line: String, command: Command) throws {
        #expect(try ProtocolVariant.json.decode(Bytes(text: line)) == [command])
        #expect(try ProtocolVariant.json.decode(Bytes(text: line + "\n")) == [command])
    }

    @Test(arguments: [
        // Framing.
        "", "\n", "\n{}", "{}\n\n", "{}\n\n{}", "{} {}", "{}{}", "{\n}", "[]", "1", "\"\"", "null", "{", "}", "{}x",
        // Ids and methods.
        #"{"id":1}"#, #"{"id":1,"nothing":{}}"#, #"{"connect":{}}"#, #"{"id":0,"connect":{}}"#,
        #"{"id":-1,"connect":{}}"#,
        #"{"id":4294967296,"connect":{}}"#, #"{"id":"1","connect":{}}"#, #"{"id":1.0,"connect":{}}"#,
        #"{"id":1e0,"connect":{}}"#, #"{"id":1,"ping":{}}"#, #"{"ping":{}}"#, #"{"id":1,"connect":[]}"#,
        #"{"id":1,"connect":5}"#, #"{"id":1,"connect":{"send":{}},"rpc":{}"#, #"{"refresh":{},"send":{}"#,
        // Channels.
        #"{"id":1,"subscribe":{}}"#, #"{"id":1,"subscribe":{"channel":""}}"#, #"{"id":1,"subscribe":{"channel":null}}"#,
        #"{"id":1,"unsubscribe":{}}"#, #"{"id":1,"publish":{"data":1}}"#, #"{"id":1,"presence":{}}"#,
        #"{"id":1,"presence_stats":{}}"#, #"{"id":1,"history":{"limit":1}}"#, #"{"id":1,"sub_refresh":{"token":"t"}}"#,
        #"{"id":1,"subscribe":{"channel":7}}"#,
        // Fields of a wrong type.
        #"{"id":1,"subscribe":{"channel":"c","delta":"xdelta"}}"#, #"{"id":1,"subscribe":{"channel":"c","recover":1}}"#,
        #"{"id":1,"subscribe":{"channel":"c","offset":-1}}"#,
        #"{"id":1,"subscribe":{"channel":"c","offset":18446744073709551616}}"#,
        #"{"id":1,"history":{"channel":"c","limit":2147483648}}"#, #"{"id":1,"history":{"channel":"c","since":5}}"#,
        #"{"id":1,"connect":{"subs":[]}}"#, #"{"id":1,"connect":{"token":1}}"#,
        // Malformed JSON where nobody looks.
        #"{"id":1,"publish":{"channel":"c","data":{]}}"#, #"{"id":1,"publish":{"channel":"c","data":}}"#,
        #"{"id":1,"publish":{"channel":"c","data":01}}"#, #"{"x":nul}"#, #"{"x":"\x"}"#, #"{"x":1,}"#, #"{,"x":1}"#,
        #"{"x" 1}"#, #"{x:1}"#, #"{'x':1}"#, "{\"x\":\"\t\"}",
    ]) func refuses(line: String) {
        #expect(throws: Disconnect.badRequest) { try ProtocolVariant.json.decode(Bytes(text: line)) }
    }

    @Test func refusesBrokenUTF8() {
        for sequence in [
            [0x80], [0xc3], [0xc0, 0x80], [0xe0, 0x80, 0x80], [0xed, 0xa0, 0x80], [0xf4, 0x90, 0x80, 0x80], [0xff],
        ] as [Bytes] {
            let line = Bytes(text: #"{"id":1,"rpc":{"data":""#) + sequence + Bytes(text: #""}}"#)
            #expect(throws: Disconnect.badRequest) { try ProtocolVariant.json.decode(line) }
        }
    }

    @Test func decodesSeveralInOrder() throws {
        let message = #"{"id":1,"connect":{}}"# + "\n" + #"{"id":2,"subscribe":{"channel":"c"}}"# + "\n{}"
        let commands = try ProtocolVariant.json.decode(Bytes(text: message))
        #expect(commands.map(\.id) == [1, 2, 0])
        // One malformed line spoils the message.
        #expect(throws: Disconnect.badRequest) { try ProtocolVariant.json.decode(Bytes(text: message + "\n{")) }
    }

    @Test func limitsHold() throws {
        func publish(depth: Int) -> Bytes {
            let data = String(repeating: "[", count: depth) + String(repeating: "]", count: depth)
            return Bytes(text: #"{"id":1,"publish":{"channel":"c","data":"# + data + "}}")
        }
        // Too deep a payload is refused by itself; where nobody gets what is deep, it is passed over.
        for (depth, isRefused) in [(512, false), (513, true), (50_000, true)] {
            let command = try #require(ProtocolVariant.json.decode(publish(depth: depth)).first)
            #expect(command.id == 1)
            if case .refused(let error) = command.body {
                #expect(isRefused && error.code == 107)
            } else {
                #expect(!isRefused)
            }
        }
        let elsewhere = String(repeating: "[", count: 5000) + String(repeating: "]", count: 5000)
        let history = #"{"x":\#(elsewhere),"id":1,"history":{"channel":"c","y":\#(elsewhere)}}"#
        #expect(try ProtocolVariant.json.decode(Bytes(text: history)).count == 1)
        let pongs = { Bytes(text: Array(repeating: "{}", count: $0).joined(separator: "\n")) }
        #expect(try ProtocolVariant.json.decode(pongs(1024)).count == 1024)
        #expect(throws: Disconnect.badRequest) { try ProtocolVariant.json.decode(pongs(1025)) }
    }

    @Test func survivesFuzzing() {
        let corpus = JSONCommandTests.accepted.map { Bytes(text: $0.line) }
        let failure = Fuzzing.run("JSON commands", corpus: corpus) { input, _ in
            guard let commands = try? ProtocolVariant.json.decode(input) else { return true }
            return commands.allSatisfy { command in
                guard case .publish(let channel, let data) = command.body else { return true }
                return !channel.isEmpty && (data.isEmpty || JSONScanner.isValid(data)) && !data.contains(0x0a)
                    && !data.contains(0x0d)
            }
        }
        #expect(failure == nil)
    }
}
