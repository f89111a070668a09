"""The server API: Centrifugo's methods by table, HTTP statuses."""

import asyncio

import pytest
from harness.raw import RawClient
from harness.waiting import eventually


async def test_publish_and_history(cluster, api, unique):
    room = f"room:{unique}"
    first = await api("publish", channel=room, data={"n": 1}, tags={"k": "v"})
    second = await api("publish", channel=room, data={"n": 2})
    assert (first["offset"], second["offset"]) == (1, 2) and first["epoch"] == second["epoch"]
    other = cluster.api(2)
    page = await other("history", channel=room, limit=10)
    assert (page["offset"], page["epoch"]) == (2, first["epoch"])
    assert [(each["offset"], each["data"]) for each in page["publications"]] == [(1, {"n": 1}), (2, {"n": 2})]
    assert page["publications"][0]["tags"] == {"k": "v"}
    assert "info" not in page["publications"][0]
    await other.close()


async def test_tags_reach_subscribers(open_raw, api, unique):
    client = await open_raw(1)
    await client.result("subscribe", channel=f"room:{unique}")
    await api("publish", channel=f"room:{unique}", data=1, tags={"k": "v"})
    assert (await client.publication(f"room:{unique}"))["tags"] == {"k": "v"}


async def test_idempotency_key(cluster, api, unique):
    room, other = f"room:{unique}", cluster.api(1)
    first = await api("publish", channel=room, data=1, idempotency_key="k")
    assert await api("publish", channel=room, data=1, idempotency_key="k") == first
    assert await other("publish", channel=room, data="other data", idempotency_key="k") == first
    assert (await other("publish", channel=room, data=2, idempotency_key="l"))["offset"] == 2
    assert (await api("history", channel=room))["offset"] == 2
    await other.close()


async def test_an_old_version_is_not_published(cluster, api, open_raw, unique):
    room, other = f"room:{unique}", cluster.api(1)
    watcher = await open_raw(2, user="ann")
    await watcher.result("subscribe", channel=room)
    first = await api("publish", channel=room, data=5, version=5)
    for version in (5, 4):
        assert await other("publish", channel=room, data="old", version=version) == first
    assert (await other("publish", channel=room, data=6, version=6))["offset"] == 2
    # Another epoch of the versions begins anew; what has no version does not ask.
    assert (await api("publish", channel=room, data=1, version=1, version_epoch="e"))["offset"] == 3
    assert (await api("publish", channel=room, data=1, version=1, version_epoch="e"))["offset"] == 3
    assert (await api("publish", channel=room, data="plain"))["offset"] == 4
    responses = (await api("broadcast", channels=[room, room + "-b"], data="b", version=1, version_epoch="e"))["responses"]
    assert [each["result"]["offset"] for each in responses] == [4, 1]
    history = await other("history", channel=room, limit=10)
    assert [each["data"] for each in history["publications"]] == [5, 6, 1, "plain"]
    await watcher.publication(room, lambda each: each["offset"] == 4)
    assert [each["offset"] for each in watcher.publications(room)] == [1, 2, 3, 4]
    # A client could silence a room with a high one.
    reply = await watcher.rpc("publish", {"channel": room, "data": 1, "version": 99})
    assert reply["error"]["code"] == 107
    await other.close()


async def test_concurrent_retries_publish_once(cluster, unique):
    room = f"room:{unique}"
    apis = [cluster.api(node) for node in range(3)]
    results = await asyncio.gather(*(apis[n % 3]("publish", channel=room, data=n, idempotency_key="k") for n in range(30)))
    assert {(each["offset"], each["epoch"]) for each in results} == {(1, results[0]["epoch"])}
    assert (await apis[0]("history", channel=room))["offset"] == 1
    for api in apis:
        await api.close()


