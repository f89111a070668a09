package import FanfareFabric
package import FanfareModel
package import Logging

/// Checks JSON Web Tokens: HS256/384/512 with the secret; RS256/384/512, ES256/384/512 and EdDSA with the keys of a JWKS
/// document. The secret is never used for an asymmetric algorithm nor a public key for a symmetric one.
package final class Authenticator: TokenVerifier {
    package struct Options: Sendable {
        /// nil refuses symmetric tokens.
        package var secret: Bytes?
        /// nil refuses asymmetric tokens.
        package var keySource: KeySource?
        /// Verified tokens remembered. Default 10 000.
        package var cacheCapacity = 10_000

        package init(secret: Bytes? = nil, keySource: KeySource? = nil) {
            self.secret = secret
            self.keySource = keySource
        }
    }

    private let secretKeys: SecretKeys?
    private let keyRing: KeyRing?
    private let cache: TokenCache
    private let wallClock: @Sendable () -> Timestamp

    /// - Parameter now: monotonic: how often the keys may be fetched.
    /// - Throws: where a key file cannot be read. A key server that is away is asked again when a token comes.
    package init(
        _ options: Options, wallClock: @escaping @Sendable () -> Timestamp,
        now: @escaping @Sendable () -> MonotonicInstant, logger: Logger
    ) async throws(KeySourceError) {
        self.cache = TokenCache(capacity: options.cacheCapacity)
        self.wallClock = wallClock
        if let secret = options.secret {
            guard !secret.isEmpty else { throw KeySourceError("the token secret is empty") }
            do {
                self.secretKeys = try await SecretKeys(secret: secret)
            } catch {
                throw KeySourceError("the token secret cannot be used")
            }
        } else {
            self.secretKeys = nil
        }
        self.keyRing = options.keySource.map { KeyRing(source: $0, now: now, logger: logger) }
        guard let keyRing = self.keyRing else { return }
        do throws(KeySourceError) {
            try await keyRing.load()
        } catch {
            if case .file = options.keySource { throw error }
            logger.warning("the key set cannot be read", metadata: ["error": "\(error)"])
        }
    }

    // MARK: TokenVerifier

    package func cachedConnection(_ token: String) -> VerifiedToken? {
        self.cache.token(token, generation: self.generation, now: self.seconds)
    }

    package func verifyConnection(_ token: String) async throws(TokenFailure) -> VerifiedToken {
        if let cached = self.cachedConnection(token) { return cached }
        let generation = self.generation
        let claims = try await self.verify(token)
        guard claims.channel == nil else { throw .invalid }
        let verified = VerifiedToken(
            user: claims.user, role: claims.role, name: claims.name, info: claims.info, channels: claims.channels,
            expiresAt: claims.end)
        self.cache.insert(
            verified, for: token, expires: claims.expires, generation: generation, now: self.seconds)
        return verified
    }

    package func verifySubscription(_ token: String) async throws(TokenFailure) -> VerifiedSubscription {
        let claims = try await self.verify(token)
        guard let channel = claims.channel else { throw .invalid }
        return VerifiedSubscription(
            user: claims.user, channel: channel, info: claims.info, expiresAt: claims.end)
    }

    // MARK: Checks

    private var seconds: Int64 { self.wallClock().milliseconds / 1000 }
    private var generation: Int { self.keyRing?.generation ?? 0 }

    /// Signature first: nothing is told of a token that was forged, not even that it is expired.
    private func verify(_ text: String) async throws(TokenFailure) -> TokenClaims {
        let token = try JSONWebToken(text)
        guard await self.isSigned(token) else { throw .invalid }
        let now = self.seconds
        if let expires = token.claims.expires, expires <= now { throw .expired }
        if let notBefore = token.claims.notBefore, notBefore > now { throw .expired }
        return token.claims
    }

    private func isSigned(_ token: JSONWebToken) async -> Bool {
        guard !token.algorithm.isSymmetric else { return self.secretKeys?.verify(token) ?? false }
        guard let keyRing = self.keyRing else { return false }
        return await Authenticator.verify(token, with: await keyRing.keys(for: token))
    }

    /// Off the caller's loop: a public key operation takes as long as a hundred deliveries.
    @concurrent
    private static func verify(_ token: JSONWebToken, with keys: PublicKeys) async -> Bool { keys.verify(token) }
}
