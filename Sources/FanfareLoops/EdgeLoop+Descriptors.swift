internal import CEpoll
internal import Glibc

/// What happens on a descriptor. Called on the loop that it is registered with, which keeps the handler alive.
package protocol DescriptorHandler: AnyObject {
    /// - Parameter hangup: the peer closed its side, or the descriptor has an error; there may be something to read still.
    func ready(readable: Bool, writable: Bool, hangup: Bool)
}

/// What a descriptor is watched for.
package struct Interest: OptionSet, Sendable, Hashable {
    package let rawValue: UInt8
    package init(rawValue: UInt8) { self.rawValue = rawValue }

    package static var readable: Interest { Interest(rawValue: 1) }
    package static var writable: Interest { Interest(rawValue: 2) }
    /// The peer closed its side for writing. Errors and a full close are always told.
    package static var peerClosed: Interest { Interest(rawValue: 4) }
    /// Told once per change instead of as long as it holds.
    package static var edgeTriggered: Interest { Interest(rawValue: 8) }
    /// For a descriptor that several loops watch: one of them is woken (only with `register`, never with `modify`).
    package static var exclusive: Interest { Interest(rawValue: 16) }

    var events: UInt32 {
        var events: UInt32 = 0
        if self.contains(.readable) { events |= EPOLLIN.rawValue }
        if self.contains(.writable) { events |= EPOLLOUT.rawValue }
        if self.contains(.peerClosed) { events |= EPOLLRDHUP.rawValue }
        if self.contains(.edgeTriggered) { events |= EPOLLET.rawValue }
        if self.contains(.exclusive) { events |= EPOLLEXCLUSIVE.rawValue }
        return events
    }
}

/// What is called for a descriptor. The generation tells a registration from its predecessors with the same number.
struct Registration {
    var handler: (any DescriptorHandler)?
    var generation: UInt32 = 0
}

struct RegistrationToken: RawRepresentable {
    let rawValue: UInt64
    init(rawValue: UInt64) { self.rawValue = rawValue }
    init(descriptor: Int, generation: UInt32) {
        self.rawValue = UInt64(generation) << 32 | UInt64(UInt32(truncatingIfNeeded: descriptor))
    }
    var descriptor: Int { Int(UInt32(truncatingIfNeeded: self.rawValue)) }
    var generation: UInt32 { UInt32(truncatingIfNeeded: self.rawValue >> 32) }
}

/// Watching descriptors: on the loop's thread only.
extension EdgeLoop {
    /// Watches a descriptor and keeps `handler` until `deregister`. The descriptor stays the caller's, who deregisters it
    /// before closing it.
    /// - Throws: where the descriptor cannot be watched (is registered already, is a plain file, or the system's limit is
    ///   reached).
    package func register(
        descriptor: CInt, _ interest: Interest, handler: any DescriptorHandler
    ) throws(SystemError) {
        self.checkIsolated()
        guard descriptor >= 0 else { throw SystemError("epoll_ctl", number: EBADF) }
        let index = Int(descriptor)
        if self.registrations.count <= index {
            let missing = index + 1 - self.registrations.count
            self.registrations.append(contentsOf: repeatElement(Registration(), count: missing))
        }
        let generation = self.registrations[index].generation &+ 1
        let token = RegistrationToken(descriptor: index, generation: generation)
        guard fanfare_epoll_ctl(self.epoll, EPOLL_CTL_ADD, descriptor, interest.events, token.rawValue) == 0 else {
            throw SystemError("epoll_ctl")
        }
        self.registrations[index] = Registration(handler: handler, generation: generation)
    }

    /// Watches a registered descriptor for something else.
    package func modify(descriptor: CInt, _ interest: Interest) throws(SystemError) {
        self.checkIsolated()
        let index = Int(descriptor)
        guard self.registrations.indices.contains(index), self.registrations[index].handler != nil else {
            throw SystemError("epoll_ctl", number: ENOENT)
        }
        let token = RegistrationToken(descriptor: index, generation: self.registrations[index].generation)
        guard fanfare_epoll_ctl(self.epoll, EPOLL_CTL_MOD, descriptor, interest.events, token.rawValue) == 0 else {
            throw SystemError("epoll_ctl")
        }
    }

    /// Watches it no longer: its handler is not called again, not even for what is ready in the present turn. Harmless
    /// when repeated.
    package func deregister(descriptor: CInt) {
        self.checkIsolated()
        let index = Int(descriptor)
        guard self.registrations.indices.contains(index), self.registrations[index].handler != nil else { return }
        self.registrations[index].handler = nil
        self.registrations[index].generation &+= 1
        _ = fanfare_epoll_ctl(self.epoll, EPOLL_CTL_DEL, descriptor, 0, 0)
    }
}
