import FanfareTesting
import Foundation
import Testing

/// Whole clusters in one process, hurt and healed; `ClusterChecker` says what is checked.
@Suite struct SimulationTests {
    /// `FANFARE_SEED=17 ./cluster/test --filter SimulationTests` replays one seed; `FANFARE_SEEDS=1000` runs more of them.
    static var seeds: [UInt64] {
        let environment = ProcessInfo.processInfo.environment
        if let seed = environment["FANFARE_SEED"].flatMap(UInt64.init) { return [seed] }
        return (1...(environment["FANFARE_SEEDS"].flatMap(UInt64.init) ?? 200)).map { $0 }
    }

    @Test func hurtClustersKeepTheirPromises() async {
        var failures = 0
        var totals = (appended: 0, acknowledged: 0, delivered: 0, steps: 0)
        for seed in Self.seeds {
            let (cluster, violations) = await onOwnThread {
                let cluster = SimulatedCluster(seed: seed)
                return (cluster, cluster.run())
            }
            #expect(
                violations.isEmpty,
                """
                seed \(seed) (replay: FANFARE_SEED=\(seed) ./cluster/test --unit --filter SimulationTests)
                faults: \(cluster.faultLog.joined(separator: "; "))
                \(violations.joined(separator: "\n"))
                """)
            // One bug shows in many seeds: the first few say enough.
            if !violations.isEmpty { failures += 1 }
            if failures == 5 { break }
            totals.appended += cluster.checker.appended
            totals.acknowledged += cluster.checker.acknowledged
            totals.delivered += cluster.checker.delivered
            totals.steps += cluster.scheduler.steps
        }
        print("simulated \(Self.seeds.count) seeds: \(totals)")
        #expect(totals.delivered > totals.appended)
    }

    @Test func theSameSeedGivesTheSameRun() async {
        func trace() async -> [UInt64] {
            await onOwnThread {
                let cluster = SimulatedCluster(seed: 4711)
                _ = cluster.run()
                return [UInt64(cluster.scheduler.steps), cluster.scheduler.digest]
            }
        }
        let first = await trace()
        let second = await trace()
        #expect(first == second)
    }
}
