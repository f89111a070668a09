import FanfareModel
import Synchronization

/// Users of whom the store has been told, with their keys: each is told once, not with each connection. Bounded: where there
/// are more, those who did not come for the longest are forgotten, and told again.
final class KnownUsers: Sendable {
    private struct Generations {
        var young: [UserID: UserKey] = [:]
        var old: [UserID: UserKey] = [:]
    }

    private let limit: Int
    private let generations = Mutex(Generations())

    /// - Parameter limit: users remembered at least; twice as many at the most.
    init(limit: Int = 50_000) { self.limit = max(1, limit) }

    func key(of user: UserID) -> UserKey? {
        let (key, isOld): (UserKey?, Bool) = self.generations.withLock { generations in
            if let key = generations.young[user] { return (key, false) }
            return (generations.old[user], true)
        }
        if let key, isOld { self.insert(user, key) }
        return key
    }

    func insert(_ user: UserID, _ key: UserKey) {
        self.generations.withLock { generations in
            generations.young[user] = key
            guard generations.young.count >= self.limit else { return }
            generations.old = generations.young
            generations.young = [:]
        }
    }
}
