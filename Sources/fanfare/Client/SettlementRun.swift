import FanfareCommand
import FanfareModel
import FanfareProtocol

/// Settles dead letters in portions, not faster than asked, and says how far it is.
struct SettlementRun {
    private static let shownLetters = 20

    let api: ServerAPI
    /// `replay_dead_letters`, `discard_dead_letters`.
    let method: String
    /// What has become of them, and how the result counts them.
    let verb: String
    let rate: Int?
    /// Shows what a dry run found.
    let showsList: Bool
    private let started = ContinuousClock.now

    init(api: ServerAPI, method: String, verb: String, rate: Int?, showsList: Bool) {
        self.api = api
        self.method = method
        self.verb = verb
        self.rate = rate
        self.showsList = showsList
    }

    // MARK: By ids

    /// - Throws: where one of them does not wait: then nothing is done.
    func preview(_ ids: [Int64]) async throws -> Int {
        let result = try await self.api.call(
            self.method, .object([SettlementRun.ids(ids), .init("dry_run", true)]))
        self.show(try await self.list(ids))
        return Int(result["matched"]?.integerValue ?? 0)
    }

    func settle(_ ids: [Int64]) async throws -> Int {
        var pace = self.pace()
        let ids = Array(Set(ids))
        guard ids.count > pace.portion else {
            return try await self.request([SettlementRun.ids(ids)])
        }
        // All of them are judged before the first one is settled.
        _ = try await self.api.call(self.method, .object([SettlementRun.ids(ids), .init("dry_run", true)]))
        let ordered = try await self.list(ids).compactMap { letter in
            letter["id"]?.stringValue.flatMap { Int64($0) }.map { (id: $0, event: SettlementRun.event(letter)) }
        }.sorted { ($0.event, $0.id) < ($1.event, $1.id) }.map(\.id)
        var done = 0
        while done < ordered.count {
            try await self.wait(until: pace.next(after: done))
            let portion = Array(ordered[done..<min(done + pace.portion, ordered.count)])
            done += try await self.portion([SettlementRun.ids(portion)], after: done)
            self.report(&pace, done, of: ordered.count)
        }
        self.clear()
        return done
    }

    private func list(_ ids: [Int64]) async throws -> [JSON] {
        let parameters: JSON = .object([SettlementRun.ids(ids), .init("settled", true), .init("limit", 1000)])
        return try await self.api.call("dead_letters", parameters)["dead_letters"]?.arrayValue ?? []
    }

    private static func ids(_ ids: [Int64]) -> JSON.Member {
        .init("ids", .array(ids.map { .string(String($0)) }))
    }

    private static func event(_ letter: JSON) -> Int64 {
        letter["event_id"]?.stringValue.flatMap { Int64($0) } ?? 0
    }

    // MARK: By filter

    func preview(_ query: DeadLetterQuery) async throws -> Int {
        let found = try await self.count(query, limit: SettlementRun.shownLetters)
        self.show(found.letters)
        if self.showsList, found.total > found.letters.count {
            Output.line("… and \(Readable.count(found.total - found.letters.count)) more")
        }
        return found.total
    }

    /// Those that wait now: what dies again meanwhile is not taken again.
    func settle(_ query: DeadLetterQuery) async throws -> Int {
        let found = try await self.count(query, limit: 1)
        guard found.total > 0 else { return 0 }
        var bounded = query
        bounded.upTo = min(query.upTo ?? .max, found.last)
        var pace = self.pace()
        var done = 0
        while done < found.total {
            try await self.wait(until: pace.next(after: done))
            var members = bounded.members
            if query.isForAll { members.append(.init("all", true)) }
            members.append(.init("limit", .integer(min(pace.portion, found.total - done))))
            let settled = try await self.portion(members, after: done)
            // Somebody else was at it, too.
            guard settled > 0 else { break }
            done += settled
            self.report(&pace, done, of: found.total)
        }
        self.clear()
        return done
    }

    private func count(
        _ query: DeadLetterQuery, limit: Int
    ) async throws -> (letters: [JSON], total: Int, last: Int64) {
        let members = query.members + [.init("limit", .integer(limit)), .init("count", true)]
        let result = try await self.api.call("dead_letters", .object(members))
        let last = result["last_id"]?.stringValue.flatMap { Int64($0) } ?? 0
        return (result["dead_letters"]?.arrayValue ?? [], Int(result["total"]?.integerValue ?? 0), last)
    }

    // MARK: Portions

    private func request(_ members: [JSON.Member]) async throws(CommandError) -> Int {
        Int(try await self.api.call(self.method, .object(members))[self.verb]?.integerValue ?? 0)
    }

    /// - Throws: saying what was done before.
    private func portion(_ members: [JSON.Member], after done: Int) async throws(CommandError) -> Int {
        do throws(CommandError) {
            return try await self.request(members)
        } catch {
            self.clear()
            throw CommandError("\(error) (\(self.verb) before: \(done))")
        }
    }

    private func pace() -> SettlementPace {
        SettlementPace(rate: self.rate, isTerminal: Output.isErrorTerminal, now: self.now)
    }

    private var now: MonotonicInstant {
        MonotonicInstant(nanoseconds: (ContinuousClock.now - self.started).nanoseconds)
    }

    /// What `--rate` asks for: no portion before its time.
    private func wait(until instant: MonotonicInstant) async throws {
        let rest = instant - self.now
        if rest > .zero { try await Task.sleep(for: rest) }
    }

    private func report(_ pace: inout SettlementPace, _ done: Int, of total: Int) {
        guard let text = pace.due(done: done, of: total, verb: self.verb, now: self.now) else { return }
        if Output.isErrorTerminal { Output.progress(text) } else { Output.note(text) }
    }

    private func clear() {
        if Output.isErrorTerminal { Output.progress("") }
    }

    private func show(_ letters: [JSON]) {
        guard self.showsList else { return }
        for line in Tables.deadLetters(letters) { Output.line(line) }
    }
}
