import FanfareCore
import FanfareEngines
import FanfareModel
import FanfareProtocol

/// What the user's preferences make of pushes. What is muted is passed over; in quiet hours the inbox keeps what comes, and
/// the session is compared with it when they end: nothing waits in memory.
extension Session {
    var wallClock: Timestamp { self.services.surroundings.wallClock() }

    /// Something waits for the end of quiet hours that are not over.
    var mustWait: Bool {
        guard self.isInboxDeferred else { return false }
        return self.pushPolicy.quietEnd(at: self.wallClock) != nil
    }

    /// Goes by the preferences that the store has, unless newer ones are known.
    func adopt(_ policy: PushPolicy) {
        guard policy.version >= self.pushPolicy.version else { return }
        let isNew = policy.version > self.pushPolicy.version
        self.pushPolicy = policy
        // What waits may be due at another time now.
        if isNew, self.isInboxDeferred { self.resumeInbox() }
    }

    /// - Returns: whether the push is given now. Else it was passed over, or waits.
    func mayGive(_ push: InboxPush) -> Bool {
        guard let event = push.event else { return true }
        let now = self.wallClock
        // What waits comes first, and is decided about when it is read again.
        guard !self.isInboxDeferred else { return false }
        switch self.pushPolicy.decide(event, at: now) {
        case .give: return true
        case .skip:
            self.inboxSequence = push.sequence
            self.services.metrics.inboxPushesSkipped.increment()
            return false
        case .wait(let end):
            self.deferInbox(until: end)
            return false
        }
    }

    func deferInbox(until end: Timestamp) {
        self.isInboxDeferred = true
        self.services.metrics.inboxesDeferred.increment()
        self.scheduleQuietEnd(end)
    }

    private func scheduleQuietEnd(_ end: Timestamp) {
        self.quietTimer?.cancel()
        let delay = Duration.milliseconds(max(1, end.milliseconds - self.wallClock.milliseconds))
        self.quietTimer = self.loop.schedule(after: delay) { self.onThisLoop { $0.resumeInbox() } }
    }

    /// Gives what waits, or waits on: the clock may have been set, the preferences changed.
    private func resumeInbox() {
        guard self.isOpen, self.isInboxDeferred else { return }
        if let end = self.pushPolicy.quietEnd(at: self.wallClock) { return self.scheduleQuietEnd(end) }
        self.quietTimer?.cancel()
        // Many sessions have their hours end at once: the hub compares them one after the other.
        guard self.hasInbox else {
            // Connect is not answered yet.
            return self.scheduleQuietEnd(Timestamp(milliseconds: self.wallClock.milliseconds + 100))
        }
        self.hub.onThisLoop { $0.repairInboxes(of: [self]) }
    }

    /// What is given to a client that recovers: all that it missed, but for what was muted.
    func recovered(_ entries: [InboxEntry]) -> [Publication] {
        let now = self.wallClock
        return entries.filter { !self.pushPolicy.isMuted(PushedEvent($0), at: now) }.map { entry in
            Publication(offset: entry.sequence, data: NotificationPayload.encode(entry))
        }
    }
}

extension PushedEvent {
    init(_ entry: InboxEntry) {
        self.init(
            type: entry.type, streamer: entry.streamer, createdAt: entry.createdAt, expiresAt: entry.expiresAt,
            isStale: entry.isStale)
    }
}

extension EdgeHub {
    /// How often the store is asked before it is left to the next comparison of inboxes.
    private static let policyAttempts = 4

    /// The user's sessions go by the new preferences, and hear of them.
    func preferencesChanged(_ notice: InboxPush, user: UserID, except client: ClientID?) async {
        var attempt = 0
        while !self.sessions(of: user).isEmpty, attempt < EdgeHub.policyAttempts {
            if attempt > 0 { await self.loop.sleep(for: self.backoff.delay(attempt: attempt, random: self.random())) }
            do throws(FanfareError) {
                let policy = try await self.log.pushPolicy(of: user)
                for session in self.sessions(of: user) { session.onThisLoop { $0.adopt(policy) } }
                break
            } catch {
                attempt += 1
            }
        }
        self.deliver(notice, user: user, except: client)
    }
}
