import FanfareCore
import FanfareEngines
import FanfareModel

/// Sessions whose inboxes have to be compared with what they were given.
struct InboxComparisons {
    var waiting: [Session] = []
    var isRunning = false
    var isChecking = false
}

/// Pushes to user channels may be lost: the link was away, the node was taken for dead, the owner of the shard did not know
/// of the user yet. The inbox has them all, so positions are compared with it and what is missing is given.
extension EdgeHub {
    /// Pushes may have been lost just now: those that come wait until what was lost has been given.
    func repairInboxes() { self.repairInboxes(of: self.allSessions) }

    func repairInboxes(of sessions: [Session]) { self.compareInboxes(of: self.doubtInboxes(of: sessions)) }

    /// - Returns: the sessions whose inboxes are to be compared now.
    private func doubtInboxes(of sessions: [Session], beforePushes: Bool = false) -> [Session] {
        sessions.filter { session in
            session.onThisLoop { session in
                guard session.hasInbox else { return false }
                session.doubtInbox(beforePushes: beforePushes)
                // Else the comparison comes when the owner knows of the user.
                return session.inboxDoubt?.awaitsAnnouncement == false
            }
        }
    }

    /// Gives these pushes to their sessions. Where something of these shards may have been missed before them, they wait until
    /// it has been given.
    /// - Returns: for each push the users without a session on this loop.
    func deliver(_ pushes: [FanoutPush], missing shards: Set<Shard>) -> [[UserKey]] {
        guard !shards.isEmpty else { return self.deliver(pushes) }
        let doubtful = self.doubtInboxes(of: self.sessions(in: shards), beforePushes: true)
        // The comparison is to know what waits: it looks for nothing else then, and finds nothing as a rule.
        let missed = self.deliver(pushes)
        self.compareInboxes(of: doubtful)
        return missed
    }

    /// As `repairInboxes`, for the users of these shards.
    func compareInboxes(in shards: Set<Shard>) { self.repairInboxes(of: self.sessions(in: shards)) }

    func compareInbox(of session: Session) { self.compareInboxes(of: [session]) }

    /// The sessions doubt their inboxes already.
    func compareInboxes(of sessions: [Session]) {
        self.inboxes.waiting += sessions
        guard !self.inboxes.isRunning, !self.inboxes.waiting.isEmpty else { return }
        self.inboxes.isRunning = true
        self.loop.task { await self.runComparisons() }
    }

    private func runComparisons() async {
        defer { self.inboxes.isRunning = false }
        var attempt = 0
        while !self.isStopped, !self.inboxes.waiting.isEmpty {
            let batch = self.takeWaiting()
            guard !batch.isEmpty else { continue }
            do throws(FanfareError) {
                let positions = try await self.inboxPositions(of: batch.map(\.session))
                for (session, serial) in batch {
                    try await session.catchUp(with: positions)
                    session.onThisLoop { $0.trustInbox(since: serial) }
                }
                attempt = 0
            } catch {
                // Those that are trusted again by now are passed over.
                self.inboxes.waiting += batch.map(\.session)
                await self.loop.sleep(for: self.backoff.delay(attempt: attempt, random: self.random()))
                attempt += 1
            }
        }
    }

    /// The next sessions that doubt their inbox, each once, with the doubt.
    private func takeWaiting() -> [(session: Session, serial: UInt64)] {
        let waiting = self.inboxes.waiting.prefix(self.limits.inboxBatch)
        self.inboxes.waiting.removeFirst(waiting.count)
        var seen = Set<ClientID>()
        return waiting.compactMap { session in
            guard seen.insert(session.client).inserted else { return nil }
            let serial: UInt64? = session.onThisLoop { session in
                guard session.hasInbox, let doubt = session.inboxDoubt, !doubt.awaitsAnnouncement else { return nil }
                return doubt.serial
            }
            return serial.map { (session, $0) }
        }
    }

    private func inboxPositions(of sessions: [Session]) async throws(FanfareError) -> [UserID: InboxPosition] {
        var bounds: [UserID: UInt64] = [:]
        for session in sessions {
            let (user, bound) = session.onThisLoop { ($0.user, $0.inboxBound) }
            bounds[user] = max(bounds[user] ?? 0, bound ?? .max)
        }
        return try await self.log.inboxPositions(of: bounds.keys.sorted(), below: bounds.filter { $0.value < .max })
    }

    /// A push that was lost leaves no gap to see: positions are compared now and then.
    func scheduleInboxCheck() {
        guard !self.isStopped else { return }
        // Spread, so that loops and nodes that started together do not ask together.
        let interval = self.limits.checkInterval.nanoseconds
        let jitter = Int64(self.random() % UInt64(max(1, interval / 2)))
        self.loop.schedule(after: .nanoseconds(interval / 4 * 3 + jitter)) {
            self.onThisLoop { hub in
                hub.checkInboxes()
                hub.scheduleInboxCheck()
            }
        }
    }

    /// As `repairInboxes`, but nobody waits where nothing is missing.
    func checkInboxes() {
        guard !self.inboxes.isChecking else { return }
        self.inboxes.isChecking = true
        self.loop.task {
            await self.runInboxCheck()
            self.inboxes.isChecking = false
        }
    }

    private func runInboxCheck() async {
        var left = self.allSessions.filter { session in session.onThisLoop { $0.hasInbox } }
        while !left.isEmpty, !self.isStopped {
            let batch = Array(left.prefix(self.limits.inboxBatch))
            left.removeFirst(batch.count)
            // The next check comes where the store has no answer.
            guard let positions = try? await self.inboxPositions(of: batch) else { return }
            let behind = batch.filter { session in session.onThisLoop { $0.isBehind(positions) } }
            guard !behind.isEmpty else { continue }
            self.metrics.inboxRepairs.increment(by: behind.count)
            self.repairInboxes(of: behind)
            // Whom no owner knows of has but this.
            for session in behind {
                guard session.onThisLoop({ $0.inboxDoubt?.awaitsAnnouncement == true }) else { continue }
                try? await session.catchUp(with: positions)
            }
        }
    }
}
