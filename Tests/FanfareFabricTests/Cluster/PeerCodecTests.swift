import FanfareEngines
import FanfareModel
import FanfareProtocol
import FanfareTesting
import Foundation
import Testing

@testable import FanfareFabric

@Suite("Messages between nodes") struct PeerCodecTests {
    static let position = StreamPosition(offset: .max, epoch: "épo")
    static let info = ClientInfo(
        user: UserID(unchecked: "u"), client: ClientID("c"), connectionInfo: [1], channelInfo: [])
    static let push = InboxPush(sequence: 7, payload: Bytes("{}".utf8))

    static func command(_ action: SessionCommand.Action) -> PeerRequest {
        .sessions(
            SessionCommand(
                sessions: SessionSelector(user: UserID(unchecked: "u"), client: ClientID("c"), except: [ClientID("d")]),
                action: action))
    }

    static let requests: [PeerRequest] = [
        .publish(room: "room:1", AppendEntry(body: [0, 255], idempotencyKey: "k")),
        .publish(room: "room:1", AppendEntry(body: [1], idempotencyKey: "k", requiresKnownKey: true)),
        .publish(room: "room:1", AppendEntry(body: [1], version: PublicationVersion(number: .max, epoch: "e"))),
        .publish(room: "", AppendEntry(body: [])),
        .history(room: "room:1", HistoryFilter(limit: -1, since: position, reverse: true)),
        .history(room: "room:1", HistoryFilter(limit: 0)), .removeHistory(room: "room:1"),
        .presence(channel: "room:1"), .presenceStats(channel: "room:1"), .channels(pattern: nil),
        .channels(pattern: "*"), .info,
        command(.subscribe(channel: "room:1", recoverSince: position, info: [1], data: [2])),
        command(.subscribe(channel: "room:1", recoverSince: nil, info: [], data: [])),
        command(.unsubscribe(channel: "room:1")),
        command(.disconnect(.forced)), command(.refresh(.expired)), command(.refresh(.until(nil))),
        command(.refresh(.until(-5))), .notice(push, user: UserID(unchecked: "u"), except: ClientID("c")),
        .notice(push, user: UserID(unchecked: "u"), except: nil),
        .wakeShards([Shard(index: 0), Shard(index: Shard.count - 1)]),
        .inboxPushes([], []),
        .inboxPushes(
            [fanout([]), fanout([(5, 7), (9, 7), (-1, 8), (.max, .max), (.min, 1)])],
            [
                PushLink(shard: Shard(index: 255), chain: .max, index: 1),
                PushLink(shard: Shard(index: 0), chain: 0, index: .max),
            ]),
        .inboxPushes(
            [
                FanoutPush(
                    event: EventID(8), type: "raid", data: [], createdAt: Timestamp(milliseconds: 5),
                    streamer: UserID(unchecked: "s"), expiresAt: Timestamp(milliseconds: -7), isStale: true,
                    recipients: [])
            ], []),
        .preferencesChanged(push, user: UserID(unchecked: "u"), except: ClientID("c")),
        .preferencesChanged(push, user: UserID(unchecked: "u"), except: nil),
        .doubtInboxes([Shard(index: 9)]), .doubtInboxes([]),
        .onlineAnnouncements([
            OnlineAnnouncement(shard: Shard(index: 1), base: nil, version: 1, joins: []),
            OnlineAnnouncement(
                shard: Shard(index: 255), base: 0, version: .max, joins: [UserKey(3), UserKey(4)],
                leaves: [UserKey(.max), UserKey(1)]),
        ]),
        .onlineDigests([
            OnlineDigest(shard: Shard(index: 0), version: 3, summary: UserSummary(count: 1, fold: .max))
        ]),
    ]

    static func fanout(_ recipients: [(Int64, UInt64)]) -> FanoutPush {
        FanoutPush(
            event: EventID(8), type: "raid", data: Bytes("{}".utf8), createdAt: Timestamp(milliseconds: -1),
            recipients: recipients.map { FanoutPush.Recipient(UserKey($0.0), sequence: $0.1) })
    }

    static let responses: [PeerResponse] = [
        .published(AppendedEntry(position: position, outcome: .appended)),
        .published(AppendedEntry(position: position, outcome: .duplicate)),
        .published(AppendedEntry(position: position, outcome: .unknownKey)),
        .published(AppendedEntry(position: position, outcome: .outdated)),
        .history(RoomHistory(entries: [.init(offset: 1, body: [1, 2]), .init(offset: 2, body: [])], top: position)),
        .done, .presence([info, info]), .presenceStats(clients: 3, users: [1, .max]), .channels(["a": 1, "b": 2]),
        .info(
            NodeInfo(
                node: NodeID("n"), incarnation: "i", version: "1", state: .draining, slots: 1, sessions: 2, users: 3,
                subscriptions: 4, channels: 5, rooms: 6, uptimeSeconds: 7)),
        .missed([]), .missed([[], [UserKey(4), UserKey(2)]]), .online(OnlineAnswer()),
        .online(OnlineAnswer(wanted: [Shard(index: 1)], refused: [Shard(index: 2), Shard(index: 3)])),
        .refused(.moved), .refused(.unavailable), .refused(.unknownOutcome), .refused(.overloaded),
        .refused(.refused(.tooManyRequests)),
    ]

