import FanfareModel
import FanfareProtocol
import Testing

@Suite struct JSONReplyTests {
    @Test(arguments: Samples.replies) func encodesReply(json: String, reply: Reply) {
        #expect(ProtocolVariant.json.encode(reply).text == json)
        #expect(JSONScanner.isValid(Bytes(text: json)))
    }

    @Test(arguments: Samples.pushes) func encodesPush(json: String, channel: String, push: Push) {
        #expect(ProtocolVariant.json.encode(push, channel: channel).text == json)
        #expect(JSONScanner.isValid(Bytes(text: json)))
        // Unidirectional transports send the inside of it.
        #expect(#"{"push":"# + ProtocolVariant.unidirectional(push, channel: channel).text + "}" == json)
    }

    @Test func appendsToWhatIsThere() {
        var object = Bytes(text: "x")
        ProtocolVariant.json.encode(Reply(id: 3, body: .publish), into: &object)
        #expect(object.text == #"x{"id":3,"publish":{}}"#)
    }

    @Test func messagesAreLines() {
        var message = Bytes()
        for object in [ProtocolVariant.json.ping, Bytes(text: #"{"id":3,"publish":{}}"#), ProtocolVariant.json.ping] {
            ProtocolVariant.json.append(object: object, to: &message)
        }
        #expect(message.text == "{}\n{\"id\":3,\"publish\":{}}\n{}")
    }
}
