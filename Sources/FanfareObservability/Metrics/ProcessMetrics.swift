import Glibc

/// What Linux tells of this process.
package struct ProcessMetrics: Sendable {
    package var cpuSeconds: Double
    package var residentBytes: Double
    package var virtualBytes: Double
    package var threads: Double
    /// Seconds since 1970.
    package var startTime: Double
    package var openDescriptors: Double
    package var maximumDescriptors: Double

    /// Reads `/proc`.
    /// - Returns: nil where it is not readable, or not in the form of proc(5).
    package static func read(proc: String = "/proc") -> ProcessMetrics? {
        // The second field is the command in parentheses and may contain anything: count from its end.
        guard let stat = self.text(of: proc + "/self/stat"), let end = stat.lastIndex(of: ")"),
            let system = self.text(of: proc + "/stat"),
            let boot = system.split(separator: "\n").first(where: { $0.hasPrefix("btime ") })?.dropFirst(6),
            let bootTime = Double(boot)
        else { return nil }
        let fields = stat[stat.index(after: end)...].split(separator: " ")
        func field(_ number: Int) -> Double? { fields.count > number - 3 ? Double(fields[number - 3]) : nil }
        guard let user = field(14), let kernel = field(15), let threads = field(20), let start = field(22),
            let virtual = field(23), let resident = field(24)
        else { return nil }
        let ticks = Double(sysconf(Int32(_SC_CLK_TCK)))
        guard ticks > 0 else { return nil }
        let limit = self.text(of: proc + "/self/limits")?.split(separator: "\n")
            .first { $0.hasPrefix("Max open files") }?.split(separator: " ").dropFirst(3).first.flatMap { Double($0) }
        return ProcessMetrics(
            cpuSeconds: (user + kernel) / ticks, residentBytes: resident * Double(sysconf(Int32(_SC_PAGESIZE))),
            virtualBytes: virtual, threads: threads, startTime: bootTime + start / ticks,
            openDescriptors: Double(self.entries(of: proc + "/self/fd")), maximumDescriptors: limit ?? .infinity)
    }

    private static func text(of path: String) -> String? {
        let descriptor = open(path, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { return nil }
        defer { close(descriptor) }
        var bytes: [UInt8] = []
        var chunk = [UInt8](repeating: 0, count: 8192)
        // `/proc/stat` grows with the number of interrupts; a megabyte is beyond any machine.
        while bytes.count < 1 << 20 {
            let count = Glibc.read(descriptor, &chunk, chunk.count)
            guard count > 0 else { break }
            bytes += chunk[..<count]
        }
        return String(decoding: bytes, as: UTF8.self)
    }

    private static func entries(of path: String) -> Int {
        guard let directory = opendir(path) else { return 0 }
        defer { closedir(directory) }
        var count = 0
        while let entry = readdir(directory) {
            if entry.pointee.d_name.0 != UInt8(ascii: ".") { count += 1 }
        }
        // The descriptor that reads the directory is in it.
        return max(0, count - 1)
    }
}

extension PrometheusRegistry {
    /// Adds the `process_*` metrics, read at each scrape.
    package func collectProcessMetrics() {
        let metrics: [(String, Kind, @Sendable (ProcessMetrics) -> Double)] = [
            ("process_cpu_seconds_total", .counter, { $0.cpuSeconds }),
            ("process_resident_memory_bytes", .gauge, { $0.residentBytes }),
            ("process_virtual_memory_bytes", .gauge, { $0.virtualBytes }),
            ("process_threads", .gauge, { $0.threads }),
            ("process_start_time_seconds", .gauge, { $0.startTime }),
            ("process_open_fds", .gauge, { $0.openDescriptors }),
            ("process_max_fds", .gauge, { $0.maximumDescriptors }),
        ]
        for (name, kind, value) in metrics {
            self.collect(name, kind: kind) { ProcessMetrics.read().map { [Sample(value($0))] } ?? [] }
        }
    }

    /// Adds `fanfare_build_info`.
    package func collectBuildInfo(version: String, commit: String) {
        self.collect("fanfare_build_info") { [Sample(1, labels: [("version", version), ("commit", commit)])] }
    }
}
