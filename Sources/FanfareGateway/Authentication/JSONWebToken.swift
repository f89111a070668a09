internal import FanfareFabric
internal import FanfareModel
internal import FanfareProtocol

/// A token in its three parts (RFC 7515, compact serialization), read but not yet believed.
struct JSONWebToken {
    /// Longer ones are refused unread.
    static let maximumLength = 16 << 10

    let algorithm: TokenAlgorithm
    /// Names the key; nil leaves it open.
    let keyID: String?
    let claims: TokenClaims
    /// What the signature is over: header and payload as they came.
    let signed: Bytes
    let signature: Bytes

    /// - Throws: `.invalid` for anything that is no such token, and for algorithms that are not served, `none` among them.
    init(_ token: String) throws(TokenFailure) {
        guard token.utf8.count <= JSONWebToken.maximumLength else { throw .invalid }
        let bytes = Bytes(token.utf8)
        let parts = bytes.split(separator: UInt8(ascii: "."), omittingEmptySubsequences: false)
        guard parts.count == 3, let header = Base64URL.decode(parts[0]), let payload = Base64URL.decode(parts[1]),
            let signature = Base64URL.decode(parts[2])
        else { throw .invalid }
        self.signature = signature
        self.signed = Bytes(bytes[..<parts[1].endIndex])
        do {
            let header = try JSONObject(header)
            // Extensions that must be understood are not (RFC 7515, 4.1.11).
            guard let name = try header.string("alg"), let algorithm = TokenAlgorithm(rawValue: name),
                header.raw("crit") == nil
            else { throw TokenFailure.invalid }
            self.algorithm = algorithm
            self.keyID = try header.string("kid")
            self.claims = try TokenClaims(JSONObject(payload))
        } catch {
            throw .invalid
        }
    }
}

/// The claims that Fanfare reads.
struct TokenClaims {
    private static let maximumInfo = 16 << 10

    let user: UserID
    let expires: Int64?
    let notBefore: Int64?
    let name: String?
    let role: Role
    let info: Bytes
    let channels: [String]
    /// A subscription token's channel; nil for a connection token.
    let channel: String?
    /// Overrides when the connection or subscription ends: `.some(nil)` never ends.
    let expireAt: Int64??

    init(_ claims: JSONObject) throws {
        guard let subject = try claims.string("sub"), let user = UserID(subject) else { throw TokenFailure.invalid }
        self.user = user
        self.expires = try TokenClaims.seconds("exp", in: claims)
        self.notBefore = try TokenClaims.seconds("nbf", in: claims)
        self.name = try claims.string("name")
        // A role that Fanfare does not know may mean something to others: it gives no rights here.
        self.role =
            (claims.raw("role").flatMap { try? JSON.parse($0).stringValue }).flatMap(Role.init(rawValue:)) ?? .viewer
        self.channel = try claims.string("channel")
        self.info = try TokenClaims.info(in: claims)
        if let subs = try claims.object("subs") {
            self.channels = subs.keys
        } else {
            self.channels = try claims.strings("channels") ?? []
        }
        let expireAt = try TokenClaims.seconds("expire_at", in: claims)
        self.expireAt = expireAt.map { $0 == 0 ? .some(nil) : .some($0) } ?? .none
    }

    /// Seconds since 1970; fractions are allowed (RFC 7519, section 2) and cut off.
    private static func seconds(_ key: String, in claims: JSONObject) throws -> Int64? {
        guard let raw = claims.raw(key) else { return nil }
        let value = try JSON.parse(raw)
        if value.isNull { return nil }
        if let integer = value.integerValue { return integer }
        guard let double = value.doubleValue, double.isFinite else { throw TokenFailure.invalid }
        // Beyond all calendars is as good as never.
        return Int64(exactly: double.rounded(.down)) ?? (double > 0 ? .max : .min)
    }

    private static func info(in claims: JSONObject) throws -> Bytes {
        if let encoded = try claims.string("b64info") {
            guard let info = Base64URL.decodeStandard(encoded), info.count <= TokenClaims.maximumInfo,
                JSONScanner.isValid(info)
            else { throw TokenFailure.invalid }
            return JSONScanner.line(info)
        }
        guard let info = claims.raw("info"), info != Bytes("null".utf8) else { return [] }
        guard info.count <= TokenClaims.maximumInfo, JSONScanner.isValid(info) else { throw TokenFailure.invalid }
        return info
    }

    /// When what the token allows ends.
    var end: Int64? {
        switch self.expireAt {
        case .some(let override): override
        case .none: self.expires
        }
    }
}

/// What a token may be signed with.
enum TokenAlgorithm: String, CaseIterable, Sendable {
    case hs256 = "HS256"
    case hs384 = "HS384"
    case hs512 = "HS512"
    case rs256 = "RS256"
    case rs384 = "RS384"
    case rs512 = "RS512"
    case es256 = "ES256"
    case es384 = "ES384"
    case es512 = "ES512"
    case edDSA = "EdDSA"

    /// Signed with the shared secret: never checked with a published key, whatever the token says.
    var isSymmetric: Bool {
        switch self {
        case .hs256, .hs384, .hs512: true
        case .rs256, .rs384, .rs512, .es256, .es384, .es512, .edDSA: false
        }
    }
}
