package import FanfareModel

/// Numbers in base 128, least significant group first, as protobuf writes them.
package enum Varint {
    /// Ten groups of seven bits hold 64.
    package static let maximumLength = 10

    package static func append(_ value: UInt64, to bytes: inout Bytes) {
        var rest = value
        while rest >= 0x80 {
            bytes.append(UInt8(truncatingIfNeeded: rest) | 0x80)
            rest >>= 7
        }
        bytes.append(UInt8(truncatingIfNeeded: rest))
    }

    /// - Returns: The number at `position`, which is moved behind it; nil, with `position` unchanged, where it is cut off
    ///   or does not fit 64 bits.
    package static func read(_ bytes: UnsafeBufferPointer<UInt8>, at position: inout Int) -> UInt64? {
        var value: UInt64 = 0
        var shift: UInt64 = 0
        var index = position
        while index < bytes.count {
            let byte = bytes[index]
            index += 1
            guard shift < 63 || byte <= 1 else { return nil }
            value |= UInt64(byte & 0x7f) << shift
            if byte < 0x80 {
                position = index
                return value
            }
            shift += 7
        }
        return nil
    }
}
