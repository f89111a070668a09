import FanfareCore
import FanfareFabric
import FanfareModel
import FanfareProtocol

/// A client as an SDK is one: connects, subscribes, recovers from its last position, comes back when it is sent away. Checks
/// that what it is given has no gap and no repeat.
package final class SimulatedClient: @unchecked Sendable {
    // Safe: used on the simulation's thread alone.
    struct Place {
        var position: StreamPosition?
        var isSubscribed = false
    }

    package let name: String
    let loop: SimulatedLoop
    private let checker: ClusterChecker
    /// Where the client may connect to; nil while no node is up.
    private let findNode: @Sendable () -> SimulatedNode?
    private(set) var places: [String: Place]
    private(set) var node: SimulatedNode?
    private var transport: ClientTransport?
    private var session: Session?
    private var lastCommand: UInt32 = 0
    private var commands: [UInt32: String] = [:]
    private var isActive = true

    init(
        name: String, rooms: [String], loop: SimulatedLoop, checker: ClusterChecker,
        findNode: @escaping @Sendable () -> SimulatedNode?
    ) {
        self.name = name
        self.loop = loop
        self.checker = checker
        self.findNode = findNode
        self.places = Dictionary(uniqueKeysWithValues: rooms.map { ($0, Place()) })
    }

    /// Whether the client is subscribed to all its rooms and was given all that they have.
    package func isUpToDate() -> Bool {
        self.places.allSatisfy { room, place in
            guard place.isSubscribed, let position = place.position else { return false }
            return position.offset == self.checker.top(room, epoch: position.epoch)
        }
    }

    package func describe() -> String {
        let places = self.places.sorted { $0.key < $1.key }.map { room, place in
            "\(room) \(place.isSubscribed ? "at" : "not at") \(place.position.map { "\($0.offset)@\($0.epoch)" } ?? "-")"
                + "/\(self.checker.top(room, epoch: place.position?.epoch ?? ""))"
        }
        return "\(self.name) on \(self.node?.id.rawValue ?? "nothing"): \(places.joined(separator: ", "))"
    }

    func connect() {
        guard let node = self.findNode() else { return self.connectLater() }
        self.node = node
        let transport = ClientTransport(client: self)
        self.transport = transport
        let nodeLoop = node.loops[Int(StableHash.hash(self.name) % UInt64(node.loops.count))]
        nodeLoop.execute {
            let opening = SessionOpening(variant: .json, remoteAddress: "simulated", loop: nodeLoop)
            let session = node.node.makeSession(transport, opening)
            transport.attach(session, nodeLoop)
            self.loop.execute {
                guard self.transport === transport else { return }
                self.session = session
                self.send(#""connect":{}"#, about: "")
            }
        }
    }

    private func connectLater() {
        self.loop.schedule(after: .milliseconds(100 + Int64(StableHash.hash(self.name) % 100))) { self.connect() }
    }

    /// The connection is gone, for whatever reason.
    func lost(_ transport: ClientTransport?) {
        guard transport == nil || transport === self.transport else { return }
        self.transport?.isCut = true
        self.transport = nil
        self.session = nil
        self.node = nil
        self.commands = [:]
        for room in self.places.keys { self.places[room]?.isSubscribed = false }
        self.connectLater()
    }

    private func send(_ body: String, about room: String) {
        guard let transport = self.transport else { return }
        self.lastCommand += 1
        self.commands[self.lastCommand] = room
        transport.toServer(Bytes("{\"id\":\(self.lastCommand),\(body)}".utf8))
    }

    private func subscribe(_ room: String) {
        var request = "\"subscribe\":{\"channel\":\"\(room)\""
        if let position = self.places[room]?.position {
            request += ",\"recover\":true,\"offset\":\(position.offset),\"epoch\":\"\(position.epoch)\""
        }
        self.send(request + "}", about: room)
    }

    /// Leaves a room, and comes back to it after a while.
    func leave(_ room: String) {
        guard self.places[room]?.isSubscribed == true else { return }
        self.send("\"unsubscribe\":{\"channel\":\"\(room)\"}", about: room)
    }

    private func left(_ room: String, _ transport: ClientTransport) {
        self.places[room]?.isSubscribed = false
        self.loop.schedule(after: .milliseconds(300)) {
            if self.transport === transport, self.places[room]?.isSubscribed == false { self.subscribe(room) }
        }
    }

    func received(_ object: Bytes, _ transport: ClientTransport) {
        guard transport === self.transport else { return }
        guard let json = try? JSON.parse(object) else {
            return self.checker.violated("\(self.name): was sent what is no JSON")
        }
        guard json.objectValue?.isEmpty == false else { return transport.toServer(Bytes("{}".utf8)) }
        if let push = json["push"] { return self.received(push: push) }
        let id = UInt32(json["id"]?.integerValue ?? 0)
        guard let room = self.commands.removeValue(forKey: id) else { return }
        if json["connect"] != nil {
            for room in self.places.keys.sorted() { self.subscribe(room) }
        } else if let result = json["subscribe"] {
            self.subscribed(room, result)
        } else if json["unsubscribe"] != nil {
            // Its subscription may have ended before the command arrived; then the client has subscribed again already.
            if self.places[room]?.isSubscribed == true { self.left(room, transport) }
        } else if let error = json["error"] {
            if error["temporary"]?.boolValue == true, !room.isEmpty {
                self.loop.schedule(after: .milliseconds(200)) {
                    if self.transport === transport, self.places[room]?.isSubscribed == false { self.subscribe(room) }
                }
            } else {
                self.checker.violated("\(self.name): \(room): error \(error["code"]?.integerValue ?? 0)")
            }
        }
    }

    private func subscribed(_ room: String, _ result: JSON) {
        let epoch = result["epoch"]?.stringValue ?? ""
        let offset = UInt64(result["offset"]?.integerValue ?? 0)
        let before = self.places[room]?.position
        self.places[room]?.isSubscribed = true
        if result["recovered"]?.boolValue == true {
            if let before, before.epoch != epoch || before.offset != offset {
                self.checker.violated("\(self.name): \(room): recovered from \(offset)@\(epoch) instead of \(before)")
            }
            self.places[room]?.position = StreamPosition(offset: offset, epoch: epoch)
            for publication in result["publications"]?.arrayValue ?? [] { self.take(publication, room) }
        } else {
            // Told that something is missing, or that this is a beginning.
            if let before, self.checker.losses == 0 {
                self.checker.violated("\(self.name): \(room): not recovered from \(before) though nothing was lost")
            }
            self.places[room]?.position = StreamPosition(offset: offset, epoch: epoch)
        }
    }

    private func received(push: JSON) {
        guard let room = push["channel"]?.stringValue else { return }
        if let publication = push["pub"] {
            guard self.places[room]?.isSubscribed == true else {
                return self.checker.violated("\(self.name): a push of \(room), which it is not subscribed to")
            }
            self.take(publication, room)
        } else if push["unsubscribe"] != nil {
            self.places[room]?.isSubscribed = false
            self.subscribe(room)
        }
    }

    private func take(_ publication: JSON, _ room: String) {
        guard var position = self.places[room]?.position else { return }
        let offset = UInt64(publication["offset"]?.integerValue ?? 0)
        if offset != position.offset + 1 {
            self.checker.violated("\(self.name): \(room): \(offset) came after \(position.offset) (\(position.epoch))")
        }
        position.offset = offset
        self.places[room]?.position = position
        self.checker.delivered(
            publication["data"].map { String(decoding: $0.serialize(), as: UTF8.self) } ?? "", room: room, position,
            to: self.name)
    }
}

/// The connection between a simulated client and its session: ordered, and cut when the node dies.
final class ClientTransport: SessionTransport, @unchecked Sendable {
    // Safe: used on the simulation's thread alone.
    private let client: SimulatedClient
    private var session: Session?
    private var nodeLoop: SimulatedLoop?
    var isCut = false

    init(client: SimulatedClient) { self.client = client }

    func attach(_ session: Session, _ loop: SimulatedLoop) {
        self.session = session
        self.nodeLoop = loop
    }

    func toServer(_ message: Bytes) {
        guard !self.isCut, let session = self.session else { return }
        self.nodeLoop?.execute { session.received(message, isText: true) }
    }

    func send(_ object: Bytes) {
        guard !self.isCut else { return }
        self.client.loop.execute { self.client.received(object, self) }
    }

    func send(_ frame: SharedFrame) {
        var rest = frame.bytes[...]
        while rest.count >= 2 {
            var length = Int(rest[rest.startIndex + 1] & 0x7f)
            var header = 2
            if length == 126 {
                length = Int(rest[rest.startIndex + 2]) << 8 | Int(rest[rest.startIndex + 3])
                header = 4
            } else if length == 127 {
                length = (2..<10).reduce(0) { $0 << 8 | Int(rest[rest.startIndex + $1]) }
                header = 10
            }
            let message = rest.dropFirst(header).prefix(length)
            for line in message.split(separator: 0x0a) { self.send(Bytes(line)) }
            rest = rest.dropFirst(header + length)
        }
    }

    func close(_ disconnect: Disconnect) {
        guard !self.isCut else { return }
        self.client.loop.execute { self.client.lost(self) }
    }

    var queuedBytes: Int { 0 }
}
