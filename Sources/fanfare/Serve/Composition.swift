import FanfareCommand
import FanfareObservability
@preconcurrency import Dispatch
import Foundation
import Logging
import Metrics
import ServiceLifecycle

/// Builds the node from its configuration and runs it until it is told to end.
/// - Throws: what stops the start: one line for the operator.
func runNode(_ configuration: ServeConfiguration) async throws {
    configuration.log.bootstrap()
    var logger = Logger(label: "fanfare")
    logger[metadataKey: "node"] = "\(configuration.nodeName)"

    let registry = PrometheusRegistry()
    MetricsSystem.bootstrap(registry)
    registry.collectProcessMetrics()
    registry.collectBuildInfo(version: Version.current, commit: "")

    let runtime = try await NodeRuntime(configuration, registry: registry, logger: logger)
    try await runtime.start()
    let group = ServiceGroup(
        configuration: .init(
            services: [.init(service: runtime, successTerminationBehavior: .gracefullyShutdownGroup)], logger: logger))
    runtime.whenToldToLeave { Task { await group.triggerGracefulShutdown() } }
    // The first signal drains; a second one ends the process at once.
    let signals = Signals { count in
        guard count == 1 else { _exit(1) }
        Task { await group.triggerGracefulShutdown() }
    }
    defer { signals.ignore() }
    try await group.run()
}

/// SIGTERM and SIGINT, counted.
private final class Signals: @unchecked Sendable {
    // Safe: the sources are made once; the count changes on the queue alone.
    private let queue = DispatchQueue(label: "fanfare.signals")
    private let sources: [any DispatchSourceSignal]
    private var count = 0

    init(received: @escaping @Sendable (Int) -> Void) {
        let numbers = [SIGTERM, SIGINT]
        for number in numbers { signal(number, SIG_IGN) }
        let queue = self.queue
        self.sources = numbers.map { DispatchSource.makeSignalSource(signal: $0, queue: queue) }
        for source in self.sources {
            source.setEventHandler { [unowned self] in
                self.count += 1
                received(self.count)
            }
            source.resume()
        }
    }

    func ignore() {
        for source in self.sources { source.cancel() }
    }
}
