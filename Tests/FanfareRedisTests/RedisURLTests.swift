import Testing

@testable import FanfareRedis

@Suite("Redis URLs")
struct RedisURLTests {
    @Test(arguments: [
        ("redis://localhost", RedisURL(host: "localhost")),
        ("redis://localhost/", RedisURL(host: "localhost")),
        ("REDIS://10.0.0.1:7000/3", RedisURL(host: "10.0.0.1", port: 7000, database: 3)),
        ("redis://:secret@host", RedisURL(host: "host", password: "secret")),
        ("redis://user:p%40ss%3Aword%2f@host:1", RedisURL(host: "host", port: 1, user: "user", password: "p@ss:word/")),
        ("redis://user:a@b@host", RedisURL(host: "host", user: "user", password: "a@b")),
        ("redis://[::1]:6380/15", RedisURL(host: "::1", port: 6380, database: 15)),
        ("redis://[fe80::1]", RedisURL(host: "fe80::1")),
        ("redis://host:/", RedisURL(host: "host")),
    ])
    func parses(text: String, expected: RedisURL) throws {
        #expect(try RedisURL(parsing: text) == expected)
    }

    @Test(arguments: [
        ("", RedisURL.ParseError.notAURL), ("localhost:6379", .notAURL), ("redis:/host", .notAURL),
        ("rediss://host", .tlsUnsupported), ("http://host", .unknownScheme("http")),
        ("redis://", .missingHost), ("redis://:6379", .missingHost), ("redis://user:p@", .missingHost),
        ("redis://host:0", .badPort("0")), ("redis://host:65536", .badPort("65536")),
        ("redis://host:+1", .badPort("+1")), ("redis://host:99999999999999999999", .badPort("99999999999999999999")),
        ("redis://host/x", .badDatabase("x")), ("redis://host/1/2", .badDatabase("1/2")),
        ("redis://host/-1", .badDatabase("-1")), ("redis://:%zz@host", .badEscape), ("redis://:%f@host", .badEscape),
        ("redis://:%ff@host", .badEscape), ("redis://host?db=1", .unexpectedParts), ("redis://[::1", .notAURL),
        ("redis://[::1]x", .notAURL),
    ])
    func refuses(text: String, expected: RedisURL.ParseError) {
        #expect(throws: expected) { try RedisURL(parsing: text) }
    }

    @Test("its description shows no password")
    func description() throws {
        #expect(try RedisURL(parsing: "redis://u:secret@[::1]/2").description == "redis://[::1]:6379/2")
    }

    @Test(arguments: [
        ("ff", true), ("", false), ("a{b", false), ("a b", false), (String(repeating: "x", count: 33), false),
    ])
    func prefixes(prefix: String, isValid: Bool) {
        #expect(RedisKeys.isValid(prefix: prefix) == isValid)
    }
}
