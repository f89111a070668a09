package import FanfareModel

/// Writes WebSocket frames (RFC 6455, 5.2), each message as one frame.
///
/// A server's frames are unmasked, so that one encoded frame serves many connections. A client hands in a fresh
/// unpredictable key for every frame.
package enum FrameEncoder {
    /// The longest header: opcode, 64-bit length, masking key.
    package static let maximumHeaderLength = 14
    /// What fits into a close frame beside the code.
    package static let maximumReasonLength = FrameParser.maximumControlLength - 2

    package static func append(message: Bytes, isText: Bool, maskingKey: UInt32? = nil, to bytes: inout Bytes) {
        self.append(isText ? .text : .binary, message, maskingKey, to: &bytes)
    }

    /// - Parameter payload: At most 125 bytes; the rest is dropped.
    package static func append(ping payload: Bytes, maskingKey: UInt32? = nil, to bytes: inout Bytes) {
        self.append(.ping, Bytes(payload.prefix(FrameParser.maximumControlLength)), maskingKey, to: &bytes)
    }

    /// - Parameter payload: At most 125 bytes; the rest is dropped.
    package static func append(pong payload: Bytes, maskingKey: UInt32? = nil, to bytes: inout Bytes) {
        self.append(.pong, Bytes(payload.prefix(FrameParser.maximumControlLength)), maskingKey, to: &bytes)
    }

    /// - Parameters:
    ///   - code: Nil, or one that may not be sent, leaves code and reason out.
    ///   - reason: Shortened to 123 bytes at a character's start.
    package static func append(
        closeCode code: UInt16?, reason: String = "", maskingKey: UInt32? = nil, to bytes: inout Bytes
    ) {
        var payload: Bytes = []
        if let code, CloseCode.mayBeSent(code) {
            payload = [UInt8(truncatingIfNeeded: code >> 8), UInt8(truncatingIfNeeded: code)]
            var length = 0
            for scalar in reason.unicodeScalars {
                length += UTF8.width(scalar)
                guard length <= self.maximumReasonLength else { break }
                payload.append(contentsOf: UTF8.encode(scalar) ?? UTF8.encodedReplacementCharacter)
            }
        }
        self.append(.close, payload, maskingKey, to: &bytes)
    }

    package static func append(_ disconnect: Disconnect, to bytes: inout Bytes) {
        self.append(closeCode: disconnect.code, reason: disconnect.reason, to: &bytes)
    }

    /// A message as a server's frame, ready for many connections.
    package static func frame(message: Bytes, isText: Bool) -> Bytes {
        var bytes = Bytes()
        self.append(message: message, isText: isText, to: &bytes)
        return bytes
    }

    private static func append(_ opcode: Opcode, _ payload: Bytes, _ maskingKey: UInt32?, to bytes: inout Bytes) {
        bytes.reserveCapacity(bytes.count + payload.count + self.maximumHeaderLength)
        bytes.append(0x80 | opcode.rawValue)
        let mask: UInt8 = maskingKey == nil ? 0 : 0x80
        switch payload.count {
        case ..<126: bytes.append(mask | UInt8(payload.count))
        case ..<0x1_0000:
            bytes.append(mask | 126)
            self.append(UInt64(payload.count), length: 2, to: &bytes)
        default:
            bytes.append(mask | 127)
            self.append(UInt64(payload.count), length: 8, to: &bytes)
        }
        guard let maskingKey else {
            bytes.append(contentsOf: payload)
            return
        }
        for shift in [0, 8, 16, 24] as [UInt32] { bytes.append(UInt8(truncatingIfNeeded: maskingKey >> shift)) }
        let start = bytes.count
        bytes.append(contentsOf: payload)
        MaskingKey(word: maskingKey).apply(to: &bytes, from: start, phase: 0)
    }

    private static func append(_ value: UInt64, length: Int, to bytes: inout Bytes) {
        for index in (0..<length).reversed() { bytes.append(UInt8(truncatingIfNeeded: value >> (8 * UInt64(index)))) }
    }
}
