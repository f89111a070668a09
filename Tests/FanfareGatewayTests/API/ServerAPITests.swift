import FanfareFabric
import FanfareGateway
import FanfareModel
import FanfareProtocol
import Testing

@Suite struct ServerAPITests {
    @Test func answersWithTheStatusesOfTheContract() async throws {
        let node = try await TestNode()
        let key = "X-API-Key: \(TestNode.apiKey)"
        let table: [(method: String, path: String, fields: [String], body: String, status: Int)] = [
            ("POST", "/api/info", [key], "{}", 200),
            ("POST", "/api/info", ["Authorization: apikey \(TestNode.apiKey)"], "{}", 200),
            ("POST", "/api/info", ["Authorization: APIKEY \(TestNode.apiKey)"], "{}", 200),
            ("POST", "/api/info?api_key=a%20key", [], "{}", 200),
            ("POST", "/api/info", [], "{}", 401),
            ("POST", "/api/info", ["X-API-Key: a kez"], "{}", 401),
            ("POST", "/api/info", ["X-API-Key: a keya key"], "{}", 401),
            ("POST", "/api/info", ["X-API-Key;"], "{}", 400),
            ("POST", "/api/info", ["Authorization: Bearer \(TestNode.apiKey)"], "{}", 401),
            ("POST", "/api/info?api_key=wrong", [], "{}", 401),
            ("GET", "/api/info", [key], "", 405),
            ("PUT", "/api/info", [key], "{}", 405),
            ("POST", "/api/nothing", [key], "{}", 404),
            ("POST", "/api/nothing", [], "{}", 401),
            ("POST", "/nowhere", [key], "{}", 404),
            ("POST", "/api/info", [key], "", 400),
            ("POST", "/api/info", [key], "{", 400),
            ("POST", "/api/info", [key], "[]", 400),
            ("POST", "/api/info", [key], "{}{}", 400),
            ("POST", "/api/info", [key, "Content-Type: application/json; charset=utf-8"], "{}", 200),
            ("POST", "/api/info", [key, "Content-Type: application/x-www-form-urlencoded"], "{}", 200),
            ("POST", "/api/info", [key, "Content-Type: multipart/form-data"], "{}", 415),
            ("POST", "/api/info", [key], #"{"x":""# + String(repeating: "x", count: 5 << 20) + #""}"#, 413),
        ]
        for row in table {
            let answer = try await node.request(row.method, row.path, fields: row.fields, body: row.body)
            #expect(answer.status == row.status, "\(row.method) \(row.path) \(row.fields)")
            if row.status == 401 { #expect(answer.body.isEmpty) }
        }
        await node.stop()
    }

    @Test func isOffWithoutAKey() async throws {
        let node = try await TestNode(apiKey: "")
        #expect(try await node.request("POST", "/api/info", fields: ["X-API-Key: "], body: "{}").status == 404)
        #expect(try await node.request("POST", "/api/info", body: "{}").status == 404)
        await node.stop()
    }

    /// What is wrong with parameters is told with its code; what is right but needs the database says so.
    @Test(
        arguments: [
            ("publish", #"{}"#, 107), ("publish", #"{"channel":"room:1"}"#, 107), ("publish", #"{"data":1}"#, 107),
            ("publish", #"{"channel":7,"data":1}"#, 107), ("publish", #"{"channel":"nope:1","data":1}"#, 102),
            ("publish", #"{"channel":"news","data":1}"#, 102), ("publish", #"{"channel":"dm:b:a","data":1}"#, 107),
            ("publish", #"{"channel":"room:1","data":1,"tags":{"a":1}}"#, 107),
            ("publish", #"{"channel":"room:1","b64data":"!"}"#, 107),
            ("publish", #"{"channel":"room:1","b64data":"YQ=="}"#, 107),
            (
                "publish", #"{"channel":"room:1","data":1,"idempotency_key":"\#(String(repeating: "k", count: 256))"}"#,
                107
            ),
            ("publish", #"{"channel":"room:1","data":"\#(String(repeating: "x", count: 65_535))"}"#, 107),
            ("publish", #"{"channel":"room:1","data":1,"version":-1}"#, 107),
            ("publish", #"{"channel":"room:1","data":1,"version":"2"}"#, 107),
            ("publish", #"{"channel":"room:1","data":1,"version":99999999999999999999}"#, 107),
            ("publish", #"{"channel":"room:1","data":1,"version":1,"skip_history":true}"#, 107),
            (
                "publish",
                #"{"channel":"room:1","data":1,"version":1,"version_epoch":"\#(String(repeating: "e", count: 256))"}"#,
                107
            ),
            ("publish", #"{"channel":"dm:a:b","data":1,"version":1}"#, 107),
            ("publish", #"{"channel":"user:ann","data":1,"version":1}"#, 107),
            ("history", #"{"channel":"user:ann","limit":1}"#, 108),
            ("broadcast", #"{"data":1}"#, 107), ("broadcast", #"{"channels":[],"data":1}"#, 107),
            ("broadcast", #"{"channels":["room:1"]}"#, 107), ("history", #"{}"#, 107),
            ("history", #"{"channel":"room:1","limit":-2}"#, 107),
            ("history", #"{"channel":"room:1","limit":5,"reverse":true,"since":{"offset":0,"epoch":""}}"#, 107),
            ("history", #"{"channel":"room:1","limit":5,"since":{"offset":1,"epoch":"other"}}"#, 112),
            ("subscribe", #"{"channel":"room:1"}"#, 107), ("subscribe", #"{"user":"ann"}"#, 107),
            ("disconnect", #"{"user":"ann","disconnect":{"code":1000,"reason":"x"}}"#, 107),
            ("disconnect", #"{}"#, 107),
            (
                "disconnect",
                #"{"user":"ann","disconnect":{"code":4000,"reason":"\#(String(repeating: "x", count: 124))"}}"#, 107
            ),
            ("follow", #"{"user":"ann"}"#, 107), ("follow", #"{"user":"ann","streamer":"ann"}"#, 107),
            ("follow", #"{"user":"ann","streamer":"b b"}"#, 107),
            ("follow", #"{"user":"ann","streamer":"bob","notify":"some"}"#, 107),
            ("follow", #"{"user":"ann","streamer":"bob","notify":"live"}"#, 1004),
            ("unfollow", #"{"user":"ann","streamer":"bob"}"#, 1004),
            ("start_stream", #"{"streamer":"ann"}"#, 107),
            ("start_stream", #"{"streamer":"ann","title":"T","tags":[1]}"#, 107),
            ("start_stream", #"{"streamer":"ann","title":"T","tags":["a"]}"#, 1004), ("stop_stream", #"{}"#, 107),
            ("stop_stream", #"{"stream":"7"}"#, 1004), ("notify", #"{"type":"raid","data":{}}"#, 107),
            ("notify", #"{"users":[],"type":"raid","data":{}}"#, 107), ("notify", #"{"users":["a"],"data":{}}"#, 107),
            ("notify", #"{"users":["a"],"type":"raid"}"#, 107),
            ("notify", #"{"users":["a"],"type":"else","data":{}}"#, 107),
            ("notify", #"{"users":["a"],"type":"custom.","data":{}}"#, 107),
            ("notify", #"{"users":["a"],"followers_of":"b","type":"raid","data":{}}"#, 107),
            ("notify", #"{"users":["a"],"type":"custom.x","data":{}}"#, 1004),
            ("notify", #"{"followers_of":"a","type":"mention","data":1}"#, 1004),
            (
                "notify",
                #"{"users":[\#((0..<10_001).map { #""u\#($0)""# }.joined(separator: ","))],"type":"raid","data":{}}"#,
                106
            ),
            ("notifications", #"{"user":"ann","limit":0}"#, 107),
            ("notifications", #"{"user":"ann","limit":201}"#, 107),
            ("notifications", #"{"user":"ann","before":"x"}"#, 107),
            ("notifications", #"{"user":"ann","limit":200}"#, 1004),
            ("mark_read", #"{"user":"ann"}"#, 107), ("mark_read", #"{"user":"ann","ids":["1"],"up_to":"1"}"#, 107),
            ("mark_read", #"{"user":"ann","up_to":"12"}"#, 1004), ("event_status", #"{}"#, 107),
            ("event_status", #"{"event_id":"x"}"#, 107), ("dead_letters", #"{"limit":1001}"#, 107),
            ("dead_letters", #"{"kind":"fan"}"#, 107), ("dead_letters", #"{"error_class":"bad"}"#, 107),
            ("dead_letters", #"{"sqlstate":"23xyz"}"#, 107), ("dead_letters", #"{"streamer":"a b"}"#, 107),
            ("dead_letters", #"{"older_than_s":-1}"#, 107), ("dead_letters", #"{"newer_than_s":"1h"}"#, 107),
            ("dead_letters", #"{"up_to":"x"}"#, 107),
            ("dead_letters", #"{"error_class":"read_only","sqlstate":"25006","count":true}"#, 1004),
            ("replay_dead_letters", #"{}"#, 107), ("discard_dead_letters", #"{"ids":["a"]}"#, 107),
            ("replay_dead_letters", #"{"after":"5"}"#, 107), ("replay_dead_letters", #"{"kind":null}"#, 107),
            ("replay_dead_letters", #"{"ids":["1"],"kind":"fanout"}"#, 107),
            ("discard_dead_letters", #"{"ids":["1"],"all":true}"#, 107),
            ("replay_dead_letters", #"{"ids":["1"],"dry_run":true}"#, 1004),
            ("discard_dead_letters", #"{"streamer":"ada"}"#, 1004),
            ("batch", #"{}"#, 107),
        ] as [(String, String, Int)])
    func refusesWrongParameters(method: String, body: String, code: Int) async throws {
        let node = try await Self.shared.value
        let answer = try await node.call(method, body)
        #expect(answer.status == 200)
        #expect(
            try JSON.parse(Bytes(answer.body.utf8))["error"]?["code"]?.integerValue == Int64(code), "\(answer.body)")
    }

    /// For what leaves nothing behind.
    private static let shared = Task { try await TestNode() }

    @Test func publishesAndTellsTheHistory() async throws {
        let node = try await TestNode()
        let first = try await node.call(
            "publish", #"{"channel":"room:1","data":{"a": 1},"tags":{"k":"v"},"idempotency_key":"x"}"#)
        let position = try JSON.parse(Bytes(first.body.utf8))["result"]
        let epoch = try #require(position?["epoch"]?.stringValue)
        #expect(first.body == #"{"result":{"offset":1,"epoch":"\#(epoch)"}}"#)
        let again = try await node.call("publish", #"{"channel":"room:1","data":2,"idempotency_key":"x"}"#)
        #expect(again.body == first.body)
        #expect(
            try await node.call("publish", #"{"channel":"room:1","b64data":"Mg=="}"#).body
                == #"{"result":{"offset":2,"epoch":"\#(epoch)"}}"#)
        #expect(
            try await node.call("history", #"{"channel":"room:1","limit":10}"#).body
                == #"{"result":{"publications":[{"data":{"a": 1},"offset":1,"tags":{"k":"v"}},{"data":2,"offset":2}],"#
                + #""offset":2,"epoch":"\#(epoch)"}}"#)
        #expect(
            try await node.call("history", #"{"channel":"room:1"}"#).body
                == #"{"result":{"publications":[],"offset":2,"epoch":"\#(epoch)"}}"#)
        #expect(try await node.call("history_remove", #"{"channel":"room:1"}"#).body == #"{"result":{}}"#)
        #expect(
            try await node.call("history", #"{"channel":"room:1","limit":10}"#).body
                == #"{"result":{"publications":[],"offset":2,"epoch":"\#(epoch)"}}"#)
        await node.stop()
    }

    @Test func eachChannelOfABroadcastAndEachCommandOfABatchHasItsReply() async throws {
        let node = try await TestNode()
        let broadcast = try await node.call("broadcast", #"{"channels":["room:1","nope:1","room:2"],"data":1}"#)
        let responses = try #require(
            try JSON.parse(Bytes(broadcast.body.utf8))["result"]?["responses"]?.arrayValue)
        #expect(responses.count == 3)
        #expect(responses.map { $0["result"]?["offset"]?.integerValue } == [1, nil, 1])
        #expect(responses[1]["error"]?["code"]?.integerValue == 102)
        for parallel in ["false", "true"] {
            let batch = try await node.call(
                "batch",
                #"{"parallel":\#(parallel),"commands":[{"presence_stats":{"channel":"room:1"}},{"publish":{"channel":"nope:a","data":1}},"#
                    + #"{"batch":{"commands":[]}},{"what":{}},{"publish":{},"history":{}}]}"#)
            let replies = try #require(try JSON.parse(Bytes(batch.body.utf8))["replies"]?.arrayValue)
            #expect(replies[0]["presence_stats"]?["num_clients"]?.integerValue == 0)
            #expect(replies.dropFirst().map { $0["error"]?["code"]?.integerValue } == [102, 107, 104, 104])
        }
        await node.stop()
    }

    @Test func showsTheCluster() async throws {
        let node = try await TestNode()
        let info = try JSON.parse(Bytes(try await node.call("info", "{}").body.utf8))["result"]?["nodes"]?.arrayValue
        #expect(info?.count == 1)
        #expect(info?.first?["name"] == "test")
        #expect(info?.first?["version"] == "1.2.3")
        let cluster = try JSON.parse(Bytes(try await node.call("cluster", "{}").body.utf8))["result"]
        #expect((cluster?["view"]?.integerValue ?? 0) > 0)
        let first = cluster?["nodes"]?.arrayValue?.first
        #expect(first?["name"] == "test" && first?["state"] == "active")
        #expect(first?["slots"] == 1024)
        for key in ["sessions", "rooms", "uptime_s"] { #expect(first?[key]?.integerValue != nil) }
        await node.stop()
    }

    @Test(arguments: [
        ("publish", #"{"channel":"nope:1","data":1}"#, 404), ("publish", #"{}"#, 400),
        ("history", #"{"channel":"room:1","limit":1,"since":{"offset":1,"epoch":"x"}}"#, 416),
        ("unfollow", #"{"user":"ann","streamer":"bob"}"#, 503), ("presence_stats", #"{"channel":"room:1"}"#, 200),
    ])
    func mayAnswerErrorsByStatus(method: String, body: String, status: Int) async throws {
        let node = try await Self.shared.value
        let answer = try await node.call(method, body, fields: ["X-Centrifugo-Error-Mode: transport"])
        #expect(answer.status == status)
        guard status != 200 else { return }
        #expect(try JSON.parse(Bytes(answer.body.utf8))["code"]?.integerValue != nil)
        #expect(answer.fields.lowercased().contains("retry-after: ") == (status == 503))
    }
}

@Suite struct HealthRoutesTests {
    @Test func namesEachPart() async throws {
        let ready = try await TestNode()
        let good = try await ready.request("GET", "/health/ready")
        #expect(good.status == 200)
        let parts = try JSON.parse(Bytes(good.body.utf8))["parts"]
        #expect(parts?["broker"]?["state"] == "ok")
        #expect(try await ready.request("GET", "/health/live").status == 200)
        #expect(try await ready.request("GET", "/metrics").body == "# nothing\n")
        #expect(try await ready.request("GET", "/metrics").fields.contains("\r\nDate: "))
        await ready.stop()
        let silent = try await TestNode(isReady: false)
        let bad = try await silent.request("GET", "/health/ready")
        #expect(bad.status == 503)
        #expect(try JSON.parse(Bytes(bad.body.utf8))["parts"]?["delivery"]?["state"] == "failed")
        #expect(try await silent.request("GET", "/health/live").status == 200)
        await silent.stop()
    }
}
