import FanfareModel
import Synchronization

/// Users of whom the store has been told: each is told once, not with each connection. Bounded: where there are more, those
/// who did not come for the longest are forgotten, and told again.
final class KnownUsers: Sendable {
    private struct Generations {
        var young: Set<UserID> = []
        var old: Set<UserID> = []
    }

    private let limit: Int
    private let generations = Mutex(Generations())

    /// - Parameter limit: users remembered at least; twice as many at the most.
    init(limit: Int = 50_000) { self.limit = max(1, limit) }

    func contains(_ user: UserID) -> Bool {
        let isOld: Bool? = self.generations.withLock { generations in
            if generations.young.contains(user) { return false }
            return generations.old.contains(user) ? true : nil
        }
        guard let isOld else { return false }
        if isOld { self.insert(user) }
        return true
    }

    func insert(_ user: UserID) {
        self.generations.withLock { generations in
            generations.young.insert(user)
            guard generations.young.count >= self.limit else { return }
            generations.old = generations.young
            generations.young = []
        }
    }
}
