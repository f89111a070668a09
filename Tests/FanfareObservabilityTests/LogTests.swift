import Foundation
import Logging
import Synchronization
import Testing

@testable import FanfareObservability

private final class MemorySink: LogSink {
    private let content = Mutex<[UInt8]>([])
    func write(_ line: [UInt8], isUrgent: Bool) { self.content.withLock { $0 += line } }
    var lines: [String] {
        self.content.withLock { String(decoding: $0, as: UTF8.self) }.split(separator: "\n").map(String.init)
    }
}

@Suite struct LogTests {
    private func logger(_ configuration: LogConfiguration) -> (Logger, MemorySink) {
        let sink = MemorySink()
        return (Logger(label: "test") { configuration.handler(label: $0, sink: sink) }, sink)
    }

    @Test func jsonLinesAreFlatAndEscaped() throws {
        var (logger, sink) = self.logger(LogConfiguration(metadata: ["node": "n1"]))
        logger[metadataKey: "room"] = "room:1"
        logger.debug("not shown")
        logger.info(
            "say \"hi\"\n\u{1}\\",
            metadata: ["session": ["id": "s", "deep": ["er": "x"]], "list": ["a", "b"], "level": "mine"])
        #expect(sink.lines.count == 1)
        let line = try #require(sink.lines.first)
        let json = try #require(JSONSerialization.jsonObject(with: Data(line.utf8)) as? [String: Any])
        #expect(json["message"] as? String == "say \"hi\"\n\u{1}\\")
        #expect(json["level"] as? String == "info" && json["logger"] as? String == "test")
        #expect(json["node"] as? String == "n1" && json["room"] as? String == "room:1")
        #expect(json["session.id"] as? String == "s" && json["session.deep.er"] as? String == "x")
        #expect(json["list"] as? [String] == ["a", "b"] && json["metadata.level"] as? String == "mine")
        let time = try #require(json["time"] as? String)
        #expect(time.wholeMatch(of: #/\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z/#) != nil)
        #expect(line.hasPrefix("{\"time\":"))
    }

    @Test func secretsAreNotWritten() throws {
        let (logger, sink) = self.logger(LogConfiguration(level: .trace))
        logger.warning(
            "cannot reach redis://user:hunter2@example:6379/0 or postgresql://u@h/db",
            metadata: [
                "token": "hunter2", "X-API-Key": "hunter2", "inner": ["password": "hunter2"],
                "url": "postgres://fanfare:hunter2@db/x?password=1", "urls": ["redis://:hunter2@a"],
            ])
        logger.error("failed", metadata: ["cause": .stringConvertible("redis://x:hunter2@b")])
        let text = sink.lines.joined(separator: "\n")
        #expect(!text.contains("hunter2"))
        #expect(text.contains("redis://[redacted]@example:6379/0 or postgresql://[redacted]@h/db"))
        #expect(Redaction.urls(in: "mail a@b, http://h/x@y") == "mail a@b, http://h/x@y")
    }

    @Test func textLines() {
        let line = LogLine(
            time: 1_769_860_800_007, level: .warning, label: "fabric", message: "slow\nreader\u{1b}[31m",
            fields: [
                LogField(key: "a", value: .text("plain")), LogField(key: "b", value: .text("with \"space\"")),
                LogField(key: "c", value: .list(["1", "2 3"])), LogField(key: "d", value: .text("")),
            ])
        #expect(
            String(decoding: line.text(isColoured: false), as: UTF8.self)
                == #"2026-01-31T12:00:00.007Z WARNING  fabric: slow\nreader\u{1b}[31m a=plain b="with \"space\"" "#
                + #"c=[1, "2 3"] d="""# + "\n")
        let coloured = String(decoding: line.text(isColoured: true), as: UTF8.self)
        #expect(coloured.contains("\u{1b}[33mWARNING\u{1b}[0m"))
    }

    @Test func levelAndFormatComeFromTheEnvironment() throws {
        let terminal = try LogConfiguration(environment: [:], isTerminal: true)
        #expect(terminal.level == .info && terminal.format == .text && terminal.isColoured)
        let pipe = try LogConfiguration(environment: ["LOG_LEVEL": "WARN", "LOG_FORMAT": ""], isTerminal: false)
        #expect(pipe.level == .warning && pipe.format == .json && !pipe.isColoured)
        let plain = try LogConfiguration(environment: ["NO_COLOR": "1", "LOG_FORMAT": "text"], isTerminal: true)
        #expect(plain.format == .text && !plain.isColoured)
        #expect(throws: LogConfigurationError.self) {
            try LogConfiguration(environment: ["LOG_LEVEL": "loud"], isTerminal: true)
        }
        let error = #expect(throws: LogConfigurationError.self) {
            try LogConfiguration(environment: ["LOG_FORMAT": "xml"], isTerminal: true)
        }
        #expect(error?.description == "LOG_FORMAT is 'xml'; allowed are text, json")
    }

    @Test func linesOfManyThreadsDoNotMix() async throws {
        let pipe = Pipe()
        let sink = DescriptorSink(descriptor: pipe.fileHandleForWriting.fileDescriptor)
        let configuration = LogConfiguration()
        let reader = Task.detached { try pipe.fileHandleForReading.readToEnd() ?? Data() }
        await withTaskGroup(of: Void.self) { group in
            for writer in 0..<4 {
                group.addTask {
                    let logger = Logger(label: "w") { configuration.handler(label: $0, sink: sink) }
                    for index in 0..<300 {
                        logger.error("line", metadata: ["writer": "\(writer)", "index": "\(index)"])
                    }
                }
            }
        }
        try pipe.fileHandleForWriting.close()
        let lines = try await String(decoding: reader.value, as: UTF8.self).split(separator: "\n")
        #expect(lines.count + Int(sink.dropped) == 1200)
        #expect(lines.count > 0)
        for line in lines { #expect(throws: Never.self) { try JSONSerialization.jsonObject(with: Data(line.utf8)) } }
    }

    @Test func aReaderThatStoppedDoesNotStopTheWriter() {
        let pipe = Pipe()
        let sink = DescriptorSink(descriptor: pipe.fileHandleForWriting.fileDescriptor)
        let line = [UInt8](repeating: UInt8(ascii: "x"), count: 1024)
        for _ in 0..<200 { sink.write(line, isUrgent: false) }
        #expect(sink.dropped > 0 && sink.dropped < 200)
        withExtendedLifetime(pipe) {}
    }
}
