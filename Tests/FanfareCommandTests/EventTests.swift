import FanfareModel
import FanfareProtocol
import Testing

@testable import FanfareCommand

@Suite struct EventTests {
    private static let half: JSON = [
        "event_id": "7", "type": "stream.live", "streamer": "ada", "accepted_at": "t", "state": "running",
        "total": 1_000_000, "done": 450_000, "rate_per_s": 37_000, "eta_s": 15, "delivered_online": 120,
        "dead_letters": 0, "withdrawn": 0, "priority": 3, "completed_at": .null, "shards": ["total": 256, "done": 3],
    ]

    @Test(
        arguments: [
            (EventTests.half, "45 % (15s left) 450 000 of 1 000 000 recipients, 37 000/s, 120 pushed online"),
            (["state": "waiting", "total": .null, "done": 0, "eta_s": .null], "0 recipients, waiting"),
            (
                ["state": "paused", "total": 10, "done": 5, "rate_per_s": 0, "dead_letters": 2],
                "50 % 5 of 10 recipients, 2 dead letters, paused"
            ),
            (
                ["state": "cancelled", "total": 10, "done": 10, "withdrawn": 8, "eta_s": 0],
                "100 % 10 of 10 recipients, 8 taken back, cancelled"
            ),
            (["state": "done", "total": 0, "done": 0, "eta_s": 0], "100 % 0 of 0 recipients, done"),
            ([:], "0 recipients"),
        ] as [(JSON, String)])
    func progress(status: JSON, text: String) {
        #expect(EventProgress(isTerminal: false).text(status) == text)
    }

    @Test func aBarOnATerminal() {
        let bar = EventProgress(isTerminal: true).text(Self.half)
        #expect(bar.hasPrefix("[#############.................] 45 % (15s left) "))
    }

    @Test(arguments: [(false, Duration.seconds(5)), (true, .milliseconds(200))])
    func itIsNotShownTooOften(isTerminal: Bool, interval: Duration) {
        let start = MonotonicInstant(nanoseconds: 7)
        var progress = EventProgress(isTerminal: isTerminal)
        #expect(progress.due(Self.half, now: start) != nil)
        #expect(progress.due(Self.half, now: start + (interval - .nanoseconds(1))) == nil)
        #expect(progress.due(Self.half, now: start + interval) != nil)
    }

    @Test func itsEnd() {
        #expect(!EventProgress.isOver(Self.half) && !EventProgress.isOver([:]))
        #expect(EventProgress.isOver(["completed_at": "2026-01-31T12:00:00.000Z"]))
    }

    @Test func queries() {
        var query = EventQuery()
        #expect(query.members.isEmpty)
        query.state = "paused"
        query.type = "raid"
        query.streamer = "ada"
        query.before = 9
        #expect(
            JSON.object(query.members).serialize()
                == Bytes(#"{"state":"paused","type":"raid","streamer":"ada","before":"9"}"#.utf8))
        query = EventQuery()
        query.isForAll = true
        #expect(JSON.object(query.members).serialize() == Bytes(#"{"all":true}"#.utf8))
    }

    @Test func tables() {
        #expect(Tables.events([]) == ["no events"])
        #expect(
            Tables.events([Self.half]) == [
                "ID  TYPE         STREAMER  STATE    ACCEPTED    DONE    TOTAL  PER S  LEFT  ONLINE  DEAD  PRIORITY",
                " 7  stream.live  ada       running  t         450000  1000000  37000   15s     120     0         3",
            ])
        #expect(Tables.event(Self.half).contains("shards            3 of 256 done"))
        #expect(Tables.scheduledEvents([]) == ["no scheduled events"])
        let scheduled: [JSON] = [
            ["scheduled_id": "1", "type": "raid", "followers_of": "ada", "at": "t", "state": "waiting", "attempts": 0],
            [
                "scheduled_id": "2", "type": "raid", "users": 3, "at": "t", "state": "sent", "attempts": 1,
                "event_id": "5",
            ],
        ]
        #expect(
            Tables.scheduledEvents(scheduled) == [
                "ID  TYPE  FOR               AT  STATE    ATTEMPTS  EVENT",
                " 1  raid  followers of ada  t   waiting         0      -",
                " 2  raid  3 users           t   sent            1      5",
            ])
    }
}
