package import FanfareModel
import Glibc

/// Standard output and standard error, written at once: what is printed is there even if the process is killed.
package enum Output {
    /// Ends the process quietly where the reader went away (`fanfare watch … | head`).
    package static func line(_ text: String) { self.write(Bytes(text.utf8) + [0x0a], to: STDOUT_FILENO) }
    package static func line(_ bytes: Bytes) { self.write(bytes + [0x0a], to: STDOUT_FILENO) }

    /// For people, beside the results.
    package static func note(_ text: String) { self.write(Bytes((text + "\n").utf8), to: STDERR_FILENO) }
    /// Overwrites the line on a terminal.
    package static func progress(_ text: String) { self.write(Bytes(("\r\u{1b}[K" + text).utf8), to: STDERR_FILENO) }

    package static var isErrorTerminal: Bool { isatty(STDERR_FILENO) == 1 }

    private static func write(_ bytes: Bytes, to descriptor: Int32) {
        var offset = 0
        while offset < bytes.count {
            let written = bytes.withUnsafeBytes {
                Glibc.write(descriptor, $0.baseAddress?.advanced(by: offset), $0.count - offset)
            }
            if written > 0 {
                offset += written
            } else if errno == EAGAIN {
                var room = pollfd(fd: descriptor, events: Int16(POLLOUT), revents: 0)
                poll(&room, 1, 1000)
            } else if errno != EINTR {
                if descriptor == STDOUT_FILENO { exit(errno == EPIPE ? 0 : 1) }
                return
            }
        }
    }
}

/// Columns of text under a heading.
package struct TextTable: Sendable {
    package enum Alignment: Sendable { case left, right }
    private let columns: [(title: String, alignment: Alignment)]
    private var rows: [[String]] = []

    package init(_ columns: [(title: String, alignment: Alignment)]) { self.columns = columns }

    /// Control characters are shown as spaces.
    package mutating func add(_ row: [String]) {
        self.rows.append(
            row.map { cell in
                String(
                    String.UnicodeScalarView(
                        cell.unicodeScalars.map { $0.properties.generalCategory == .control ? " " : $0 }))
            })
    }

    package var lines: [String] {
        let all = [self.columns.map { $0.title.uppercased() }] + self.rows
        let widths = self.columns.indices.map { column in
            all.map { $0.indices.contains(column) ? $0[column].count : 0 }.max() ?? 0
        }
        return all.map { row in
            var line = ""
            for (column, width) in widths.enumerated() {
                let cell = row.indices.contains(column) ? row[column] : ""
                let space = String(repeating: " ", count: width - cell.count)
                if column > 0 { line += "  " }
                line += self.columns[column].alignment == .right ? space + cell : cell + space
            }
            while line.last == " " { line.removeLast() }
            return line
        }
    }
}

/// Times and counts for people.
package enum Readable {
    package static func duration(seconds: Int64) -> String {
        switch seconds {
        case ..<60: "\(max(0, seconds))s"
        case ..<3600: "\(seconds / 60)m\(seconds % 60)s"
        case ..<86_400: "\(seconds / 3600)h\(seconds / 60 % 60)m"
        default: "\(seconds / 86_400)d\(seconds / 3600 % 24)h"
        }
    }

    /// `1 234 567`
    package static func count(_ number: Int) -> String {
        var text = ""
        for (index, digit) in String(number.magnitude).reversed().enumerated() {
            if index > 0, index % 3 == 0 { text.append(" ") }
            text.append(digit)
        }
        return (number < 0 ? "-" : "") + String(text.reversed())
    }
}
