/// Why a link is not, or no longer, there.
struct LinkFailure: Error, Hashable, Sendable, CustomStringConvertible {
    let description: String
    init(_ description: String) { self.description = description }
}
