import FanfarePostgres
import FanfareTesting
import Glibc
import Synchronization

/// A TCP proxy before PostgreSQL that can cut a connection after the server has done what the client asked for, and
/// before the client hears of it.
final class CuttingProxy: Sendable {
    let port: Int
    private let listener: Int32
    private let server: Int
    private let armed = Mutex<Cut?>(nil)
    private let count = Mutex(0)

    private struct Cut {
        var text: [UInt8]
        var skipping: Int
    }

    init(to server: Int) throws {
        self.server = server
        self.listener = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_addr.s_addr = UInt32(0x7f00_0001).bigEndian
        var length = socklen_t(MemoryLayout<sockaddr_in>.size)
        let (listener, size) = (self.listener, length)
        let isReady = withUnsafeMutablePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { pointer in
                bind(listener, pointer, size) == 0 && listen(listener, 64) == 0
                    && getsockname(listener, pointer, &length) == 0
            }
        }
        guard isReady else { throw TimedOut() }
        self.port = Int(UInt16(bigEndian: address.sin_port))
        startThread { [self] in
            while case let client = accept(self.listener, nil, nil), client >= 0 {
                startThread { self.serve(client) }
            }
        }
    }

    /// Cuts the next connection whose client sends `text`, once the server has answered.
    /// - Parameter skipping: how often it may be sent before.
    func cut(after text: String, skipping: Int = 0) {
        self.armed.withLock { $0 = Cut(text: Array(text.utf8), skipping: skipping) }
    }
    /// How many were cut.
    var cuts: Int { self.count.withLock { $0 } }
    func disarm() { self.armed.withLock { $0 = nil } }
    var isArmed: Bool { self.armed.withLock { $0 != nil } }

    func close() { shutdown(self.listener, Int32(SHUT_RDWR)) }

    private func serve(_ client: Int32) {
        let server = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_addr.s_addr = UInt32(0x7f00_0001).bigEndian
        address.sin_port = UInt16(self.server).bigEndian
        _ = withUnsafePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                connect(server, $0, socklen_t(MemoryLayout<sockaddr_in>.size))
            }
        }
        defer {
            Glibc.close(client)
            Glibc.close(server)
        }
        var cutsAtAnswer = false
        var buffer = [UInt8](repeating: 0, count: 1 << 16)
        while true {
            var descriptors = [
                pollfd(fd: client, events: Int16(POLLIN), revents: 0),
                pollfd(fd: server, events: Int16(POLLIN), revents: 0),
            ]
            guard poll(&descriptors, 2, -1) > 0 else { return }
            if descriptors[0].revents != 0 {
                let count = recv(client, &buffer, buffer.count, 0)
                guard count > 0 else { return }
                cutsAtAnswer = cutsAtAnswer || self.matches(buffer[..<count])
                guard send(server, buffer, count, Int32(MSG_NOSIGNAL)) == count else { return }
            }
            if descriptors[1].revents != 0 {
                let count = recv(server, &buffer, buffer.count, 0)
                guard count > 0, !cutsAtAnswer else { return }
                guard send(client, buffer, count, Int32(MSG_NOSIGNAL)) == count else { return }
            }
        }
    }

    private func matches(_ bytes: ArraySlice<UInt8>) -> Bool {
        self.armed.withLock { armed in
            guard let cut = armed, bytes.contains(cut.text) else { return false }
            armed?.skipping -= 1
            guard cut.skipping == 0 else { return false }
            armed = nil
            self.count.withLock { $0 += 1 }
            return true
        }
    }
}

/// A store that reaches its server through a proxy, and a connection beside it.
func withCuttingProxy(
    _ change: (inout PostgresConfiguration) -> Void = { _ in },
    _ body: (PostgresStore, PostgresConnection, CuttingProxy) async throws -> Void
) async throws {
    let server = try PostgresServer.shared()
    let direct = try PostgresConfiguration(url: try server.createDatabase())
    _ = try await PostgresStore.migrate(direct)
    let database = try PostgresConnection(direct)
    let proxy = try CuttingProxy(to: server.port)
    var configuration = try PostgresConfiguration(
        url: "postgres://postgres@127.0.0.1:\(proxy.port)/\(try await database.databaseName())?sslmode=disable")
    configuration.probeInterval = .seconds(1000)
    change(&configuration)
    let store = try PostgresStore(configuration, logger: .silent)
    store.start()
    try await body(store, database, proxy)
    await store.stop()
    proxy.close()
}

private func startThread(_ body: @escaping @Sendable () -> Void) {
    let context = Unmanaged.passRetained(ThreadBody(body))
    var thread = pthread_t()
    let failure = pthread_create(
        &thread, nil,
        { argument in
            if let argument { Unmanaged<ThreadBody>.fromOpaque(argument).takeRetainedValue().body() }
            return nil
        }, context.toOpaque())
    if failure == 0 { pthread_detach(thread) } else { context.release() }
}

private final class ThreadBody: Sendable {
    let body: @Sendable () -> Void
    init(_ body: @escaping @Sendable () -> Void) { self.body = body }
}
