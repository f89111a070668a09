import Foundation
import Metrics
import Testing

@testable import FanfareObservability

@Suite struct PrometheusRegistryTests {
    private func text(_ registry: PrometheusRegistry) -> String { String(decoding: registry.render(), as: UTF8.self) }

    /// The lines of one metric without HELP.
    private func lines(_ registry: PrometheusRegistry, _ prefix: String) -> [String] {
        self.text(registry).split(separator: "\n").map(String.init).filter {
            $0.hasPrefix(prefix) || $0.hasPrefix("# TYPE \(prefix)")
        }
    }

    @Test func countersGaugesAndLabels() {
        let registry = PrometheusRegistry()
        let counter = Counter(label: "my.requests", dimensions: [("b", "2"), ("a", "x\"y\\z\n")], factory: registry)
        counter.increment(by: 3)
        Counter(label: "my.requests", dimensions: [("a", "x\"y\\z\n"), ("b", "2")], factory: registry).increment()
        FloatingPointCounter(label: "my_seconds_total", factory: registry).increment(by: 0.25)
        Meter(label: "my-meter", factory: registry).set(1.5)
        let meter = Meter(label: "my-meter", factory: registry)
        meter.increment(by: 2)
        meter.decrement(by: 0.5)
        Gauge(label: "my_gauge", dimensions: [("empty", "")], factory: registry).record(7)
        #expect(
            self.lines(registry, "my") == [
                "# TYPE my_gauge gauge", "my_gauge 7", "# TYPE my_meter gauge", "my_meter 3",
                "# TYPE my_requests_total counter", #"my_requests_total{a="x\"y\\z\n",b="2"} 4"#,
                "# TYPE my_seconds_total counter", "my_seconds_total 0.25",
            ])
        counter.reset()
        #expect(self.text(registry).contains(#",b="2"} 0"#))
    }

    @Test func histograms() {
        let registry = PrometheusRegistry()
        registry.describe("work_seconds", help: "How long\nit \\ took", bounds: HistogramBounds([0.005, 1, 2.5, 1]))
        let timer = Timer(label: "work", dimensions: [("op", "a")], factory: registry)
        timer.recordNanoseconds(5_000_000)
        timer.recordMilliseconds(700)
        timer.recordSeconds(3)
        timer.recordNanoseconds(-4)
        #expect(
            self.lines(registry, "work") == [
                "# TYPE work_seconds histogram", #"work_seconds_bucket{op="a",le="0.005"} 2"#,
                #"work_seconds_bucket{op="a",le="1"} 3"#, #"work_seconds_bucket{op="a",le="2.5"} 3"#,
                #"work_seconds_bucket{op="a",le="+Inf"} 4"#, #"work_seconds_sum{op="a"} 3.705"#,
                #"work_seconds_count{op="a"} 4"#,
            ])
        #expect(self.text(registry).contains("# HELP work_seconds How long\\nit \\\\ took\n# TYPE"))

        let recorder = Recorder(label: "sizes", factory: registry)
        for value in [1, 10, 11, 2_000_000] { recorder.record(value) }
        recorder.record(Double.nan)
        let sizes = self.lines(registry, "sizes")
        #expect(sizes.contains(#"sizes_bucket{le="1"} 1"#) && sizes.contains(#"sizes_bucket{le="10"} 2"#))
        #expect(sizes.suffix(3) == [#"sizes_bucket{le="+Inf"} 4"#, "sizes_sum 2000022", "sizes_count 4"])
    }

    @Test(arguments: [
        (0.0, "0"), (1, "1"), (-3, "-3"), (0.1, "0.1"), (2.5, "2.5"), (1e300, "1e+300"), (.nan, "NaN"),
        (.infinity, "+Inf"), (-.infinity, "-Inf"), (0.0001, "0.0001"), (4_194_304, "4194304"),
    ])
    func numbers(value: Double, text: String) { #expect(TextFormat.number(value) == text) }

    @Test(arguments: [
        ("a.b-c d", "a_b_c_d"), ("9lives", "_9lives"), ("", "_"), ("ü", "__"), ("ok_1", "ok_1"), ("a:b", "a_b"),
    ])
    func metricNames(label: String, name: String) { #expect(TextFormat.metricName(label) == name) }

    @Test(arguments: [("__x", "exported_x"), ("le", "exported_le"), ("job", "exported_job"), ("ok", "ok")])
    func labelNames(label: String, name: String) { #expect(TextFormat.labelName(label) == name) }

    @Test func aClashOfTypesIsCountedAndNotShown() {
        let registry = PrometheusRegistry()
        Counter(label: "thing_total", factory: registry).increment()
        Gauge(label: "thing_total", factory: registry).record(9)
        Timer(label: "late", factory: registry).recordSeconds(1)
        Gauge(label: "late_seconds_count", factory: registry).record(5)
        registry.collect("late_seconds") { [.init(1)] }
        #expect(self.lines(registry, "thing") == ["# TYPE thing_total counter", "thing_total 1"])
        #expect(self.lines(registry, "late_seconds_count") == ["late_seconds_count 1"])
        #expect(self.text(registry).contains("fanfare_metrics_type_clashes_total 3\n"))
    }

    @Test func seriesAreBounded() {
        let registry = PrometheusRegistry(limits: .init(seriesPerMetric: 3, series: 5))
        for index in 0..<10 {
            Counter(label: "one", dimensions: [("k", "\(index)")], factory: registry).increment()
        }
        #expect(
            self.lines(registry, "one") == [
                "# TYPE one_total counter", #"one_total{k="0"} 1"#, #"one_total{k="1"} 1"#, #"one_total{k="2"} 1"#,
                #"one_total{k="other"} 7"#,
            ])
        for index in 0..<10 {
            Counter(label: "two", dimensions: [("k", "\(index)")], factory: registry).increment()
        }
        #expect(self.lines(registry, "two").suffix(1) == [#"two_total{k="other"} 9"#])
        #expect(self.text(registry).contains("fanfare_metrics_dropped_series_total 16\n"))
    }

    @Test func callbacksAreReadAtEachScrape() {
        let registry = PrometheusRegistry()
        let value = Cell()
        registry.collect("rooms", help: "Rooms.") {
            [
                .init(Double(value.current), labels: [("namespace", "room")]), .init(8, labels: [("namespace", "dm")]),
                .init(9, labels: [("namespace", "dm")]),
            ]
        }
        value.add(4)
        #expect(
            self.lines(registry, "rooms") == [
                "# TYPE rooms gauge", #"rooms{namespace="dm"} 8"#, #"rooms{namespace="room"} 4"#,
            ])
    }

    @Test func gaugesGoWhenDestroyedAndCountersStay() {
        let registry = PrometheusRegistry()
        let gauge = Gauge(label: "g", factory: registry)
        gauge.record(1)
        gauge.destroy()
        let counter = Counter(label: "c", factory: registry)
        counter.increment()
        counter.destroy()
        #expect(self.lines(registry, "g").isEmpty)
        #expect(self.lines(registry, "c") == ["# TYPE c_total counter", "c_total 1"])
    }

    @Test func everyRuleHoldsForTheWholeBody() throws {
        let registry = PrometheusRegistry()
        registry.collectProcessMetrics()
        registry.collectBuildInfo(version: "1.2.3", commit: "abc")
        for label in ["z", "a", "fanfare_commands"] {
            for method in ["x", "y"] {
                Counter(label: label, dimensions: [("method", method)], factory: registry).increment()
                Timer(label: label, dimensions: [("method", method)], factory: registry).recordNanoseconds(1)
            }
        }
        let text = self.text(registry)
        #expect(text.hasSuffix("\n") && !text.contains("\r") && !text.contains("\n\n"))
        var seen: Set<String> = []
        var closed: Set<String> = []
        var current = ""
        for line in text.split(separator: "\n") {
            if line.hasPrefix("# ") {
                let name = String(line.split(separator: " ")[2])
                if name != current {
                    closed.insert(current)
                    #expect(!closed.contains(name), "\(name) is not contiguous")
                    current = name
                }
                #expect(seen.insert(line.split(separator: " ").prefix(3).joined(separator: " ")).inserted)
                continue
            }
            #expect(line.wholeMatch(of: #/[a-zA-Z_][a-zA-Z0-9_]*(\{[^}]*\})? (NaN|[+-]Inf|[-+0-9.e]+)/#) != nil)
            #expect(line.hasPrefix(current))
            let series = String(line.prefix(upTo: try #require(line.lastIndex(of: " "))))
            #expect(seen.insert(series).inserted, "\(series) twice")
        }
        #expect(text.contains(#"fanfare_build_info{commit="abc",version="1.2.3"} 1"#))
        #expect(text == self.text(registry) || text.contains("process_"))
    }

    @Test func processMetricsArePlausible() throws {
        let metrics = try #require(ProcessMetrics.read())
        #expect(metrics.residentBytes > 1_000_000 && metrics.virtualBytes >= metrics.residentBytes)
        #expect(metrics.openDescriptors >= 3 && metrics.maximumDescriptors >= metrics.openDescriptors)
        #expect(metrics.threads >= 1 && metrics.cpuSeconds >= 0)
        #expect(abs(metrics.startTime - Date().timeIntervalSince1970) < 3600)
        #expect(ProcessMetrics.read(proc: "/nowhere") == nil)
    }

    @Test func recordingFromManyThreadsLosesNothing() async {
        let registry = PrometheusRegistry()
        await withTaskGroup(of: Void.self) { group in
            for _ in 0..<8 {
                group.addTask {
                    let counter = Counter(label: "n", factory: registry)
                    let meter = Meter(label: "m", factory: registry)
                    let timer = Timer(label: "t", factory: registry)
                    for _ in 0..<5000 {
                        counter.increment()
                        meter.increment(by: 0.5)
                        timer.recordMilliseconds(1)
                    }
                }
            }
            group.addTask { for _ in 0..<50 { _ = registry.render() } }
        }
        let text = self.text(registry)
        #expect(text.contains("n_total 40000\n") && text.contains("m 20000\n"))
        #expect(text.contains("t_seconds_count 40000\n") && text.contains("t_seconds_sum 40\n"))
    }
}
