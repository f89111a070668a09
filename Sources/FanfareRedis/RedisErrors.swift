import FanfareEngines

extension EngineError {
    /// Refusals that pass by themselves: the server does nothing now, and may do it later.
    private static let temporary: Set<Substring> = [
        "OOM", "READONLY", "LOADING", "BUSY", "NOREPLICAS", "MISCONF", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN",
        "NOSCRIPT",
    ]

    /// From an error reply. Its first word is the code; raised errors of inner commands have it too.
    init(redisError text: String) {
        switch Self.code(of: text) {
        case "FENCED": self.init(.fenced, String(text.dropFirst("FENCED ".count)))
        case let code where Self.temporary.contains(code): self.init(.unavailable, text)
        default: self.init(.rejected, text)
        }
    }

    /// The link leads to a server that is the wrong one for good, as after a failover: connect again.
    static func wantsNewLink(_ text: String) -> Bool { ["READONLY", "MASTERDOWN"].contains(Self.code(of: text)) }

    static func isMissingScript(_ text: String) -> Bool { Self.code(of: text) == "NOSCRIPT" }

    private static func code(of text: String) -> Substring { text.prefix { $0 != " " } }
}
