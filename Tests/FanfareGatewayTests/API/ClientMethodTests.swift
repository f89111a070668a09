import FanfareFabric
import FanfareModel
import FanfareProtocol
import Testing

/// The methods as clients call them by rpc.
@Suite struct ClientMethodTests {
    private static let shared = Task { try await TestNode() }

    private static func client(_ user: String) -> Caller {
        .client(ClientInfo(user: UserID(unchecked: user), client: ClientID("c-\(user)")), .viewer)
    }

    @Test(
        arguments: [
            ("ann", "follow", #"{"streamer":"bob"}"#, 1004), ("ann", "follow", #"{"streamer":"ann"}"#, 107),
            ("ann", "follow", #"{"user":"ann","streamer":"bob"}"#, 1004),
            ("ann", "follow", #"{"user":"eve","streamer":"bob"}"#, 103), ("ann", "follow", "", 107),
            ("ann", "start_stream", #"{"title":"T"}"#, 1004),
            ("ann", "start_stream", #"{"title":"T","streamer":"bob"}"#, 103), ("ann", "stop_stream", "", 1004),
            ("ann", "stop_stream", #"{"stream":"7"}"#, 1004), ("ann", "stop_stream", #"{"streamer":"bob"}"#, 103),
            ("ann", "notifications", "{}", 1004), ("ann", "notifications", #"{"user":"bob"}"#, 103),
            ("ann", "mark_read", #"{"ids":["1","2"]}"#, 1004), ("ann", "notify", "{}", 104), ("ann", "info", "{}", 104),
            ("ann", "batch", #"{"commands":[]}"#, 104), ("ann", "nothing", "{}", 104),
            ("ann", "publish", #"{"channel":"user:ann","data":1}"#, 103),
            ("ann", "publish", #"{"channel":"dm:bob:eve","data":1}"#, 103),
            ("ann", "publish", #"{"channel":"stream:1","data":1}"#, 103), ("ann", "publish", "[]", 107),
            ("", "follow", #"{"streamer":"bob"}"#, 101), ("", "publish", #"{"channel":"room:1","data":1}"#, 101),
            ("", "nothing", "{}", 101),
        ] as [(String, String, String, UInt32)])
    func actUnderTheirOwnIdentity(user: String, method: String, parameters: String, code: UInt32) async throws {
        let node = try await Self.shared.value
        await #expect {
            _ = try await MethodRouter(operations: node.node).callRemote(
                method, Bytes(parameters.utf8), by: Self.client(user))
        } throws: { error in
            (error as? FanfareError)?.code == code
        }
    }

    @Test func publishWithAKeyMayBeRepeated() async throws {
        let node = try await Self.shared.value
        let methods = MethodRouter(operations: node.node)
        let parameters = Bytes(#"{"channel":"room:rpc","data":"hello","idempotency_key":"k"}"#.utf8)
        let first = try await methods.callRemote("publish", parameters, by: Self.client("ann"))
        #expect(try await methods.callRemote("publish", parameters, by: Self.client("ann")) == first)
        let history = try await node.call("history", #"{"channel":"room:rpc","limit":5}"#)
        let publications = try JSON.parse(Bytes(history.body.utf8))["result"]?["publications"]?.arrayValue
        #expect(publications?.count == 1)
        #expect(publications?.first?["info"] == ["user": "ann", "client": "c-ann"])
    }
}
