/// Why a command failed, in one line for who typed it. Ends with exit code 1.
package struct CommandError: Error, Hashable, Sendable, CustomStringConvertible {
    package let description: String
    package init(_ description: String) { self.description = description }
}
