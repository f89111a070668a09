package import FanfareCore
package import FanfareEngines
package import FanfareModel
import FanfareProtocol

/// A notification on its way to the sessions of its user.
package struct InboxPush: Sendable, Hashable {
    /// The sequence in the user's inbox; 0 for a notice that is no entry of it.
    package var sequence: UInt64
    /// Raw JSON as clients see it.
    package var payload: Bytes
    /// What its user's preferences are asked about; nil for a notice.
    package var event: PushedEvent?

    package init(sequence: UInt64, payload: Bytes, event: PushedEvent? = nil) {
        self.sequence = sequence
        self.payload = payload
        self.event = event
    }

    package init(_ entry: InboxEntry) {
        self.init(
            sequence: entry.sequence, payload: NotificationPayload.encode(entry), event: PushedEvent(entry))
    }
}

extension Session {
    /// The epoch of every user channel: sequences are never issued again, so that it never changes.
    static var inboxEpoch: String { "inbox" }

    /// Reads where the inbox stands, and what was missed. Pushes wait meanwhile.
    ///
    /// Without the store the channel is there all the same. A client that wants to recover then goes on from its own
    /// position, which is taken on trust: the next comparison gives what is missing from there, or ends the connection
    /// where the inbox never came that far.
    func openInbox(recovery: RecoverRequest?) async -> SubscribeResult {
        let wants = recovery.map { $0.recover && ($0.epoch.isEmpty || $0.epoch == Session.inboxEpoch) } ?? false
        let since = wants ? recovery?.offset : nil
        var result = SubscribeResult(
            recoverable: true, epoch: Session.inboxEpoch, positioned: true, wasRecovering: recovery?.recover ?? false)
        do throws(FanfareError) {
            let tail = try await self.services.backend.inbox(of: self.user, after: since)
            self.adopt(tail.policy)
            let isWhole = !tail.isTruncated && tail.entries.count <= self.services.limits.inboxRecovery
            if let since, isWhole, since <= tail.top {
                result.recovered = true
                result.offset = since
                self.services.metrics.recoveries.increment()
                if let end = self.pushPolicy.quietEnd(at: self.wallClock), !tail.entries.isEmpty {
                    // What was missed waits with what is to come.
                    self.inboxSequence = since
                    self.deferInbox(until: end)
                    return result
                }
                result.publications = self.recovered(tail.entries)
                self.isInboxDeferred = false
            } else {
                result.offset = tail.top
                if since != nil { self.services.metrics.recoveriesFailed.increment() }
            }
            // Where nothing was recovered, what was not pushed yet is still owed to the subscription that was there before.
            if result.recovered || self.inboxSequence == nil {
                self.inboxSequence = max(tail.top, self.inboxSequence ?? 0)
            }
        } catch {
            guard let since else {
                // No position is known: what comes from now on is found by its time.
                if self.inboxSequence == nil {
                    self.inboxOpened = self.wallClock
                    self.doubtInbox()
                }
                return result
            }
            result.recovered = true
            result.offset = since
            if self.inboxSequence == nil {
                self.inboxSequence = since
                self.inboxClaim = since
                // Until then pushes wait: one of them would hide what was missed before it.
                self.doubtInbox()
            }
        }
        return result
    }

    /// - Returns: whether it was given to the client, now or before, or will be.
    package func deliver(_ push: InboxPush) -> Bool {
        switch self.phase {
        case .closed, .refused, .new: return false
        case .connecting:
            self.hold(push)
            return true
        case .connected: break
        }
        if push.sequence > 0, self.inboxReads > 0 || self.inboxDoubt != nil {
            self.hold(push)
            return true
        }
        return self.give(push)
    }

    /// - Returns: whether it was given, now or before.
    @discardableResult
    func give(_ push: InboxPush) -> Bool {
        if push.sequence > 0 {
            guard push.sequence > self.inboxSequence ?? 0 else { return true }
            guard self.mayGive(push) else { return false }
            self.inboxSequence = push.sequence
        }
        self.services.metrics.inboxPushes.increment()
        self.push(
            .publication(Publication(offset: push.sequence, data: push.payload)), channel: Channel.user(self.user).name)
        return true
    }

    /// Who cannot be given what waits comes back and recovers it.
    private func hold(_ push: InboxPush) {
        let (limits, bytes) = (self.services.limits, self.inboxHeldBytes + push.payload.count)
        guard self.inboxHeld.count < limits.inboxHeld, bytes <= limits.heldBytes else {
            self.services.metrics.pushesOverrun.increment()
            return self.close(.insufficientState)
        }
        self.inboxHeld.append(push)
        self.inboxHeldBytes = bytes
    }

    func deliverHeldInbox() {
        guard self.inboxReads == 0 else { return }
        let held = self.inboxHeld
        self.inboxHeld = []
        self.inboxHeldBytes = 0
        for push in held { _ = self.deliver(push) }
        if let doubt = self.inboxDoubt, !doubt.awaitsAnnouncement { self.hub.onThisLoop { $0.compareInbox(of: self) } }
    }

