import FanfareModel

/// A command and its arguments, as RESP sends them.
struct RedisCommand: Sendable, Hashable {
    private(set) var arguments: [Bytes]

    init(_ name: String, _ arguments: [Bytes] = []) {
        self.arguments = [Array(name.utf8)]
        self.arguments.append(contentsOf: arguments)
    }

    init(_ name: String, _ arguments: String...) {
        self.init(name, arguments.map { Array($0.utf8) })
    }

    var name: String { String(decoding: self.arguments[0], as: UTF8.self) }

    /// An upper bound of the bytes on the wire.
    var encodedSize: Int { self.arguments.reduce(24) { $0 + $1.count + 24 } }

    func encode(into output: inout Bytes) {
        output.appendHeader(UInt8(ascii: "*"), self.arguments.count)
        for argument in self.arguments {
            output.appendHeader(UInt8(ascii: "$"), argument.count)
            output.append(contentsOf: argument)
            output.appendLineEnd()
        }
    }
}

extension [UInt8] {
    fileprivate mutating func appendHeader(_ type: UInt8, _ count: Int) {
        self.append(type)
        self.append(contentsOf: String(count).utf8)
        self.appendLineEnd()
    }

    fileprivate mutating func appendLineEnd() {
        self.append(UInt8(ascii: "\r"))
        self.append(UInt8(ascii: "\n"))
    }
}
