import FanfareCore
package import FanfareEngines
package import FanfareModel
import FanfareProtocol

/// A notification on its way to the sessions of its user.
package struct InboxPush: Sendable, Hashable {
    /// The sequence in the user's inbox; 0 for a notice that is no entry of it.
    package var sequence: UInt64
    /// Raw JSON as clients see it.
    package var payload: Bytes

    package init(sequence: UInt64, payload: Bytes) {
        self.sequence = sequence
        self.payload = payload
    }

    package init(_ entry: InboxEntry) {
        self.init(sequence: entry.sequence, payload: NotificationPayload.encode(entry))
    }
}

extension Session {
    /// The epoch of every user channel: sequences are never issued again, so that it never changes.
    static var inboxEpoch: String { "inbox" }

    /// Reads where the inbox stands, and what was missed. Pushes wait meanwhile.
    ///
    /// Without a database the channel is there all the same; a client that wanted to recover is told that it did not.
    func openInbox(recovery: RecoverRequest?) async -> SubscribeResult {
        let wants = recovery.map { $0.recover && ($0.epoch.isEmpty || $0.epoch == Session.inboxEpoch) } ?? false
        let since = wants ? recovery?.offset : nil
        var result = SubscribeResult(
            recoverable: true, epoch: Session.inboxEpoch, positioned: true, wasRecovering: recovery?.recover ?? false)
        do throws(FanfareError) {
            let tail = try await self.services.backend.inbox(of: self.user, after: since)
            let isWhole = !tail.isTruncated && tail.entries.count <= self.services.limits.inboxRecovery
            if let since, isWhole, since <= tail.top {
                result.recovered = true
                result.offset = since
                result.publications = tail.entries.map { entry in
                    Publication(offset: entry.sequence, data: NotificationPayload.encode(entry))
                }
                self.services.metrics.recoveries.increment()
            } else {
                result.offset = tail.top
                if since != nil { self.services.metrics.recoveriesFailed.increment() }
            }
            self.inboxSequence = max(tail.top, self.inboxSequence ?? 0)
        } catch {
            // The position that the client has stays good for its next attempt.
            result.offset = since ?? 0
            self.inboxSequence = max(since ?? 0, self.inboxSequence ?? 0)
        }
        return result
    }

    /// - Returns: whether it was given to the client, now or before.
    package func deliver(_ push: InboxPush) -> Bool {
        switch self.phase {
        case .closed, .refused, .new: return false
        case .connecting:
            if self.inboxHeld.count < 1000 { self.inboxHeld.append(push) }
            return true
        case .connected: break
        }
        guard !self.isRepairingInbox || push.sequence == 0 else {
            if self.inboxHeld.count < 1000 { self.inboxHeld.append(push) }
            return true
        }
        if push.sequence > 0 {
            guard push.sequence > self.inboxSequence ?? 0 else { return true }
            self.inboxSequence = push.sequence
        }
        self.services.metrics.inboxPushes.increment()
        self.push(
            .publication(Publication(offset: push.sequence, data: push.payload)), channel: Channel.user(self.user).name)
        return true
    }

    func deliverHeldInbox() {
        let held = self.inboxHeld
        self.inboxHeld = []
        for push in held { _ = self.deliver(push) }
    }

    /// Pushes may have been lost: what the inbox has beyond the last one given is given now.
    func repairUserChannel() {
        guard case .connected = self.phase, !self.user.isAnonymous, !self.isRepairingInbox,
            let since = self.inboxSequence
        else { return }
        self.isRepairingInbox = true
        self.loop.task {
            let tail = try? await self.services.backend.inbox(of: self.user, after: since)
            self.isRepairingInbox = false
            guard case .connected = self.phase else { return }
            if let tail, tail.isTruncated {
                // Too much for a push: the client recovers, and is told how.
                return self.close(.insufficientState)
            }
            for entry in tail?.entries ?? [] { _ = self.deliver(InboxPush(entry)) }
            self.deliverHeldInbox()
        }
    }
}
