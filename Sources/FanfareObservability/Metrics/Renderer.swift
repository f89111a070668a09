/// Writes families: HELP and TYPE first, all lines of a name together, label sets sorted.
enum Renderer {
    static func append(
        _ name: String, _ family: PrometheusRegistry.Family, _ description: MetricDescription?, limit: Int,
        to output: inout [UInt8]
    ) {
        let lines = family.read.map { self.lines(of: $0(), name, limit: limit) } ?? self.lines(of: family.series, name)
        guard !lines.isEmpty else { return }
        if let description, !description.help.isEmpty {
            output += "# HELP \(name) \(TextFormat.help(description.help))\n".utf8
        }
        output += "# TYPE \(name) \(family.kind.rawValue)\n".utf8
        for line in lines { output += line.utf8 }
    }

    private static func lines(
        of samples: [PrometheusRegistry.Sample], _ name: String, limit: Int
    ) -> [String] {
        // Every label set once, or the whole scrape fails: the first one stays.
        var values: [Labels: Double] = [:]
        for sample in samples.prefix(limit) {
            let labels = Labels(sample.labels)
            if values[labels] == nil { values[labels] = sample.value }
        }
        return values.sorted { $0.key < $1.key }
            .map { "\(name)\(TextFormat.labels($0.key)) \(TextFormat.number($0.value))\n" }
    }

    private static func lines(
        of series: [Labels: PrometheusRegistry.Instrument], _ name: String
    ) -> [String] {
        series.sorted { $0.key < $1.key }.map { labels, instrument in
            switch instrument {
            case .counter(let counter): "\(name)\(TextFormat.labels(labels)) \(counter.cell.current)\n"
            case .floatingPointCounter(let counter):
                "\(name)\(TextFormat.labels(labels)) \(TextFormat.number(counter.cell.current))\n"
            case .gauge(let gauge): "\(name)\(TextFormat.labels(labels)) \(TextFormat.number(gauge.cell.current))\n"
            case .durations(let histogram): self.lines(of: histogram.snapshot, labels, name)
            case .values(let histogram): self.lines(of: histogram.snapshot, labels, name)
            }
        }
    }

    private static func lines(of snapshot: HistogramSnapshot, _ labels: Labels, _ name: String) -> String {
        var text = ""
        var total = 0 as Int64
        for (index, count) in snapshot.counts.enumerated() {
            total += count
            let bound = index < snapshot.bounds.texts.count ? snapshot.bounds.texts[index] : "+Inf"
            text += "\(name)_bucket\(TextFormat.labels(labels, adding: ("le", bound))) \(total)\n"
        }
        text += "\(name)_sum\(TextFormat.labels(labels)) \(TextFormat.number(snapshot.sum))\n"
        text += "\(name)_count\(TextFormat.labels(labels)) \(total)\n"
        return text
    }
}
