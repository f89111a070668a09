import FanfareModel

/// Judges whether a subscription link delivers: what was published on its probe channel must arrive, and pings must be
/// answered, in time.
struct DeliveryProbe {
    private var lastNumber: UInt64 = 0
    private var lastArrived: UInt64 = 0
    /// The oldest probe that the server took and that has not arrived.
    private var missing: (number: UInt64, since: MonotonicInstant)?
    /// When a ping was sent that nothing was heard after.
    private var silentSince: MonotonicInstant?

    /// Numbers the next probe; a ping goes with it.
    mutating func next(now: MonotonicInstant) -> UInt64 {
        self.lastNumber += 1
        if self.silentSince == nil { self.silentSince = now }
        return self.lastNumber
    }

    /// The server took the probe that was sent at `instant`.
    mutating func published(_ number: UInt64, at instant: MonotonicInstant) {
        if number > self.lastArrived, self.missing == nil { self.missing = (number, instant) }
    }

    mutating func arrived(_ number: UInt64) {
        self.lastArrived = max(self.lastArrived, number)
        if let missing = self.missing, missing.number <= number { self.missing = nil }
    }

    /// Something came.
    mutating func heard() { self.silentSince = nil }

    /// What is wrong; nil where nothing is known to be.
    func problem(now: MonotonicInstant, timeout: Duration) -> String? {
        if let missing = self.missing, now - missing.since >= timeout {
            return "a probe did not arrive within \(timeout)"
        }
        if let silent = self.silentSince, now - silent >= timeout { return "the server is silent for \(timeout)" }
        return nil
    }
}
