internal import FanfareModel

/// RFC 4648, section 5, without padding, as tokens use it.
enum Base64URL {
    private static let invalid: UInt8 = 0xff
    private static let values: [UInt8] = {
        var values = [UInt8](repeating: Base64URL.invalid, count: 256)
        let digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
        for (value, digit) in digits.utf8.enumerated() { values[Int(digit)] = UInt8(value) }
        return values
    }()

    /// - Returns: nil where `text` is not exactly the encoding of some bytes.
    static func decode(_ text: some Collection<UInt8>) -> Bytes? {
        guard text.count % 4 != 1 else { return nil }
        var bytes = Bytes()
        bytes.reserveCapacity(text.count * 3 / 4)
        var accumulator: UInt32 = 0
        var bits: UInt32 = 0
        for character in text {
            let value = Base64URL.values[Int(character)]
            guard value != Base64URL.invalid else { return nil }
            accumulator = accumulator << 6 | UInt32(value)
            bits += 6
            if bits >= 8 {
                bits -= 8
                bytes.append(UInt8(truncatingIfNeeded: accumulator >> bits))
            }
        }
        // Bits that stand for nothing must be zero, else one signature would have several spellings.
        guard accumulator & (1 << bits - 1) == 0 else { return nil }
        return bytes
    }

    /// The usual alphabet, with padding or without: `b64info`, `b64data`.
    static func decodeStandard(_ text: String) -> Bytes? {
        var digits = Array(text.utf8)
        while digits.last == UInt8(ascii: "=") { digits.removeLast() }
        return Base64URL.decode(
            digits.map { digit in
                switch digit {
                case UInt8(ascii: "+"): UInt8(ascii: "-")
                case UInt8(ascii: "/"): UInt8(ascii: "_")
                // What is no digit of the usual alphabet becomes one of none.
                case UInt8(ascii: "-"), UInt8(ascii: "_"): UInt8(ascii: "!")
                default: digit
                }
            })
    }
}
