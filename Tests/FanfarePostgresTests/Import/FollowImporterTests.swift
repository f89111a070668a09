import FanfareEngines
import FanfareModel
import FanfarePostgres
import Testing

@Suite struct FollowImporterTests {
    private func lines(_ count: Int) throws -> [FollowImporter.Line] {
        try (0..<count).map { number in
            .init(number: number + 1, streamer: try user("s\(number % 7)"), follower: try user("u\(number / 2)"))
        }
    }

    private func run(
        _ configuration: PostgresConfiguration, _ lines: [FollowImporter.Line], batch: Int = 1000,
        failAfter: Int = .max
    ) async throws -> (FollowImporter.Progress, reports: Int) {
        let importer = try FollowImporter(configuration)
        var at = 0
        var reports = 0
        let progress = try await importer.run {
            guard at < lines.count else { return nil }
            guard at < failAfter else { throw TimedOut() }
            defer { at += batch }
            return Array(lines[at..<min(at + batch, lines.count)])
        } report: { _ in
            reports += 1
        }
        return (progress, reports)
    }

    @Test func loadsResumesAndRepeats() async throws {
        try await Database.withStore { store, database in
            let configuration = try PostgresConfiguration(
                url: try Database.serverURL(try await database.databaseName()))
            let bob = try user("u0")
            try await store.follow(Follow(user: bob, streamer: try user("s0"), notify: .none))
            var lines = try self.lines(10_000)
            lines.append(.init(number: 10_001, streamer: bob, follower: bob))
            lines.append(lines[5])
            await #expect(throws: TimedOut.self) { try await self.run(configuration, lines, failAfter: 4000) }
            #expect(try await database.count("SELECT count(*) FROM follows") == 4000)
            let (progress, reports) = try await self.run(configuration, lines)
            #expect(reports == 11)
            #expect(progress.lines == 10_002 && progress.newFollows == 6000 && progress.selfFollows == 1)
            #expect(progress.newUsers == 3000)
            let (again, _) = try await self.run(configuration, lines, batch: 5000)
            #expect(again.newFollows == 0 && again.newUsers == 0 && again.lines == 10_002)
            #expect(try await database.count("SELECT count(*) FROM follows") == 10_000)
            // What he had chosen stays.
            #expect(try await database.count("SELECT count(*) FROM follows WHERE notify = 2") == 1)
            let event = try await store.startStream(StreamStart(streamer: try user("s1"), title: "t")).event
            try await Owner().work(store, limit: 1000)
            let expected = try await database.count(
                "SELECT count(*) FROM follows f JOIN users u ON u.id = f.streamer WHERE u.name = 's1'")
            #expect(try await store.eventStatus(event).recipients == expected)
            // A follow of today is none of yesterday's events.
            _ = try await self.run(
                configuration, [.init(number: 1, streamer: try user("s1"), follower: try user("late"))])
            #expect(try await database.count("SELECT count(*) FROM follows WHERE since > 0") == 1)
            #expect(try await store.inboxEvents(try user("late")) == [])
        }
    }

    @Test func severalAtOnce() async throws {
        let configuration = try Database.configuration()
        let lines = try self.lines(5000)
        let follows = try await withThrowingTaskGroup(of: Int.self) { group in
            for offset in 0..<4 {
                let mine = Array(lines[(offset * 1000)...] + lines[..<(offset * 1000)])
                group.addTask { try await self.run(configuration, mine, batch: 700).0.newFollows }
            }
            return try await group.reduce(0, +)
        }
        #expect(follows == 5000)
    }
}
