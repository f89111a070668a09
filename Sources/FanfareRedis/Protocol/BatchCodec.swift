import FanfareEngines
import FanfareModel

/// How a batch of publications travels on a room's channel. All numbers are big-endian:
/// version (1 byte, 1) · length of the epoch (2) · epoch · first offset (8) · count (4) · per body its length (4) and bytes.
/// The append script writes the same.
enum BatchCodec {
    static let version: UInt8 = 1

    static func encode(_ batch: PublishedBatch) -> Bytes {
        var output = Bytes()
        output.reserveCapacity(batch.bodies.reduce(32) { $0 + 4 + $1.count })
        output.append(Self.version)
        let epoch = Array(batch.epoch.utf8.prefix(Int(UInt16.max)))
        output.appendBigEndian(UInt16(epoch.count))
        output.append(contentsOf: epoch)
        output.appendBigEndian(batch.firstOffset)
        output.appendBigEndian(UInt32(batch.bodies.count))
        for body in batch.bodies {
            output.appendBigEndian(UInt32(body.count))
            output.append(contentsOf: body)
        }
        return output
    }

    /// - Returns: nil where the bytes are no such batch.
    static func decode(_ bytes: Bytes) -> PublishedBatch? {
        var rest = bytes[...]
        guard rest.popFirst() == Self.version,
            let epochLength = rest.takeBigEndian(UInt16.self), let epoch = rest.take(Int(epochLength)),
            let firstOffset = rest.takeBigEndian(UInt64.self), let count = rest.takeBigEndian(UInt32.self),
            Int(count) * 4 <= rest.count, firstOffset <= .max - UInt64(count)
        else { return nil }
        var bodies: [Bytes] = []
        bodies.reserveCapacity(Int(count))
        for _ in 0..<count {
            guard let length = rest.takeBigEndian(UInt32.self), let body = rest.take(Int(length)) else { return nil }
            bodies.append(Array(body))
        }
        guard rest.isEmpty else { return nil }
        return PublishedBatch(
            epoch: String(decoding: epoch, as: UTF8.self), firstOffset: firstOffset, bodies: bodies)
    }
}

extension [UInt8] {
    fileprivate mutating func appendBigEndian(_ value: some FixedWidthInteger) {
        Swift.withUnsafeBytes(of: value.bigEndian) { self.append(contentsOf: $0) }
    }
}

extension ArraySlice<UInt8> {
    fileprivate mutating func take(_ count: Int) -> ArraySlice<UInt8>? {
        guard count <= self.count else { return nil }
        defer { self.removeFirst(count) }
        return self.prefix(count)
    }

    fileprivate mutating func takeBigEndian<Value: FixedWidthInteger>(_: Value.Type) -> Value? {
        self.take(Value.bitWidth / 8)?.reduce(0 as Value) { $0 << 8 | Value(truncatingIfNeeded: $1) }
    }
}
