import Synchronization

/// How many rooms a node has open as their owner, in all its slots together. Anybody can name a room and thereby open it:
/// beyond the limit no further ones are, and rooms that are not in use are closed sooner.
package final class RoomBudget: Sendable {
    private struct State {
        var count = 0
        var hasRefused = false
    }

    private let limit: Int
    private let metrics: FabricMetrics
    private let state = Mutex(State())

    init(limit: Int, metrics: FabricMetrics) {
        self.limit = limit
        self.metrics = metrics
    }

    package var count: Int { self.state.withLock { $0.count } }

    /// - Returns: false where the limit is reached.
    func open() -> Bool {
        let count: Int? = self.state.withLock { state in
            guard state.count < self.limit else {
                state.hasRefused = true
                return nil
            }
            state.count += 1
            return state.count
        }
        guard let count else {
            self.metrics.roomsRefused.increment()
            return false
        }
        self.metrics.ownedRooms.record(Double(count))
        return true
    }

    func close(_ closed: Int) {
        guard closed > 0 else { return }
        let count = self.state.withLock { state in
            state.count -= closed
            return state.count
        }
        self.metrics.ownedRooms.record(Double(count))
    }

    /// Whether a room was refused since this was asked last.
    func takeRefusal() -> Bool {
        self.state.withLock { state in
            defer { state.hasRefused = false }
            return state.hasRefused
        }
    }
}
