import Glibc
import Synchronization

/// A child process that does not outlive this one, however this one ends: a shell beside it waits for the end of a pipe,
/// kills it then and removes the folder.
final class GuardedProcess: Sendable {
    /// A pipe must not be inherited by a child that is started at the same time.
    private static let spawning = Mutex(())

    let pid: pid_t
    private let shell: pid_t
    /// Closed by the system when this process ends.
    private let pipe: CInt

    /// - Parameter folder: holds the pid file for a moment; the process' output goes to `output` in it.
    init(_ arguments: [String], folder: String) throws(EngineFailure) {
        let (shell, pipe) = try Self.spawning.withLock { _ throws(EngineFailure) in
            try Self.spawn(arguments, folder: folder)
        }
        self.shell = shell
        self.pipe = pipe
        var pid: pid_t?
        for _ in 0..<5000 where pid == nil {
            pid = Self.readNumber(folder + "/pid")
            if pid == nil { usleep(1000) }
        }
        self.pid = pid ?? 0
        guard pid != nil else { throw EngineFailure("\(arguments[0]) did not start within 5 s") }
    }

    private static func spawn(
        _ arguments: [String], folder: String
    ) throws(EngineFailure) -> (shell: pid_t, pipe: CInt) {
        var ends: [CInt] = [0, 0]
        guard Glibc.pipe(&ends) == 0 else { throw EngineFailure("pipe: errno \(errno)") }
        for end in ends { _ = fcntl(end, F_SETFD, FD_CLOEXEC) }
        let script = """
            "$@" </dev/null >>"$0/output" 2>&1 & echo $! >"$0/pid.new"; mv "$0/pid.new" "$0/pid"; read -r _; kept=$?; kill -9 $! 2>/dev/null; wait; [ $kept = 0 ] || rm -rf "$0"
            """
        var actions = posix_spawn_file_actions_t()
        posix_spawn_file_actions_init(&actions)
        defer { posix_spawn_file_actions_destroy(&actions) }
        posix_spawn_file_actions_adddup2(&actions, ends[0], 0)
        let words = ["/bin/sh", "-c", script, folder] + arguments
        var pointers = words.map { strdup($0) } + [nil]
        defer { for pointer in pointers { free(pointer) } }
        unlink(folder + "/pid")
        var shell = pid_t()
        let result = posix_spawn(&shell, "/bin/sh", &actions, nil, &pointers, environ)
        close(ends[0])
        guard result == 0 else {
            close(ends[1])
            throw EngineFailure("posix_spawn: errno \(result)")
        }
        return (shell, ends[1])
    }

    private static func readNumber(_ path: String) -> pid_t? {
        guard let file = fopen(path, "r") else { return nil }
        defer { fclose(file) }
        var line = [CChar](repeating: 0, count: 32)
        guard fgets(&line, 32, file) != nil else { return nil }
        return pid_t(String(decoding: line.prefix { $0 > 32 }.map { UInt8(bitPattern: $0) }, as: UTF8.self))
    }

    func signal(_ number: CInt) { if self.pid > 0 { kill(self.pid, number) } }

    /// Kills it and waits for its end.
    func end() {
        self.signal(SIGKILL)
        write(self.pipe, "\n", 1)
        close(self.pipe)
        var status: CInt = 0
        waitpid(self.shell, &status, 0)
    }
}
