import FanfareEngines
import FanfareModel
import FanfarePostgres
import FanfareTesting
import Testing

/// Those online hear of a large event first, then those active of late, then the others; each once.
@Suite struct AheadTests {
    // MARK: The list

    @Test func chosenOnceAndInOrder() {
        let keys = (0..<8).map { UserKey($0) }
        let list = FanoutAhead(online: [keys[5], keys[1], keys[5]], recent: [keys[7], keys[1], keys[3]], limit: 4)
        #expect(list.users == [keys[5], keys[1], keys[7], keys[3]])
        #expect(FanoutAhead(online: [keys[5], keys[1]], recent: [keys[7]], limit: 2).users == [keys[5], keys[1]])
        #expect(FanoutAhead(online: keys, recent: keys, limit: 0).isWritten)
        var written = list
        #expect(written.next(3).map(\.rawValue) == [5, 1, 7] && !written.isWritten)
        written.advance(by: 3)
        #expect(written.next(3).map(\.rawValue) == [3])
        #expect(written.others(after: 1).sorted() == [3, 5, 7])
        written.giveUp()
        #expect(written.isWritten && written.others(after: 0).sorted() == [1, 5, 7])
    }

    /// Whatever is chosen, written and given up: those ahead and the others are all, each once.
    @Test func nobodyTwiceAndNobodyLeftOut() {
        let seed = UInt64.random(in: 0 ... .max)
        print("seed \(seed)")
        var generator = SeededGenerator(seed: seed)
        for _ in 0..<500 {
            let all = (1...Int.random(in: 1...30, using: &generator)).map { UserKey(Int64($0)) }
            let online = all.filter { _ in Int.random(in: 0..<3, using: &generator) == 0 }
            let recent = all.shuffled(using: &generator).filter { _ in Bool.random(using: &generator) }
            var list = FanoutAhead(
                online: online, recent: recent, limit: Int.random(in: 0...12, using: &generator))
            var written: [UserKey] = []
            while !list.isWritten {
                if Int.random(in: 0..<6, using: &generator) == 0 {
                    list.giveUp()
                } else {
                    let some = list.next(Int.random(in: 1...4, using: &generator))
                    written += some
                    list.advance(by: some.count)
                }
            }
            var cursor: Int64 = 0
            while true {
                let without = Set(list.others(after: cursor))
                let some = all.filter { $0.rawValue > cursor && !without.contains($0.rawValue) }
                    .prefix(Int.random(in: 1...5, using: &generator))
                guard let last = some.last else { break }
                written += some
                cursor = last.rawValue
            }
            #expect(written.sorted() == all)
        }
    }

    @Test(arguments: [
        (128, 0, 32, 16), (128, 10, 52, 18), (128, 4000, 1024, 512), (2, 4000, 16, 8), (0, 100, 0, 0),
    ]) func whatIsLookedAtIsBounded(users: Int, share: Int, online: Int, recent: Int) {
        let limits = AheadLimits(users: users)
        #expect(limits.online(share: share) == online && limits.recent(share: share) == recent)
    }

    // MARK: The store

