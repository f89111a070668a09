package import FanfareEngines
package import FanfareModel

/// A node of a cluster under test.
package struct BrokerNode: Sendable {
    package let id: NodeID
    package let broker: any Broker
    package let receiver: RecordingReceiver

    package init(id: NodeID, broker: any Broker, receiver: RecordingReceiver) {
        self.id = id
        self.broker = broker
        self.receiver = receiver
    }

    package func member(
        incarnation: String = "first", weight: Int = 1, state: Member.State = .active
    ) -> Member {
        Member(
            node: self.id, incarnation: incarnation, address: "http://\(self.id)", weight: weight, state: state)
    }
}

/// A check did not hold.
package struct BrokerCheckFailure: Error, CustomStringConvertible, Sendable {
    package let description: String
}

/// What every broker does. Each check gets a cluster of its own: nodes whose brokers are started and whose links are up,
/// on an empty key space.
package struct BrokerCheck: Sendable, CustomStringConvertible {
    package let name: String
    package let nodes: Int
    package let run: @Sendable (BrokerCluster) async throws -> Void

    init(_ name: String, nodes: Int = 1, _ run: @escaping @Sendable (BrokerCluster) async throws -> Void) {
        self.name = name
        self.nodes = nodes
        self.run = run
    }

    package var description: String { self.name }

    package static let all: [BrokerCheck] =
        MembershipChecks.all + FenceChecks.all + RoomChecks.all + RetentionChecks.all + MessageChecks.all
}

package struct BrokerCluster: Sendable {
    package let nodes: [BrokerNode]
    package init(_ nodes: [BrokerNode]) { self.nodes = nodes }

    package var first: BrokerNode { self.nodes[0] }

    /// All rooms of the checks are of the slot of "room:1", or found by `rooms(inSlotOf:)`.
    static let room = "room:1"
    static let slot = Slot(of: Self.room)

    /// Makes the first node a member and claims the slot for it.
    func claim(_ slot: Slot = Self.slot) async throws -> Fence {
        let view = try await self.first.broker.heartbeat(
            self.first.member(), lease: .seconds(60), newGeneration: "generation")
        return try await self.first.broker.claim(
            slot, view: view.number, node: self.first.id, incarnation: "first")
    }

    /// Claims the slot and opens the room.
    func open(_ retention: Retention = Retention()) async throws -> OpenRoom {
        let fence = try await self.claim()
        let stored = try await self.first.broker.open(
            Self.room, fence: fence, newEpoch: "epoch", retention: retention)
        return OpenRoom(broker: self.first.broker, fence: fence, top: stored.top, retention: retention)
    }
}

/// A room that a check writes to.
struct OpenRoom {
    let broker: any Broker
    let fence: Fence
    var top: StreamPosition
    var retention: Retention

    /// Appends and moves `top` on.
    @discardableResult
    mutating func append(_ entries: [AppendEntry]) async throws -> [AppendedEntry] {
        let append = RoomAppend(
            room: BrokerCluster.room, expected: self.top, entries: entries, retention: self.retention)
        let outcomes = try await self.broker.append([append], slot: BrokerCluster.slot, fence: self.fence)
        guard outcomes.count == 1, case .appended(let appended) = outcomes[0] else {
            throw BrokerCheckFailure(description: "the append was answered by \(outcomes)")
        }
        if let last = appended.last(where: \.isAppended) { self.top = last.position }
        return appended
    }

    @discardableResult
    mutating func append(_ bodies: String...) async throws -> [AppendedEntry] {
        try await self.append(bodies.map { AppendEntry(body: Array($0.utf8)) })
    }

    func stored() async throws -> StoredRoom {
        try await self.broker.open(
            BrokerCluster.room, fence: self.fence, newEpoch: "unused", retention: self.retention)
    }
}

// MARK: - Tools of the checks

func expect(
    _ condition: Bool, _ what: @autoclosure () -> String, line: Int = #line, file: String = #fileID
) throws {
    guard condition else { throw BrokerCheckFailure(description: "\(what()) (\(file):\(line))") }
}

func expectEqual<Value: Equatable>(
    _ actual: Value, _ expected: Value, line: Int = #line, file: String = #fileID
) throws {
    guard actual == expected else {
        throw BrokerCheckFailure(description: "\(actual) is not \(expected) (\(file):\(line))")
    }
}

func expectError(
    _ code: EngineError.Code, line: Int = #line, file: String = #fileID,
    _ body: () async throws -> Void
) async throws {
    do {
        try await body()
    } catch let error as EngineError where error.code == code {
        return
    } catch {
        throw BrokerCheckFailure(description: "threw \(error) instead of \(code) (\(file):\(line))")
    }
    throw BrokerCheckFailure(description: "did not throw \(code) (\(file):\(line))")
}

/// Waits until the condition holds; looks often.
package func eventually(
    within limit: Duration = .seconds(5), _ what: @autoclosure () -> String, line: Int = #line,
    file: String = #fileID, _ condition: () async throws -> Bool
) async throws {
    let deadline = ContinuousClock.now + limit
    while try await !condition() {
        guard ContinuousClock.now < deadline else {
            throw BrokerCheckFailure(description: "not within \(limit): \(what()) (\(file):\(line))")
        }
        try await Task.sleep(for: .milliseconds(2))
    }
}

func bytes(_ text: String) -> Bytes { Array(text.utf8) }

/// Other rooms of a room's slot.
func rooms(inSlotOf room: String, count: Int) -> [String] {
    let slot = Slot(of: room)
    return Array((0...).lazy.map { "room:other-\($0)" }.filter { Slot(of: $0) == slot }.prefix(count))
}

extension Broker {
    /// A heartbeat of a member that knows no view yet.
    package func heartbeat(
        _ member: Member, lease: Duration, newGeneration: String
    ) async throws(EngineError) -> View {
        try await self.heartbeat(member, lease: lease, newGeneration: newGeneration, seen: nil)
    }
}
