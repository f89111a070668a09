import FanfareCore
import FanfareEngines
import Synchronization

/// What the links tell of themselves, readable from any thread.
final class LinkHealth: Sendable {
    private struct State {
        var commands = false
        var subscriptions = false
        var breakers = Dictionary(
            uniqueKeysWithValues: BrokerWork.allCases.map { ($0.rawValue, CircuitBreaker.State.closed.rawValue) })
        var commandProblem: String? = "not connected yet"
        var subscriptionProblem: String? = "not connected yet"
    }

    private let state = Mutex(State())

    func commands(_ problem: String?) {
        self.state.withLock { state in
            state.commands = problem == nil
            state.commandProblem = problem
        }
    }

    func subscriptions(_ problem: String?) {
        self.state.withLock { state in
            state.subscriptions = problem == nil
            state.subscriptionProblem = problem
        }
    }

    func breaker(_ work: BrokerWork, _ breaker: CircuitBreaker.State) {
        self.state.withLock { $0.breakers[work.rawValue] = breaker.rawValue }
    }

    var current: BrokerHealth {
        self.state.withLock { state in
            let problems = [
                state.commandProblem.map { "commands: \($0)" },
                state.subscriptionProblem.map { "subscriptions: \($0)" },
            ]
            return BrokerHealth(
                commands: state.commands, subscriptions: state.subscriptions, breakers: state.breakers,
                problem: state.commands && state.subscriptions
                    ? nil : problems.compactMap { $0 }.joined(separator: "; "))
        }
    }
}
