internal import FanfareLoops
internal import FanfareModel

/// What the gateway keeps for one loop. Used on that loop's thread alone, hence safe to share (`@unchecked`).
final class LoopContext: @unchecked Sendable {
    let loop: EdgeLoop
    let options: ConnectionOptions
    let admission: Admission
    let metrics: GatewayMetrics
    /// For gathering what is sent; lent for the time of one call.
    let scratch: UnsafeMutableRawBufferPointer
    /// Open connections by descriptor.
    private(set) var connections: [CInt: Connection] = [:]
    /// Connections whose request has not arrived, by descriptor.
    private(set) var arriving: [CInt: ArrivingConnection] = [:]
    /// Counted here and told to the metrics once per interval: nothing is shared on the way of a delivery.
    var traffic = Traffic()

    struct Traffic {
        var sends = 0
        var bytesSent = 0
        var bytesReceived = 0
        var messagesReceived = 0
    }

    init(loop: EdgeLoop, options: ConnectionOptions, admission: Admission, metrics: GatewayMetrics) {
        self.loop = loop
        self.options = options
        self.admission = admission
        self.metrics = metrics
        self.scratch = .allocate(byteCount: 64 << 10, alignment: 16)
    }

    deinit { self.scratch.deallocate() }

    func add(_ connection: Connection) { self.connections[connection.descriptor] = connection }
    func add(_ connection: ArrivingConnection) { self.arriving[connection.descriptor] = connection }
    func removeConnection(_ descriptor: CInt) { self.connections[descriptor] = nil }
    func removeArriving(_ descriptor: CInt) { self.arriving[descriptor] = nil }

    /// Ends what is left when the gateway stops.
    func closeAll() {
        for connection in Array(self.arriving.values) { connection.abandon() }
        for connection in Array(self.connections.values) { connection.close(.shutdown) }
    }

    func reportTraffic() {
        self.metrics.report(self.traffic, of: self.loop)
        self.traffic = Traffic()
    }
}
