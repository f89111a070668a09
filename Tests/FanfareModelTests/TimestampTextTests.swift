import FanfareModel
import Testing

@Suite struct TimestampTextTests {
    @Test(
        arguments: [
            ("1970-01-01T00:00:00Z", 0), ("1970-01-01T00:00:00.001Z", 1), ("1970-01-01T00:00:00.1Z", 100),
            ("1970-01-01T00:00:00.123456789Z", 123), ("1970-01-01t01:00:00+01:00", 0), ("1969-12-31 23:00:00-01:00", 0),
            ("2026-01-31T12:00:00.000Z", 1_769_860_800_000), ("2024-02-29T00:00:00z", 1_709_164_800_000),
            ("2016-12-31T23:59:60Z", 1_483_228_800_000), ("0000-01-01T00:00:00Z", -62_167_219_200_000),
            ("9999-12-31T23:59:59.999Z", 253_402_300_799_999),
        ] as [(String, Int64)])
    func reads(_ text: String, _ milliseconds: Int64) {
        #expect(Timestamp(rfc3339: text)?.milliseconds == milliseconds)
    }

    @Test(arguments: [
        "", "2026", "2026-01-31", "2026-01-31T12:00:00", "2026-01-31T12:00Z", "2026-01-31T12:00:00.Z",
        "2026-13-01T00:00:00Z", "2026-00-01T00:00:00Z", "2026-02-29T00:00:00Z", "1900-02-29T00:00:00Z",
        "2026-04-31T00:00:00Z", "2026-01-00T00:00:00Z", "2026-01-01T24:00:00Z", "2026-01-01T00:60:00Z",
        "2026-01-01T00:00:61Z", "2026-01-01T00:00:00+24:00", "2026-01-01T00:00:00+0100", "2026-01-01T00:00:00ZZ",
        " 2026-01-01T00:00:00Z", "+026-01-01T00:00:00Z", "2026-01-01T00:00:00.5", "２026-01-01T00:00:00Z",
    ])
    func refuses(_ text: String) { #expect(Timestamp(rfc3339: text) == nil) }

    @Test(arguments: 0..<50 as Range<Int64>) func readsWhatItWrites(_ step: Int64) {
        for time in stride(from: -2_000_000_000_000 + step * 7919, through: 250_000_000_000_000, by: 1_234_567_890_123)
        {
            let timestamp = Timestamp(milliseconds: time)
            #expect(Timestamp(rfc3339: timestamp.description) == timestamp)
        }
    }
}
