import FanfareCore
import FanfareEngines
package import FanfareModel
import Logging

/// Users who came or went and are to be marked as active: each once, however often, and no more than `limit`. Pure.
package struct ActivityBuffer: Sendable {
    private var waiting: [UserKey: Shard] = [:]
    private let limit: Int
    /// Users for whom there was no room: they are marked when they come or go the next time.
    package private(set) var dropped = 0

    package init(limit: Int) { self.limit = limit }

    package var count: Int { self.waiting.count }

    package mutating func add(_ user: UserKey, _ shard: Shard) {
        guard self.waiting.count < self.limit || self.waiting[user] != nil else {
            self.dropped += 1
            return
        }
        self.waiting[user] = shard
    }

    /// Takes out some of them, so many at the most.
    package mutating func take(_ count: Int) -> [(key: UserKey, shard: Shard)] {
        let some = self.waiting.prefix(max(0, count)).map { (key: $0.key, shard: $0.value) }
        for user in some { self.waiting[user.key] = nil }
        return some
    }
}

/// Tells the store who came or went, gathered for a while: from it large events learn who was active of late. A mark is a hint,
/// and may be missing.
actor ActivityMarks {
    nonisolated let unownedExecutor: UnownedSerialExecutor
    private let loop: any Loop
    private let store: any Store
    private let logger: Logger
    private let metrics: FabricMetrics
    private var buffer: ActivityBuffer
    private var isGathering = false
    private var isStopped = false

    private static let interval: Duration = .seconds(1)
    /// After the store gave no answer.
    private static let pause: Duration = .seconds(5)
    /// Users of one statement.
    private static let batch = 2000

    init(loop: any Loop, store: any Store, limit: Int, logger: Logger, metrics: FabricMetrics) {
        self.unownedExecutor = loop.asUnownedSerialExecutor()
        self.loop = loop
        self.store = store
        self.logger = logger
        self.metrics = metrics
        self.buffer = ActivityBuffer(limit: limit)
    }

    func stop() { self.isStopped = true }

    func add(_ changes: [OnlineChange]) {
        let before = self.buffer.dropped
        for change in changes {
            switch change.kind {
            case .joined, .left: self.buffer.add(change.user, change.shard)
            case .again: continue
            }
        }
        if self.buffer.dropped > before { self.metrics.activityDropped.increment(by: self.buffer.dropped - before) }
        self.gather(after: ActivityMarks.interval)
    }

    private func gather(after delay: Duration) {
        guard !self.isGathering, !self.isStopped, self.buffer.count > 0 else { return }
        self.isGathering = true
        self.loop.schedule(after: delay) {
            self.onThisLoop { $0.begin() }
        }
    }

    private func begin() { self.loop.task { await self.write() } }

    private func write() async {
        var pause = ActivityMarks.interval
        while !self.isStopped, self.buffer.count > 0 {
            let some = self.buffer.take(ActivityMarks.batch)
            do throws(EngineError) {
                try await self.store.markActive(some)
            } catch {
                self.logger.debug("activity marks wait", metadata: ["error": "\(error)"])
                for user in some { self.buffer.add(user.key, user.shard) }
                pause = ActivityMarks.pause
                break
            }
        }
        self.isGathering = false
        self.gather(after: pause)
    }
}
