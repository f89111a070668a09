internal import FanfareModel
internal import FanfareProtocol
internal import JWTKit

/// The shared secret, for each symmetric algorithm.
struct SecretKeys: Sendable {
    /// Of SHA-512, in bytes.
    private static let longestDigest = 64

    private let keys: [TokenAlgorithm: any JWTAlgorithm]

    init(secret: Bytes) async throws {
        // JWTKit refuses keys shorter than the digest. HMAC itself pads keys with zeros (RFC 2104, 2): so this changes nothing.
        let padding = Bytes(repeating: 0, count: max(0, SecretKeys.longestDigest - secret.count))
        let key = HMACKey(from: secret + padding)
        let digests: [(TokenAlgorithm, DigestAlgorithm)] = [
            (.hs256, .sha256), (.hs384, .sha384), (.hs512, .sha512),
        ]
        var keys: [TokenAlgorithm: any JWTAlgorithm] = [:]
        for (algorithm, digest) in digests {
            keys[algorithm] = try await JWTKeyCollection().add(hmac: key, digestAlgorithm: digest).getKey()
        }
        self.keys = keys
    }

    func verify(_ token: JSONWebToken) -> Bool {
        guard let key = self.keys[token.algorithm] else { return false }
        return (try? key.verify(token.signature, signs: token.signed)) ?? false
    }
}

/// The public keys of a JWKS document (RFC 7517). Each is used with the algorithms that fit its type alone.
struct PublicKeys: Sendable {
    /// More are not read.
    private static let maximumKeys = 64

    private struct Key: Sendable {
        let keyID: String?
        let algorithm: TokenAlgorithm
        let verifier: any JWTAlgorithm
    }

    private let keys: [Key]
    /// Keys of the document that cannot be used: of other types, for encryption, or broken.
    let skipped: Int

    var count: Int { Set(self.keys.map(\.keyID)).count }

    static var none: PublicKeys { PublicKeys(keys: [], skipped: 0) }

    private init(keys: [Key], skipped: Int) {
        self.keys = keys
        self.skipped = skipped
    }

    /// - Throws: where the document is no JWKS.
    init(document: Bytes) async throws(JSONError) {
        var keys: [Key] = []
        var skipped = 0
        for element in try JSONObject(document).array("keys") ?? [] {
            guard keys.count < PublicKeys.maximumKeys, let found = await PublicKeys.keys(of: element) else {
                skipped += 1
                continue
            }
            keys += found
        }
        self.init(keys: keys, skipped: skipped)
    }

    private static func keys(of element: Bytes) async -> [Key]? {
        guard let description = try? JSONObject(element), (try? description.string("use")) ?? "sig" == "sig",
            var jwk = try? JWK(json: String(decoding: element, as: UTF8.self))
        else { return nil }
        let keyID = jwk.keyIdentifier?.string
        // The public half is all that is wanted, even where someone published more.
        jwk.privateExponent = nil
        jwk.keyIdentifier = "key"
        var keys: [Key] = []
        for algorithm in PublicKeys.algorithms(of: jwk) {
            guard let name = JWK.Algorithm(rawValue: algorithm.rawValue) else { continue }
            jwk.algorithm = name
            guard let verifier = try? await JWTKeyCollection().add(jwk: jwk).getKey(for: "key") else { continue }
            keys.append(Key(keyID: keyID, algorithm: algorithm, verifier: verifier))
        }
        return keys.isEmpty ? nil : keys
    }

    private static func algorithms(of jwk: JWK) -> [TokenAlgorithm] {
        let fitting: [TokenAlgorithm] =
            switch (jwk.keyType, jwk.curve?.rawValue) {
            case (.rsa, _): [.rs256, .rs384, .rs512]
            case (.ecdsa, "P-256"): [.es256]
            case (.ecdsa, "P-384"): [.es384]
            case (.ecdsa, "P-521"): [.es512]
            case (.octetKeyPair, "Ed25519"): [.edDSA]
            default: []
            }
        guard let stated = jwk.algorithm else { return fitting }
        return fitting.filter { $0.rawValue == stated.rawValue }
    }

    /// Whether a key that the token can mean is there.
    func hasKey(for token: JSONWebToken) -> Bool { self.keys.contains { PublicKeys.fits($0, token) } }

    func verify(_ token: JSONWebToken) -> Bool {
        self.keys.contains { key in
            PublicKeys.fits(key, token)
                && (try? key.verifier.verify(token.signature, signs: token.signed)) ?? false
        }
    }

    private static func fits(_ key: Key, _ token: JSONWebToken) -> Bool {
        key.algorithm == token.algorithm && (token.keyID == nil || key.keyID == nil || key.keyID == token.keyID)
    }
}
