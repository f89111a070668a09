import FanfarePostgres
import FanfareTesting
import Testing

@Suite struct PartitionPlanTests {
    private static let range = PartitionPlan.range

    /// In milliseconds.
    private static func partition(
        _ number: Int64, open: Int64? = nil, ended: Int64? = nil, _ state: Int = 0
    ) -> LogPartition {
        var partition = LogPartition(number: number, first: number * self.range, end: (number + 1) * self.range)
        partition.openFor = open
        partition.endedFor = ended
        (partition.hasWriters, partition.isClosed, partition.isSettled) = (state > 0, state > 1, state > 2)
        return partition
    }

    private func steps(
        _ partitions: [LogPartition], top: Int64 = 1, retention: Int64? = 6000
    ) -> [String] {
        PartitionPlan(
            partitions, top: top, period: .milliseconds(1000), retention: retention.map { .milliseconds($0) }
        ).steps.map { step in
            switch step {
            case .make(let number, let first, let end):
                "make \(number) \(first / Self.range) \((end - first) / Self.range)"
            case .open(let partition): "open \(partition.number)"
            case .findWriters(let partition): "find \(partition.number)"
            case .close(let partition): "close \(partition.number)"
            case .settle(let partition): "settle \(partition.number)"
            case .retire(let partition): "retire \(partition.number)"
            }
        }
    }

    @Test func idsMoveOn() {
        #expect(self.steps([]) == [])
        #expect(self.steps([Self.partition(0, open: 0)]) == ["make 1 1 1"])
        // Nothing to go on to yet.
        #expect(self.steps([Self.partition(0, open: 5000)]) == ["make 1 1 1"])
        #expect(self.steps([Self.partition(0, open: 999), Self.partition(1)]) == [])
        #expect(self.steps([Self.partition(0, open: 1000), Self.partition(1)]) == ["open 1"])
        // A clock that was set back.
        #expect(self.steps([Self.partition(0, open: -100_000), Self.partition(1)]) == [])
        // More ids than there is room for: they have gone on by themselves.
        let full = [Self.partition(0, open: 1), Self.partition(1)]
        #expect(self.steps(full, top: Self.range - 1) == [])
        #expect(self.steps(full, top: Self.range) == ["make 2 2 1", "open 1"])
        #expect(self.steps(full + [Self.partition(2)], top: 2 * Self.range) == ["make 3 3 1", "open 1"])
    }

    @Test func whatEndedIsClosedInOrder() {
        let open = [Self.partition(3, open: 1), Self.partition(4)]
        func steps(_ states: [Int]) -> [String] {
            self.steps(states.enumerated().map { Self.partition(Int64($0), open: 1, ended: 1, $1) } + open)
        }
        #expect(steps([0, 0, 0]) == ["find 0", "find 1", "find 2"])
        #expect(steps([1, 1, 0]) == ["close 0", "find 2"])
        #expect(steps([2, 1, 1]) == ["settle 0", "close 1"])
        #expect(steps([2, 2, 1]) == ["settle 0", "settle 1", "close 2"])
        #expect(steps([3, 3, 3]) == [])
    }

    @Test func whatIsTooOldGoesInOrder() {
        let open = [Self.partition(3, open: 1), Self.partition(4)]
        func steps(_ ended: [Int64], _ states: [Int] = [3, 3, 3], retention: Int64? = 6000) -> [String] {
            self.steps(
                zip(ended, states).enumerated().map { Self.partition(Int64($0), open: 1, ended: $1.0, $1.1) } + open,
                retention: retention)
        }
        #expect(steps([6000, 5999, 1]) == ["retire 0"])
        #expect(steps([9000, 8000, 7000]) == ["retire 0"])
        #expect(steps([9000, 8000, 7000], retention: nil) == [])
        // Not before those that are older.
        #expect(steps([9000, 8000, 7000], [2, 3, 3]) == ["settle 0"])
        #expect(steps([9000, -1, 7000]) == ["retire 0"])
    }

    @Test func periods() {
        #expect(PartitionPlan.period(for: nil) == .seconds(30 * 86_400))
        #expect(PartitionPlan.period(for: .seconds(90 * 86_400)) == .seconds(15 * 86_400))
        #expect(PartitionPlan.period(for: .seconds(3650 * 86_400)) == .seconds(30 * 86_400))
        #expect(PartitionPlan.period(for: .seconds(2)) == .seconds(1))
    }

    /// Whatever the clock does and however often it looks, what was given stays in some partition until it is too old.
    @Test func anyCourseOfTime() {
        let seed = UInt64.random(in: 0 ... .max)
        print("seed \(seed)")
        var generator = SeededGenerator(seed: seed)
        var partitions = [Self.partition(0, open: 0)]
        var top: Int64 = 0
        for _ in 0..<2000 {
            let time = Int64.random(in: -500...1500, using: &generator)
            for index in partitions.indices {
                partitions[index].openFor? += time
                partitions[index].endedFor? += time
            }
            top += Int64.random(in: 0...10, using: &generator)
            let plan = PartitionPlan(partitions, top: top, period: .milliseconds(1000), retention: .milliseconds(6000))
            for step in plan.steps where Bool.random(using: &generator) {
                switch step {
                case .make(let number, let first, let end):
                    #expect(first == partitions.last?.end && number > partitions.last?.number ?? 0)
                    partitions.append(LogPartition(number: number, first: first, end: end))
                case .open(let partition):
                    top = max(top, partition.first - 1)
                    for index in partitions.indices where partitions[index].number <= partition.number {
                        if partitions[index].number == partition.number {
                            partitions[index].openFor = 0
                        } else if partitions[index].endedFor == nil {
                            partitions[index].endedFor = 0
                        }
                    }
                case .findWriters(let partition): self.change(&partitions, partition) { $0.hasWriters = true }
                case .close(let partition): self.change(&partitions, partition) { $0.isClosed = true }
                case .settle(let partition): self.change(&partitions, partition) { $0.isSettled = true }
                case .retire(let partition):
                    #expect(partition == partitions.first && partition.isSettled && partition.endedFor ?? 0 >= 6000)
                    partitions.removeFirst()
                }
            }
            // There is a place for what comes next, and no hole.
            #expect(partitions.contains { $0.first <= top + 1 && top + 1 < $0.end })
            #expect(zip(partitions, partitions.dropFirst()).allSatisfy { $0.end == $1.first })
            #expect(partitions.count { $0.openFor != nil && $0.endedFor == nil } == 1)
        }
        #expect(partitions[0].number > 10)
    }

    private func change(
        _ partitions: inout [LogPartition], _ partition: LogPartition, _ body: (inout LogPartition) -> Void
    ) {
        for index in partitions.indices where partitions[index].number == partition.number { body(&partitions[index]) }
    }
}
