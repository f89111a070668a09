import FanfareCore
package import FanfareEngines
import FanfareModel
import Logging
import Metrics
import Synchronization

/// What one turn did.
package struct PartitionReport: Sendable, Hashable {
    /// Tables that ids are given from since.
    package var opened: [String] = []
    package var closed: [String] = []
    package var dropped: [String] = []
    /// Rows that belonged to what was dropped.
    package var forgotten = 0

    package init() {}
}

extension PostgresStore {
    private static let partitionLock = Migrator.lockKey + 3
    /// Rows that one statement deletes, and how often one turn does so.
    private static let forgetLimit: Int64 = 5000
    private static let forgetTurns = 20
    /// Steps follow from one another; what does not end so goes on at the next turn.
    private static let rounds = 8

    /// Does so on its own: closing a partition counts what is in it, and may take long.
    func beginTendingPartitions() {
        let isFree = self.isTending.withLock { isTending in
            defer { isTending = true }
            return !isTending
        }
        guard isFree else { return }
        Task.detached {
            do {
                try await self.tendPartitions()
            } catch {
                // The breakers tell where the database is away.
                self.logger.info("partitions were not looked after", metadata: ["error": "\(error)"])
            }
            self.isTending.withLock { $0 = false }
        }
    }

    /// Makes partitions ahead, goes on to the next when their time has come, closes those that nobody writes in any more
    /// and drops those that are too old. Safe to run on several nodes at once: one does it. What cannot be done now is
    /// done at the next turn.
    @discardableResult
    package func tendPartitions() async throws(EngineError) -> PartitionReport {
        do {
            let schema = self.schema
            let report = try await self.upkeep.run(prepare: { try schema.pass($0) }) { session in
                guard
                    try session.query("SELECT pg_try_advisory_lock($1)", [.int8(PostgresStore.partitionLock)]).bool(
                        0, 0)
                else { return PartitionReport() }
                // Where the link is lost, so is the lock.
                defer {
                    _ = try? session.query("SELECT pg_advisory_unlock($1)", [.int8(PostgresStore.partitionLock)])
                }
                var report = PartitionReport()
                for log in PartitionedLog.allCases { try self.tend(log, session, &report) }
                return report
            }
            self.metrics.partitionsDropped.increment(by: report.dropped.count)
            return report
        } catch {
            // The next turn looks for the primary anew.
            await self.upkeep.disconnect()
            throw PostgresStore.engineError(error)
        }
    }

    private func tend(_ log: PartitionedLog, _ session: PostgresSession, _ report: inout PartitionReport) throws {
        let retention = self.configuration.retention(of: log)
        let period = self.configuration.partitionPeriod ?? PartitionPlan.period(for: retention)
        var partitions: [LogPartition] = []
        for _ in 0..<PostgresStore.rounds {
            partitions = try session.partitions(of: log)
            let top = try session.query(log.top).onlyInt64()
            let plan = PartitionPlan(partitions, top: top, period: period, retention: retention)
            var isDone = true
            for step in plan.steps where try self.attempt({ try session.perform(step, on: log) }) ?? false {
                isDone = false
                switch step {
                case .open(let partition): report.opened.append(log.table(partition.number))
                case .close(let partition): report.closed.append(log.table(partition.number))
                case .make, .findWriters, .settle, .retire: break
                }
            }
            if isDone { break }
        }
        for number in try session.retiredPartitions(of: log) {
            // One at a time may be on its way out.
            guard try self.attempt({ try session.dropPartition(log, number) }) != nil else { break }
            self.logger.notice("partition dropped", metadata: ["table": "\(log.table(number))"])
            report.dropped.append(log.table(number))
        }
        for _ in 0..<PostgresStore.forgetTurns {
            let forgotten =
                switch log {
                case .events: try session.forgetFanouts(limit: PostgresStore.forgetLimit)
                case .inbox: try session.forgetBroadcasts(limit: PostgresStore.forgetLimit)
                }
            report.forgotten += forgotten
            if forgotten == 0 { break }
        }
        self.metrics.partitions(log, partitions, retention: retention)
    }

    /// - Returns: nil where it could not be done now.
    private func attempt<Value>(_ body: () throws -> Value) throws -> Value? {
        do {
            return try body()
        } catch let error as PostgresError {
            switch error.reaction {
            case .reconnect, .findPrimary, .backOff: throw error
            case .retryTransaction, .retryLater:
                self.logger.info("a partition has to wait", metadata: ["error": "\(error)"])
            case .rejectData, .rejectStatement:
                self.logger.error("a partition cannot be looked after", metadata: ["error": "\(error)"])
            }
            return nil
        }
    }
}

extension PostgresConfiguration {
    func retention(of log: PartitionedLog) -> Duration? {
        switch log {
        case .events: self.eventRetention
        case .inbox: self.inboxRetention
        }
    }
}
