import FanfareCore
import FanfareEngines
import FanfareModel
import Logging
import Synchronization
import Testing

@testable import FanfareFabric
@testable import FanfareTesting

/// What a loop asks before the first push of an owner is given.
@Suite("Inboxes of a loop") struct EdgeInboxTests {
    /// Answers that nothing is missing, and notes what it was asked.
    final class Log: ChannelLog {
        private let noted = Mutex<[[UserID: UInt64?]]>([])
        /// What was asked: users, each with its bound.
        var asked: [[UserID: UInt64?]] { self.noted.withLock { $0 } }

        func inboxPositions(
            of users: [UserID], below bounds: [UserID: UInt64]
        ) async throws(FanfareError) -> [UserID: InboxPosition] {
            self.noted.withLock { $0.append(Dictionary(uniqueKeysWithValues: users.map { ($0, bounds[$0]) })) }
            return [:]
        }

        func history(_ filter: HistoryFilter, of channel: Channel) async throws(FanfareError) -> RoomHistory {
            throw .internal
        }
        func pushPolicy(of user: UserID) async throws(FanfareError) -> PushPolicy { PushPolicy() }
        func userKeys(of users: [UserID]) async throws(FanfareError) -> [UserID: UserKey] { [:] }
    }

    private static func push(_ sequence: UInt64, to users: [UserKey]) -> FanoutPush {
        FanoutPush(
            event: EventID(Int64(sequence)), type: "raid", data: Bytes("{}".utf8),
            createdAt: Timestamp(milliseconds: 1),
            recipients: users.map { .init($0, sequence: sequence) })
    }

    @Test("one query asks for all users of the shards, of those who are pushed for what lies before it")
    func bounds() async throws {
        let log = Log()
        let result = await onOwnThread {
            let bench = Bench()
            let hub = EdgeHub(
                loop: bench.loop, index: 1,
                subscriptions: RoomSubscriptions(
                    loop: bench.loop, broker: bench.engine.makeBroker(for: NodeID("n0"), loop: bench.loop)),
                log: log, limits: EdgeHub.Limits(), random: { 7 },
                logger: Logger(label: "bench") { _ in SwiftLogNoOpLogHandler() }, metrics: FabricMetrics())
            let names = ["a", "a", "b", "c"]
            let clients = names.map { bench.connect("user:\($0)") }
            let users = names.map { UserID(unchecked: $0) }
            let keys = ["a": UserKey(1), "b": UserKey(2), "c": UserKey(3)]
            let during = Box<[[Int64]]>([])
            bench.loop.execute {
                hub.onThisLoop { hub in
                    for (client, user) in zip(clients, users) {
                        guard let session = client.session, let key = keys[user.rawValue] else { continue }
                        hub.online(session, user, key, isOnline: true)
                    }
                    // `c` is of a shard of which nothing was missed.
                    _ = hub.deliver(
                        [Self.push(5, to: [UserKey(1), UserKey(3)]), Self.push(6, to: [UserKey(1)])],
                        missing: Set(users.prefix(3).map { Shard(of: $0) }))
                }
                during.value = clients.map(\.offsets)
            }
            bench.run()
            return (during.value, clients.map(\.offsets))
        }
        #expect(Set(["a", "b", "c"].map { Shard(of: UserID(unchecked: $0)) }).count == 3)
        #expect(result.0 == [[], [], [], [5]])
        #expect(result.1 == [[5, 6], [5, 6], [], [5]])
        #expect(log.asked == [[UserID(unchecked: "a"): 5, UserID(unchecked: "b"): nil]])
    }
}
