import FanfareCore
import FanfareEngines
import Logging

/// Makes events of those that were scheduled, when they are due by the store's clock. Every node looks; the store lets each
/// event be sent once.
actor EventScheduler {
    nonisolated let unownedExecutor: UnownedSerialExecutor
    private let loop: any Loop
    private let store: any Store
    private let logger: Logger
    private let accepted: @Sendable () async -> Void
    private var isStopped = false

    /// How often a node looks: what another node scheduled for sooner is sent that much late at the most.
    private static let interval: Duration = .seconds(1)
    /// Events of one look.
    private static let batch = 100

    /// - Parameter accepted: called when there are new events.
    init(loop: any Loop, store: any Store, logger: Logger, accepted: @escaping @Sendable () async -> Void) {
        self.unownedExecutor = loop.asUnownedSerialExecutor()
        self.loop = loop
        self.store = store
        self.logger = logger
        self.accepted = accepted
    }

    func start() {
        self.loop.task {
            while !self.isStopped {
                let pause = await self.look()
                await self.loop.sleep(for: pause)
            }
        }
    }

    func stop() { self.isStopped = true }

    /// - Returns: when to look again.
    private func look() async -> Duration {
        do throws(EngineError) {
            let round = try await self.store.sendScheduled(limit: EventScheduler.batch)
            if round.sent > 0 { await self.accepted() }
            return max(.milliseconds(5), min(EventScheduler.interval, round.next ?? EventScheduler.interval))
        } catch {
            self.logger.debug("scheduled events wait", metadata: ["error": "\(error)"])
            return EventScheduler.interval
        }
    }
}
