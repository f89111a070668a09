import FanfareCommand
import FanfareModel
import FanfarePostgres

/// One import: reads lines into batches, says how far it is, and what was wrong with lines.
final class ImportRun {
    private static let batchSize = 10_000
    /// Bad lines that are told one by one; the others are counted alone.
    private static let toldLines = 20

    private(set) var progress: ImportProgress
    /// The last line that is in the database.
    private(set) var lastLine = 0

    private let source: ByteSource
    private let skips: Bool
    private let isTerminal = Output.isErrorTerminal
    private let started = ContinuousClock.now
    private var lines = FollowLines()
    private var batch: [FollowImporter.Line] = []
    private var isAtEnd = false
    /// The line that ends the import, once what stands before it is in.
    private var badLine: FollowLines.BadLine?

    init(source: ByteSource, skips: Bool) {
        self.source = source
        self.skips = skips
        self.progress = ImportProgress(
            totalBytes: source.size, isTerminal: self.isTerminal, now: MonotonicInstant(nanoseconds: 0))
    }

    func execute(_ importer: FollowImporter) async throws -> FollowImporter.Progress {
        // The first connection may take a while, and where it fails nothing has been read.
        defer { if self.isTerminal { Output.progress("") } }
        return try await importer.run({ try self.nextBatch() }, report: { self.report($0) })
    }

    /// Nil at the end.
    /// - Throws: the bad line that ends the import.
    private func nextBatch() throws -> [FollowImporter.Line]? {
        while self.batch.count < ImportRun.batchSize, !self.isAtEnd, self.badLine == nil {
            if let chunk = try self.source.next() {
                self.progress.readBytes += Int64(chunk.count)
                self.take(self.lines.feed(chunk))
            } else {
                self.isAtEnd = true
                self.take(self.lines.finish())
            }
        }
        guard self.batch.isEmpty else {
            defer { self.batch = [] }
            return self.batch
        }
        if let badLine { throw badLine }
        return nil
    }

    private func take(_ results: [Result<FollowLines.Follow, FollowLines.BadLine>]) {
        for result in results {
            switch result {
            case .success(let follow):
                self.batch.append(
                    FollowImporter.Line(number: follow.line, streamer: follow.streamer, follower: follow.follower))
            case .failure(let bad):
                guard self.skips else {
                    self.badLine = bad
                    return
                }
                self.progress.skipped += 1
                if self.progress.skipped <= ImportRun.toldLines { self.tell("skipped \(bad)") }
                if self.progress.skipped == ImportRun.toldLines { self.tell("further bad lines are counted alone") }
            }
        }
    }

    private func report(_ done: FollowImporter.Progress) {
        self.lastLine = done.lastLine
        self.progress.imported = done.lines
        let now = MonotonicInstant(nanoseconds: (ContinuousClock.now - self.started).nanoseconds)
        guard let text = self.progress.due(now: now) else { return }
        if self.isTerminal { Output.progress(text) } else { Output.note(text) }
    }

    private func tell(_ text: String) {
        if self.isTerminal { Output.progress("") }
        Output.note(text)
    }
}
