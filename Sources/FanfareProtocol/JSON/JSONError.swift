/// Why bytes are not the JSON that was asked for. Not worth a retry.
package struct JSONError: Error, Hashable, Sendable, CustomStringConvertible {
    package enum Problem: Hashable, Sendable {
        case malformed
        case invalidUTF8
        case tooDeep
        /// A value of another type was asked for. Names the member, empty for the outermost value.
        case unexpectedType(member: String)
    }

    package let problem: Problem
    /// Where in the bytes it was noticed.
    package let offset: Int

    package init(_ problem: Problem, at offset: Int) {
        self.problem = problem
        self.offset = offset
    }

    /// Tells nothing of the content, so that it may be sent back to whom it came from.
    package var description: String {
        switch self.problem {
        case .malformed: "not JSON (at byte \(self.offset))"
        case .invalidUTF8: "not UTF-8 (at byte \(self.offset))"
        case .tooDeep: "JSON is nested too deeply (at byte \(self.offset))"
        case .unexpectedType(let member) where member.isEmpty: "JSON value has an unexpected type"
        case .unexpectedType(let member): "'\(member)' has an unexpected type"
        }
    }
}
