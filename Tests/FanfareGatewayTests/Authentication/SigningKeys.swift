import CryptoExtras
import FanfareModel
import FoundationEssentials
import JWTKit
import Testing

/// Keys made for a test, and tokens signed with them.
struct SigningKeys: Sendable {
    static let secret = "a secret that only the application and the node know, long enough for all"

    /// By the name of the algorithm.
    private let signers: [String: any JWTAlgorithm]
    /// The public halves, one per type; their ids are `rsa`, `p256`, `p384`, `p521` and `ed`.
    let jwks: String
    /// The same, one key a document.
    let jwk: [String: String]
    /// What an attacker might take for a secret: the public RSA key as published.
    let publicPEM: String

    static let keyIDs = [
        "RS256": "rsa", "RS384": "rsa", "RS512": "rsa", "ES256": "p256", "ES384": "p384", "ES512": "p521",
        "EdDSA": "ed",
    ]

    /// RSA keys take long to make: tests share these two.
    private static let rsaKeys = Task {
        try (_RSA.Signing.PrivateKey(keySize: .bits2048), _RSA.Signing.PrivateKey(keySize: .bits2048))
    }

    /// - Parameter isForeign: with another RSA key than the usual one.
    init(secret: String = SigningKeys.secret, isForeign: Bool = false) async throws {
        let rsaKeys = try await SigningKeys.rsaKeys.value
        let rsa = isForeign ? rsaKeys.1 : rsaKeys.0
        let rsaKey = try Insecure.RSA.PrivateKey(backing: rsa)
        let p256 = ES256PrivateKey()
        let p384 = ES384PrivateKey()
        let p521 = ES512PrivateKey()
        let ed = try EdDSA.PrivateKey(curve: .ed25519)
        // HMAC pads short keys with zeros itself; JWTKit refuses them unpadded.
        let hmac = HMACKey(from: Bytes(secret.utf8) + Bytes(repeating: 0, count: max(0, 64 - secret.utf8.count)))
        self.signers = [
            "HS256": try await JWTKeyCollection().add(hmac: hmac, digestAlgorithm: .sha256).getKey(),
            "HS384": try await JWTKeyCollection().add(hmac: hmac, digestAlgorithm: .sha384).getKey(),
            "HS512": try await JWTKeyCollection().add(hmac: hmac, digestAlgorithm: .sha512).getKey(),
            "RS256": try await JWTKeyCollection().add(rsa: rsaKey, digestAlgorithm: .sha256).getKey(),
            "RS384": try await JWTKeyCollection().add(rsa: rsaKey, digestAlgorithm: .sha384).getKey(),
            "RS512": try await JWTKeyCollection().add(rsa: rsaKey, digestAlgorithm: .sha512).getKey(),
            "ES256": try await JWTKeyCollection().add(ecdsa: p256).getKey(),
            "ES384": try await JWTKeyCollection().add(ecdsa: p384).getKey(),
            "ES512": try await JWTKeyCollection().add(ecdsa: p521).getKey(),
            "EdDSA": try await JWTKeyCollection().add(eddsa: ed).getKey(),
        ]
        let primitives = try rsa.publicKey.getKeyPrimitives()
        func curve(_ keyID: String, _ name: String, _ parameters: ECDSAParameters?) throws -> String {
            let parameters = try #require(parameters)
            return #"{"kty":"EC","crv":"\#(name)","kid":"\#(keyID)","x":"\#(parameters.x.urlSafe)","#
                + #""y":"\#(parameters.y.urlSafe)"}"#
        }
        self.jwk = [
            "rsa": #"{"kty":"RSA","use":"sig","kid":"rsa","n":"\#(encode(primitives.modulus))","#
                + #""e":"\#(encode(primitives.publicExponent))"}"#,
            "p256": try curve("p256", "P-256", p256.publicKey.parameters),
            "p384": try curve("p384", "P-384", p384.publicKey.parameters),
            "p521": try curve("p521", "P-521", p521.publicKey.parameters),
            "ed": #"{"kty":"OKP","crv":"Ed25519","kid":"ed","x":"\#(encode(ed.publicKey.rawRepresentation))"}"#,
        ]
        self.jwks = #"{"keys":[\#(self.jwk.sorted { $0.key < $1.key }.map(\.value).joined(separator: ","))]}"#
        self.publicPEM = rsaKey.publicKey.pemRepresentation
    }

    /// A token with exactly this header and payload, signed as `algorithm` would.
    func token(
        algorithm: String, header: String? = nil, keyID: String? = nil, payload: String
    ) throws -> String {
        let keyID = keyID.map { #","kid":"\#($0)""# } ?? ""
        let header = header ?? #"{"alg":"\#(algorithm)","typ":"JWT"\#(keyID)}"#
        let signed = encode(Data(header.utf8)) + "." + encode(Data(payload.utf8))
        let signer = try #require(self.signers[algorithm])
        return signed + "." + encode(Data(try signer.sign(Data(signed.utf8))))
    }
}

func encode(_ bytes: Data) -> String { bytes.base64EncodedString().urlSafe }

extension String {
    fileprivate var urlSafe: String {
        String(
            self.compactMap { character -> Character? in
                switch character {
                case "+": "-"
                case "/": "_"
                case "=": nil
                default: character
                }
            })
    }
}
