/// Well-formed UTF-8 (Unicode 15, table 3-7): no overlong forms, no surrogates, nothing above U+10FFFF.
enum UTF8Sequence {
    /// What must follow a leading byte: how many continuation bytes, and the range of the first of them.
    @inline(__always)
    static func rule(for lead: UInt8) -> (continuations: Int, lower: UInt8, upper: UInt8)? {
        switch lead {
        case 0x00...0x7f: (0, 0, 0)
        case 0xc2...0xdf: (1, 0x80, 0xbf)
        case 0xe0: (2, 0xa0, 0xbf)
        case 0xe1...0xec, 0xee, 0xef: (2, 0x80, 0xbf)
        case 0xed: (2, 0x80, 0x9f)
        case 0xf0: (3, 0x90, 0xbf)
        case 0xf1...0xf3: (3, 0x80, 0xbf)
        case 0xf4: (3, 0x80, 0x8f)
        default: nil
        }
    }

    /// - Returns: The length of the sequence that begins at `index`, or nil where it is ill-formed or cut off.
    static func length(in bytes: UnsafeBufferPointer<UInt8>, at index: Int) -> Int? {
        guard let rule = self.rule(for: bytes[index]) else { return nil }
        guard rule.continuations > 0 else { return 1 }
        guard index + rule.continuations < bytes.count else { return nil }
        guard (rule.lower...rule.upper).contains(bytes[index + 1]) else { return nil }
        var next = index + 2
        while next <= index + rule.continuations {
            guard bytes[next] & 0xc0 == 0x80 else { return nil }
            next += 1
        }
        return rule.continuations + 1
    }
}

/// Checks text that arrives in pieces. Holds no bytes, so that a piece may end inside a sequence.
struct UTF8Validator: Hashable, Sendable {
    private var missing = 0
    private var lower: UInt8 = 0x80
    private var upper: UInt8 = 0xbf

    /// Whether all text so far is well-formed and ends with a whole sequence.
    var isComplete: Bool { self.missing == 0 }

    /// - Returns: Whether the text so far may still become well-formed. After false the state is meaningless.
    mutating func feed(_ bytes: UnsafeBufferPointer<UInt8>) -> Bool {
        var index = 0
        let count = bytes.count
        while index < count {
            if self.missing == 0 {
                index = UTF8Validator.skipASCII(bytes, from: index)
                guard index < count else { break }
                guard let rule = UTF8Sequence.rule(for: bytes[index]) else { return false }
                self.missing = rule.continuations
                self.lower = rule.lower
                self.upper = rule.upper
            } else {
                guard bytes[index] >= self.lower, bytes[index] <= self.upper else { return false }
                self.missing -= 1
                self.lower = 0x80
                self.upper = 0xbf
            }
            index += 1
        }
        return true
    }

    private static func skipASCII(_ bytes: UnsafeBufferPointer<UInt8>, from start: Int) -> Int {
        var index = start
        let count = bytes.count
        guard let base = bytes.baseAddress else { return count }
        while index + 8 <= count {
            let word = UnsafeRawPointer(base + index).loadUnaligned(as: UInt64.self)
            guard word & 0x8080_8080_8080_8080 == 0 else { break }
            index += 8
        }
        while index < count, bytes[index] < 0x80 { index += 1 }
        return index
    }
}
