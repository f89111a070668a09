package import FanfareModel

/// Turns the bytes of a WebSocket connection into messages (RFC 6455), however they are cut into chunks.
///
/// Holds bytes only while a message is incomplete: an idle connection keeps nothing but the value itself. After
/// `.close` and `.violation` all further input is ignored.
package struct FrameParser: Sendable {
    package enum Role: Sendable {
        /// Reads a client's frames, which must be masked.
        case server
        /// Reads a server's frames, which must not be.
        case client
    }

    package enum Event: Hashable, Sendable {
        /// Text is valid UTF-8.
        case message(Bytes, isText: Bool)
        /// To be answered by a pong with the same bytes.
        case ping(Bytes)
        case pong(Bytes)
        /// The peer closes; the code is nil where it gave none.
        case close(code: UInt16?, reason: String)
        /// The peer broke the protocol: close with this code.
        case violation(code: UInt16)
    }

    /// 128 KiB.
    package static let defaultMaximumMessageLength = 128 * 1024
    /// RFC 6455, 5.5.
    package static let maximumControlLength = 125

    private enum Phase: Sendable {
        case header
        case payload
        case closed
    }

    private let role: Role
    private let maximumMessageLength: Int
    private var phase = Phase.header

    // The frame at hand.
    private var header = InlineArray<14, UInt8>(repeating: 0)
    private var headerCount = 0
    private var opcode = Opcode.continuation
    private var isFinal = false
    private var maskingKey: MaskingKey?
    private var payloadLength = 0
    private var payloadCount = 0
    private var control: Bytes = []

    // The message at hand, over its fragments.
    private var message: Bytes = []
    /// Nil between messages.
    private var messageIsText: Bool?
    private var validator = UTF8Validator()

    package init(role: Role = .server, maximumMessageLength: Int = FrameParser.defaultMaximumMessageLength) {
        self.role = role
        self.maximumMessageLength = maximumMessageLength
    }

    /// Whether nothing is incomplete.
    package var isIdle: Bool { self.phase == .header && self.headerCount == 0 && self.messageIsText == nil }

    package mutating func parse(_ chunk: Bytes) -> [Event] {
        var events: [Event] = []
        chunk.withUnsafeBufferPointer { self.parse($0, into: &events) }
        return events
    }

    package mutating func parse(_ chunk: UnsafeBufferPointer<UInt8>, into events: inout [Event]) {
        var index = 0
        while index < chunk.count {
            switch self.phase {
            case .header:
                self.header[self.headerCount] = chunk[index]
                self.headerCount += 1
                index += 1
                if self.headerCount == 2, let code = self.checkStart() {
                    self.fail(code, &events)
                } else if self.headerCount >= 2, self.headerCount == self.headerLength {
                    if let code = self.beginPayload() {
                        self.fail(code, &events)
                    } else if self.payloadLength == 0 {
                        self.finishFrame(&events)
                    }
                }
            case .payload:
                let count = min(self.payloadLength - self.payloadCount, chunk.count - index)
                if let code = self.take(UnsafeBufferPointer(rebasing: chunk[index..<index + count])) {
                    self.fail(code, &events)
                } else if self.payloadCount == self.payloadLength {
                    self.finishFrame(&events)
                }
                index += count
            case .closed:
                return
            }
        }
    }

    // MARK: Header

    private var hasMask: Bool { self.header[1] & 0x80 != 0 }

    /// Known from the second byte on.
    private var headerLength: Int {
        let extended =
            switch self.header[1] & 0x7f {
            case 126: 2
            case 127: 8
            default: 0
            }
        return 2 + extended + (self.hasMask ? 4 : 0)
    }

    /// Judges the first two bytes.
    /// - Returns: The code of a violation.
    private mutating func checkStart() -> UInt16? {
        guard self.header[0] & 0x70 == 0, let opcode = Opcode(rawValue: self.header[0] & 0x0f) else {
            return CloseCode.protocolError
        }
        self.opcode = opcode
        self.isFinal = self.header[0] & 0x80 != 0
        guard self.hasMask == (self.role == .server) else { return CloseCode.protocolError }
        switch opcode {
        case .continuation: return self.messageIsText == nil ? CloseCode.protocolError : nil
        case .text, .binary: return self.messageIsText == nil ? nil : CloseCode.protocolError
        case .close, .ping, .pong:
            let fits = Int(self.header[1] & 0x7f) <= FrameParser.maximumControlLength
            return self.isFinal && fits ? nil : CloseCode.protocolError
        }
    }

    /// The header is complete.
    /// - Returns: The code of a violation.
    private mutating func beginPayload() -> UInt16? {
        var length = UInt64(self.header[1] & 0x7f)
        let maskStart = self.headerLength - (self.hasMask ? 4 : 0)
        if length >= 126 {
            let least: UInt64 = length == 126 ? 126 : 0x1_0000
            length = 0
            for index in 2..<maskStart { length = length << 8 | UInt64(self.header[index]) }
            // The shortest form is required, and the highest bit is always 0 (RFC 6455, 5.2).
            guard length >= least, length <= UInt64(Int64.max) else { return CloseCode.protocolError }
        }
        if !self.opcode.isControl {
            guard length <= UInt64(max(0, self.maximumMessageLength - self.message.count)) else {
                return CloseCode.messageTooBig
            }
            if self.opcode != .continuation {
                self.messageIsText = self.opcode == .text
                self.validator = UTF8Validator()
            }
        }
        self.maskingKey =
            self.hasMask
            ? MaskingKey(
                self.header[maskStart], self.header[maskStart + 1], self.header[maskStart + 2],
                self.header[maskStart + 3]) : nil
        self.payloadLength = Int(length)
        self.payloadCount = 0
        self.headerCount = 0
        self.phase = .payload
        return nil
    }

    // MARK: Payload

    /// - Returns: The code of a violation.
    private mutating func take(_ piece: UnsafeBufferPointer<UInt8>) -> UInt16? {
        let phase = self.payloadCount
        self.payloadCount += piece.count
        if self.opcode.isControl {
            FrameParser.append(piece, to: &self.control, self.maskingKey, phase: phase)
            return nil
        }
        let start = self.message.count
        FrameParser.append(piece, to: &self.message, self.maskingKey, phase: phase)
        guard self.messageIsText == true else { return nil }
        var validator = self.validator
        let isValid = self.message.withUnsafeBufferPointer {
            validator.feed(UnsafeBufferPointer(rebasing: $0[start...]))
        }
        self.validator = validator
        return isValid ? nil : CloseCode.invalidPayload
    }

    private static func append(
        _ piece: UnsafeBufferPointer<UInt8>, to bytes: inout Bytes, _ maskingKey: MaskingKey?, phase: Int
    ) {
        let start = bytes.count
        bytes.append(contentsOf: piece)
        maskingKey?.apply(to: &bytes, from: start, phase: phase)
    }

    private mutating func finishFrame(_ events: inout [Event]) {
        self.phase = .header
        switch self.opcode {
        case .continuation, .text, .binary:
            guard self.isFinal else { return }
            let isText = self.messageIsText == true
            guard !isText || self.validator.isComplete else {
                self.fail(CloseCode.invalidPayload, &events)
                return
            }
            self.messageIsText = nil
            var message: Bytes = []
            swap(&message, &self.message)
            events.append(.message(message, isText: isText))
        case .ping: events.append(.ping(self.takeControl()))
        case .pong: events.append(.pong(self.takeControl()))
        case .close: self.finishClose(&events)
        }
    }

    private mutating func takeControl() -> Bytes {
        var payload: Bytes = []
        swap(&payload, &self.control)
        return payload
    }

    private mutating func finishClose(_ events: inout [Event]) {
        let payload = self.takeControl()
        guard !payload.isEmpty else {
            self.finish(.close(code: nil, reason: ""), &events)
            return
        }
        let code = payload.count < 2 ? 0 : UInt16(payload[0]) << 8 | UInt16(payload[1])
        guard CloseCode.mayBeSent(code) else {
            self.fail(CloseCode.protocolError, &events)
            return
        }
        var validator = UTF8Validator()
        let isText = payload.withUnsafeBufferPointer { validator.feed(UnsafeBufferPointer(rebasing: $0[2...])) }
        guard isText, validator.isComplete else {
            self.fail(CloseCode.invalidPayload, &events)
            return
        }
        self.finish(.close(code: code, reason: String(decoding: payload[2...], as: UTF8.self)), &events)
    }

    private mutating func fail(_ code: UInt16, _ events: inout [Event]) {
        self.finish(.violation(code: code), &events)
    }

    private mutating func finish(_ event: Event, _ events: inout [Event]) {
        self.phase = .closed
        self.message = []
        self.control = []
        self.messageIsText = nil
        events.append(event)
    }
}
