import FanfareCore
import FanfareEngines
import FanfareModel
import FanfarePostgres
import Testing

/// Everything durable, with the answer to each of its COMMITs lost in turn: what the caller hears and what is there
/// afterwards are as if nothing had been lost.
@Suite struct EveryCommitTests {
    struct Place: Sendable {
        var store: PostgresStore
        var database: PostgresConnection
        var proxy: CuttingProxy
        /// Stands for this run in names.
        var run: Int

        func user(_ name: String) throws -> UserID { try FanfarePostgresTests.user("\(name)-\(self.run)") }
        /// The run's own shards: the same for all runs would have old events in them.
        func followers(_ count: Int) throws -> [UserID] {
            try users(in: Shard(index: 3), count, prefix: "f\(self.run)-")
                + users(in: Shard(index: 4), count, prefix: "f\(self.run)-")
        }

        /// Runs the work with the answer to one COMMIT lost: to the first one in the first run, and so on.
        func losing<Value>(_ body: () async throws -> Value) async throws -> Value {
            self.proxy.cut(after: "COMMIT", skipping: self.run)
            defer { self.proxy.disarm() }
            return try await body()
        }

        func request(_ audience: NotificationRequest.Audience, key: String? = nil) -> NotificationRequest {
            NotificationRequest(
                audience: audience, type: "raid", data: Array("{\"run\":\(self.run)}".utf8), idempotencyKey: key)
        }

        /// Works as an owner with all these users online, until nothing is left to do or to settle.
        func work(online: [UserID] = []) async throws -> [FanoutPush] {
            try await Owner().work(self.store, limit: 4, online: try await self.database.keys(online))
        }
    }

    struct Unit: Sendable, CustomTestStringConvertible {
        var name: String
        var configure: @Sendable (inout PostgresConfiguration) -> Void = { _ in }
        /// Prepares, loses, and checks.
        var body: @Sendable (Place) async throws -> Void
        var testDescription: String { self.name }
    }

    @Test(arguments: Self.units) func lostInTurn(unit: Unit) async throws {
        try await withCuttingProxy(unit.configure) { store, database, proxy in
            var run = 0
            while run < 60 {
                let cuts = proxy.cuts
                let place = Place(store: store, database: database, proxy: proxy, run: run)
                do { try await unit.body(place) } catch {
                    Issue.record(error, "\(unit.name), COMMIT \(run)")
                    throw error
                }
                // All of its COMMITs had their turn.
                if proxy.cuts == cuts { break }
                run += 1
            }
            print("\(unit.name): \(run) COMMITs")
            #expect((1..<60).contains(run), "\(unit.name) has no end, or no COMMIT")
        }
    }

