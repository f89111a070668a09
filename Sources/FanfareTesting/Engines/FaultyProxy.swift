import Glibc
import Synchronization

/// A TCP proxy on the loopback address that can swallow what the server sends: for links that look alive and are not.
/// Threads and blocking calls: for tests.
package final class FaultyProxy: Sendable {
    private struct State {
        var needle: [UInt8]?
        var isStopped = false
        var descriptors: [CInt] = []
    }

    package let port: Int
    private let target: Int
    private let listener: CInt
    private let state = Mutex(State())

    /// - Parameter target: the port that connections are passed on to.
    package init(to target: Int) throws(EngineFailure) {
        self.target = target
        self.port = try PrivateServer.freePort()
        self.listener = socket(AF_INET, CInt(SOCK_STREAM.rawValue) | CInt(bitPattern: SOCK_CLOEXEC.rawValue), 0)
        var on: CInt = 1
        setsockopt(self.listener, SOL_SOCKET, SO_REUSEADDR, &on, socklen_t(MemoryLayout<CInt>.size))
        var address = PrivateServer.loopback(port: self.port)
        let descriptor = self.listener
        let result = withUnsafePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                bind(descriptor, $0, socklen_t(MemoryLayout<sockaddr_in>.size))
            }
        }
        guard result == 0, listen(self.listener, 64) == 0 else {
            close(self.listener)
            throw EngineFailure("cannot listen on port \(self.port): errno \(errno)")
        }
        Self.onThread { self.accept() }
    }

    /// From now on pieces from the server that contain `text` vanish; nil: nothing does.
    package func swallow(_ text: String?) { self.state.withLock { $0.needle = text.map { Array($0.utf8) } } }

    /// Closes everything.
    package func stop() {
        let descriptors = self.state.withLock { state in
            state.isStopped = true
            return state.descriptors
        }
        shutdown(self.listener, CInt(SHUT_RDWR))
        for descriptor in descriptors { shutdown(descriptor, CInt(SHUT_RDWR)) }
    }

    private func accept() {
        defer { close(self.listener) }
        while true {
            let client = Glibc.accept(self.listener, nil, nil)
            guard client >= 0 else { return }
            guard let server = PrivateServer.connect(port: self.target, timeout: 0) else {
                close(client)
                continue
            }
            let isStopped = self.state.withLock { state in
                state.descriptors += [client, server]
                return state.isStopped
            }
            if isStopped { self.stop() }
            Self.onThread { self.pump(from: client, to: server, isFaulty: false) }
            Self.onThread { self.pump(from: server, to: client, isFaulty: true) }
        }
    }

    /// The descriptors stay open until the process ends, so that their numbers are not taken by others meanwhile.
    private func pump(from source: CInt, to sink: CInt, isFaulty: Bool) {
        var buffer = [UInt8](repeating: 0, count: 64 * 1024)
        while true {
            let count = recv(source, &buffer, buffer.count, 0)
            guard count > 0 else { break }
            if isFaulty, let needle = self.state.withLock({ $0.needle }), buffer[..<count].contains(needle) { continue }
            var sent = 0
            while sent < count {
                let part = buffer[sent..<count].withUnsafeBytes {
                    send(sink, $0.baseAddress, $0.count, CInt(MSG_NOSIGNAL))
                }
                guard part > 0 else { break }
                sent += part
            }
        }
        shutdown(sink, CInt(SHUT_RDWR))
    }

    private static func onThread(_ body: @escaping @Sendable () -> Void) {
        final class Call: Sendable {
            let body: @Sendable () -> Void
            init(_ body: @escaping @Sendable () -> Void) { self.body = body }
        }
        var thread = pthread_t()
        let context = Unmanaged.passRetained(Call(body))
        let result = pthread_create(
            &thread, nil,
            { context in
                if let context { Unmanaged<Call>.fromOpaque(context).takeRetainedValue().body() }
                return nil
            }, context.toOpaque())
        if result == 0 { pthread_detach(thread) } else { context.release() }
    }
}