    static var messages: [PeerMessage] {
        self.requests.map { .request(id: 9, from: NodeID("n"), incarnation: "i", $0) }
            + self.responses.map { .response(id: .max, to: "i", $0) }
    }

    @Test(arguments: messages) func roundTrip(_ message: PeerMessage) throws {
        #expect(try PeerMessage.decode(message.encoded()) == message)
    }

    @Test("the first bytes of version 1") func golden() {
        let message = PeerMessage.request(id: 5, from: NodeID("n"), incarnation: "i", .removeHistory(room: "r"))
        #expect(message.encoded() == [1, 1, 1, 1, 5, 2, 1, 110, 3, 1, 105, 4, 1, 3, 16, 1, 114])
    }

    @Test func otherVersions() throws {
        let bytes = PeerMessage.request(id: 5, from: NodeID("n"), incarnation: "i", .info).encoded()
        #expect(throws: EnvelopeError.newerVersion(2)) { try PeerMessage.decode([2] + bytes.dropFirst()) }
        // A field of a later minor layout.
        #expect(
            try PeerMessage.decode(bytes + [99, 2, 1, 1]) == .request(id: 5, from: NodeID("n"), incarnation: "i", .info)
        )

        func unknown(_ kind: UInt64) -> Bytes {
            var writer = TaggedWriter()
            writer.header(1)
            writer.header(kind)
            writer.field(1, UInt64(5))
            writer.field(2, "n")
            writer.field(3, "i")
            writer.field(4, UInt64(77))
            return writer.bytes
        }
        #expect(try PeerMessage.decode(unknown(1)) == .unreadable(id: 5, from: NodeID("n"), incarnation: "i"))
        #expect(try PeerMessage.decode(unknown(2)) == .response(id: 5, to: "i", .refused(.refused(.notAvailable))))
        #expect(throws: EnvelopeError.malformed) { try PeerMessage.decode(unknown(3)) }
    }

    /// `FANFARE_FUZZ_SECONDS` (1 by default) and `FANFARE_FUZZ_SEED` say for how long and from where.
    @Test("whatever comes is decoded or refused, and what was decoded is the same again") func fuzz() {
        let environment = ProcessInfo.processInfo.environment
        let seconds = environment["FANFARE_FUZZ_SECONDS"].flatMap(Double.init) ?? 1
        let seed = environment["FANFARE_FUZZ_SEED"].flatMap { UInt64($0) } ?? UInt64.random(in: 0 ... .max)
        var random = SeededGenerator(seed: seed)
        let corpus = Self.messages.map { $0.encoded() }
        let deadline = ContinuousClock.now.advanced(by: .milliseconds(Int64(seconds * 1000)))
        var count = 0
        while ContinuousClock.now < deadline {
            var input = corpus.randomElement(using: &random) ?? []
            for _ in 0..<Int.random(in: 0...4, using: &random) {
                let place = Int.random(in: 0...input.count, using: &random)
                switch Int.random(in: 0..<4, using: &random) {
                case 0 where place < input.count: input[place] = UInt8.random(in: 0...255, using: &random)
                case 1: input.insert(UInt8.random(in: 0...255, using: &random), at: place)
                case 2: input.removeSubrange(place..<min(input.count, place + 3))
                default: input = Bytes(input[..<place]) + (corpus.randomElement(using: &random) ?? []).dropFirst(place)
                }
            }
            count += 1
            guard let message = try? PeerMessage.decode(input) else { continue }
            if case .unreadable = message { continue }
            #expect((try? PeerMessage.decode(message.encoded())) == message, "seed \(seed), input \(count): \(input)")
        }
        print("fuzzed messages between nodes: \(count) inputs, seed \(seed)")
    }

    @Test("a notification as clients see it") func notification() {
        let entry = InboxEntry(
            sequence: 12, event: EventID(34), type: "stream.live", data: Bytes(#"{"a" : 1}"#.utf8),
            createdAt: Timestamp(milliseconds: 1_769_860_800_000), isRead: false)
        #expect(
            String(decoding: NotificationPayload.encode(entry), as: UTF8.self)
                == #"{"type":"stream.live","id":"12","event_id":"34","data":{"a" : 1},"created_at":"2026-01-31T12:00:00.000Z","read":false}"#
        )
    }
}