async def test_broadcast(api, unique):
    rooms = [f"room:{unique}-{number}" for number in range(3)]
    result = await api("broadcast", channels=[rooms[0], "nope:x", rooms[1], rooms[2]], data="hello")
    responses = result["responses"]
    assert [each.get("result", {}).get("offset") for each in responses] == [1, None, 1, 1]
    assert responses[1]["error"]["code"] == 102


async def test_batch(api, unique):
    room = f"room:{unique}"
    body = await api(
        "batch",
        commands=[
            {"publish": {"channel": room, "data": 1}}, {"publish": {"channel": "nope:a", "data": {}}},
            {"publish": {"channel": room, "data": 2}}, {"history": {"channel": room, "limit": 10}},
        ],
    )
    replies = body["replies"]
    assert replies[0]["publish"]["offset"] == 1 and replies[2]["publish"]["offset"] == 2
    assert replies[1]["error"]["code"] == 102
    assert [each["data"] for each in replies[3]["history"]["publications"]] == [1, 2]


async def test_presence(open_raw, api, unique):
    room = f"room:{unique}"
    for node, user in enumerate(["ann", "ann", "ben"]):
        await (await open_raw(node, user=user)).result("subscribe", channel=room)

    async def all_there():
        return (await api("presence_stats", channel=room)) == {"num_clients": 3, "num_users": 2}

    await eventually(all_there)
    presence = (await api("presence", channel=room))["presence"]
    assert sorted(each["user"] for each in presence.values()) == ["ann", "ann", "ben"]
    assert all(client == each["client"] for client, each in presence.items())


async def test_history_remove(open_raw, api, unique):
    room = f"room:{unique}"
    before = await api("publish", channel=room, data=1)
    assert await api("history_remove", channel=room) == {}
    page = await api("history", channel=room, limit=10)
    assert (page["publications"], page["offset"], page["epoch"]) == ([], 1, before["epoch"])
    assert (await api("publish", channel=room, data=2))["offset"] == 2


async def test_subscribe_and_unsubscribe(open_raw, api, unique):
    room, user = f"room:{unique}", f"u{unique}"
    clients = [await open_raw(node, user=user) for node in range(3)]
    assert await api("subscribe", user=user, channel=room) == {}
    for client in clients:
        push = await client.until(lambda: next((each for each in client.pushes if "subscribe" in each), None))
        assert push["channel"] == room
    await api("publish", channel=room, data=1)
    for client in clients:
        await client.publication(room)
    assert await api("unsubscribe", user=user, channel=room) == {}
    for client in clients:
        push = await client.until(lambda: next((each for each in client.pushes if "unsubscribe" in each), None))
        assert push["unsubscribe"]["code"] == 2000 and push["unsubscribe"]["reason"]


async def test_disconnect(open_raw, api, unique):
    user = f"u{unique}"
    clients = [await open_raw(node, user=user) for node in (0, 1, 2)]
    bystander = await open_raw(0, user="ann")
    await api("disconnect", user=user, whitelist=[clients[0].hello["client"]])
    for client in clients[1:]:
        assert (await client.close_code())[0] == 3503
    await api("disconnect", user=user, disconnect={"code": 3011, "reason": "force reconnect"})
    assert (await clients[0].close_code()) == (3011, "force reconnect")
    assert "epoch" in await bystander.result("history", channel=f"room:{unique}")


async def test_channels_and_info(open_raw, api, unique):
    room = f"room:{unique}"
    for node in range(2):
        await (await open_raw(node)).result("subscribe", channel=room)

    async def counted():
        channels = (await api("channels", pattern=f"room:{unique}*"))["channels"]
        return channels.get(room, {}).get("num_clients") == 2

    await eventually(counted)
    nodes = (await api("info"))["nodes"]
    assert {node["name"] for node in nodes} == {"node-0", "node-1", "node-2"}
    assert len({node["uid"] for node in nodes}) == 3
    assert sum(node.get("num_clients", 0) for node in nodes) >= 2


