import FanfareModel

/// How a member is stored: incarnation, state, weight and address, separated by line feeds.
enum MemberCodec {
    /// - Returns: nil where the incarnation contains a line feed.
    static func encode(_ member: Member) -> String? {
        guard !member.incarnation.utf8.contains(UInt8(ascii: "\n")) else { return nil }
        return "\(member.incarnation)\n\(member.state.rawValue)\n\(member.weight)\n\(member.address)"
    }

    /// - Returns: nil where the text is no member.
    static func decode(_ text: String, node: String) -> Member? {
        let parts = text.split(separator: "\n", maxSplits: 3, omittingEmptySubsequences: false)
        guard parts.count == 4, let state = Member.State(rawValue: String(parts[1])), let weight = Int(parts[2]) else {
            return nil
        }
        return Member(
            node: NodeID(node), incarnation: String(parts[0]), address: String(parts[3]), weight: weight, state: state)
    }
}
