import FanfarePostgres
import Testing

@Suite struct PartitionPlanTests {
    private typealias Partition = PartitionPlan.Partition

    private static func week(_ number: Int64, rows: Int64 = 0) -> Partition {
        Partition(name: "inbox_w\(number)", upper: Week(number).upper, rows: rows)
    }

    private static let rest = Partition(name: "inbox_default", upper: nil, rows: 0)

    private func plan(
        _ partitions: [PartitionPlan.Partition], day: Int64, defaultTop: Int64? = nil,
        _ limits: PartitionPlan.Limits = .init()
    ) -> (create: [Int64], drop: [String]) {
        let plan = PartitionPlan(partitions + [Self.rest], today: day, defaultTop: defaultTop, limits)
        return (plan.create.map(\.number), plan.drop.map(\.name))
    }

    @Test func weeksAreMadeAhead() {
        // Day 703 is the third of week 100.
        #expect(self.plan([], day: 703).create == [100, 101, 102, 103])
        #expect(self.plan([Self.week(100), Self.week(101)], day: 703).create == [102, 103])
        #expect(self.plan((100...103).map { Self.week($0) }, day: 703).create == [])
        #expect(self.plan((100...103).map { Self.week($0) }, day: 707).create == [104])
        // Nobody was there for long: the weeks that nobody wrote into are left out.
        #expect(self.plan([Self.week(90)], day: 703).create == [100, 101, 102, 103])
        // What is in the rest stays there: a week that has it cannot be made.
        #expect(self.plan([Self.week(100)], day: 703, defaultTop: Week(102).lower).create == [103])
        #expect(self.plan([Self.week(100)], day: 703, defaultTop: Week(101).lower - 1).create == [101, 102, 103])
        #expect(self.plan([Self.week(100)], day: 703, defaultTop: Week(200).lower).create == [])
    }

    @Test func oldWeeksGo() {
        let weeks = (80...103).map { Self.week($0, rows: 10) }
        // 90 days before day 703 is day 613, in week 87: that one is still needed.
        #expect(self.plan(weeks, day: 703).drop == (80...86).map { "inbox_w\($0)" })
        #expect(self.plan(weeks, day: 703, .init(days: 10_000)).drop == [])
        // At least a day is kept, and always the present week.
        #expect(self.plan(weeks, day: 700, .init(days: 0)).drop.last == "inbox_w98")
        #expect(self.plan(weeks, day: 701, .init(days: 1)).drop.last == "inbox_w99")
        // What was there before there were weeks.
        let before = Partition(name: "inbox_before", upper: Week(80).lower, rows: 5)
        #expect(self.plan([before] + weeks, day: 703).drop.first == "inbox_before")
    }

    @Test func tooManyRowsGo() {
        let weeks = (98...103).map { Self.week($0, rows: $0 > 100 ? 0 : 100) }
        #expect(self.plan(weeks, day: 703, .init(rows: 300)).drop == [])
        #expect(self.plan(weeks, day: 703, .init(rows: 299)).drop == ["inbox_w98"])
        #expect(self.plan(weeks, day: 703, .init(rows: 150)).drop == ["inbox_w98", "inbox_w99"])
        #expect(self.plan(weeks, day: 703, .init(rows: 1)).drop == ["inbox_w98", "inbox_w99"])
    }

    @Test func weeksFollowOneAnother() {
        #expect(Week(day: 0) == Week(0) && Week(day: 6) == Week(0) && Week(day: 7) == Week(1))
        #expect(Week(0).lower == 0 && Week(0).upper == Week(1).lower && Week(1).upper == 14 << 32)
    }
}