async def test_cluster(api):
    cluster = await api("cluster")
    assert cluster["view"] >= 1
    assert {node["name"] for node in cluster["nodes"]} == {"node-0", "node-1", "node-2"}
    slots = [node["slots"] for node in cluster["nodes"]]
    assert sum(slots) == 1024 and max(slots) <= 1.25 * 1024 / 3 + 1
    for node in cluster["nodes"]:
        assert set(node) >= {"name", "state", "slots", "sessions", "rooms", "version", "uptime_s"}


async def test_every_node_tells_the_same_view(cluster):
    views = []
    for node in range(3):
        api = cluster.api(node)
        views.append((await api("cluster"))["view"])
        await api.close()
    assert len(set(views)) == 1


# Each: method, parameters, the error's code.
ERRORS = {
    "publish without channel": ("publish", {"data": 1}, 107),
    "publish without data": ("publish", {"channel": "room:x"}, 107),
    "publish to an unknown namespace": ("publish", {"channel": "nope:x", "data": 1}, 102),
    "publish too much": ("publish", {"channel": "room:x", "data": "x" * 65536}, 107),
    "publish to a number": ("publish", {"channel": 7, "data": 1}, 107),
    "publish to a long channel": ("publish", {"channel": "room:" + "x" * 251, "data": 1}, 107),
    "broadcast to none": ("broadcast", {"channels": [], "data": 1}, 107),
    "history of an unknown namespace": ("history", {"channel": "nope"}, 102),
    "history of another epoch": (
        "history", {"channel": "room:x", "limit": 1, "since": {"offset": 1, "epoch": "zzz"}}, 112,
    ),
    "presence without channel": ("presence", {}, 107),
    "disconnect nobody": ("disconnect", {}, 107),
    "subscribe without user": ("subscribe", {"channel": "room:x"}, 107),
    "follow without streamer": ("follow", {"user": "ann"}, 107),
    "follow with an illegal user": ("follow", {"user": "a b", "streamer": "c"}, 107),
    "follow with an unknown preference": ("follow", {"user": "ann", "streamer": "c", "notify": "often"}, 107),
    "start_stream without streamer": ("start_stream", {"title": "x"}, 107),
    "stop_stream of nobody live": ("stop_stream", {"streamer": "never-live"}, 1002),
    "notify an unknown user": ("notify", {"users": ["never-seen-user"], "type": "mention", "data": {}}, 1003),
    "notify nobody": ("notify", {"type": "mention", "data": {}}, 107),
    "notify with an unknown type": ("notify", {"followers_of": "ann", "type": "gossip", "data": {}}, 107),
    "notify too many": ("notify", {"users": [f"u{n}" for n in range(10001)], "type": "mention", "data": {}}, 106),
    "notifications with limit 0": ("notifications", {"user": "ann", "limit": 0}, 107),
    "notifications with limit 201": ("notifications", {"user": "ann", "limit": 201}, 107),
    "mark_read without ids": ("mark_read", {"user": "ann"}, 107),
    "event_status of nothing": ("event_status", {"event_id": "no-such-event"}, 107),
}


@pytest.mark.parametrize("case", ERRORS, ids=str)
async def test_errors(api, case):
    method, parameters, code = ERRORS[case]
    assert await api.error(method, **parameters) == code


@pytest.mark.parametrize(
    "method,path,content,status",
    [
        ("POST", "/api/publish", "{", 400), ("POST", "/api/publish", "[]", 400), ("POST", "/api/publish", "", 400),
        ("POST", "/api/publish", "\x00\x01", 400), ("POST", "/api/nope", "{}", 404), ("GET", "/api/publish", None, 405),
        ("PUT", "/api/publish", "{}", 405), ("POST", "/nowhere", "{}", 404),
    ],
)
async def test_http_statuses(api, method, path, content, status):
    response = await api.client.request(method, path, content=content, headers={"Content-Type": "application/json"})
    assert response.status_code == status, response.text


