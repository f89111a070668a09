import FanfareFabric
import FanfareGateway
import FanfareModel
import FoundationEssentials
import Logging
import Synchronization
import Testing

/// Clocks that a test sets.
private final class TestClock: Sendable {
    private let milliseconds = Mutex<Int64>(1_800_000_000_000)
    var wall: Timestamp { Timestamp(milliseconds: self.milliseconds.withLock { $0 }) }
    var monotonic: MonotonicInstant {
        MonotonicInstant(nanoseconds: self.milliseconds.withLock { $0 } * 1_000_000)
    }
    var seconds: Int64 { self.wall.milliseconds / 1000 }
    func advance(seconds: Int64) { self.milliseconds.withLock { $0 += seconds * 1000 } }
}

/// A key set in a file that lives as long as the test.
private final class KeyFile: Sendable {
    let path: String
    init(_ contents: String) throws {
        self.path = "/tmp/fanfare-jwks-\(UUID().uuidString).json"
        try self.write(contents)
    }
    func write(_ contents: String) throws { try Data(contents.utf8).write(to: URL(filePath: self.path)) }
    deinit { try? FileManager.default.removeItem(atPath: self.path) }
}

private struct Setting {
    let clock = TestClock()
    let keys: SigningKeys
    let file: KeyFile
    let authenticator: Authenticator

    init(
        secret: String? = SigningKeys.secret, jwks: ((SigningKeys) -> String)? = { $0.jwks }
    ) async throws {
        self.keys = try await SigningKeys()
        self.file = try KeyFile(jwks?(self.keys) ?? "")
        let clock = self.clock
        self.authenticator = try await Authenticator(
            Authenticator.Options(
                secret: secret.map { Bytes($0.utf8) }, keySource: jwks == nil ? nil : .file(self.file.path)),
            wallClock: { clock.wall }, now: { clock.monotonic }, logger: Logger(label: "test"))
    }

    func fails(_ token: String, with failure: TokenFailure) async {
        await #expect(throws: failure) { try await self.authenticator.verifyConnection(token) }
        #expect(self.authenticator.cachedConnection(token) == nil)
    }
}

@Suite struct AuthenticatorTests {
    static let algorithms = [
        "HS256", "HS384", "HS512", "RS256", "RS384", "RS512", "ES256", "ES384", "ES512", "EdDSA",
    ]

