/// The objects and arrays that are open at a place in JSON text: one bit each, so that 100,000 levels take 12 KiB and the
/// first 64 nothing at all.
struct OpenContainers {
    private(set) var count = 0
    /// The first element or member of what was opened last follows.
    var isAtValue = false
    private var first: UInt64 = 0
    private var further: [UInt64] = []

    /// Nil where none is open.
    var innermostIsObject: Bool? {
        guard self.count > 0 else { return nil }
        let index = self.count - 1
        let word = index < 64 ? self.first : self.further[index / 64 - 1]
        return word >> UInt64(index % 64) & 1 == 1
    }

    mutating func push(isObject: Bool) {
        let bit: UInt64 = 1 << UInt64(self.count % 64)
        if self.count < 64 {
            self.first = isObject ? self.first | bit : self.first & ~bit
        } else {
            let index = self.count / 64 - 1
            if index == self.further.count { self.further.append(0) }
            self.further[index] = isObject ? self.further[index] | bit : self.further[index] & ~bit
        }
        self.count += 1
    }

    mutating func pop() { self.count -= 1 }
}