async def test_too_large_a_body(api):
    response = await api.client.post("/api/publish", content=b'{"data":"' + b"x" * (32 << 20) + b'"}')
    assert response.status_code == 413


async def test_errors_as_http_statuses(api):
    headers = {"X-Centrifugo-Error-Mode": "transport"}
    for channel, status in (("nope:x", 404), ("dm:b:a", 400)):
        response = await api.client.post("/api/publish", json={"channel": channel, "data": 1}, headers=headers)
        assert response.status_code == status and response.json()["code"] in (102, 107)


async def test_health_and_metrics(cluster, api):
    for node in range(3):
        status, body = cluster.ready(node)
        assert status == 200 and isinstance(body, dict) and len(body) >= 1
    assert (await api.client.get("/health/live")).status_code == 200
    response = await api.client.get("/metrics")
    assert response.status_code == 200 and response.headers["content-type"].startswith("text/plain")
    names = {line.split("{")[0].split(" ")[0] for line in response.text.splitlines() if line and not line.startswith("#")}
    assert len(names) >= 10 and all(name.startswith(("fanfare_", "process_")) for name in names), sorted(names)[:20]


@pytest.mark.parametrize("path", ["/health/live", "/health/ready", "/metrics"])
async def test_health_is_read(api, path):
    head, get = await api.client.head(path), await api.client.get(path)
    assert head.status_code == get.status_code == 200 and head.content == b""
    for method in ("POST", "PUT", "DELETE"):
        response = await api.client.request(method, path)
        assert response.status_code == 405 and "GET" in response.headers["allow"]


async def test_presence_of_a_user(open_raw, api, unique):
    """Who is there with which sessions, though nobody subscribed by hand."""
    user = f"u{unique}"
    clients = [await open_raw(node, token=None, user=user) for node in (0, 1)]
    await open_raw(2, user=f"v{unique}")
    presence = (await api("presence", channel=f"user:{user}"))["presence"]
    assert presence == {each.hello["client"]: {"user": user, "client": each.hello["client"]} for each in clients}
    assert await api("presence_stats", channel=f"user:{user}") == {"num_clients": 2, "num_users": 1}
    assert (await clients[0].result("presence_stats", channel=f"user:{user}"))["num_clients"] == 2


async def test_subscribing_a_user_keeps_to_whose_channel_it_is(open_raw, api, unique):
    user = f"u{unique}"
    client = await open_raw(1, user=user)
    for channel, code in (("dm:x:y", 103), ("user:x", 103), ("nope:x", 102), ("dm:y:x", 107)):
        assert await api.error("subscribe", user=user, channel=channel) == code
    await api("subscribe", user=user, channel=f"dm:{user}:z")
    push = await client.until(lambda: next((each for each in client.pushes if "subscribe" in each), None))
    assert push["channel"] == f"dm:{user}:z"


async def test_one_session_is_named_by_client(open_raw, api, unique):
    """Never all of a user's sessions where one was meant."""
    client = await open_raw(0, user=f"u{unique}")
    for method, parameters in (
        ("subscribe", {"channel": "room:x"}), ("unsubscribe", {"channel": "room:x"}), ("disconnect", {}), ("refresh", {"expired": True}),
    ):
        assert await api.error(method, user=f"u{unique}", session="some-session", **parameters) == 108
    assert "epoch" in await client.result("history", channel="room:x")


async def test_many_sessions_come_and_go(cluster, api, unique):
    """Nothing of 300 sessions stays behind."""
    room = f"room:{unique}"
    for _ in range(3):
        clients = await asyncio.gather(*(RawClient.connected(cluster.websocket(n % 3)) for n in range(100)))
        await asyncio.gather(*(client.result("subscribe", channel=room) for client in clients))
        await asyncio.gather(*(client.cut() for client in clients))

    async def empty():
        return (await api("presence_stats", channel=room)) == {"num_clients": 0, "num_users": 0}

    await eventually(empty, 20)
