import Foundation
import Glibc
import Synchronization

/// A private PostgreSQL for tests: a free port, a temporary folder, fsync off. It is gone when the process is, however
/// that ends. The server refuses to run as root: then it runs as `postgres`, or as nobody.
package final class PostgresServer: Sendable {
    package struct Failure: Error, CustomStringConvertible {
        package let description: String
    }

    package let port: Int
    private let folder: String
    private let binaries: String
    /// Held open: when this process ends, the watchdog reads the end of it.
    private let lifeline: Int32
    private let databases = Mutex(0)

    private static let sharedServer = Result { try PostgresServer() }

    /// The one that all tests of a process share: they take a database each.
    package static func shared() throws -> PostgresServer { try self.sharedServer.get() }

    /// - Throws: where there is no PostgreSQL on this machine, or it does not start.
    package init() throws {
        self.binaries = try Self.findBinaries()
        self.folder = NSTemporaryDirectory() + "fanfare-postgres-\(getpid())-\(UInt32.random(in: 0 ... .max))"
        self.port = try Self.freePort()
        guard mkdir(self.folder, 0o700) == 0 else { throw Failure(description: "no folder \(self.folder)") }
        if let (user, group) = Self.unprivileged { chown(self.folder, user, group) }

        var ends: [Int32] = [-1, -1]
        guard pipe(&ends) == 0 else { throw Failure(description: "no pipe") }
        for end in ends { _ = fcntl(end, F_SETFD, FD_CLOEXEC) }
        let script = """
            trap '' INT TERM HUP; cat >/dev/null
            '\(self.binaries)/pg_ctl' -D '\(self.folder)/data' -m immediate stop >/dev/null 2>&1; rm -rf '\(self.folder)'
            """
        self.lifeline = ends[1]
        _ = try Self.spawn(["/bin/sh", "-c", script], input: ends[0])
        close(ends[0])

        try self.run([
            "initdb", "-D", "\(self.folder)/data", "-A", "trust", "-U", "postgres", "--no-sync", "-E", "UTF8",
            "--locale=C.UTF-8",
        ])
        let settings = """

            listen_addresses = '127.0.0.1'
            port = \(self.port)
            unix_socket_directories = '\(self.folder)'
            fsync = off
            full_page_writes = off
            max_connections = 400
            shared_buffers = 256MB
            max_wal_size = 4GB
            """
        // The file belongs to the server's user: the server's user writes.
        try self.run([
            "/bin/sh", "-c", "printf '%s\\n' \"$1\" >> '\(self.folder)/data/postgresql.conf'", "sh", settings,
        ])
        try self.start()
    }

    deinit { close(self.lifeline) }

    /// Starts the server again after `stop` or `kill`.
    package func start() throws {
        try self.run([
            "pg_ctl", "-D", "\(self.folder)/data", "-l", "\(self.folder)/log", "-w", "-t", "60", "start",
        ])
    }

    /// Ends sessions and stops.
    package func stop() throws { try self.run(["pg_ctl", "-D", "\(self.folder)/data", "-m", "fast", "-w", "stop"]) }

    /// As `kill -9` of the server and all its processes.
    package func kill() throws {
        let pids = try self.processes()
        for pid in pids { Glibc.kill(pid, SIGKILL) }
        let deadline = Date(timeIntervalSinceNow: 10)
        while pids.contains(where: { Self.isRunning($0) }) {
            guard Date() < deadline else { throw Failure(description: "the server's processes do not end") }
            usleep(2000)
        }
        // A process that nobody has waited for yet would pass for a running server.
        unlink("\(self.folder)/data/postmaster.pid")
        unlink("\(self.folder)/.s.PGSQL.\(self.port).lock")
    }

    /// Stops the server's processes in their tracks, and lets them go on.
    package func pause() throws { for pid in try self.processes() { Glibc.kill(pid, SIGSTOP) } }
    package func resume() throws { for pid in try self.processes().reversed() { Glibc.kill(pid, SIGCONT) } }

    /// Where a database is.
    package func url(database: String = "postgres") -> String {
        "postgres://postgres@127.0.0.1:\(self.port)/\(database)?sslmode=disable"
    }

    /// Makes an empty database.
    /// - Returns: its URL.
    package func createDatabase() throws -> String {
        let name = self.databases.withLock { number in
            number += 1
            return "test\(number)"
        }
        try self.run(["psql", "-X", "-q", self.url(), "-c", "CREATE DATABASE \(name)"])
        return self.url(database: name)
    }

    // MARK: Processes

    /// The server and its children.
    private func processes() throws -> [pid_t] {
        let text = try String(contentsOfFile: "\(self.folder)/data/postmaster.pid", encoding: .utf8)
        guard let first = text.split(separator: "\n").first, let server = pid_t(first) else {
            throw Failure(description: "the server does not run")
        }
        let all = try FileManager.default.contentsOfDirectory(atPath: "/proc").compactMap { pid_t($0) }
        return [server] + all.filter { Self.status($0)?.parent == server }
    }

    private static func isRunning(_ pid: pid_t) -> Bool {
        guard let status = self.status(pid) else { return false }
        return status.state != "Z"
    }

    /// Of `/proc/<pid>/stat`: the fields after the name in parentheses.
    private static func status(_ pid: pid_t) -> (state: String, parent: pid_t)? {
        guard let text = try? String(contentsOfFile: "/proc/\(pid)/stat", encoding: .utf8),
            let end = text.lastIndex(of: ")")
        else { return nil }
        let fields = text[text.index(after: end)...].split(separator: " ")
        guard fields.count > 1, let parent = pid_t(fields[1]) else { return nil }
        return (String(fields[0]), parent)
    }

    private func run(_ command: [String]) throws {
        var command = command
        if !command[0].hasPrefix("/") { command[0] = self.binaries + "/" + command[0] }
        let output = self.folder + "/output-\(UInt32.random(in: 0 ... .max))"
        // Not through a pipe: the server would inherit it and keep it open.
        let shell = ["/bin/sh", "-c", "cd / && exec \"$@\" >'\(output)' 2>&1", "sh"] + command
        let null = open("/dev/null", O_RDONLY | O_CLOEXEC)
        defer { close(null) }
        let child = try Self.spawn(shell, input: null)
        var status: Int32 = 0
        while waitpid(child, &status, 0) < 0, errno == EINTR {}
        let said = (try? String(contentsOfFile: output, encoding: .utf8)) ?? ""
        try? FileManager.default.removeItem(atPath: output)
        guard status == 0 else { throw Failure(description: "\(command[0]) failed: \(said)") }
    }

    /// Not by Foundation's `Process`: it takes a child for running as long as a grandchild, here the server, does.
    private static func spawn(_ command: [String], input: Int32) throws -> pid_t {
        var command = command
        if let (user, group) = self.unprivileged {
            command = ["/usr/bin/setpriv", "--reuid=\(user)", "--regid=\(group)", "--clear-groups"] + command
        }
        var actions = posix_spawn_file_actions_t()
        posix_spawn_file_actions_init(&actions)
        defer { posix_spawn_file_actions_destroy(&actions) }
        posix_spawn_file_actions_adddup2(&actions, input, 0)
        // A pipe or a lock that the server inherits would outlive this process. Closing what is not open is no error.
        for descriptor in 3..<256 as Range<Int32> { posix_spawn_file_actions_addclose(&actions, descriptor) }
        let arguments = command.map { strdup($0) }
        defer { for argument in arguments { free(argument) } }
        var child = pid_t()
        guard posix_spawn(&child, command[0], &actions, nil, arguments + [nil], environ) == 0 else {
            throw Failure(description: "cannot run \(command[0])")
        }
        return child
    }

    /// Whom the server runs as, where this process is root's.
    private static var unprivileged: (user: uid_t, group: gid_t)? {
        guard geteuid() == 0 else { return nil }
        guard let entry = getpwnam("postgres") else { return (65_534, 65_534) }
        return (entry.pointee.pw_uid, entry.pointee.pw_gid)
    }

    private static func findBinaries() throws -> String {
        let root = "/usr/lib/postgresql"
        let versions = ((try? FileManager.default.contentsOfDirectory(atPath: root)) ?? []).compactMap { Int($0) }
        for version in versions.sorted().reversed() where access("\(root)/\(version)/bin/postgres", X_OK) == 0 {
            return "\(root)/\(version)/bin"
        }
        throw Failure(description: "no PostgreSQL server in \(root): install the package postgresql")
    }

    private static func freePort() throws -> Int {
        let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        guard descriptor >= 0 else { throw Failure(description: "no socket") }
        defer { close(descriptor) }
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_addr.s_addr = UInt32(0x7f00_0001).bigEndian
        var length = socklen_t(MemoryLayout<sockaddr_in>.size)
        let isBound = withUnsafeMutablePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { pointer in
                bind(descriptor, pointer, length) == 0 && getsockname(descriptor, pointer, &length) == 0
            }
        }
        guard isBound else { throw Failure(description: "no free port") }
        return Int(UInt16(bigEndian: address.sin_port))
    }
}
