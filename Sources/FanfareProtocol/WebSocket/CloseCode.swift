import FanfareModel

/// Codes of RFC 6455, 7.4, that an endpoint sends by itself. Those of the application are in `Disconnect`.
package enum CloseCode {
    package static let normal: UInt16 = 1000
    package static let goingAway: UInt16 = 1001
    package static let protocolError: UInt16 = 1002
    package static let unsupportedData: UInt16 = 1003
    package static let invalidPayload: UInt16 = 1007
    package static let policyViolation: UInt16 = 1008
    package static let messageTooBig: UInt16 = 1009
    package static let internalError: UInt16 = 1011

    /// Whether a close frame may carry `code`: 1004, 1005, 1006 and 1015 are reserved, below 3000 all else unassigned.
    package static func mayBeSent(_ code: UInt16) -> Bool {
        switch code {
        case 1000...1003, 1007...1014, 3000...4999: true
        default: false
        }
    }
}

/// What a frame carries (RFC 6455, 5.2).
package enum Opcode: UInt8, Sendable {
    case continuation = 0x0
    case text = 0x1
    case binary = 0x2
    case close = 0x8
    case ping = 0x9
    case pong = 0xa

    var isControl: Bool { self.rawValue & 0x8 != 0 }
}

/// The masking of a client's payloads (RFC 6455, 5.3).
struct MaskingKey: Hashable, Sendable {
    /// The key's four bytes, the first in the lowest eight bits.
    let word: UInt32

    init(_ first: UInt8, _ second: UInt8, _ third: UInt8, _ fourth: UInt8) {
        self.word = UInt32(first) | UInt32(second) << 8 | UInt32(third) << 16 | UInt32(fourth) << 24
    }

    /// - Parameter word: Read as little-endian: its lowest eight bits are the key's first byte.
    init(word: UInt32) { self.word = word }

    /// Masks or unmasks `bytes` from `start` on.
    /// - Parameter phase: How many bytes of the same frame came before.
    func apply(to bytes: inout Bytes, from start: Int, phase: Int) {
        let turn = UInt32(phase & 3) * 8
        let key = turn == 0 ? self.word : self.word >> turn | self.word << (32 - turn)
        let wide = (UInt64(key) | UInt64(key) << 32).littleEndian
        bytes.withUnsafeMutableBytes { buffer in
            var index = start
            while index + 8 <= buffer.count {
                let word = buffer.loadUnaligned(fromByteOffset: index, as: UInt64.self)
                buffer.storeBytes(of: word ^ wide, toByteOffset: index, as: UInt64.self)
                index += 8
            }
            var rest = key
            while index < buffer.count {
                buffer[index] ^= UInt8(truncatingIfNeeded: rest)
                rest = rest >> 8 | rest << 24
                index += 1
            }
        }
    }
}
