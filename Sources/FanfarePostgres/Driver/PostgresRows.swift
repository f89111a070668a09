import CLibPQ
package import FanfareModel

/// The rows that a statement returned, in binary. Stays on the thread of its connection.
package final class PostgresRows {
    private let result: OpaquePointer
    package let count: Int
    /// Rows inserted, updated, deleted or selected.
    package let affected: Int
    /// The command's tag: `INSERT 0 1`.
    let tag: String

    /// Takes over `result`.
    init(result: OpaquePointer) {
        self.result = result
        self.count = Int(PQntuples(result))
        self.affected = Int(String(cString: PQcmdTuples(result))) ?? 0
        self.tag = String(cString: PQcmdStatus(result))
    }

    deinit { PQclear(self.result) }

    package var isEmpty: Bool { self.count == 0 }
    package var indices: Range<Int> { 0..<self.count }

    package func isNull(_ row: Int, _ column: Int) -> Bool {
        PQgetisnull(self.result, Int32(row), Int32(column)) != 0
    }

    package func bool(_ row: Int, _ column: Int) throws(PostgresError) -> Bool {
        try self.value(row, column, [16]) { $0[0] != 0 }
    }

    /// Of int2, int4 and int8.
    package func int64(_ row: Int, _ column: Int) throws(PostgresError) -> Int64 {
        try self.value(row, column, [20, 21, 23]) { bytes in
            switch bytes.count {
            case 2: Int64(Int16(bitPattern: UInt16(Self.bigEndian(bytes))))
            case 4: Int64(Int32(bitPattern: UInt32(Self.bigEndian(bytes))))
            default: Int64(bitPattern: Self.bigEndian(bytes))
            }
        }
    }

    package func int64OrNil(_ row: Int, _ column: Int) throws(PostgresError) -> Int64? {
        self.isNull(row, column) ? nil : try self.int64(row, column)
    }

    package func int(_ row: Int, _ column: Int) throws(PostgresError) -> Int { Int(try self.int64(row, column)) }

    /// Of columns that are never negative.
    package func uint64(_ row: Int, _ column: Int) throws(PostgresError) -> UInt64 {
        UInt64(clamping: try self.int64(row, column))
    }

    package func string(_ row: Int, _ column: Int) throws(PostgresError) -> String {
        try self.value(row, column, [25, 1043, 19]) { String(decoding: $0, as: UTF8.self) }
    }

    package func stringOrNil(_ row: Int, _ column: Int) throws(PostgresError) -> String? {
        self.isNull(row, column) ? nil : try self.string(row, column)
    }

    /// Of bytea and of text.
    package func bytes(_ row: Int, _ column: Int) throws(PostgresError) -> Bytes {
        try self.value(row, column, [17, 25]) { Bytes($0) }
    }

    /// Of timestamptz, cut to milliseconds.
    package func timestamp(_ row: Int, _ column: Int) throws(PostgresError) -> Timestamp {
        // PostgreSQL counts microseconds from 2000-01-01.
        let microseconds = try self.value(row, column, [1184]) { Int64(bitPattern: Self.bigEndian($0)) }
        let (sum, overflow) = microseconds.addingReportingOverflow(946_684_800_000_000)
        let quotient = (overflow ? microseconds : sum).quotientAndRemainder(dividingBy: 1000)
        return Timestamp(milliseconds: quotient.remainder < 0 ? quotient.quotient - 1 : quotient.quotient)
    }

    package func timestampOrNil(_ row: Int, _ column: Int) throws(PostgresError) -> Timestamp? {
        self.isNull(row, column) ? nil : try self.timestamp(row, column)
    }

    package func texts(_ row: Int, _ column: Int) throws(PostgresError) -> [String] {
        let texts = try self.value(row, column, [1009]) { Self.texts($0) }
        guard let texts else {
            throw PostgresError(.unexpectedAnswer, "column \(column) holds a malformed text[]")
        }
        return texts
    }

    /// Of int2[] and int8[] without nulls.
    package func int64s(_ row: Int, _ column: Int) throws(PostgresError) -> [Int64] {
        let integers = try self.value(row, column, [1005, 1016]) { Self.integers($0) }
        guard let integers else {
            throw PostgresError(.unexpectedAnswer, "column \(column) holds a malformed array of integers")
        }
        return integers
    }

    /// The one row's one integer.
    package func onlyInt64() throws(PostgresError) -> Int64 {
        guard self.count == 1 else {
            throw PostgresError(.unexpectedAnswer, "one row was expected, there are \(self.count)")
        }
        return try self.int64(0, 0)
    }

    private func value<Value>(
        _ row: Int, _ column: Int, _ types: [UInt32], _ decode: (UnsafeRawBufferPointer) -> Value
    ) throws(PostgresError) -> Value {
        let type = PQftype(self.result, Int32(column))
        guard (0..<self.count).contains(row), types.contains(type) else {
            throw PostgresError(.unexpectedAnswer, "row \(row), column \(column) has type \(type)")
        }
        guard !self.isNull(row, column), let pointer = PQgetvalue(self.result, Int32(row), Int32(column)) else {
            throw PostgresError(.unexpectedAnswer, "row \(row), column \(column) is null")
        }
        let length = Int(PQgetlength(self.result, Int32(row), Int32(column)))
        guard length > 0 || type == 17 || type == 25 || type == 1043 else {
            throw PostgresError(.unexpectedAnswer, "row \(row), column \(column) is empty")
        }
        return decode(UnsafeRawBufferPointer(start: pointer, count: length))
    }

    private static func bigEndian(_ bytes: some Sequence<UInt8>) -> UInt64 {
        bytes.prefix(8).reduce(0) { $0 << 8 | UInt64($1) }
    }

    private static func integers(_ bytes: UnsafeRawBufferPointer) -> [Int64]? {
        func int32(_ offset: Int) -> Int32 {
            Int32(bigEndian: bytes.loadUnaligned(fromByteOffset: offset, as: Int32.self))
        }
        // Dimensions, whether there are nulls, the elements' type; then length and lower bound of the one dimension.
        guard bytes.count >= 12 else { return nil }
        guard int32(0) == 1 else { return int32(0) == 0 ? [] : nil }
        guard bytes.count >= 20, int32(4) == 0 else { return nil }
        let width = int32(8) == 21 ? 2 : 8
        let count = Int(int32(12))
        guard count >= 0, bytes.count == 20 + count * (4 + width) else { return nil }
        return (0..<count).map { index in
            let offset = 20 + index * (4 + width) + 4
            return width == 2
                ? Int64(Int16(bigEndian: bytes.loadUnaligned(fromByteOffset: offset, as: Int16.self)))
                : Int64(bigEndian: bytes.loadUnaligned(fromByteOffset: offset, as: Int64.self))
        }
    }

    private static func texts(_ bytes: UnsafeRawBufferPointer) -> [String]? {
        var rest = bytes[...]
        func int32() -> Int? {
            guard rest.count >= 4 else { return nil }
            defer { rest = rest.dropFirst(4) }
            return Int(Int32(bitPattern: UInt32(Self.bigEndian(rest.prefix(4)))))
        }
        guard let dimensions = int32(), int32() != nil, int32() != nil else { return nil }
        guard dimensions == 1 else { return dimensions == 0 ? [] : nil }
        guard let count = int32(), int32() != nil, count >= 0 else { return nil }
        var texts: [String] = []
        for _ in 0..<count {
            guard let length = int32(), length >= 0, rest.count >= length else { return nil }
            texts.append(String(decoding: rest.prefix(length), as: UTF8.self))
            rest = rest.dropFirst(length)
        }
        return texts
    }
}
