internal import CHiredis
import FanfareModel

/// The server sent what is no RESP2, or more than is accepted. Final for the link.
struct ProtocolViolation: Error, Hashable, Sendable, CustomStringConvertible {
    let description: String
}

/// Makes replies of the bytes of one connection, by hiredis' reader.
struct ReplyParser: ~Copyable {
    /// Larger arrays are refused before memory is taken for their elements.
    static let maximumElements = 1 << 20
    /// The reader moves what is left at each reply: it is fed pieces of this size and emptied in between.
    private static let pieceSize = 64 * 1024

    private let reader: UnsafeMutablePointer<redisReader>
    private let byteLimit: Int
    /// Bytes of the reply that is not complete yet; an upper bound.
    private var unfinishedBytes = 0

    /// - Parameter byteLimit: of one reply.
    init(byteLimit: Int = 64 << 20) throws(ProtocolViolation) {
        guard let functions = BoundedReplies.functions, let reader = redisReaderCreateWithFunctions(functions) else {
            throw ProtocolViolation(description: "out of memory")
        }
        self.reader = reader
        self.byteLimit = byteLimit
    }

    deinit { redisReaderFree(self.reader) }

    /// Takes the next bytes of the connection and appends the replies that they complete.
    /// - Throws: once for all: the parser must not be fed again.
    mutating func feed(_ bytes: UnsafeRawBufferPointer, into replies: inout [RedisReply]) throws(ProtocolViolation) {
        var rest = bytes[...]
        while !rest.isEmpty {
            let piece = UnsafeRawBufferPointer(rebasing: rest.prefix(Self.pieceSize))
            rest = rest.dropFirst(Self.pieceSize)
            guard redisReaderFeed(self.reader, piece.baseAddress?.assumingMemoryBound(to: CChar.self), piece.count) == 0
            else { throw self.violation }
            self.unfinishedBytes += piece.count
            try self.drain(into: &replies)
            guard self.unfinishedBytes <= self.byteLimit else {
                throw ProtocolViolation(description: "a reply is longer than \(self.byteLimit) bytes")
            }
        }
    }

    private mutating func drain(into replies: inout [RedisReply]) throws(ProtocolViolation) {
        while true {
            var object: UnsafeMutableRawPointer?
            guard redisReaderGetReply(self.reader, &object) == 0 else { throw self.violation }
            guard let object else { return }
            defer { freeReplyObject(object) }
            replies.append(RedisReply(object.assumingMemoryBound(to: redisReply.self)))
            self.unfinishedBytes = self.reader.pointee.len - self.reader.pointee.pos
        }
    }

    private var violation: ProtocolViolation {
        let text = withUnsafeBytes(of: self.reader.pointee.errstr) { bytes in
            String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
        }
        return ProtocolViolation(description: text)
    }
}

extension RedisReply {
    /// Copies. hiredis bounds the depth of nesting.
    fileprivate init(_ reply: UnsafeMutablePointer<redisReply>) {
        switch reply.pointee.type {
        case REDIS_REPLY_STRING: self = .bulk(Array(Self.characters(reply)))
        case REDIS_REPLY_STATUS: self = .status(String(decoding: Self.characters(reply), as: UTF8.self))
        case REDIS_REPLY_ERROR: self = .error(String(decoding: Self.characters(reply), as: UTF8.self))
        case REDIS_REPLY_INTEGER: self = .integer(reply.pointee.integer)
        case REDIS_REPLY_ARRAY:
            let elements = UnsafeBufferPointer(start: reply.pointee.element, count: Int(reply.pointee.elements))
            self = .array(elements.map { $0.map { RedisReply($0) } ?? .null })
        default: self = .null
        }
    }

    private static func characters(_ reply: UnsafeMutablePointer<redisReply>) -> UnsafeRawBufferPointer {
        UnsafeRawBufferPointer(start: reply.pointee.str, count: Int(reply.pointee.len))
    }
}

/// hiredis' own functions, but for arrays, whose announced size is checked.
private enum BoundedReplies {
    private typealias CreateArray = @convention(c) (UnsafePointer<redisReadTask>?, CInt) -> UnsafeMutableRawPointer?

    private static let defaults: redisReplyObjectFunctions? = {
        guard let reader = redisReaderCreate() else { return nil }
        defer { redisReaderFree(reader) }
        return reader.pointee.fn?.pointee
    }()

    private static let createArray: CreateArray? = defaults?.createArray

    /// Safe to share: written once, before its first use, and never freed.
    nonisolated(unsafe) static let functions: UnsafeMutablePointer<redisReplyObjectFunctions>? = {
        guard var functions = defaults else { return nil }
        functions.createArray = { task, count in
            count <= CInt(ReplyParser.maximumElements) ? BoundedReplies.createArray?(task, count) : nil
        }
        let table = UnsafeMutablePointer<redisReplyObjectFunctions>.allocate(capacity: 1)
        table.initialize(to: functions)
        return table
    }()
}
