import FanfareCore
import FanfareEngines
import FanfareModel
import FanfareProtocol
import FanfareTesting
import Testing

@testable import FanfareFabric

@Suite("Sessions") struct SessionTests {
    struct Case: Sendable {
        var name: String
        /// nil: nobody connected yet.
        var token: String?
        var message: String
        /// The error of reply 7, or the code of the disconnect.
        var error: Int64?
        var disconnect: UInt16?
    }

    static let cases: [Case] = [
        Case(name: "subscribe first", message: #"{"id":7,"subscribe":{"channel":"room:1"}}"#, disconnect: 3501),
        Case(name: "no JSON", message: "hello", disconnect: 3501),
        Case(name: "forged token", message: #"{"id":7,"connect":{"token":"forged"}}"#, disconnect: 3500),
        Case(name: "expired token", message: #"{"id":7,"connect":{"token":"expired"}}"#, error: 109),
        Case(name: "connect twice", token: "", message: #"{"id":7,"connect":{}}"#, disconnect: 3501),
        Case(name: "send", token: "", message: #"{"send":{"data":1}}"#, disconnect: 3508),
        Case(name: "pong without ping", token: "", message: "{}", disconnect: 3501),
        Case(name: "no namespace", token: "", message: #"{"id":7,"subscribe":{"channel":"foo"}}"#, error: 102),
        Case(
            name: "dm out of order", token: "user:a", message: #"{"id":7,"subscribe":{"channel":"dm:b:a"}}"#, error: 107
        ),
        Case(name: "another's dm", token: "user:c", message: #"{"id":7,"subscribe":{"channel":"dm:a:b"}}"#, error: 103),
        Case(
            name: "another's inbox", token: "user:a", message: #"{"id":7,"subscribe":{"channel":"user:b"}}"#, error: 103
        ),
        Case(
            name: "twice", token: "",
            message: #"{"id":6,"subscribe":{"channel":"room:1"}}"# + "\n"
                + #"{"id":7,"subscribe":{"channel":"room:1"}}"#,
            error: 105),
        Case(
            name: "too many", token: "",
            message: ["1", "2", "3"].map { "{\"id\":\(4 + (Int($0) ?? 0)),\"subscribe\":{\"channel\":\"room:\($0)\"}}" }
                .joined(separator: "\n"), error: 106),
        Case(
            name: "anonymous publish", token: "", message: #"{"id":7,"publish":{"channel":"room:1","data":1}}"#,
            error: 103),
        Case(
            name: "too long", token: "user:a",
            message: #"{"id":7,"publish":{"channel":"room:1","data":"\#(String(repeating: "x", count: 200))"}}"#,
            error: 107),
        Case(name: "anonymous rpc", token: "", message: #"{"id":7,"rpc":{"method":"follow"}}"#, error: 101),
        Case(name: "unknown method", token: "user:a", message: #"{"id":7,"rpc":{"method":"x"}}"#, error: 104),
        Case(
            name: "bad subscription token", token: "user:a",
            message: #"{"id":7,"subscribe":{"channel":"room:1","token":"x"}}"#, error: 103),
        Case(
            name: "expired subscription token", token: "user:a",
            message: #"{"id":7,"subscribe":{"channel":"room:1","token":"expired"}}"#, error: 109),
        Case(
            name: "reverse from the beginning", token: "",
            message:
                #"{"id":7,"history":{"channel":"room:1","reverse":true,"limit":1,"since":{"offset":0,"epoch":""}}}"#,
            error: 107),
        Case(
            name: "another epoch", token: "",
            message: #"{"id":7,"history":{"channel":"room:1","limit":1,"since":{"offset":1,"epoch":"zz"}}}"#, error: 112
        ),
        Case(name: "unsubscribe from nothing", token: "", message: #"{"id":7,"unsubscribe":{"channel":"room:9"}}"#),
    ]

    @Test(arguments: cases) func answers(_ one: Case) async {
        let (error, disconnect) = await onOwnThread {
            let bench = Bench {
                $0.session.channels = 2
                $0.session.dataBytes = 100
            }
            let client = one.token.map { bench.connect($0) } ?? bench.open()
            client.send(one.message)
            bench.run()
            return (client.error(7), client.transport.closed?.code)
        }
        #expect(error == one.error, "\(one.name)")
        #expect(disconnect == one.disconnect, "\(one.name)")
    }

    @Test func commandsWaitForConnect() async {
        let ids = await onOwnThread {
            let bench = Bench()
            let client = bench.open()
            client.send(
                #"{"id":1,"connect":{"token":"user:a"}}"# + "\n" + #"{"id":2,"subscribe":{"channel":"room:1"}}"# + "\n"
                    + #"{"id":3,"publish":{"channel":"room:1","data":1}}"#)
            bench.run()
            return client.transport.objects.compactMap { $0["id"]?.integerValue }
        }
        #expect(ids.first == 1)
        #expect(ids.sorted() == [1, 2, 3])
    }

    @Test func theSilentAreSentAway() async {
        let codes = await onOwnThread {
            let bench = Bench()
            let stale = bench.open()
            let silent = bench.connect()
            let expiring = bench.connect("user:a:\(1_767_225_600 + 10)")
            var early: (UInt16?, UInt16?) = (nil, nil)
            for second in 1...76 {
                // This one answers its pings, whenever the first one comes.
                let before = expiring.transport.objects.count
                bench.run(.seconds(1))
                if expiring.transport.objects.dropFirst(before).contains(where: { $0.objectValue?.isEmpty == true }) {
                    expiring.send("{}")
                }
                if second == 16 { early = (stale.transport.closed?.code, silent.transport.closed?.code) }
            }
            return (early.0, early.1, silent.transport.closed?.code, expiring.transport.closed?.code, silent.isPinged)
        }
        #expect(codes.0 == 3502)
        #expect(codes.1 == nil)
        #expect(codes.2 == 3012)
        #expect(codes.3 == 3005)
        #expect(codes.4)
    }

    @Test("who leaves while subscribing is answered, and given nothing")
    func leavingEarly() async {
        let (answered, left, pushes, rooms) = await onOwnThread {
            let bench = Bench()
            let client = bench.connect()
            client.send(
                #"{"id":2,"subscribe":{"channel":"room:1"}}"# + "\n" + #"{"id":3,"unsubscribe":{"channel":"room:1"}}"#)
            bench.run()
            _ = bench.publish("1", to: "room:1")
            bench.run(.seconds(5))
            return (
                client.reply(2) != nil, client.reply(3) != nil, client.pushes.count, bench.node.subscriptions.roomCount
            )
        }
        #expect(answered)
        #expect(left)
        #expect(pushes == 0)
        #expect(rooms == 0)
    }

    @Test("a session that ends while its server-side subscriptions are made leaves nothing behind")
    func endingEarly() async {
        let sessions = await onOwnThread {
            let bench = Bench()
            let client = bench.open()
            client.send(#"{"id":1,"connect":{"token":"user:a"}}"#)
            bench.loop.execute { client.session?.closed() }
            bench.run(.seconds(5))
            return bench.wait { await bench.node.hubs[0].sessionCount }
        }
        #expect(sessions == 0)
    }

    @Test("pushes of the inbox come once, in order; notices always")
    func inbox() async {
        let offsets = await onOwnThread {
            let bench = Bench()
            let client = bench.connect("user:a")
            bench.loop.execute {
                for sequence: UInt64 in [5, 5, 4, 9, 0, 9, 0] {
                    client.session?.onThisLoop { session in
                        _ = session.deliver(InboxPush(sequence: sequence, payload: Bytes("{}".utf8)))
                    }
                }
            }
            bench.run()
            return client.pushes.map { $0["pub"]?["offset"]?.integerValue ?? 0 }
        }
        #expect(offsets == [5, 9, 0, 0])
    }

    private static func push(_ sequences: [UInt64], to session: isolated Session) {
        for sequence in sequences {
            _ = session.deliver(InboxPush(sequence: sequence, payload: Bytes("{}".utf8)))
        }
    }

    @Test("pushes that come during a repair wait, and come once, after what was repaired")
    func repair() async {
        let (during, after) = await onOwnThread {
            let bench = Bench()
            let client = bench.connect("user:a")
            func act(_ body: @escaping @Sendable (isolated Session) -> Void) {
                bench.loop.execute { client.session?.onThisLoop(body) }
                bench.run()
            }
            act { Self.push([1], to: $0) }
            act { session in
                session.doubtInbox()
                // A notice is no entry of the inbox: it does not wait.
                Self.push([4, 0, 5, 4], to: session)
            }
            let during = client.pushes.map { $0["pub"]?["offset"]?.integerValue ?? 0 }
            // A comparison that began before the last doubt says nothing.
            act { $0.trustInbox(since: $0.lastInboxDoubt - 1) }
            act { $0.trustInbox(since: $0.lastInboxDoubt) }
            return (during, client.pushes.map { $0["pub"]?["offset"]?.integerValue ?? 0 })
        }
        #expect(during == [1, 0])
        #expect(after == [1, 0, 4, 5])
    }

    /// What happens to a session whose inbox is known up to 2.
    enum DoubtStep: Sendable {
        case lost, lostBeforePushes, moved, push(UInt64), notice
    }

    @Test(
        "the inbox is compared up to the first push that waits, where nothing but what came before that is doubtful",
        arguments: [
            ([.lostBeforePushes, .push(5), .push(6)], 5),
            ([.lostBeforePushes, .notice, .push(5)], 5),
            ([.lostBeforePushes], nil),
            ([.lost, .push(5)], nil),
            ([.lostBeforePushes, .push(5), .lost], nil),
            ([.lostBeforePushes, .push(5), .lostBeforePushes, .push(8)], nil),
            ([.lostBeforePushes, .lostBeforePushes, .push(5)], 5),
            ([.lost, .lostBeforePushes, .push(5)], nil),
            ([.moved, .lostBeforePushes, .push(5)], nil),
            ([.lostBeforePushes, .moved, .push(5)], nil),
        ] as [([DoubtStep], UInt64?)])
    func bound(steps: [DoubtStep], expected: UInt64?) async {
        let bound = await onOwnThread {
            let bench = Bench()
            let client = bench.connect("user:a")
            let bound = Box<UInt64?>(0)
            bench.loop.execute {
                client.session?.onThisLoop { session in
                    Self.push([2], to: session)
                    for step in steps {
                        switch step {
                        case .lost: session.doubtInbox()
                        case .lostBeforePushes: session.doubtInbox(beforePushes: true)
                        case .moved: session.doubtInbox(untilAnnounced: true)
                        case .push(let sequence): Self.push([sequence], to: session)
                        case .notice: Self.push([0], to: session)
                        }
                    }
                    bound.value = session.inboxBound
                }
            }
            bench.run()
            return bound.value
        }
        #expect(bound == expected)
    }

    @Test(
        "who is owed more than may wait is sent away, and recovers",
        arguments: [(7, 2, nil), (8, 2, 3010), (5, 10, nil), (5, 11, 3010)] as [(Int, Int, UInt32?)])
    func repairOverflow(pushes: Int, bytes: Int, expected: UInt32?) async {
        let (code, held) = await onOwnThread {
            let bench = Bench {
                $0.session.inboxHeld = 7
                $0.session.heldBytes = 50
            }
            let client = bench.connect("user:a")
            let held = Box(0)
            bench.loop.execute {
                client.session?.onThisLoop { session in
                    session.doubtInbox()
                    for sequence in 1...pushes {
                        let payload = Bytes(repeating: 0x31, count: bytes)
                        _ = session.deliver(InboxPush(sequence: UInt64(sequence), payload: payload))
                    }
                    held.value = session.inboxHeld.count
                }
            }
            bench.run()
            return (client.transport.closed.map { UInt32($0.code) }, held.value)
        }
        #expect(code == expected)
        #expect(held == (expected == nil ? pushes : 0))
    }

    @Test("what was given back makes room for as much again") func repairsInTurn() async {
        let (code, offsets) = await onOwnThread {
            let bench = Bench {
                $0.session.inboxHeld = 2
                $0.session.heldBytes = 4
            }
            let client = bench.connect("user:a")
            for round in 0..<3 as Range<UInt64> {
                bench.loop.execute {
                    client.session?.onThisLoop { session in
                        session.doubtInbox()
                        Self.push([2 * round + 1, 2 * round + 2], to: session)
                        session.trustInbox(since: session.lastInboxDoubt)
                    }
                }
            }
            bench.run()
            return (client.transport.closed?.code, client.offsets)
        }
        #expect(code == nil)
        #expect(offsets == [1, 2, 3, 4, 5, 6])
    }

    @Test(
        "publications wait for the connect reply up to a limit; whose take more is cut as slow",
        arguments: [(100, 2), (99, 0)])
    func gate(limit: Int, delivered: Int) {
        let transport = RecordingTransport()
        let gate = GatedTransport(transport, limit: limit, metrics: FabricMetrics())
        let frame = SharedFrame(bytes: [0x81, 48] + Bytes(repeating: 0x31, count: 48), publications: 1)
        gate.send(frame)
        gate.send(frame)
        #expect(transport.objects.isEmpty)
        gate.open()
        #expect(transport.objects.count == delivered)
        #expect(transport.closed?.code == (delivered == 0 ? 3008 : nil))
        gate.send(frame)
        #expect(transport.objects.count == delivered + 1)
    }
}
