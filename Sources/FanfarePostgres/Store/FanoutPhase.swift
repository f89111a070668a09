package import FanfareEngines
package import FanfareModel

/// As `fanouts.state` has it.
package enum FanoutState: Int16, Sendable, CaseIterable {
    case open = 0
    case paused = 1
    case cancelled = 2
    /// Its stream ended within the hold-off and did not go on: what was not sent then is not sent.
    case stopped = 3
}

/// What operators and the streamer have made of an event's fan-out. Pure: every change of it goes through here.
///
/// A stream that ends within the hold-off *holds* its event: nothing more is written or pushed. The same stream, started
/// again within the hold-off, lets it go on where it was; otherwise the event stays with those who have it.
package struct FanoutPhase: Sendable, Hashable {
    package var state: FanoutState
    package var isHeld: Bool
    /// All that was to be sent was sent, or nothing is left to send.
    package let isDone: Bool

    package init(state: FanoutState = .open, isHeld: Bool = false, isDone: Bool = false) {
        self.state = state
        self.isHeld = isHeld
        self.isDone = isDone
    }

    /// The event's stream ended.
    package mutating func streamStopped(isWithinHoldOff: Bool) {
        guard isWithinHoldOff, !self.isDone, self.state == .open || self.state == .paused else { return }
        self.isHeld = true
    }

    /// The event's stream is started again within the hold-off.
    /// - Returns: whether the start joins the event; otherwise it is one of its own.
    package mutating func streamResumed() -> Bool {
        // Nodes with different options may not agree when the hold-off is over: what was given up stays so.
        guard self.state != .stopped else { return false }
        self.isHeld = false
        return true
    }

    /// - Returns: whether what was not sent has to be given up now.
    package mutating func holdOffPassed() -> Bool {
        guard self.isHeld else { return false }
        self.isHeld = false
        guard !self.isDone, self.state == .open || self.state == .paused else { return false }
        self.state = .stopped
        return true
    }

    /// What an operator wants.
    /// - Throws: 107 where that leaves nothing to control.
    package mutating func control(_ control: EventControl) throws(FanfareError) {
        switch (control, self.state) {
        case (.cancel, _):
            self.state = .cancelled
            self.isHeld = false
        case (_, .cancelled): throw .badRequest("the event was cancelled")
        case (.pause, _) where self.isDone: throw .badRequest("the event is done")
        case (_, .stopped): throw .badRequest("the event's stream ended: nothing more is sent")
        case (.pause, _): self.state = .paused
        case (.resume, _): if !self.isDone { self.state = .open }
        }
    }

    /// - Parameter isRelayed: whether it has left the outbox.
    package func shown(isRelayed: Bool) -> EventState {
        switch self.state {
        case .cancelled: .cancelled
        case .stopped: .stopped
        case _ where self.isDone: .done
        case .paused: .paused
        case .open: self.isHeld ? .stopped : isRelayed ? .running : .waiting
        }
    }
}
