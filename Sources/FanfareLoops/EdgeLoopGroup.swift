internal import Synchronization

/// The loops of a node.
package final class EdgeLoopGroup: Sendable {
    package let loops: [EdgeLoop]
    private let turn = Atomic<Int>(0)

    /// - Parameter count: at least 1; one per core is right for a node that has the machine for itself.
    /// - Throws: where the process is out of descriptors or threads.
    package init(count: Int, name: String = "edge") throws(SystemError) {
        var loops: [EdgeLoop] = []
        do {
            for index in 0..<max(1, count) { loops.append(try EdgeLoop(name: "\(name)-\(index)")) }
        } catch {
            for loop in loops { loop.stop() }
            throw error
        }
        self.loops = loops
    }

    /// The loops one after the other.
    package func next() -> EdgeLoop {
        let turn = self.turn.wrappingAdd(1, ordering: .relaxed).oldValue
        return self.loops[Int(UInt(bitPattern: turn) % UInt(self.loops.count))]
    }

    /// Ends all threads and waits for them. Harmless when repeated.
    package func stop() {
        for loop in self.loops { loop.stop() }
    }
}
