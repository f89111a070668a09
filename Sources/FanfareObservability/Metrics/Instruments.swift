import Metrics
import Synchronization

// What records: atomics only, no lock. A reader may see one record in a histogram's bucket and not yet in its sum; the
// count is taken from the buckets, so that these agree.

/// A whole number that many threads add to.
final class Cell: Sendable {
    let value = Atomic<Int64>(0)
    func add(_ amount: Int64) { self.value.wrappingAdd(amount, ordering: .relaxed) }
    var current: Int64 { self.value.load(ordering: .relaxed) }
}

/// A floating-point number that many threads set or add to.
final class DoubleCell: Sendable {
    private let bits = Atomic<UInt64>(0)

    var current: Double { Double(bitPattern: self.bits.load(ordering: .relaxed)) }
    func set(_ value: Double) { self.bits.store(value.bitPattern, ordering: .relaxed) }
    func add(_ amount: Double) {
        var old = self.bits.load(ordering: .relaxed)
        while true {
            let new = (Double(bitPattern: old) + amount).bitPattern
            let (exchanged, found) = self.bits.weakCompareExchange(expected: old, desired: new, ordering: .relaxed)
            if exchanged { return }
            old = found
        }
    }
}

final class PrometheusCounter: CounterHandler {
    let cell = Cell()
    /// Counters only grow: a negative amount is ignored.
    func increment(by amount: Int64) { if amount > 0 { self.cell.add(amount) } }
    func reset() { self.cell.value.store(0, ordering: .relaxed) }
}

final class PrometheusFloatingPointCounter: FloatingPointCounterHandler {
    let cell = DoubleCell()
    func increment(by amount: Double) { if amount > 0 { self.cell.add(amount) } }
    func reset() { self.cell.set(0) }
}

final class PrometheusGauge: MeterHandler, RecorderHandler {
    let cell = DoubleCell()
    func set(_ value: Int64) { self.cell.set(Double(value)) }
    func set(_ value: Double) { self.cell.set(value) }
    func increment(by amount: Double) { self.cell.add(amount) }
    func decrement(by amount: Double) { self.cell.add(-amount) }
    func record(_ value: Int64) { self.cell.set(Double(value)) }
    func record(_ value: Double) { self.cell.set(value) }
}

/// Durations in nanoseconds inside, in seconds outside: the sum is exact.
final class PrometheusDurationHistogram: TimerHandler {
    let bounds: HistogramBounds
    private let nanosecondBounds: [Int64]
    private let buckets: [Cell]
    private let sum = Cell()

    init(bounds: HistogramBounds) {
        self.bounds = bounds
        self.nanosecondBounds = bounds.values.map { Int64(min($0 * 1e9, 9e18).rounded()) }
        self.buckets = (0...bounds.values.count).map { _ in Cell() }
    }

    func recordNanoseconds(_ duration: Int64) {
        let duration = max(0, duration)
        var index = 0
        while index < self.nanosecondBounds.count, duration > self.nanosecondBounds[index] { index += 1 }
        self.buckets[index].add(1)
        self.sum.add(duration)
    }

    func preferDisplayUnit(_ unit: TimeUnit) {}

    var snapshot: HistogramSnapshot {
        HistogramSnapshot(
            bounds: self.bounds, counts: self.buckets.map(\.current), sum: Double(self.sum.current) / 1e9)
    }
}

final class PrometheusHistogram: RecorderHandler {
    let bounds: HistogramBounds
    private let buckets: [Cell]
    private let sum = DoubleCell()

    init(bounds: HistogramBounds) {
        self.bounds = bounds
        self.buckets = (0...bounds.values.count).map { _ in Cell() }
    }

    func record(_ value: Int64) { self.record(Double(value)) }

    /// Not-a-number would spoil the sum for good: ignored.
    func record(_ value: Double) {
        guard !value.isNaN else { return }
        var index = 0
        while index < self.bounds.values.count, value > self.bounds.values[index] { index += 1 }
        self.buckets[index].add(1)
        self.sum.add(value)
    }

    var snapshot: HistogramSnapshot {
        HistogramSnapshot(bounds: self.bounds, counts: self.buckets.map(\.current), sum: self.sum.current)
    }
}

struct HistogramSnapshot: Sendable {
    var bounds: HistogramBounds
    /// Not cumulative; one more than bounds.
    var counts: [Int64]
    var sum: Double
}

/// The upper bounds of a histogram's buckets, ascending, without +Inf; and their text, which must never vary.
package struct HistogramBounds: Sendable, Hashable {
    package let values: [Double]
    let texts: [String]

    /// Sorts, and leaves out repeats and what is not finite.
    package init(_ values: [Double]) {
        self.values = Set(values.filter(\.isFinite)).sorted()
        self.texts = self.values.map { TextFormat.number($0) }
    }

    /// Requests to engines, commands, deliveries, in seconds.
    package static let io = HistogramBounds([
        0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10,
    ])
    /// Recipients, batch sizes.
    package static let counts = HistogramBounds([1, 10, 100, 1000, 10_000, 100_000, 1_000_000])
}
