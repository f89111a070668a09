import FanfareModel
import Testing

@Suite struct IdentifierTests {
    @Test(arguments: ["a", "A", "0", "_", ".", "-", "user.name_1-2", String(repeating: "x", count: 64)])
    func legalUserIDs(text: String) { #expect(UserID(text)?.rawValue == text) }

    @Test(arguments: ["", " ", "a b", "a:b", "é", "a\u{0}", "a/b", "a@b", String(repeating: "x", count: 65)])
    func illegalUserIDs(text: String) { #expect(UserID(text) == nil) }

    @Test func anonymousIsNobody() {
        #expect(UserID.anonymous.isAnonymous)
        #expect(UserID("a")?.isAnonymous == false)
    }

    @Test(
        arguments: [
            (3000, true), (3012, true), (3499, true), (3500, false), (3999, false), (4000, true), (4499, true),
            (4500, false), (4999, false), (1006, true),
        ] as [(UInt16, Bool)]) func reconnecting(code: UInt16, reconnects: Bool)
    {
        #expect(Disconnect(code: code, reason: "x").clientReconnects == reconnects)
    }
}
