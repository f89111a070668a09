package import FanfareCore
import FanfareModel

/// How a node talks to its Redis (7.0 or newer).
package struct RedisConfiguration: Sendable {
    package var url: RedisURL
    /// The first part of all keys and channels; 1–32 printable characters without braces. Clusters that share a server
    /// differ in it.
    package var prefix: String
    /// A command without a reply for this long tears its link down.
    package var commandTimeout: Duration = .seconds(2)
    /// For connecting, and for each step of the handshake.
    package var connectTimeout: Duration = .seconds(2)
    /// Commands under way; more are refused as `.overloaded`.
    package var commandLimit = 4096
    /// Bytes of commands under way; more are refused as `.overloaded`.
    package var commandByteLimit = 64 << 20
    /// Bytes of one reply; a longer one tears the link down.
    package var replyByteLimit = 64 << 20
    /// Rooms that this node may be subscribed to at a time.
    package var subscriptionLimit = 200_000
    /// How often a message travels command link → server → subscription link.
    package var probeInterval: Duration = .milliseconds(500)
    /// How long such a message may take. With the interval this is the longest time in which a silent link looks healthy.
    package var probeTimeout: Duration = .milliseconds(1500)
    package var reconnectBackoff = Backoff(base: .milliseconds(50), cap: .seconds(1))
    package var breaker = CircuitBreaker.Configuration(
        consecutiveFailures: 3, openTime: .milliseconds(250), maximumOpenTime: .seconds(1))

    package init(url: RedisURL, prefix: String = "ff") {
        self.url = url
        self.prefix = prefix
    }

    package struct Invalid: Error, Hashable, Sendable, CustomStringConvertible {
        package let description: String
    }

    package func validate() throws(Invalid) {
        guard RedisKeys.isValid(prefix: self.prefix) else {
            throw Invalid(description: "prefix: must be 1–32 printable ASCII characters without braces")
        }
        let times = [self.commandTimeout, self.connectTimeout, self.probeInterval, self.probeTimeout]
        guard times.allSatisfy({ $0 >= .milliseconds(10) }) else {
            throw Invalid(description: "timeouts and intervals: must be at least 10 ms")
        }
        guard self.commandLimit > 0, self.commandByteLimit > 0, self.replyByteLimit > 0, self.subscriptionLimit > 0
        else {
            throw Invalid(description: "limits: must be above 0")
        }
    }
}