    static let units: [Unit] = [
        Unit(name: "preferences") { place in
            let (ada, fan) = (try place.user("ada"), try place.user("fan"))
            for streamer in [ada, try place.user("eve")] {
                try await place.store.follow(Follow(user: fan, streamer: streamer))
            }
            let hours = try #require(QuietHours(from: 60, to: 120, timeZone: "Europe/Berlin"))
            let change = PreferencesChange(user: fan, notify: .live, quietHours: .set(hours))
            let set = try await place.losing { try await place.store.setPreferences(change) }
            #expect(set.notify == .live && set.quietHours == hours)
            #expect(try await place.store.preferences(of: fan) == set)
            _ = try await place.store.raid(ada)
            #expect(try await place.work().users.isEmpty)
            _ = try await place.losing {
                try await place.store.setPreferences(PreferencesChange(user: fan, notify: .all))
            }
            let heard = try await place.store.raid(ada)
            _ = try await place.work()
            #expect(try await place.store.inboxEvents(fan) == [heard])
        },
        Unit(name: "named users") { place in
            let (ada, eve) = (try place.user("ada"), try place.user("eve"))
            try await place.store.ensureUsers([ada, eve])
            let event = try await place.losing { try await place.store.notify(place.request(.users([ada, eve]))) }
            _ = try await place.work()
            #expect(try await place.store.inboxEvents(ada) == [event])
            #expect(try await place.store.inboxEvents(eve) == [event])
        },
        Unit(name: "scheduled") { place in
            let (ada, fan) = (try place.user("ada"), try place.user("fan"))
            try await place.store.follow(ada, by: [fan])
            let past = Timestamp(milliseconds: 1000)
            let far = try await place.database.run { session in
                try session.query("SELECT now() + interval '1 day'").timestamp(0, 0)
            }
            for key in [nil, "key-\(place.run)"] {
                let id = try await place.losing {
                    try await place.store.schedule(place.request(.followers(of: ada), key: key), at: far)
                }
                #expect(try await place.store.scheduledEvents(ScheduledEventFilter()).map(\.id) == [id])
                try await place.losing { try await place.store.cancelScheduled(id) }
                #expect(try await place.store.scheduledEvents(ScheduledEventFilter()).isEmpty)
            }
            _ = try await place.store.schedule(place.request(.followers(of: ada)), at: past)
            _ = try await place.losing { try await place.store.sendScheduled(limit: 10) }
            _ = try await place.work()
            #expect(try await place.store.inboxEvents(fan).count == 1)
        },
        Unit(name: "control") { place in
            let ada = try place.user("ada")
            let followers = try place.followers(2)
            try await place.store.follow(ada, by: followers)
            let event = try await place.store.raid(ada)
            #expect(try await place.losing { try await place.store.control(event, .pause) } == .paused)
            #expect(try await place.work().users.isEmpty)
            #expect(try await place.losing { try await place.store.control(event, .resume) } == .running)
            _ = try await place.work()
            #expect(try await place.store.inboxEvents(followers[0]) == [event])
            #expect(try await place.losing { try await place.store.control(event, .cancel) } == .cancelled)
            _ = try await place.losing { try await place.work() }
            for follower in followers { #expect(try await place.store.inboxEvents(follower) == []) }
            #expect(try await place.store.eventStatus(event).withdrawn == 4)
        },
        Unit(name: "marks") { place in
            let (ada, fan) = (try place.user("ada"), try place.user("fan"))
            try await place.store.follow(ada, by: [fan])
            for _ in 0..<3 { _ = try await place.store.raid(ada) }
            _ = try await place.work()
            let sequences = try await place.store.notifications(InboxQuery(user: fan, limit: 9)).entries.map(\.sequence)
            for (mark, which, unread) in [
                (.read, .sequences([sequences[2]]), 2), (.archived, .sequences([sequences[1]]), 1),
                (.read, .upTo(sequences[0]), 0),
            ] as [(InboxMark, InboxSelection, Int)] {
                let result = try await place.losing { try await place.store.mark(fan, mark, which) }
                #expect(result.unread == unread)
                #expect(try await place.store.notifications(InboxQuery(user: fan, limit: 9)).unread == unread)
            }
        },
        Unit(name: "direct messages") { place in
            let entries = (0..<3 as Range<UInt8>).map { AppendEntry(body: [$0]) }
            let channel = "dm:a:b-\(place.run)"
            let appended = try await place.losing { try await place.store.appendDirect(channel, entries) }
            #expect(appended.map(\.position.offset) == [1, 2, 3])
            let kept = try await place.store.readDirect(channel, HistoryFilter(limit: -1)).entries
            #expect(kept.map(\.body) == [[0], [1], [2]] && kept.map(\.offset) == [1, 2, 3])
        },
        Self.goLive("go-live"),
        Self.goLive("go-live, by jobs") { $0.directRecipients = 2 },
        Self.goLive("go-live, by broadcast") { $0.broadcastThreshold = 6 },
        Unit(name: "replay", configure: { $0.jobRowFailures = 100 }) { place in
            let ada = try place.user("ada")
            let followers = try place.followers(3)
            try await place.store.follow(ada, by: followers)
            try await poison(place.database, Array(followers.prefix(2)))
            let event = try await place.store.raid(ada)
            // Half of it becomes dead letters, whichever COMMIT is lost on the way.
            _ = try await place.losing { try await place.work(online: followers) }
            try await heal(place.database)
            var filter = DeadLetterFilter()
            filter.event = event
            #expect(try await place.store.countDeadLetters(filter).count == 2)
            let ids = try await place.store.deadLetters(filter).map(\.id)
            #expect(try await place.losing { try await place.store.replayDeadLetters(ids) } == 2)
            _ = try await place.losing { try await place.work(online: followers) }
            for follower in followers { #expect(try await place.store.inboxEvents(follower) == [event]) }
            #expect(try await place.store.eventStatus(event).deadLetters == 0)
        },
    ]

    /// From the streamer's call to the last settlement, with all followers online: each is pushed each event, with one
    /// sequence however often, and has it once.
    static func goLive(
        _ name: String, _ configure: @escaping @Sendable (inout PostgresConfiguration) -> Void = { _ in }
    ) -> Unit {
        Unit(name: name, configure: configure) { place in
            let ada = try place.user("ada")
            let followers = try place.followers(4)
            try await place.store.follow(ada, by: followers)
            let (event, pushes) = try await place.losing {
                let started = try await place.store.startStream(StreamStart(streamer: ada, title: "t"))
                return (started.event, try await place.workWithBroadcasts(online: followers))
            }
            var sequences: [UserKey: Set<UInt64>] = [:]
            for push in pushes where push.event == event {
                for recipient in push.recipients { sequences[recipient.user, default: []].insert(recipient.sequence) }
            }
            let keys = try await place.database.keys(followers)
            #expect(Set(sequences.keys) == Set(keys) && sequences.values.allSatisfy { $0.count == 1 })
            for (follower, key) in zip(followers, keys) {
                let entries = try await place.store.notifications(InboxQuery(user: follower, limit: 9)).entries
                #expect(entries.map(\.event) == [event] && entries.first.map { [$0.sequence] } == sequences[key])
            }
            let status = try await place.store.eventStatus(event)
            #expect(status.completedAt != nil && status.recipients == 8 && status.deadLetters == 0)
            _ = try await place.store.stopStream(.streamer(ada))
        }
    }
}

extension EveryCommitTests.Place {
    /// As a worker does it: what was written once for a shard is pushed to those online whom it is for.
    fileprivate func workWithBroadcasts(online: [UserID]) async throws -> [FanoutPush] {
        let keys = try await self.database.keys(online)
        var pushes: [FanoutPush] = []
        while try await self.store.relayOutbox(limit: 100).hasMore {}
        var order = FanoutOrder(shards: try await Owner().claim(of: self.store), limit: 5)
        while true {
            let batch = try await self.store.workFanout(order)
            pushes += batch.pushes
            pushes += try await self.store.broadcastPushes(batch.broadcasts, to: keys)
            (order.cursor, order.settling) = (batch.cursor, batch.settlement)
            if !batch.unsettled.isEmpty {
                let fences = order.shards.filter { batch.unsettled.contains($0.key) }
                let again = try await self.store.unsettledPushes(fences, to: keys)
                pushes += again.pushes
                if var settlement = again.settlement {
                    if let settling = order.settling { settlement.merge(settling) }
                    order.settling = settlement
                }
            }
            guard batch.hasMore || order.settling != nil else { return pushes }
        }
    }
}