    @Test func inThisOrder() async throws {
        try await Database.withStore({ $0.directRecipients = 3 }) { store, database in
            let (ada, shards) = (try user("ada"), [Shard(index: 3), Shard(index: 77)])
            let followers = try shards.map { try users(in: $0, 20) }
            let strangers = try shards.map { try users(in: $0, 5, prefix: "stranger") }
            for each in followers { try await store.follow(ada, by: each) }
            try await store.ensureUsers(strangers.flatMap { $0 })
            var (keys, unknown): ([[UserKey]], [[UserKey]]) = ([], [])
            for index in shards.indices {
                keys.append(try await database.keys(followers[index]))
                unknown.append(try await database.keys(strangers[index]))
            }
            // The last of each are online, others were here yesterday and long ago, and strangers are everywhere.
            let online = Dictionary(
                uniqueKeysWithValues: shards.indices.map { (shards[$0], unknown[$0].prefix(3) + keys[$0].suffix(3)) })
            for index in shards.indices {
                for (day, some) in [(1, keys[index][10..<12]), (5, keys[index][5..<7]), (200, keys[index][8..<9])] {
                    try await store.markActive((some + unknown[index]).map { ($0, shards[index]) })
                    let list = some.map { String($0.rawValue) }.joined(separator: ",")
                    try await database.execute("UPDATE activity SET day = day - \(day) WHERE user_id IN (\(list))")
                }
            }
            let event = try await store.raid(ada)
            let pushes = try await Owner().work(store, limit: 6) { shard, limit in
                Array((online[shard] ?? []).prefix(limit))
            }
            for index in shards.indices {
                let mine = Set(keys[index])
                let order = pushes.users.filter { mine.contains($0) }
                #expect(Set(order.prefix(3)) == Set(keys[index].suffix(3)))
                #expect(Array(order.dropFirst(3).prefix(4)) == Array(keys[index][10..<12] + keys[index][5..<7]))
                let rest = keys[index].filter { !order.prefix(7).contains($0) }
                #expect(Array(order.dropFirst(7)) == rest)
            }
            for follower in followers.joined() { #expect(try await store.inboxEvents(follower) == [event]) }
            for stranger in strangers.joined() { #expect(try await store.inboxEvents(stranger) == []) }
            let status = try await store.eventStatus(event)
            #expect(status.recipients == 40 && status.state == .done)
        }
    }

    @Test(arguments: [0, 2]) func noMoreThanTheLimit(limit: Int) async throws {
        try await Database.withStore({
            $0.directRecipients = 3
            $0.ahead.users = limit
        }) { store, database in
            let (ada, shard) = (try user("ada"), Shard(index: 3))
            let followers = try users(in: shard, 12)
            try await store.follow(ada, by: followers)
            let keys = try await database.keys(followers)
            _ = try await store.raid(ada)
            let pushes = try await Owner().work(store, limit: 5) { _, limit in Array(keys.reversed().prefix(limit)) }
            #expect(pushes.users == Array(keys.reversed().prefix(limit)) + keys.prefix(12 - limit))
        }
    }

    /// Anyone online, any faults, owners and widths: every follower has it once, or one dead letter.
    @Test func exactlyOnceWhateverHappens() async throws {
        let seed = UInt64.random(in: 0 ... .max)
        print("seed \(seed)")
        var generator = SeededGenerator(seed: seed)
        for round in 0..<6 {
            let limit = Int.random(in: 1...9, using: &generator)
            try await Database.withStore({
                $0.directRecipients = 3
                $0.ahead.users = [2, 5, 128][round % 3]
                $0.jobBackoff = (.milliseconds(1), .milliseconds(2))
            }) { store, database in
                let (ada, shards) = (try user("ada"), [Shard(index: 3), Shard(index: 77), Shard(index: 200)])
                let followers = try shards.flatMap { try users(in: $0, 15) }
                try await store.follow(ada, by: followers)
                let keys = try await database.keys(followers)
                let shardOf = Dictionary(uniqueKeysWithValues: zip(keys, followers.map { Shard(of: $0) }))
                let online = keys.filter { _ in Int.random(in: 0..<3, using: &generator) == 0 }
                try await store.markActive(
                    keys.filter { _ in Bool.random(using: &generator) }.map { ($0, shardOf[$0] ?? shards[0]) })
                let poisoned = followers.filter { _ in Int.random(in: 0..<12, using: &generator) == 0 }
                if !poisoned.isEmpty { try await poison(database, poisoned) }
                let event = try await store.raid(ada)
                while try await store.relayOutbox(limit: 10).hasMore {}
                // An owner that stops after some batches, its last one not settled.
                var first = Owner()
                var order = FanoutOrder(shards: try await first.claim(of: store), limit: limit)
                for _ in 0..<Int.random(in: 0..<8, using: &generator) {
                    let batch = try await store.workFanout(order) { shard, limit in
                        Array(online.filter { shardOf[$0] == shard }.prefix(limit))
                    }
                    order.cursor = batch.cursor
                    order.settling = batch.settlement
                }
                first.node = NodeID("b")
                first.view = 2
                let next = first
                try await eventually {
                    try await next.work(store, limit: limit, online: keys) { shard, limit in
                        Array(online.filter { shardOf[$0] == shard }.suffix(limit))
                    }
                    return try await store.eventStatus(event).completedAt != nil
                }
                for follower in followers {
                    let wanted = poisoned.contains(follower) ? [] : [event]
                    #expect(try await store.inboxEvents(follower) == wanted, "round \(round), \(follower)")
                }
                let status = try await store.eventStatus(event)
                #expect(status.recipients == followers.count - poisoned.count)
                #expect(status.deadLetters == poisoned.count)
                if !poisoned.isEmpty {
                    try await heal(database)
                    _ = try await store.settleDeadLetters(.matching(DeadLetterFilter()), as: .replay, isTrial: false)
                    try await next.work(store, limit: limit)
                }
                for follower in followers { #expect(try await store.inboxEvents(follower) == [event]) }
            }
        }
    }

    /// A user's mark is written once a day, however often it is made.
    @Test func aMarkADay() async throws {
        try await Database.withStore { store, database in
            let shard = Shard(index: 3)
            let names = try users(in: shard, 3)
            try await store.ensureUsers(names)
            let keys = try await database.keys(names).map { (key: $0, shard: shard) }
            try await store.markActive(keys + keys)
            let written = try await database.count("SELECT sum(xmin::text::bigint)::bigint FROM activity")
            try await store.markActive(keys)
            #expect(try await database.count("SELECT sum(xmin::text::bigint)::bigint FROM activity") == written)
            #expect(try await database.count("SELECT sum(xmax::text::bigint)::bigint FROM activity") == 0)
            try await database.execute("UPDATE activity SET day = day - 1")
            try await store.markActive(Array(keys.prefix(2)))
            #expect(try await database.count("SELECT count(DISTINCT day) FROM activity") == 2)
            #expect(try await database.count("SELECT count(*) FROM activity") == 3)
        }
    }
}
