package import FanfareEngines
package import FanfareModel

/// What a node is and where its limits lie.
package struct NodeConfiguration: Sendable {
    package var name: NodeID
    /// The HTTP address that operators see.
    package var address: String
    package var version: String
    /// Its share of the slots relative to the others; 1–100.
    package var weight: Int
    /// How long the others wait for a silent node.
    package var lease: Duration
    /// What the engine keeps of a room.
    package var retention: Retention
    /// Idempotency keys that this node takes within `retention.idempotencyWindow`: the engine remembers each for that
    /// long. Beyond it a new one is refused with 111, and a known one gets its first result as ever; 0 refuses all new.
    package var idempotencyKeys = 1_000_000
    package var session: SessionLimits
    package var slot: SlotWriter.Limits
    package var router: RoomRouter.Limits
    package var edge: EdgeHub.Limits
    package var fanout: Fanout.Limits
    package var online: OnlineLimits
    package var pusher: InboxPusher.Limits

    package init(
        name: NodeID, address: String = "", version: String = "", weight: Int = 1, lease: Duration = .seconds(3),
        retention: Retention = Retention(), session: SessionLimits = SessionLimits(),
        slot: SlotWriter.Limits = SlotWriter.Limits(), router: RoomRouter.Limits = RoomRouter.Limits(),
        edge: EdgeHub.Limits = EdgeHub.Limits(), fanout: Fanout.Limits = Fanout.Limits(),
        online: OnlineLimits = OnlineLimits(), pusher: InboxPusher.Limits = InboxPusher.Limits()
    ) {
        self.name = name
        self.address = address
        self.version = version
        self.weight = weight
        self.lease = lease
        self.retention = retention
        self.session = session
        self.slot = slot
        self.router = router
        self.edge = edge
        self.fanout = fanout
        self.online = online
        self.pusher = pusher
    }
}
