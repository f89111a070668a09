import FanfareModel
import Foundation

/// Runs a property on mutated and random inputs for some seconds: `FANFARE_FUZZ_SECONDS` (1 by default) and
/// `FANFARE_FUZZ_SEED` (drawn by default, always printed) say for how long and from where.
struct Fuzzing {
    private let corpus: [Bytes]
    private var generator: SeededGenerator

    /// - Parameter body: Gets an input and a generator for further choices; returns whether the property held.
    /// - Returns: The first input for which it did not, with the seed.
    static func run(
        _ name: String, corpus: [Bytes], _ body: (Bytes, inout SeededGenerator) -> Bool
    ) -> String? {
        let environment = ProcessInfo.processInfo.environment
        let seconds = environment["FANFARE_FUZZ_SECONDS"].flatMap(Double.init) ?? 1
        let seed = environment["FANFARE_FUZZ_SEED"].flatMap { UInt64($0) } ?? UInt64.random(in: 0 ... .max)
        var fuzzing = Fuzzing(corpus: corpus, generator: SeededGenerator(seed: seed))
        let deadline = ContinuousClock.now.advanced(by: .milliseconds(Int64(seconds * 1000)))
        var count = 0
        while ContinuousClock.now < deadline {
            for _ in 0..<100 {
                let input = fuzzing.input()
                count += 1
                guard body(input, &fuzzing.generator) else { return "seed \(seed), input \(count): \(input)" }
            }
        }
        print("fuzzed \(name): \(count) inputs in \(seconds) s, seed \(seed)")
        return nil
    }

    private init(corpus: [Bytes], generator: SeededGenerator) {
        self.corpus = corpus
        self.generator = generator
    }

    private mutating func input() -> Bytes {
        if Int.random(in: 0..<10, using: &self.generator) == 0 { return self.random(0..<200) }
        var input = self.corpus.randomElement(using: &self.generator) ?? []
        for _ in 0..<Int.random(in: 0...4, using: &self.generator) { self.mutate(&input) }
        return input
    }

    private mutating func random(_ count: Range<Int>) -> Bytes {
        (0..<Int.random(in: count, using: &self.generator)).map { _ in UInt8.random(in: 0...255, using: &self.generator)
        }
    }

    private mutating func range(in input: Bytes) -> Range<Int> {
        let start = Int.random(in: 0...input.count, using: &self.generator)
        return start..<Int.random(in: start...min(input.count, start + 40), using: &self.generator)
    }

    private mutating func mutate(_ input: inout Bytes) {
        switch Int.random(in: 0..<7, using: &self.generator) {
        case 0:
            guard let index = input.indices.randomElement(using: &self.generator) else { return }
            input[index] ^= 1 << UInt8.random(in: 0..<8, using: &self.generator)
        case 1:
            guard let index = input.indices.randomElement(using: &self.generator) else { return }
            input[index] = UInt8.random(in: 0...255, using: &self.generator)
        case 2: input.removeSubrange(self.range(in: input))
        case 3:
            let piece = input[self.range(in: input)]
            input.insert(contentsOf: piece, at: self.range(in: input).lowerBound)
        case 4: input.insert(contentsOf: self.random(1..<9), at: self.range(in: input).lowerBound)
        case 5:
            let tokens = [
                "{", "}", "[", "]", "\"", "\\", "\n", "\r", ",", ":", "null", "true", "-", "0", "1e9", "\\u", "\\ud800",
                "18446744073709551616", "\u{7f}", "é", "😀", "\u{0}", "[[[[[[[[[[[[[[[[", "{\"id\":", "data",
            ]
            let token = tokens.randomElement(using: &self.generator) ?? ""
            input.insert(contentsOf: token.utf8, at: self.range(in: input).lowerBound)
        default:
            let other = self.corpus.randomElement(using: &self.generator) ?? []
            input = Bytes(input[..<self.range(in: input).lowerBound]) + other[self.range(in: other).lowerBound...]
        }
    }
}
