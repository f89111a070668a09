import FanfareModel
import FanfareProtocol

/// Replies and pushes with their JSON, most of them the example exchanges of the protocol notes.
enum Samples {
    static let client = ClientID("72439e5a-f5ad-4b2f-828c-1857a0bbb342")
    static let user = UserID(unchecked: "u1")
    static let ann = ClientInfo(user: user, client: client, connectionInfo: Bytes(text: #"{"n":"Ann"}"#))
    static let annJSON = #"{"user":"u1","client":"72439e5a-f5ad-4b2f-828c-1857a0bbb342","conn_info":{"n":"Ann"}}"#

    static func publication(
        _ offset: UInt64, _ data: String, info: ClientInfo? = nil, tags: [String: String] = [:]
    ) -> Publication {
        Publication(offset: offset, data: Bytes(text: data), info: info, tags: tags)
    }

    static let replies: [(json: String, reply: Reply)] = [
        (
            #"{"id":1,"connect":{"client":"72439e5a-f5ad-4b2f-828c-1857a0bbb342","version":"1.0.0","expires":true,"ttl":600,"ping":25,"pong":true}}"#,
            Reply(
                id: 1,
                body: .connect(
                    ConnectResult(client: client, version: "1.0.0", expires: true, ttl: 600, ping: 25, pong: true)))
        ),
        (
            #"{"id":2,"subscribe":{"recoverable":true,"epoch":"wiYOOjvq","offset":1,"positioned":true}}"#,
            Reply(
                id: 2,
                body: .subscribe(SubscribeResult(recoverable: true, epoch: "wiYOOjvq", offset: 1, positioned: true)))
        ),
        (#"{"id":3,"publish":{}}"#, Reply(id: 3, body: .publish)),
        (#"{"id":4,"presence":{"presence":{"\#(client)":\#(annJSON)}}}"#, Reply(id: 4, body: .presence([ann]))),
        (#"{"id":4,"presence":{"presence":{}}}"#, Reply(id: 4, body: .presence([]))),
        (
            #"{"id":5,"presence_stats":{"num_clients":1,"num_users":1}}"#,
            Reply(id: 5, body: .presenceStats(clients: 1, users: 1))
        ),
        (
            #"{"id":5,"presence_stats":{"num_clients":0,"num_users":0}}"#,
            Reply(id: 5, body: .presenceStats(clients: 0, users: 0))
        ),
        (
            #"{"id":6,"history":{"publications":[{"data":{"a":1},"info":{"user":"u1","client":"\#(client)"},"offset":2},{"data":{"b":2},"offset":3,"tags":{"k":"v"}}],"epoch":"wiYOOjvq","offset":3}}"#,
            Reply(
                id: 6,
                body: .history(
                    HistoryPage(
                        publications: [
                            publication(2, #"{"a":1}"#, info: ClientInfo(user: user, client: client)),
                            publication(3, #"{"b":2}"#, tags: ["k": "v"]),
                        ], top: StreamPosition(offset: 3, epoch: "wiYOOjvq"))))
        ),
        (
            #"{"id":7,"history":{"publications":[],"epoch":"wiYOOjvq","offset":3}}"#,
            Reply(
                id: 7,
                body: .history(HistoryPage(publications: [], top: StreamPosition(offset: 3, epoch: "wiYOOjvq"))))
        ),
        (
            #"{"id":7,"history":{"publications":[],"epoch":"","offset":0}}"#,
            Reply(id: 7, body: .history(HistoryPage(publications: [], top: StreamPosition(offset: 0, epoch: ""))))
        ),
        (
            #"{"id":8,"error":{"code":112,"message":"unrecoverable position"}}"#,
            Reply(id: 8, body: .error(.unrecoverablePosition))
        ),
        (
            #"{"id":8,"error":{"code":100,"message":"internal server error","temporary":true}}"#,
            Reply(id: 8, body: .error(.internal))
        ),
        (
            #"{"id":2,"subscribe":{"recoverable":true,"epoch":"wiYOOjvq","publications":[{"data":{"a":1},"offset":2},{"data":{"b":2},"offset":3}],"recovered":true,"offset":1,"positioned":true,"was_recovering":true}}"#,
            Reply(
                id: 2,
                body: .subscribe(
                    SubscribeResult(
                        recoverable: true, epoch: "wiYOOjvq",
                        publications: [publication(2, #"{"a":1}"#), publication(3, #"{"b":2}"#)], recovered: true,
                        offset: 1, positioned: true, wasRecovering: true)))
        ),
        (
            #"{"id":2,"subscribe":{"recoverable":true,"epoch":"wiYOOjvq","recovered":true,"offset":3,"positioned":true,"was_recovering":true}}"#,
            Reply(
                id: 2,
                body: .subscribe(
                    SubscribeResult(
                        recoverable: true, epoch: "wiYOOjvq", recovered: true, offset: 3, positioned: true,
                        wasRecovering: true)))
        ),
        (
            #"{"id":2,"subscribe":{"recoverable":true,"epoch":"kPqLmNab","offset":7,"positioned":true,"was_recovering":true}}"#,
            Reply(
                id: 2,
                body: .subscribe(
                    SubscribeResult(
                        recoverable: true, epoch: "kPqLmNab", offset: 7, positioned: true, wasRecovering: true)))
        ),
        (
            #"{"id":10,"subscribe":{"expires":true,"ttl":60}}"#,
            Reply(id: 10, body: .subscribe(SubscribeResult(expires: true, ttl: 60)))
        ),
        (#"{"id":10,"subscribe":{}}"#, Reply(id: 10, body: .subscribe(SubscribeResult()))),
        (
            #"{"id":19,"subscribe":{"data":[1],"delta":true}}"#,
            Reply(id: 19, body: .subscribe(SubscribeResult(data: Bytes(text: "[1]"), delta: true)))
        ),
        (
            #"{"id":11,"sub_refresh":{"expires":true,"ttl":120}}"#,
            Reply(id: 11, body: .subRefresh(expires: true, ttl: 120))
        ),
        (#"{"id":12,"error":{"code":109,"message":"token expired"}}"#, Reply(id: 12, body: .error(.tokenExpired))),
        (#"{"id":13,"error":{"code":102,"message":"unknown channel"}}"#, Reply(id: 13, body: .error(.unknownChannel))),
        (
            #"{"id":14,"error":{"code":103,"message":"permission denied"}}"#,
            Reply(id: 14, body: .error(.permissionDenied))
        ),
        (#"{"id":15,"unsubscribe":{}}"#, Reply(id: 15, body: .unsubscribe)),
        (
            #"{"id":16,"refresh":{"expires":true,"ttl":900}}"#,
            Reply(id: 16, body: .refresh(client: nil, version: "", expires: true, ttl: 900))
        ),
        (
            #"{"id":16,"refresh":{"client":"c","version":"1"}}"#,
            Reply(id: 16, body: .refresh(client: ClientID("c"), version: "1", expires: false, ttl: 0))
        ),
        (
            #"{"id":17,"rpc":{"data":{"now":1735787045}}}"#,
            Reply(id: 17, body: .rpc(data: Bytes(text: #"{"now":1735787045}"#)))
        ),
        (#"{"id":17,"rpc":{}}"#, Reply(id: 17, body: .rpc(data: []))),
        (#"{"id":18,"error":{"code":104,"message":"method not found"}}"#, Reply(id: 18, body: .error(.methodNotFound))),
        (
            #"{"id":1,"connect":{"client":"c-9","subs":{"user:u1":{"recoverable":true,"epoch":"AbCdEfGh","publications":[{"data":{"t":"x"},"offset":6}],"recovered":true,"offset":5,"positioned":true,"was_recovering":true}},"ping":25,"pong":true}}"#,
            Reply(
                id: 1,
                body: .connect(
                    ConnectResult(
                        client: ClientID("c-9"),
                        subs: [
                            "user:u1": SubscribeResult(
                                recoverable: true, epoch: "AbCdEfGh", publications: [publication(6, #"{"t":"x"}"#)],
                                recovered: true, offset: 5, positioned: true, wasRecovering: true)
                        ], ping: 25, pong: true)))
        ),
        (
            #"{"id":1,"connect":{"client":"c","data":1,"subs":{"a":{},"b":{}},"session":"s","node":"n","time":5}}"#,
            Reply(
                id: 1,
                body: .connect(
                    ConnectResult(
                        client: ClientID("c"), data: Bytes(text: "1"),
                        subs: ["b": SubscribeResult(), "a": SubscribeResult()], session: "s", node: "n", time: 5)))
        ),
    ]

    static let pushes: [(json: String, channel: String, push: Push)] = [
        (#"{"push":{"channel":"chat:lobby","join":{"info":\#(annJSON)}}}"#, "chat:lobby", .join(ann)),
        (
            #"{"push":{"channel":"chat:lobby","leave":{"info":{"user":"u2","client":"aa11"}}}}"#, "chat:lobby",
            .leave(ClientInfo(user: UserID(unchecked: "u2"), client: ClientID("aa11")))
        ),
        (
            #"{"push":{"channel":"c","leave":{"info":{"user":"","client":"aa11","chan_info":7}}}}"#, "c",
            .leave(ClientInfo(user: .anonymous, client: ClientID("aa11"), channelInfo: Bytes(text: "7")))
        ),
        (
            #"{"push":{"channel":"chat:lobby","pub":{"data":{"a":1},"info":\#(annJSON),"offset":2}}}"#, "chat:lobby",
            .publication(publication(2, #"{"a":1}"#, info: ann))
        ),
        (
            #"{"push":{"channel":"chat:lobby","pub":{"data":{"b":2},"offset":3,"tags":{"k":"v"}}}}"#, "chat:lobby",
            .publication(publication(3, #"{"b":2}"#, tags: ["k": "v"]))
        ),
        (
            #"{"push":{"channel":"c","pub":{"data":"x","tags":{"a":"","b\"\\\n\u0001é":"2"},"time":1700000000000}}}"#,
            "c",
            .publication(
                Publication(data: Bytes(text: #""x""#), tags: ["b\"\\\n\u{1}é": "2", "a": ""], time: 1_700_000_000_000))
        ),
        (
            #"{"push":{"channel":"chat:lobby","unsubscribe":{"code":2500,"reason":"insufficient state"}}}"#,
            "chat:lobby", .unsubscribe(.insufficientState)
        ),
        (
            #"{"push":{"channel":"c","unsubscribe":{"code":0,"reason":""}}}"#, "c",
            .unsubscribe(Unsubscription(code: 0, reason: ""))
        ),
        (
            #"{"push":{"channel":"chat:srv","subscribe":{"recoverable":true,"epoch":"oNnildnA","positioned":true}}}"#,
            "chat:srv",
            .subscribe(
                SubscribePush(
                    recoverable: true, position: StreamPosition(offset: 0, epoch: "oNnildnA"), positioned: true))
        ),
        (#"{"push":{"message":{"data":[1,2]}}}"#, "", .message(Bytes(text: "[1,2]"))),
        (#"{"push":{"refresh":{"expires":true,"ttl":9}}}"#, "", .refresh(expires: true, ttl: 9)),
        (#"{"push":{"disconnect":{"code":3503,"reason":"force disconnect"}}}"#, "", .disconnect(.forced)),
        (
            #"{"push":{"connect":{"client":"c-1","version":"1.0.0","subs":{"news":{}},"ping":25,"session":"s-1"}}}"#,
            "",
            .connect(
                ConnectResult(
                    client: ClientID("c-1"), version: "1.0.0", subs: ["news": SubscribeResult()], ping: 25,
                    session: "s-1"))
        ),
    ]
}
