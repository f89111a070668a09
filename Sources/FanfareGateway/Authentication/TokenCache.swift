internal import FanfareFabric
internal import FanfareModel
internal import Synchronization

/// Tokens that were verified before: who reconnects in a storm costs a look-up.
final class TokenCache: Sendable {
    /// Longer ones are verified each time, so that the cache's memory stays bounded by its count.
    private static let maximumTokenLength = 4096

    private struct Entry {
        let token: VerifiedToken
        /// `exp`, not when the connection ends.
        let expires: Int64?
    }

    private struct State {
        var entries: [String: Entry] = [:]
        /// Of the keys that the entries were verified with.
        var generation = 0
    }

    private let capacity: Int
    private let state = Mutex(State())

    init(capacity: Int) { self.capacity = max(1, capacity) }

    /// - Parameter now: seconds since 1970.
    func token(_ text: String, generation: Int, now: Int64) -> VerifiedToken? {
        self.state.withLock { state in
            guard state.generation == generation, let entry = state.entries[text] else { return nil }
            if let expires = entry.expires, expires <= now {
                state.entries[text] = nil
                return nil
            }
            return entry.token
        }
    }

    func insert(_ token: VerifiedToken, for text: String, expires: Int64?, generation: Int, now: Int64) {
        guard text.utf8.count <= TokenCache.maximumTokenLength else { return }
        self.state.withLock { state in
            if generation > state.generation {
                // Some of the keys may be gone.
                state.entries = [:]
                state.generation = generation
            }
            guard generation == state.generation else { return }
            if state.entries.count >= self.capacity { self.makeRoom(&state, now: now) }
            state.entries[text] = Entry(token: token, expires: expires)
        }
    }

    /// Drops the expired, and where that is not enough, some others: once per many insertions.
    private func makeRoom(_ state: inout State, now: Int64) {
        state.entries = state.entries.filter { $0.value.expires.map { $0 > now } ?? true }
        let excess = state.entries.count - self.capacity * 3 / 4
        guard excess > 0 else { return }
        for key in Array(state.entries.keys.prefix(excess)) { state.entries[key] = nil }
    }
}
