internal import FanfareModel
internal import Logging
internal import Synchronization

/// The public keys in force, fetched anew when a token names one that is not there.
final class KeyRing: Sendable {
    /// A token can name any key: this often at the most does an unknown one cause a look at the source.
    private static let minimumInterval: Duration = .seconds(10)
    /// So that keys which were withdrawn go out of use.
    private static let maximumAge: Duration = .seconds(600)

    private struct State {
        var keys = PublicKeys.none
        var fetchedAt: MonotonicInstant?
        /// The last attempt, whether it succeeded or not.
        var attemptedAt: MonotonicInstant?
        var fetch: Task<Void, Never>?
        /// Grows with each new set of keys.
        var generation = 0
    }

    private let source: KeySource
    private let now: @Sendable () -> MonotonicInstant
    private let logger: Logger
    private let state = Mutex(State())

    init(source: KeySource, now: @escaping @Sendable () -> MonotonicInstant, logger: Logger) {
        self.source = source
        self.now = now
        self.logger = logger
    }

    var keys: PublicKeys { self.state.withLock { $0.keys } }
    var generation: Int { self.state.withLock { $0.generation } }

    /// Fetches the keys.
    /// - Throws: where they cannot be had: those known before stay in force.
    func load() async throws(KeySourceError) {
        self.state.withLock { $0.attemptedAt = self.now() }
        let document = try await self.source.load()
        let keys: PublicKeys
        do {
            keys = try await PublicKeys(document: document)
        } catch {
            throw KeySourceError("the key set is \(error)")
        }
        self.state.withLock { state in
            state.keys = keys
            state.fetchedAt = self.now()
            state.generation += 1
        }
        self.logger.info("read the key set", metadata: ["keys": "\(keys.count)", "skipped": "\(keys.skipped)"])
    }

    /// The keys for a token: after a look at the source, shared by all who ask at that time, where none of those known
    /// fits or where they are old.
    func keys(for token: JSONWebToken) async -> PublicKeys {
        guard let fetch = self.beginFetchIfNeeded(for: token) else { return self.keys }
        // Those that are merely old serve until new ones are there.
        if !self.keys.hasKey(for: token) { await fetch.value }
        return self.keys
    }

    private func beginFetchIfNeeded(for token: JSONWebToken) -> Task<Void, Never>? {
        let now = self.now()
        return self.state.withLock { state in
            let isOld = state.fetchedAt.map { now - $0 > KeyRing.maximumAge } ?? true
            guard isOld || !state.keys.hasKey(for: token) else { return nil }
            if let fetch = state.fetch { return fetch }
            if let attempt = state.attemptedAt, now - attempt < KeyRing.minimumInterval { return nil }
            let fetch = Task {
                do throws(KeySourceError) {
                    try await self.load()
                } catch {
                    self.logger.warning("the key set cannot be read", metadata: ["error": "\(error)"])
                }
                self.state.withLock { $0.fetch = nil }
            }
            state.fetch = fetch
            return fetch
        }
    }
}
