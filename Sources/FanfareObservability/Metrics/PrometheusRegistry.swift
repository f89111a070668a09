package import Metrics
import Synchronization

/// The backend of swift-metrics that `/metrics` shows. Recording is lock-free; creating instruments takes a lock: keep
/// them in stored properties.
///
/// Bounded: above a number of series, per metric and in all, further label sets are folded into one with every value
/// `other`, counted by `fanfare_metrics_dropped_series_total`. Two metrics of one name and different types: the first
/// stays, what the second records is not shown, counted by `fanfare_metrics_type_clashes_total`.
package final class PrometheusRegistry: MetricsFactory {
    package struct Limits: Sendable {
        package var seriesPerMetric: Int
        package var series: Int
        package init(seriesPerMetric: Int = 1000, series: Int = 10_000) {
            self.seriesPerMetric = max(1, seriesPerMetric)
            self.series = max(1, series)
        }
    }

    /// A series of a callback.
    package struct Sample: Sendable {
        package var labels: [(String, String)]
        package var value: Double
        package init(_ value: Double, labels: [(String, String)] = []) {
            self.labels = labels
            self.value = value
        }
    }

    package enum Kind: String, Sendable { case counter, gauge, histogram }

    enum Instrument: Sendable {
        case counter(PrometheusCounter)
        case floatingPointCounter(PrometheusFloatingPointCounter)
        case gauge(PrometheusGauge)
        case durations(PrometheusDurationHistogram)
        case values(PrometheusHistogram)
    }

    struct Family: Sendable {
        var kind: Kind
        var series: [Labels: Instrument] = [:]
        var read: (@Sendable () -> [Sample])?
    }

    struct State: Sendable {
        var families: [String: Family] = [:]
        /// Every name that a family writes samples under, with the family's name.
        var claimed: [String: String] = [:]
        var descriptions: [String: MetricDescription] = MetricDescription.known
        var seriesCount = 0
    }

    private let limits: Limits
    private let state = Mutex(State())
    private let droppedSeries = PrometheusCounter()
    private let typeClashes = PrometheusCounter()

    package init(limits: Limits = Limits()) {
        self.limits = limits
        self.state.withLock { state in
            for (name, counter) in [
                ("fanfare_metrics_dropped_series_total", self.droppedSeries),
                ("fanfare_metrics_type_clashes_total", self.typeClashes),
            ] {
                state.families[name] = Family(kind: .counter, series: [Labels([]): .counter(counter)])
                state.claimed[name] = name
            }
        }
    }

    /// Sets a metric's help text, and the buckets of histograms of this name that are created later.
    package func describe(_ name: String, help: String, bounds: HistogramBounds? = nil) {
        self.state.withLock { state in
            state.descriptions[TextFormat.metricName(name)] = MetricDescription(help, bounds: bounds)
        }
    }

    /// Adds a gauge (or a counter kept elsewhere) whose series are read at each scrape. Replaces an earlier callback of
    /// this name.
    /// - Parameter read: called on the scraping thread; must be quick and must not block.
    package func collect(
        _ name: String, kind: Kind = .gauge, help: String? = nil, _ read: @escaping @Sendable () -> [Sample]
    ) {
        let name = TextFormat.metricName(name)
        let isClash = self.state.withLock { state in
            if let help { state.descriptions[name] = MetricDescription(help) }
            guard kind != .histogram, PrometheusRegistry.claim(name, kind, in: &state) else { return true }
            state.families[name]?.read = read
            return false
        }
        if isClash { self.typeClashes.increment(by: 1) }
    }

    // MARK: MetricsFactory

    package func makeCounter(label: String, dimensions: [(String, String)]) -> any CounterHandler {
        let instrument = self.instrument(label, suffix: "_total", dimensions, .counter) { _ in
            .counter(PrometheusCounter())
        }
        if case .counter(let counter) = instrument { return counter }
        return PrometheusCounter()
    }

    package func makeFloatingPointCounter(
        label: String, dimensions: [(String, String)]
    ) -> any FloatingPointCounterHandler {
        let instrument = self.instrument(label, suffix: "_total", dimensions, .counter) { _ in
            .floatingPointCounter(PrometheusFloatingPointCounter())
        }
        if case .floatingPointCounter(let counter) = instrument { return counter }
        return PrometheusFloatingPointCounter()
    }

    package func makeMeter(label: String, dimensions: [(String, String)]) -> any MeterHandler {
        self.gauge(label, dimensions)
    }

    package func makeRecorder(
        label: String, dimensions: [(String, String)], aggregate: Bool
    ) -> any RecorderHandler {
        guard aggregate else { return self.gauge(label, dimensions) }
        let instrument = self.instrument(label, suffix: "", dimensions, .histogram) { bounds in
            .values(PrometheusHistogram(bounds: bounds ?? .counts))
        }
        if case .values(let histogram) = instrument { return histogram }
        return PrometheusHistogram(bounds: .counts)
    }

    package func makeTimer(label: String, dimensions: [(String, String)]) -> any TimerHandler {
        let instrument = self.instrument(label, suffix: "_seconds", dimensions, .histogram) { bounds in
            .durations(PrometheusDurationHistogram(bounds: bounds ?? .io))
        }
        if case .durations(let histogram) = instrument { return histogram }
        return PrometheusDurationHistogram(bounds: .io)
    }

    // Counters and histograms stay: one that goes and comes back with another value would read as a reset.
    package func destroyCounter(_ handler: any CounterHandler) {}
    package func destroyFloatingPointCounter(_ handler: any FloatingPointCounterHandler) {}
    package func destroyTimer(_ handler: any TimerHandler) {}

    package func destroyMeter(_ handler: any MeterHandler) {
        if let gauge = handler as? PrometheusGauge { self.remove(gauge) }
    }

    package func destroyRecorder(_ handler: any RecorderHandler) {
        if let gauge = handler as? PrometheusGauge { self.remove(gauge) }
    }

    private func remove(_ gauge: PrometheusGauge) {
        self.state.withLock { state in
            for (name, family) in state.families where family.kind == .gauge {
                for case (let labels, .gauge(let candidate)) in family.series where candidate === gauge {
                    state.families[name]?.series[labels] = nil
                    state.seriesCount -= 1
                    return
                }
            }
        }
    }

    // MARK: Registration

    private func gauge(_ label: String, _ dimensions: [(String, String)]) -> PrometheusGauge {
        let instrument = self.instrument(label, suffix: "", dimensions, .gauge) { _ in .gauge(PrometheusGauge()) }
        if case .gauge(let gauge) = instrument { return gauge }
        return PrometheusGauge()
    }

    /// The instrument of this name and these labels, made where there is none; nil where the name has another type.
    private func instrument(
        _ label: String, suffix: String, _ dimensions: [(String, String)], _ kind: Kind,
        make: (HistogramBounds?) -> Instrument
    ) -> Instrument? {
        var name = TextFormat.metricName(label)
        if !name.hasSuffix(suffix) { name += suffix }
        var labels = Labels(dimensions)
        let instrument = self.state.withLock { state -> Instrument? in
            guard PrometheusRegistry.claim(name, kind, in: &state), var family = state.families[name],
                family.read == nil
            else { return nil }
            if let present = family.series[labels] { return present }
            if family.series.count >= self.limits.seriesPerMetric || state.seriesCount >= self.limits.series {
                self.droppedSeries.increment(by: 1)
                labels = labels.folded
                if let other = family.series[labels] { return other }
            }
            let made = make(state.descriptions[name]?.bounds)
            family.series[labels] = made
            state.families[name] = family
            state.seriesCount += 1
            return made
        }
        guard let instrument else {
            self.typeClashes.increment(by: 1)
            return nil
        }
        return instrument
    }

    /// Makes the family where there is none.
    /// - Returns: false where the name, or a name derived from it, belongs to another type.
    private static func claim(_ name: String, _ kind: Kind, in state: inout State) -> Bool {
        if let family = state.families[name] { return family.kind == kind }
        var names = [name]
        if kind == .histogram { names += [name + "_bucket", name + "_sum", name + "_count"] }
        guard names.allSatisfy({ state.claimed[$0] == nil }) else { return false }
        for claimed in names { state.claimed[claimed] = name }
        state.families[name] = Family(kind: kind)
        return true
    }

    // MARK: Reading

    /// The body of a scrape, in the text format. Call it off the event loops: its work grows with the number of series.
    package func render() -> [UInt8] {
        let state = self.state.withLock { $0 }
        var output: [UInt8] = []
        output.reserveCapacity(1 << 14)
        for (name, family) in state.families.sorted(by: { $0.key < $1.key }) {
            Renderer.append(name, family, state.descriptions[name], limit: self.limits.seriesPerMetric, to: &output)
        }
        return output
    }
}
