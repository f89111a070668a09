import FanfareCore
import FanfareModel

/// What a hub remembers of the repair of its user channels.
struct InboxRepairs {
    /// Grows with each doubt: a repair that began before it starts over.
    var doubts = 0
    var isRunning = false
    var isChecking = false
}

/// Pushes to user channels are sent once and may be lost: the link was away, the node was taken for dead. The inbox has
/// them all, so positions are compared with it and what is missing is given.
extension EdgeHub {
    /// Pushes may have been lost just now: those that come wait until what was lost has been given.
    func repairInboxes() {
        self.inboxes.doubts += 1
        for session in self.allSessions { session.onThisLoop { $0.doubtInbox() } }
        guard !self.inboxes.isRunning else { return }
        self.inboxes.isRunning = true
        self.loop.task {
            await self.runInboxRepair()
            self.inboxes.isRunning = false
        }
    }

    private func runInboxRepair() async {
        var attempt = 0
        var doubt = 0
        var left: [Session] = []
        while !self.isStopped {
            if doubt != self.inboxes.doubts {
                doubt = self.inboxes.doubts
                left = self.allSessions.filter { session in session.onThisLoop { $0.doubtsInbox } }
            }
            guard !left.isEmpty else { return }
            let batch = Array(left.prefix(self.limits.inboxBatch))
            do throws(FanfareError) {
                let positions = try await self.inboxPositions(of: batch)
                for session in batch {
                    try await session.catchUp(with: positions)
                    guard doubt == self.inboxes.doubts else { break }
                    session.onThisLoop { $0.trustInbox() }
                    left.removeFirst()
                }
                attempt = 0
            } catch {
                await self.loop.sleep(for: self.backoff.delay(attempt: attempt, random: self.random()))
                attempt += 1
            }
        }
    }

    private func inboxPositions(of sessions: [Session]) async throws(FanfareError) -> [UserID: UInt64] {
        let users = Set(sessions.map { session in session.onThisLoop { $0.user } })
        return try await self.log.inboxPositions(of: users.sorted())
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
            for session in behind { session.onThisLoop { $0.doubtInbox() } }
            self.metrics.inboxRepairs.increment(by: behind.count)
            for session in behind {
                try? await session.catchUp(with: positions)
                if !self.inboxes.isRunning { session.onThisLoop { $0.trustInbox() } }
            }
        }
    }
}
