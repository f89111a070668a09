internal import CEpoll
internal import FanfareLoops
internal import Glibc

/// The socket calls that the gateway needs.
enum Socket {
    /// Binds and listens; the first address of `host` that can be bound is taken. Does not block, but for the look-up of
    /// a host name.
    static func listen(host: String, port: UInt16, backlog: Int32) throws(SystemError) -> CInt {
        var hints = addrinfo()
        hints.ai_socktype = fanfare_socket_type
        hints.ai_flags = AI_PASSIVE | AI_ADDRCONFIG | AI_NUMERICSERV
        var found: UnsafeMutablePointer<addrinfo>?
        guard getaddrinfo(host, String(port), &hints, &found) == 0, let found else {
            throw SystemError("getaddrinfo", number: EADDRNOTAVAIL)
        }
        defer { freeaddrinfo(found) }
        var failure = SystemError("getaddrinfo", number: EADDRNOTAVAIL)
        for address in sequence(first: found, next: { $0.pointee.ai_next }) {
            do throws(SystemError) {
                return try Socket.listen(address.pointee, backlog: backlog)
            } catch {
                failure = error
            }
        }
        throw failure
    }

    private static func listen(_ address: addrinfo, backlog: Int32) throws(SystemError) -> CInt {
        let descriptor = socket(address.ai_family, fanfare_socket_type | fanfare_socket_flags, address.ai_protocol)
        guard descriptor >= 0 else { throw SystemError("socket") }
        Socket.set(descriptor, SOL_SOCKET, SO_REUSEADDR, 1)
        guard bind(descriptor, address.ai_addr, address.ai_addrlen) == 0 else {
            let failure = SystemError("bind")
            close(descriptor)
            throw failure
        }
        guard Glibc.listen(descriptor, backlog) == 0 else {
            let failure = SystemError("listen")
            close(descriptor)
            throw failure
        }
        return descriptor
    }

    static func set(_ descriptor: CInt, _ level: CInt, _ option: CInt, _ value: CInt) {
        var value = value
        setsockopt(descriptor, level, option, &value, socklen_t(MemoryLayout<CInt>.size))
    }

    /// Whole frames are written at once: waiting to fill packets would only delay them.
    static func setNoDelay(_ descriptor: CInt) {
        Socket.set(descriptor, CInt(IPPROTO_TCP), TCP_NODELAY, 1)
    }

    /// The port that a socket is bound to.
    static func port(of descriptor: CInt) -> UInt16 {
        let (storage, _) = Socket.address(descriptor, getsockname)
        return withUnsafeBytes(of: storage) { bytes in
            // Port and family stand at the same place for both families.
            UInt16(bigEndian: bytes.loadUnaligned(fromByteOffset: 2, as: UInt16.self))
        }
    }

    static func peer(of descriptor: CInt) -> PeerAddress {
        let (storage, isKnown) = Socket.address(descriptor, getpeername)
        guard isKnown else { return PeerAddress(text: "", group: [], isLoopback: false) }
        return withUnsafeBytes(of: storage) { bytes in
            switch CInt(storage.ss_family) {
            case AF_INET: PeerAddress(version4: Array(bytes[4..<8]))
            case AF_INET6: PeerAddress(version6: Array(bytes[8..<24]))
            default: PeerAddress(text: "", group: [], isLoopback: true)
            }
        }
    }

    private static func address(
        _ descriptor: CInt,
        _ call: (CInt, UnsafeMutablePointer<sockaddr>, UnsafeMutablePointer<socklen_t>) -> CInt
    ) -> (sockaddr_storage, Bool) {
        var storage = sockaddr_storage()
        var length = socklen_t(MemoryLayout<sockaddr_storage>.size)
        let result = withUnsafeMutablePointer(to: &storage) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { call(descriptor, $0, &length) }
        }
        return (storage, result == 0)
    }
}

/// Who is at the other end.
struct PeerAddress: Hashable, Sendable {
    /// For people.
    let text: String
    /// What rate limits count as one: an IPv4 address, or the network of an IPv6 address that one household gets.
    let group: [UInt8]
    let isLoopback: Bool

    init(text: String, group: [UInt8], isLoopback: Bool) {
        self.text = text
        self.group = group
        self.isLoopback = isLoopback
    }

    init(version4 bytes: [UInt8]) {
        self.text = bytes.map { String($0) }.joined(separator: ".")
        self.group = bytes
        self.isLoopback = bytes.first == 127
    }

    init(version6 bytes: [UInt8]) {
        let mappedPrefix: [UInt8] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff]
        if bytes.starts(with: mappedPrefix) {
            self.init(version4: Array(bytes.dropFirst(mappedPrefix.count)))
        } else {
            self.init(
                text: PeerAddress.text(version6: bytes), group: Array(bytes.prefix(8)),
                isLoopback: bytes == [UInt8](repeating: 0, count: 15) + [1])
        }
    }

    private static func text(version6 bytes: [UInt8]) -> String {
        var text = [UInt8](repeating: 0, count: Int(INET6_ADDRSTRLEN))
        let isConverted = text.withUnsafeMutableBytes { buffer in
            let characters = buffer.bindMemory(to: CChar.self)
            return inet_ntop(AF_INET6, bytes, characters.baseAddress, socklen_t(characters.count)) != nil
        }
        return isConverted ? String(decoding: text.prefix { $0 != 0 }, as: UTF8.self) : ""
    }
}
