import Glibc

/// A thread that runs the jobs of one connection's actor, so that libpq may block without taking a thread of the shared
/// pool. The queue is as long as there are callers of the one actor: the pool lends a connection to one at a time.
final class ConnectionThread: SerialExecutor {
    private let queue = JobQueue()

    /// - Throws: where the system gives no more threads.
    init() throws(PostgresError) {
        // The thread holds the queue, not the executor: when the executor goes, the thread ends.
        let context = Unmanaged.passRetained(self.queue)
        var thread = pthread_t()
        let failure = pthread_create(&thread, nil, connectionThreadMain, context.toOpaque())
        guard failure == 0 else {
            context.release()
            throw PostgresError(.connect, "no thread for a database connection: \(String(cString: strerror(failure)))")
        }
        pthread_detach(thread)
    }

    deinit { self.queue.stop() }

    func enqueue(_ job: consuming ExecutorJob) {
        let job = UnownedJob(job)
        // Holds the executor until the job is done, though the job may let go of the actor.
        self.queue.push { job.runSynchronously(on: self.asUnownedSerialExecutor()) }
    }
}

private func connectionThreadMain(_ argument: UnsafeMutableRawPointer?) -> UnsafeMutableRawPointer? {
    guard let argument else { return nil }
    let queue = Unmanaged<JobQueue>.fromOpaque(argument).takeRetainedValue()
    while let job = queue.pop() { job() }
    return nil
}

/// A blocking queue. `@unchecked Sendable`: `jobs` and `isStopped` are touched only while `mutex` is held.
private final class JobQueue: @unchecked Sendable {
    private let mutex = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)
    private let filled = UnsafeMutablePointer<pthread_cond_t>.allocate(capacity: 1)
    private var jobs: [() -> Void] = []
    private var isStopped = false

    init() {
        pthread_mutex_init(self.mutex, nil)
        pthread_cond_init(self.filled, nil)
    }

    deinit {
        pthread_cond_destroy(self.filled)
        pthread_mutex_destroy(self.mutex)
        self.filled.deallocate()
        self.mutex.deallocate()
    }

    func push(_ job: @escaping () -> Void) {
        pthread_mutex_lock(self.mutex)
        self.jobs.append(job)
        pthread_mutex_unlock(self.mutex)
        pthread_cond_signal(self.filled)
    }

    func stop() {
        pthread_mutex_lock(self.mutex)
        self.isStopped = true
        pthread_mutex_unlock(self.mutex)
        pthread_cond_signal(self.filled)
    }

    /// Waits for a job; nil once stopped and empty.
    func pop() -> (() -> Void)? {
        pthread_mutex_lock(self.mutex)
        defer { pthread_mutex_unlock(self.mutex) }
        while self.jobs.isEmpty {
            if self.isStopped { return nil }
            pthread_cond_wait(self.filled, self.mutex)
        }
        return self.jobs.removeFirst()
    }
}
