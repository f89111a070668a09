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
}
