import FanfareEngines

/// One room's place on the subscription link. Commands and their acknowledgements come in order, so what the last command
/// asked for is what will be.
struct Subscription {
    typealias Waiter = (EngineError?) -> Void

    let room: String
    /// A caller was told that the room is subscribed, and nobody gave it up since: survives a break of the link.
    private(set) var isKept = false
    /// The last command sent on this link was SUBSCRIBE.
    private(set) var isWanted = false
    /// The server said that messages come.
    private(set) var isConfirmed = false
    /// Per SUBSCRIBE that is not acknowledged yet, those who wait for it.
    private var groups = Fifo<[Waiter]>()
    private var unsubscribesUnderWay = 0

    init(room: String) { self.room = room }

    enum SubscribeAction {
        /// It is subscribed already: the waiter was not taken.
        case none
        case wait
        case sendSubscribe
    }

    mutating func subscribe(_ waiter: @escaping Waiter) -> SubscribeAction {
        if self.isWanted, self.isConfirmed || self.isKept {
            self.isKept = true
            return .none
        }
        if self.isWanted, let last = self.groups.popLast() {
            self.groups.append(last + [waiter])
            return .wait
        }
        self.isWanted = true
        self.groups.append([waiter])
        return .sendSubscribe
    }

    /// - Returns: whether UNSUBSCRIBE is to be sent.
    mutating func unsubscribe() -> Bool {
        self.isKept = false
        guard self.isWanted else { return false }
        self.isWanted = false
        self.isConfirmed = false
        self.unsubscribesUnderWay += 1
        return true
    }

    /// A SUBSCRIBE was acknowledged. Returns those who waited for it.
    mutating func subscribed() -> [Waiter] {
        let waiters = self.groups.popFirst() ?? []
        if self.isWanted, self.groups.isEmpty {
            self.isConfirmed = true
            if !waiters.isEmpty { self.isKept = true }
        }
        return waiters
    }

    mutating func unsubscribed() { self.unsubscribesUnderWay = max(0, self.unsubscribesUnderWay - 1) }

    /// Nothing is wanted and nothing is under way.
    var isOver: Bool { !self.isWanted && self.groups.isEmpty && self.unsubscribesUnderWay == 0 }

    /// The link broke. Returns those who waited.
    mutating func linkBroke() -> [Waiter] {
        var waiters: [Waiter] = []
        while let group = self.groups.popFirst() { waiters += group }
        self.isWanted = false
        self.isConfirmed = false
        self.unsubscribesUnderWay = 0
        return waiters
    }

    /// Part of the new link's first commands: nobody waits for it.
    mutating func resubscribe() {
        self.isWanted = true
        self.groups.append([])
    }
}
