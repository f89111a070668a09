import FanfareCore
import FanfareModel

/// The sessions of a loop by the keys of their users, and what has to be told of them.
struct OnlineSessions {
    var sessions: [UserKey: [Session]] = [:]
    /// The users of each shard.
    var users: [Shard: Set<UserKey>] = [:]
    /// Changes of this turn of the loop.
    var changes: [OnlineChange] = []
    /// Whom to tell; nil without a database.
    var announcer: OnlineAnnouncer?
    /// Sessions whose users' keys the store could not tell.
    var unidentified: [Session] = []
    var isIdentifying = false
}

extension EdgeHub {
    /// Called once, before the first session.
    func announce(to announcer: OnlineAnnouncer) { self.online.announcer = announcer }

    /// The session's user can be reached by the fan-out from now on, or is gone.
    func online(_ session: Session, _ user: UserID, _ key: UserKey, isOnline: Bool) {
        let shard = Shard(of: user)
        if isOnline {
            self.online.sessions[key, default: []].append(session)
            self.online.users[shard, default: []].insert(key)
            let isFirst = self.online.sessions[key]?.count == 1
            self.report(OnlineChange(kind: isFirst ? .joined : .again, user: key, shard: shard))
        } else {
            guard self.online.sessions[key]?.contains(where: { $0 === session }) == true else { return }
            self.online.sessions[key]?.removeAll { $0 === session }
            guard self.online.sessions[key]?.isEmpty == true else { return }
            self.online.sessions[key] = nil
            self.online.users[shard]?.remove(key)
            self.report(OnlineChange(kind: .left, user: key, shard: shard))
        }
    }

    /// What happens in one turn of the loop is told at once.
    private func report(_ change: OnlineChange) {
        guard let announcer = self.online.announcer else { return }
        self.online.changes.append(change)
        guard self.online.changes.count == 1 else { return }
        self.loop.execute {
            self.onThisLoop { hub in
                let changes = hub.online.changes
                hub.online.changes = []
                announcer.changed(changes)
            }
        }
    }

    func sessions(of user: UserKey) -> [Session] { self.online.sessions[user] ?? [] }

    func sessions(in shards: Set<Shard>) -> [Session] {
        shards.sorted().flatMap { shard in
            (self.online.users[shard] ?? []).sorted().flatMap { self.online.sessions[$0] ?? [] }
        }
    }

    /// The owners of these shards may not know who is here: sessions hold their pushes until they do.
    func awaitAnnouncements(of shards: Set<Shard>) {
        for session in self.sessions(in: shards) { session.onThisLoop { $0.doubtInbox(untilAnnounced: true) } }
    }

    /// The owners know of these users: what was committed before is found now.
    func areKnown(_ users: [UserKey]) {
        var sessions: [Session] = []
        for user in users {
            sessions += self.sessions(of: user).filter { session in session.onThisLoop { $0.isAnnounced() } }
        }
        self.compareInboxes(of: sessions)
    }

    // MARK: Keys that the store could not tell

    func identifyLater(_ session: Session) {
        self.online.unidentified.append(session)
        guard !self.online.isIdentifying else { return }
        self.online.isIdentifying = true
        self.loop.task { await self.identify() }
    }

    private func identify() async {
        defer { self.online.isIdentifying = false }
        var attempt = 0
        while !self.isStopped {
            self.online.unidentified.removeAll { session in !session.onThisLoop { $0.isOpen } }
            let batch = Array(self.online.unidentified.prefix(self.limits.inboxBatch))
            guard !batch.isEmpty else { return }
            await self.loop.sleep(for: self.backoff.delay(attempt: attempt, random: self.random()))
            attempt += 1
            let users = Set(batch.map { session in session.onThisLoop { $0.user } })
            guard let keys = try? await self.log.userKeys(of: users.sorted()) else { continue }
            attempt = 0
            self.online.unidentified.removeFirst(batch.count)
            for session in batch {
                session.onThisLoop { session in if let key = keys[session.user] { session.goOnline(as: key) } }
            }
        }
    }
}
