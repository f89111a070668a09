internal import Glibc

/// A system call failed.
package struct SystemError: Error, Hashable, Sendable, CustomStringConvertible {
    /// The call's name.
    package let call: String
    /// `errno`.
    package let number: CInt

    package init(_ call: String, number: CInt = errno) {
        self.call = call
        self.number = number
    }

    package var description: String { "\(self.call): \(String(cString: strerror(self.number)))" }
}
