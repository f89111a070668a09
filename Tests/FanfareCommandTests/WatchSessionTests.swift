import FanfareModel
import Testing

@testable import FanfareCommand

@Suite struct WatchSessionTests {
    private func text(_ bytes: Bytes) -> String { String(decoding: bytes, as: UTF8.self) }

    private func received(_ session: inout WatchSession, _ message: String) -> [String] {
        session.received(Bytes(message.utf8)).map { action in
            switch action {
            case .send(let bytes): "send " + self.text(bytes)
            case .publication(let watched): "publication " + watched.text
            case .note(let text): "note " + text
            case .subscribed(let ping): "subscribed \(ping.map { "\($0.milliseconds)" } ?? "-")"
            case .reconnect(let reason): "reconnect " + reason
            case .fail(let reason): "fail " + reason
            }
        }
    }

    @Test func subscribesReadsAndRecovers() {
        var session = WatchSession(channel: "room:1", token: "t")
        #expect(self.text(session.connected()) == #"{"id":1,"connect":{"name":"fanfare-watch","token":"t"}}"#)
        #expect(
            self.received(&session, #"{"id":1,"connect":{"client":"c","version":"","ping":25,"pong":true}}"#)
                == [#"send {"id":2,"subscribe":{"channel":"room:1"}}"#])
        #expect(
            self.received(
                &session,
                #"{"id":2,"subscribe":{"recoverable":true,"epoch":"e","offset":5,"positioned":true}}"# + "\n"
                    + #"{"push":{"channel":"room:1","pub":{"data":{"a": 1},"offset":6,"info":{"user":"ann"}}}}"#)
                == ["subscribed 25000", "publication 6\tann\t{\"a\": 1}"])
        #expect(self.received(&session, "{}") == ["send {}"])
        #expect(self.received(&session, #"{"push":{"channel":"room:2","pub":{"data":1,"offset":9}}}"#).isEmpty)
        #expect(self.received(&session, #"{"push":{"channel":"room:1","join":{"info":{"user":"x"}}}}"#).isEmpty)

        #expect(
            self.text(session.connected())
                == #"{"id":1,"connect":{"name":"fanfare-watch","token":"t","subs":{"room:1":{"recover":true,"epoch":"e","offset":6}}}}"#
        )
        #expect(
            self.received(&session, #"{"id":1,"connect":{"client":"c"}}"#)
                == [#"send {"id":2,"subscribe":{"channel":"room:1","recover":true,"epoch":"e","offset":6}}"#])
        #expect(
            self.received(
                &session,
                #"{"id":2,"subscribe":{"recoverable":true,"epoch":"e","offset":8,"recovered":true,"publications":[{"data":7,"offset":7},{"data":8,"offset":8}]}}"#
                    + "\n" + #"{"push":{"channel":"room:1","pub":{"data":8,"offset":8}}}"#)
                == ["subscribed -", "publication 7\t-\t7", "publication 8\t-\t8"])
        #expect(session.position == StreamPosition(offset: 8, epoch: "e"))
    }

    @Test func theWholePushIsKeptForJSON() {
        var session = WatchSession(channel: "room:1", token: nil)
        _ = session.connected()
        let push = #"{"push":{"channel":"room:1","pub":{"data":{"text": "héllo"}}}}"#
        guard case .publication(let watched) = session.received(Bytes(push.utf8)).first else {
            Issue.record("no publication")
            return
        }
        #expect(self.text(watched.push) == push && self.text(watched.data) == #"{"text": "héllo"}"#)
    }

    @Test func whatCouldNotBeRecoveredIsTold() {
        var session = WatchSession(channel: "room:1", token: nil)
        _ = self.received(&session, #"{"id":2,"subscribe":{"recoverable":true,"epoch":"e","offset":5}}"#)
        _ = session.connected()
        let actions = self.received(
            &session, #"{"id":2,"subscribe":{"recoverable":true,"epoch":"f","offset":2,"was_recovering":true}}"#)
        #expect(actions.count == 2 && actions[1].hasPrefix("note some publications may be missing"))
        #expect(session.position == StreamPosition(offset: 2, epoch: "f"))
    }

    @Test func aServerSideSubscriptionNeedsNoCommand() {
        var session = WatchSession(channel: "user:ann", token: "t")
        _ = session.connected()
        #expect(
            self.received(
                &session,
                #"{"id":1,"connect":{"client":"c","subs":{"user:ann":{"recoverable":true,"epoch":"e","offset":3}}}}"#)
                == ["subscribed -"])
        #expect(session.position?.offset == 3)
    }

    @Test(arguments: [
        (#"{"id":2,"error":{"code":103,"message":"permission denied"}}"#, "fail error 103: permission denied"),
        (#"{"id":2,"error":{"code":100,"message":"x","temporary":true}}"#, "reconnect error 100: x"),
        (#"{"id":2,"error":{"code":105,"message":"already"}}"#, "subscribed -"),
        (
            #"{"push":{"channel":"room:1","unsubscribe":{"code":2000,"reason":"bye"}}}"#,
            "fail the server ended the subscription: bye (2000)"
        ),
        (
            #"{"push":{"disconnect":{"code":3001,"reason":"shutdown"}}}"#,
            "reconnect closed by the server: shutdown (3001)"
        ),
        ("nonsense", "reconnect the server sent what is no JSON of this protocol"),
        (#"{"id":-"#, "reconnect the server sent what is no JSON of this protocol"),
    ])
    func errors(message: String, action: String) {
        var session = WatchSession(channel: "room:1", token: nil)
        _ = session.connected()
        #expect(self.received(&session, message) == [action])
    }

    @Test func anInsufficientStateSubscribesAgain() {
        var session = WatchSession(channel: "room:1", token: nil)
        _ = session.connected()
        let actions = self.received(
            &session, #"{"push":{"channel":"room:1","unsubscribe":{"code":2500,"reason":"r"}}}"#)
        #expect(actions.last == #"send {"id":2,"subscribe":{"channel":"room:1"}}"#)
    }

    @Test func closeCodes() {
        let session = WatchSession(channel: "room:1", token: nil)
        #expect(
            session.closed(code: 3500, reason: "invalid token") == .fail("closed by the server: invalid token (3500)"))
        #expect(session.closed(code: 3008, reason: "slow") == .reconnect("closed by the server: slow (3008)"))
        #expect(session.closed(code: nil, reason: "") == .reconnect("closed by the server: no reason (no code)"))
    }
}