    @Test(arguments: algorithms) func acceptsEachAlgorithmWithAndWithoutKeyID(algorithm: String) async throws {
        let setting = try await Setting()
        for keyID in [nil, SigningKeys.keyIDs[algorithm]] {
            let token = try setting.keys.token(algorithm: algorithm, keyID: keyID, payload: #"{"sub":"ann"}"#)
            let verified = try await setting.authenticator.verifyConnection(token)
            #expect(verified == VerifiedToken(user: UserID(unchecked: "ann")))
        }
    }

    @Test(arguments: algorithms) func refusesTokensOfOtherKeys(algorithm: String) async throws {
        let setting = try await Setting()
        let others = try await SigningKeys(
            secret: "another secret, as long as the right one or even longer than it", isForeign: true)
        for keyID in [nil, SigningKeys.keyIDs[algorithm]] {
            let token = try others.token(algorithm: algorithm, keyID: keyID, payload: #"{"sub":"ann"}"#)
            await setting.fails(token, with: .invalid)
        }
    }

    @Test(arguments: algorithms) func refusesWhatWasChanged(algorithm: String) async throws {
        let setting = try await Setting()
        let token = try setting.keys.token(algorithm: algorithm, payload: #"{"sub":"ann"}"#)
        let parts = token.split(separator: ".").map(String.init)
        let other = encode(Data(#"{"sub":"bob"}"#.utf8))
        await setting.fails([parts[0], other, parts[2]].joined(separator: "."), with: .invalid)
        await setting.fails([parts[0], parts[1], ""].joined(separator: "."), with: .invalid)
        await setting.fails([parts[0], parts[1], parts[2] + "AAAA"].joined(separator: "."), with: .invalid)
    }

    @Test(arguments: ["none", "None", "NONE", "nOnE", ""]) func refusesTokensWithoutSignature(name: String) async throws
    {
        let setting = try await Setting()
        let head = encode(Data(#"{"alg":"\#(name)"}"#.utf8)) + "." + encode(Data(#"{"sub":"ann"}"#.utf8))
        await setting.fails(head + ".", with: .invalid)
        await setting.fails(head, with: .invalid)
        // Signed by the right key, which changes nothing.
        await setting.fails(
            try setting.keys.token(algorithm: "HS256", header: #"{"alg":"\#(name)"}"#, payload: #"{"sub":"ann"}"#),
            with: .invalid)
    }

    /// The classic forgery: the public key, which everybody has, taken for the secret of a symmetric algorithm.
    @Test func refusesASymmetricSignatureMadeWithAPublicKey() async throws {
        for secret in [nil, SigningKeys.secret] {
            let setting = try await Setting(secret: secret)
            for forgedSecret in [setting.keys.publicPEM, setting.keys.jwk["rsa"] ?? "", setting.keys.jwks] {
                let forger = try await SigningKeys(secret: forgedSecret)
                for algorithm in ["HS256", "HS384", "HS512"] {
                    for keyID in [nil, "rsa", "p256"] {
                        let token = try forger.token(algorithm: algorithm, keyID: keyID, payload: #"{"sub":"ann"}"#)
                        await setting.fails(token, with: .invalid)
                    }
                }
            }
        }
    }

    /// The header names another algorithm than the one that signed.
    @Test func refusesAHeaderThatNamesAnotherAlgorithm() async throws {
        let setting = try await Setting()
        for signing in Self.algorithms {
            for named in Self.algorithms where named != signing {
                for keyID in Set(SigningKeys.keyIDs.values) {
                    let header = #"{"alg":"\#(named)","kid":"\#(keyID)"}"#
                    let token = try setting.keys.token(
                        algorithm: signing, header: header, payload: #"{"sub":"ann"}"#)
                    await setting.fails(token, with: .invalid)
                }
            }
        }
    }

    @Test func refusesWhatIsNotConfigured() async throws {
        let onlySecret = try await Setting(jwks: nil)
        await onlySecret.fails(
            try onlySecret.keys.token(algorithm: "ES256", payload: #"{"sub":"ann"}"#), with: .invalid)
        let onlyKeys = try await Setting(secret: nil)
        await onlyKeys.fails(try onlyKeys.keys.token(algorithm: "HS256", payload: #"{"sub":"ann"}"#), with: .invalid)
    }

    @Test(arguments: [
        #"{}"#, #"{"sub":""}"#, #"{"sub":null}"#, #"{"sub":42}"#, #"{"sub":["ann"]}"#, #"{"sub":"an n"}"#,
        #"{"sub":"änn"}"#, #"{"sub":"\#(String(repeating: "a", count: 65))"}"#, #"[]"#, #""ann""#, #"{"sub":"ann""#,
        #"{"sub":"ann","channel":"room:1"}"#, #"{"sub":"ann","exp":"soon"}"#, #"{"sub":"ann","exp":1e400}"#,
        #"{"sub":"ann","channels":"room:1"}"#, #"{"sub":"ann","b64info":"!"}"#,
    ])
    func refusesIllegalClaims(payload: String) async throws {
        let setting = try await Setting(jwks: nil)
        await setting.fails(try setting.keys.token(algorithm: "HS256", payload: payload), with: .invalid)
    }

    @Test(arguments: [
        "", ".", "..", "...", "a.b.c", "garbage", "eyJhbGciOiJIUzI1NiJ9.e30", "é.é.é",
        String(repeating: "a", count: 20_000),
    ])
    func refusesWhatIsNoToken(token: String) async throws {
        let setting = try await Setting(jwks: nil)
        await setting.fails(token, with: .invalid)
    }

    @Test func knowsThePublishedVectors() async throws {
        let setting = try await Setting(secret: "secret", jwks: nil)
        let header = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9"
        let verified = try await setting.authenticator.verifyConnection(
            header + ".eyJzdWIiOiI0MiJ9.79CVgMIG_JB921dVUeJDWNJubJojFodH3-XtC_1C408")
        #expect(verified.user.rawValue == "42")
        let subscription = try await setting.authenticator.verifySubscription(
            header + ".eyJzdWIiOiI0MiIsImNoYW5uZWwiOiJuZXdzOmV1In0.VfH4-NSL-xMjiElgnNcvSWq99e2DXLImvsYZS65J1f0")
        #expect(subscription == VerifiedSubscription(user: UserID(unchecked: "42"), channel: "news:eu"))
    }

    @Test func readsTheClaims() async throws {
        let setting = try await Setting(jwks: nil)
        let end = setting.clock.seconds + 60
        let verified = try await setting.authenticator.verifyConnection(
            setting.keys.token(
                algorithm: "HS256",
                payload: #"{"sub":"ann","exp":\#(end).9,"nbf":\#(end - 60),"iat":1,"name":"Ann","role":"moderator","#
                    + #""info":{"a": [1, 2.50],"ü":null},"channels":["room:1","stream:2"],"unknown":{}}"#))
        #expect(
            verified
                == VerifiedToken(
                    user: UserID(unchecked: "ann"), role: .moderator, name: "Ann",
                    info: Bytes(#"{"a": [1, 2.50],"ü":null}"#.utf8), channels: ["room:1", "stream:2"], expiresAt: end))
    }

    @Test(arguments: [
        (#""role":"operator""#, Role.operator), (#""role":"streamer""#, .streamer), (#""role":"admin""#, .viewer),
        (#""role":7"#, .viewer), (#""role":null"#, .viewer),
    ])
    func readsTheRole(claim: String, role: Role) async throws {
        let setting = try await Setting(jwks: nil)
        let token = try setting.keys.token(algorithm: "HS256", payload: #"{"sub":"ann",\#(claim)}"#)
        #expect(try await setting.authenticator.verifyConnection(token).role == role)
    }

    @Test func expireAtOverridesWhenTheConnectionEnds() async throws {
        let setting = try await Setting(jwks: nil)
        let soon = setting.clock.seconds + 60
        for (expireAt, end) in [(soon + 100, soon + 100), (0, nil)] as [(Int64, Int64?)] {
            let token = try setting.keys.token(
                algorithm: "HS256", payload: #"{"sub":"ann","exp":\#(soon),"expire_at":\#(expireAt)}"#)
            #expect(try await setting.authenticator.verifyConnection(token).expiresAt == end)
        }
    }

    @Test func subsTakeThePlaceOfChannels() async throws {
        let setting = try await Setting(jwks: nil)
        let token = try setting.keys.token(
            algorithm: "HS256",
            payload: #"{"sub":"ann","channels":["room:1"],"subs":{"room:2":{},"room:3":{"data":1}}}"#)
        #expect(try await setting.authenticator.verifyConnection(token).channels == ["room:2", "room:3"])
    }

    @Test func judgesTimes() async throws {
        let setting = try await Setting(jwks: nil)
        let now = setting.clock.seconds
        func token(_ claim: String) throws -> String {
            try setting.keys.token(algorithm: "HS256", payload: #"{"sub":"ann",\#(claim)}"#)
        }
        await setting.fails(try token(#""exp":\#(now)"#), with: .expired)
        await setting.fails(try token(#""exp":\#(now - 3600)"#), with: .expired)
        await setting.fails(try token(#""nbf":\#(now + 1)"#), with: .expired)
        await setting.fails(try token(#""exp":-1"#), with: .expired)
        #expect(try await setting.authenticator.verifyConnection(token(#""exp":\#(now + 1)"#)).expiresAt == now + 1)
        // A forged token is not told that it is expired.
        let forger = try await SigningKeys(
            secret: "another secret, as long as the right one or even longer than it", isForeign: true)
        await setting.fails(
            try forger.token(algorithm: "HS256", payload: #"{"sub":"ann","exp":1}"#), with: .invalid)
    }

    @Test func aVerifiedTokenIsCachedUntilItExpires() async throws {
        let setting = try await Setting(jwks: nil)
        let token = try setting.keys.token(
            algorithm: "HS256", payload: #"{"sub":"ann","exp":\#(setting.clock.seconds + 10)}"#)
        #expect(setting.authenticator.cachedConnection(token) == nil)
        let verified = try await setting.authenticator.verifyConnection(token)
        #expect(setting.authenticator.cachedConnection(token) == verified)
        setting.clock.advance(seconds: 10)
        #expect(setting.authenticator.cachedConnection(token) == nil)
        await setting.fails(token, with: .expired)
    }

    @Test func aSubscriptionTokenNamesItsChannel() async throws {
        let setting = try await Setting(jwks: nil)
        let token = try setting.keys.token(
            algorithm: "HS256", payload: #"{"sub":"ann","channel":"room:1","info":{"a":1}}"#)
        let verified = try await setting.authenticator.verifySubscription(token)
        #expect(
            verified
                == VerifiedSubscription(
                    user: UserID(unchecked: "ann"), channel: "room:1", info: Bytes(#"{"a":1}"#.utf8)))
        let connection = try setting.keys.token(algorithm: "HS256", payload: #"{"sub":"ann"}"#)
        await #expect(throws: TokenFailure.invalid) {
            try await setting.authenticator.verifySubscription(connection)
        }
    }
}

@Suite struct KeyRingTests {
    @Test func anUnknownKeyIsLookedForOncePerInterval() async throws {
        let setting = try await Setting(jwks: { #"{"keys":[\#($0.jwk["p256"] ?? "")]}"# })
        let token = try setting.keys.token(algorithm: "EdDSA", keyID: "ed", payload: #"{"sub":"ann"}"#)
        await setting.fails(token, with: .invalid)
        try setting.file.write(setting.keys.jwks)
        // The file was read a moment ago.
        await setting.fails(token, with: .invalid)
        setting.clock.advance(seconds: 11)
        #expect(try await setting.authenticator.verifyConnection(token).user.rawValue == "ann")
    }

    @Test func aWithdrawnKeyGoesOutOfUse() async throws {
        let setting = try await Setting()
        let token = try setting.keys.token(algorithm: "ES256", keyID: "p256", payload: #"{"sub":"ann"}"#)
        _ = try await setting.authenticator.verifyConnection(token)
        try setting.file.write(#"{"keys":[\#(setting.keys.jwk["ed"] ?? "")]}"#)
        setting.clock.advance(seconds: 601)
        // A token of an unknown key waits for the new set; the old one is gone with it, from the cache too.
        let unknown = try setting.keys.token(algorithm: "ES384", keyID: "p384x", payload: #"{"sub":"ann"}"#)
        await setting.fails(unknown, with: .invalid)
        await setting.fails(token, with: .invalid)
    }

    @Test func skipsWhatItCannotUse() async throws {
        let setting = try await Setting(jwks: { keys in
            let encryption = keys.jwk["rsa"]?.replacing(#""use":"sig""#, with: #""use":"enc""#) ?? ""
            return #"{"keys":[{"kty":"oct","k":"AAAA","kid":"x"},{"kty":"nonsense"},{},\#(encryption),"#
                + #"\#(keys.jwk["ed"] ?? "")]}"#
        })
        let good = try setting.keys.token(algorithm: "EdDSA", payload: #"{"sub":"ann"}"#)
        #expect(try await setting.authenticator.verifyConnection(good).user.rawValue == "ann")
        await setting.fails(try setting.keys.token(algorithm: "RS256", payload: #"{"sub":"ann"}"#), with: .invalid)
    }

    @Test(arguments: ["", "{", "[]", "7"]) func aFileThatIsNoKeySetStopsTheStart(contents: String) async throws {
        await #expect(throws: KeySourceError.self) { try await Setting(jwks: { _ in contents }) }
    }

    @Test func sourcesAreReadFromText() throws {
        #expect(try KeySource("/etc/keys.json") == .file("/etc/keys.json"))
        #expect(try KeySource("file:///etc/keys.json") == .file("/etc/keys.json"))
        let location = try #require(HTTPLocation("http://[::1]:8080/keys?a=b"))
        #expect(try KeySource("http://[::1]:8080/keys?a=b") == .http(location))
        for text in [
            "https://example.com/keys", "http://", "http://:80/", "http://a:99999/", "http://u:p@h/", "http://a b/",
        ] {
            #expect(throws: KeySourceError.self) { try KeySource(text) }
        }
    }
}
