import FanfareModel
import FanfareProtocol
import JWTKit
import Testing

@testable import FanfareCommand

@Suite struct ServerTests {
    @Test func addresses() throws {
        let plain = try ServerAddress("http://127.0.0.1:8001/")
        #expect(plain.host == "127.0.0.1" && plain.port == 8001 && plain.basePath.isEmpty)
        #expect(plain.authority == "127.0.0.1:8001" && plain.description == "http://127.0.0.1:8001")
        let other = try ServerAddress("http://[::1]/fanfare/")
        #expect(other.host == "::1" && other.port == 80 && other.basePath == "/fanfare" && other.authority == "[::1]")
        for wrong in ["", "nonsense", "https://x", "ftp://x", "http://", "http://x:99999", "/path"] {
            #expect(throws: CommandError.self, "\(wrong)") { try ServerAddress(wrong) }
        }
    }

    @Test(
        arguments: [
            (200, #"{"result":{"a":1}}"#, nil),
            (200, #"{"error":{"code":107,"message":"bad request"}}"#, "error 107: bad request"),
            (400, #"{"error":{"code":107,"message":"m"}}"#, "error 107: m"), (401, "", "refuses the API key"),
            (404, "not found", "no such method"), (503, "", "try again"), (500, "<html>", "HTTP status 500"),
            (200, "<html>", "is it a Fanfare node"),
        ] as [(Int, String, String?)])
    func answers(status: Int, body: String, problem: String?) throws {
        let address = try ServerAddress("http://h")
        if let problem {
            let error = #expect(throws: CommandError.self) {
                try ServerAPI.result(of: Bytes(body.utf8), status: status, address: address)
            }
            #expect(try #require(error).description.contains(problem))
        } else {
            #expect(
                try ServerAPI.result(of: Bytes(body.utf8), status: status, address: address)["a"]?.integerValue == 1)
        }
    }

    @Test func aKeyIsNeeded() throws {
        let address = try ServerAddress("http://h")
        for key in [nil, "", "a\nb"] {
            #expect(throws: CommandError.self) { try ServerAPI(address: address, key: key) }
        }
    }

    @Test func nobodyThere() async throws {
        let api = try ServerAPI(address: ServerAddress("http://127.0.0.1:9"), key: "k", time: .seconds(5))
        let error = await #expect(throws: CommandError.self) { try await api.call("info", [:]) }
        #expect(try #require(error).description == "cannot reach http://127.0.0.1:9: connection refused")
    }

    @Test func tokens() async throws {
        struct Claims: JWTPayload {
            var sub: String
            var iat: Int64
            var exp: Int64?
            var role: String
            var name: String?
            var channels: [String]?
            func verify(using algorithm: some JWTAlgorithm) {}
        }
        let request = try TokenRequest(
            user: "ann", role: "operator", name: "Ann", lifetime: .seconds(60), channels: ["room:1"])
        let secret = "a-secret-that-is-long-enough-for-hs256"
        let token = try await request.sign(secret: secret, now: Timestamp(milliseconds: 1_000_999))
        let keys = JWTKeyCollection()
        await keys.add(hmac: HMACKey(from: secret), digestAlgorithm: .sha256)
        let claims = try await keys.verify(token, as: Claims.self)
        #expect(claims.sub == "ann" && claims.iat == 1000 && claims.exp == 1060 && claims.role == "operator")
        #expect(claims.name == "Ann" && claims.channels == ["room:1"])
        await #expect(throws: CommandError.self) {
            try await request.sign(secret: nil, now: Timestamp(milliseconds: 0))
        }
        #expect(throws: CommandError.self) { try TokenRequest(user: "not a user") }
        #expect(throws: CommandError.self) { try TokenRequest(user: "a", role: "king") }
        #expect(throws: CommandError.self) { try TokenRequest(user: "a", channels: ["nope"]) }
        #expect(throws: CommandError.self) { try TokenRequest(user: "a", lifetime: .zero) }
    }

    @Test func tables() {
        let status: JSON = [
            "view": 7,
            "nodes": [
                [
                    "name": "node-0", "state": "active", "slots": 342, "sessions": 12, "rooms": 3, "version": "1.0",
                    "uptime_s": 65,
                ],
                ["name": "n1", "state": "draining", "slots": 0, "sessions": 1000, "rooms": 3, "uptime_s": 90_000],
            ],
        ]
        #expect(
            Tables.cluster(status) == [
                "view 7", "NODE    STATE     SLOTS  SESSIONS  ROOMS    UP  VERSION",
                "node-0  active      342        12      3  1m5s  1.0",
                "n1      draining      0      1000      3  1d1h  -",
            ])
        #expect(Tables.deadLetters([]) == ["no dead letters"])
        let letter: JSON = ["id": "17", "kind": "fanout", "cause": "a\nb", "event_id": .null, "payload": ["x": 1]]
        #expect(Tables.deadLetters([letter])[1].contains("a b"))
        #expect(Tables.deadLetter(letter).contains(#"payload   {"x":1}"#))
    }

    @Test func deadLetterQueries() throws {
        #expect(DeadLetterQuery().members.isEmpty && DeadLetterQuery().isForAll)
        var query = DeadLetterQuery()
        query.after = 5
        query.upTo = 9
        #expect(query.isForAll)
        query.streamer = "ada"
        query.olderThan = try DeadLetterQuery.age("15m")
        query.errorClass = "data"
        #expect(!query.isForAll)
        #expect(
            JSON.object(query.members).serialize()
                == Bytes(
                    #"{"error_class":"data","streamer":"ada","after":"5","up_to":"9","older_than_s":900}"#.utf8))
        for text in ["", "x", "5y", "-3s"] {
            #expect(throws: CommandError.self) { try DeadLetterQuery.age(text) }
        }
    }

    @Test(arguments: [1, 3, 4, 100, 1999, 2000, 100_000]) func settlementsAreNotFasterThanAsked(rate: Int) {
        let start = MonotonicInstant(nanoseconds: 5_000_000_000)
        let pace = SettlementPace(rate: rate, isTerminal: false, now: start)
        var (done, now) = (0, start)
        while done < 3 * rate {
            // The portions before this one took as long as their number asks for.
            now = max(now, pace.next(after: done))
            done += pace.portion
            let allowed = Double(rate) * (now - start).secondsAsDouble + Double(pace.portion)
            #expect(Double(done) <= allowed + 0.001)
        }
        #expect((1...SettlementPace.largestPortion).contains(pace.portion))
        #expect(now - start >= .seconds(2))
    }

    @Test func progressOfSettlements() {
        let start = MonotonicInstant(nanoseconds: 0)
        var line = SettlementPace(rate: nil, isTerminal: false, now: start)
        #expect(line.next(after: 10_000) == start && line.portion == 500)
        #expect(line.due(done: 10, of: 100, verb: "replayed", now: start + .seconds(4)) == nil)
        #expect(
            line.due(done: 1000, of: 4000, verb: "replayed", now: start + .seconds(5))
                == "25 % (15s left) 1 000 of 4 000 replayed, 200/s")
        let bar = SettlementPace(rate: nil, isTerminal: true, now: start)
        #expect(
            bar.text(done: 5, of: 5, verb: "discarded", now: start + .seconds(1))
                == "[##############################] 100 % 5 of 5 discarded, 5/s")
    }
}