    // MARK: Online

    /// Makes the session reachable for the pushes of the fan-out. Where the store gives no answer now, the hub asks again.
    func goOnline() async {
        do throws(FanfareError) {
            guard let key = try await self.services.backend.identify(self.user) else { return }
            self.goOnline(as: key)
        } catch {
            self.hub.onThisLoop { $0.identifyLater(self) }
        }
    }

    func goOnline(as key: UserKey) {
        guard self.isOpen, self.userKey == nil else { return }
        self.userKey = key
        self.doubtInbox(untilAnnounced: true)
        let user = self.user
        self.hub.onThisLoop { $0.online(self, user, key, isOnline: true) }
    }

    // MARK: Repair

    var isOpen: Bool {
        switch self.phase {
        case .connecting, .connected: true
        case .new, .refused, .closed: false
        }
    }

    var hasInbox: Bool {
        guard case .connected = self.phase else { return false }
        return !self.user.isAnonymous
    }

    /// Pushes may have been lost: those that come wait until the inbox was compared, which the caller sees to.
    /// - Parameters:
    ///   - untilAnnounced: it makes sense to compare only when the owner of the shard knows of the user.
    ///   - beforePushes: they were lost before pushes that are delivered right after this call; none between those.
    func doubtInbox(untilAnnounced: Bool = false, beforePushes: Bool = false) {
        guard !self.user.isAnonymous else { return }
        self.lastInboxDoubt += 1
        self.inboxDoubt = InboxDoubt(
            serial: self.lastInboxDoubt,
            awaitsAnnouncement: untilAnnounced || self.inboxDoubt?.awaitsAnnouncement == true,
            endsAtHeld: beforePushes && self.inboxHeld.isEmpty && self.inboxDoubt?.endsAtHeld != false)
    }

    /// Below this the inbox has to be compared: nothing is doubtful from the first push on that waits. Nil: all of it.
    var inboxBound: UInt64? {
        guard self.inboxDoubt?.endsAtHeld == true, self.inboxSequence != nil, self.inboxClaim == nil else { return nil }
        return self.inboxHeld.first { $0.sequence > 0 }?.sequence
    }

    /// The owner of the shard knows of the user.
    /// - Returns: whether the inbox has to be compared now.
    func isAnnounced() -> Bool {
        guard self.inboxDoubt?.awaitsAnnouncement == true else { return false }
        self.inboxDoubt?.awaitsAnnouncement = false
        return self.hasInbox
    }

    /// The inbox was compared since this doubt came up: pushes flow again, unless there is a newer doubt.
    func trustInbox(since serial: UInt64) {
        guard let doubt = self.inboxDoubt, doubt.serial == serial, !doubt.awaitsAnnouncement else { return }
        self.inboxDoubt = nil
        self.deliverHeldInbox()
    }

    /// Whether the inbox has more than was given and may be given now, or the preferences are not those known, or the
    /// client's position has to be checked.
    func isBehind(_ positions: [UserID: InboxPosition]) -> Bool {
        guard self.hasInbox else { return false }
        if self.inboxClaim != nil { return true }
        guard let position = positions[self.user] else { return false }
        if position.preferences > self.pushPolicy.version { return true }
        return !self.mustWait && self.inboxSequence.map { $0 < position.sequence } ?? true
    }

    /// Gives what the inbox has beyond the last one given.
    /// - Throws: where the store gives no answer now.
    func catchUp(with positions: [UserID: InboxPosition]) async throws(FanfareError) {
        if let position = positions[self.user], position.preferences > self.pushPolicy.version {
            self.adopt(try await self.services.backend.pushPolicy(of: self.user))
        }
        // What is read for an answer comes in it, and not before: the inbox is compared again after the answer.
        guard self.inboxReads == 0 else { return self.doubtInbox() }
        let top = positions[self.user]?.sequence ?? 0
        if let claim = self.inboxClaim {
            if top < claim { return self.close(.insufficientState) }
            self.inboxClaim = nil
        }
        guard !self.mustWait else { return }
        guard self.isBehind(positions) else {
            self.isInboxDeferred = false
            return
        }
        guard let since = self.inboxSequence else { return try await self.catchUpByTime() }
        let tail = try await self.services.backend.inbox(of: self.user, after: since)
        guard case .connected = self.phase else { return }
        guard self.inboxReads == 0 else { return self.doubtInbox() }
        self.adopt(tail.policy)
        guard !self.mustWait else { return }
        self.isInboxDeferred = false
        // Too much for pushes: the client recovers, and is told how.
        if tail.isTruncated { return self.close(.insufficientState) }
        for entry in tail.entries { self.give(InboxPush(entry)) }
    }
}

/// Why a session holds its pushes.
struct InboxDoubt {
    /// A comparison that began before does not end it.
    var serial: UInt64
    var awaitsAnnouncement: Bool
    /// It is about what came before the pushes that are held, not about what came between them or after.
    var endsAtHeld: Bool
}
