"""The server API on one node about clients, rooms and users of the others."""

import asyncio

import httpx
import pytest
from harness.waiting import eventually


@pytest.fixture
async def apis(cluster):
    apis = [cluster.api(node) for node in range(3)]
    yield apis
    for api in apis:
        await api.close()


async def test_idempotency_over_nodes(apis, open_raw, unique):
    room = f"room:{unique}"
    watcher = await open_raw(2)
    await watcher.result("subscribe", channel=room)
    results = await asyncio.gather(
        *(apis[n % 3]("publish", channel=room, data=n, idempotency_key="same") for n in range(30))
    )
    assert all(result == results[0] for result in results) and results[0]["offset"] == 1
    assert (await apis[1]("publish", channel=room, data="after"))["offset"] == 2
    await watcher.publication(room, lambda each: each["data"] == "after")
    assert len(watcher.publications(room)) == 2
    # A key belongs to its channel.
    assert (await apis[0]("publish", channel=room + "-other", data=1, idempotency_key="same"))["offset"] == 1


async def test_every_node_answers_for_all(apis, open_raw, unique):
    room, user = f"room:{unique}", f"u{unique}"
    clients = [await open_raw(node, user=user) for node in range(3)]
    for number, client in enumerate(clients):
        await client.result("subscribe", channel=room)
        await client.result("publish", channel=room, data=number)

    for api in apis:
        present = (await api("presence", channel=room))["presence"]
        assert set(present) == {client.hello["client"] for client in clients}
        assert await api("presence_stats", channel=room) == {"num_clients": 3, "num_users": 1}
        page = await api("history", channel=room, limit=-1)
        assert [each["data"] for each in page["publications"]] == [0, 1, 2] and page["offset"] == 3
        page = await api("history", channel=room, limit=1, reverse=True, since={"offset": 3, "epoch": page["epoch"]})
        assert [each["offset"] for each in page["publications"]] == [2]
        assert (await api("channels", pattern=f"room:{unique}"))["channels"] == {room: {"num_clients": 3}}
        assert (await api("channels", pattern=f"*{unique}*"))["channels"].get(room) == {"num_clients": 3}
        assert (await api("channels", pattern=f"room:{unique}?"))["channels"] == {}
        info = (await api("info"))["nodes"]
        assert len(info) == 3 and all(node["uptime"] >= 0 and node["version"] for node in info)


async def test_one_client_of_a_user(apis, open_raw, unique):
    room, user = f"room:{unique}", f"u{unique}"
    chosen, other = await open_raw(1, user=user), await open_raw(2, user=user)
    await apis[0]("subscribe", user=user, channel=room, client=chosen.hello["client"])
    await chosen.until(lambda: [each for each in chosen.pushes if "subscribe" in each])
    await apis[0]("publish", channel=room, data=1)
    await chosen.publication(room)
    assert not other.pushes
    await apis[2]("unsubscribe", user=user, channel=room, client=chosen.hello["client"])
    await chosen.until(lambda: [each for each in chosen.pushes if "unsubscribe" in each])
    await apis[2]("disconnect", user=user, client=chosen.hello["client"], disconnect={"code": 4501, "reason": "bye"})
    assert await chosen.close_code() == (4501, "bye")
    assert "epoch" in await other.result("history", channel=room)


async def test_subscribe_carries_data_and_info(apis, open_raw, unique):
    room, user = f"room:{unique}", f"u{unique}"
    await apis[0]("publish", channel=room, data=1)
    top = await apis[0]("publish", channel=room, data=2)
    client = await open_raw(1, user=user)
    await apis[2](
        "subscribe", user=user, channel=room, data={"hello": 1}, info={"badge": "gold"},
        recover_since={"offset": 1, "epoch": top["epoch"]},
    )
    push = await client.until(lambda: next((each for each in client.pushes if "subscribe" in each), None))
    assert push["subscribe"]["data"] == {"hello": 1}
    assert (await client.publication(room))["data"] == 2
    present = (await apis[0]("presence", channel=room))["presence"]
    assert present[client.hello["client"]]["chan_info"] == {"badge": "gold"}


async def test_refresh_by_the_server(apis, open_raw, unique):
    import time

    user = f"u{unique}"
    client = await open_raw(1, user=user)
    await apis[0]("refresh", user=user, expire_at=int(time.time()) + 500)
    push = await client.until(lambda: next((each for each in client.pushes if "refresh" in each), None))
    assert push["refresh"]["expires"] and 490 <= push["refresh"]["ttl"] <= 500
    await apis[2]("refresh", user=user, expired=True)
    assert (await client.close_code())[0] == 3005


async def test_broadcast_and_batch_with_errors(apis, unique):
    channels = [f"room:{unique}-1", "nope:x", f"room:{unique}-2", "dm:b:a", "lobby"]
    responses = (await apis[1]("broadcast", channels=channels, data={"x": 1}, idempotency_key="k"))["responses"]
    assert [each.get("error", {}).get("code") for each in responses] == [None, 102, None, 107, 102]
    assert responses[0]["result"]["offset"] == 1 and responses[2]["result"]["epoch"]
    again = (await apis[2]("broadcast", channels=channels, data={"x": 1}, idempotency_key="k"))["responses"]
    assert [again[0], again[2]] == [responses[0], responses[2]]
    replies = (
        await apis[0](
            "batch",
            commands=[
                {"publish": {"channel": f"room:{unique}-1", "data": 2}}, {"publish": {"channel": "nope:x", "data": 2}},
                {"dance": {}}, {"history": {"channel": f"room:{unique}-1", "limit": 10}}, {"publish": {"channel": "room:x"}},
            ],
        )
    )["replies"]
    assert replies[0]["publish"]["offset"] == 2
    assert replies[1]["error"]["code"] == 102 and replies[4]["error"]["code"] == 107
    assert replies[2]["error"]["code"] in (104, 107)
    assert [each["data"] for each in replies[3]["history"]["publications"]] == [{"x": 1}, 2]


async def test_history_remove_is_seen_everywhere(apis, open_raw, unique):
    room = f"room:{unique}"
    client = await open_raw(2)
    await client.result("subscribe", channel=room)
    for number in range(3):
        top = await apis[0]("publish", channel=room, data=number)
    await client.publication(room, lambda each: each["offset"] == 3)
    await apis[1]("history_remove", channel=room)
    for api in apis:
        page = await api("history", channel=room, limit=-1)
        assert (page["publications"], page["offset"], page["epoch"]) == ([], 3, top["epoch"])
    again = await (await open_raw(0)).result("subscribe", channel=room, recover=True, offset=1, epoch=top["epoch"])
    assert again["was_recovering"] and not again.get("recovered"), "what is gone cannot be recovered"
    same = await (await open_raw(0)).result("subscribe", channel=room, recover=True, offset=3, epoch=top["epoch"])
    assert same["recovered"]
    assert (await apis[2]("publish", channel=room, data="next"))["offset"] == 4
    await client.publication(room, lambda each: each["offset"] == 4)


async def test_direct_messages(apis, open_raw, unique):
    a, b, c = (f"{letter}{unique}" for letter in "abc")
    channel = f"dm:{a}:{b}"
    ann, ben, cid = [await open_raw(node, user=user) for node, user in enumerate((a, b, c))]
    for client in (ann, ben):
        await client.result("subscribe", channel=channel)
    for number in range(4):
        await (ann, ben)[number % 2].result("publish", channel=channel, data={"n": number})
    for client in (ann, ben):
        await client.publication(channel, lambda each: each["offset"] == 4)
        assert [each["offset"] for each in client.publications(channel)] == [1, 2, 3, 4]
        assert [each["info"]["user"] for each in client.publications(channel)] == [a, b, a, b]
    for method in ("subscribe", "history", "presence", "presence_stats"):
        assert (await cid.error(method, channel=channel))["code"] == 103
    assert (await cid.error("publish", channel=channel, data=1))["code"] == 103
    assert (await (await open_raw(0)).error("subscribe", channel=channel))["code"] == 103
    page = await ben.result("history", channel=channel, limit=2, reverse=True)
    assert [each["offset"] for each in page["publications"]] == [4, 3] and page["offset"] == 4
    await ben.cut()
    await ann.result("publish", channel=channel, data={"n": 4})
    back = await open_raw(2, user=b)
    result = await back.result("subscribe", channel=channel, recover=True, offset=4, epoch=page["epoch"])
    assert result["recovered"] and [each["data"] for each in result["publications"]] == [{"n": 4}]
    keyed = await ann.rpc("publish", {"channel": channel, "data": 5, "idempotency_key": "k"})
    again = await apis[2]("publish", channel=channel, data=5, idempotency_key="k")
    assert keyed["rpc"]["data"] == again and again["offset"] == 6


async def test_mark_read_reaches_the_other_sessions(apis, open_raw, unique):
    user = f"u{unique}"
    await apis[0]("follow", user=user, streamer="someone")
    phone, desk, far = [await open_raw(node, user=user) for node in (0, 0, 2)]
    await apis[1]("notify", users=[user], type="raid", data={"from": "x"})
    channel = f"user:{user}"
    pushes = [await client.publication(channel) for client in (phone, desk, far)]
    assert len({push["data"]["id"] for push in pushes}) == 1
    await phone.rpc("mark_read", {"up_to": pushes[0]["data"]["id"]})
    for client in (desk, far):
        await client.until(lambda: len(client.publications(channel)) == 2, what="the notice")
    # The notice has no place in the inbox: the next push goes on from the last entry.
    await apis[1]("notify", users=[user], type="raid", data={"from": "y"})
    for client in (phone, desk, far):
        last = await client.publication(channel, lambda each: each["data"].get("data") == {"from": "y"})
        assert last["offset"] > pushes[0]["offset"]
    assert len(phone.publications(channel)) == 2, "the session that marked needs no notice"


async def test_notify(apis, unique):
    users = [f"u{unique}-{number}" for number in range(3)]
    for user in users:
        await apis[0]("follow", user=user, streamer=f"s{unique}")
    event = (await apis[1]("notify", users=users + users[:1], type="custom.x", data=[1], idempotency_key=unique))["event_id"]
    assert isinstance(event, str)
    assert await apis[2]("notify", users=users + users[:1], type="custom.x", data=[1], idempotency_key=unique) == {"event_id": event}
    assert await apis[2].error("notify", users=users, type="custom.x", data=[2], idempotency_key=unique) == 1006
    assert await apis[0].error("notify", users=users + [f"never{unique}"], type="mention", data={}) == 1003
    assert await apis[0].error("notify", users=[], type="mention", data={}) == 107
    assert await apis[0].error("notify", users=users, type="mention") == 107
    assert await apis[0].error("notify", users=[f"x{n}" for n in range(10001)], type="mention", data={}) == 106
    assert await apis[0].error("notify", followers_of=f"never{unique}", type="mention", data={}) in (1003,)
    many = (await apis[0]("notify", followers_of=f"s{unique}", type="custom.y", data={"k": "v"}))["event_id"]

    async def completed(identifier):
        status = await apis[2]("event_status", event_id=identifier)
        return status if status["completed_at"] else None

    for identifier, kind in ((event, "custom.x"), (many, "custom.y")):
        status = await eventually(lambda: completed(identifier), 20)
        assert set(status) == {
            "event_id", "type", "accepted_at", "shards", "recipients", "delivered_online", "dead_letters", "completed_at",
            "state", "total", "done", "withdrawn", "priority", "rate_per_s", "eta_s",
        }
        assert (status["event_id"], status["type"], status["recipients"], status["dead_letters"]) == (identifier, kind, 3, 0)
        assert status["shards"]["done"] == status["shards"]["total"]
    for user in users:
        page = await apis[1]("notifications", user=user, limit=200)
        assert [each["type"] for each in page["notifications"]] == ["custom.y", "custom.x"] and page["unread"] == 2
        assert set(page["notifications"][0]) >= {"id", "type", "data", "created_at", "read"}
    for bad in ("0", "99999999999", "x", "", "-1", str(2**70)):
        assert await apis[0].error("event_status", event_id=bad) == 107


@pytest.mark.parametrize(
    "method,parameters,status,code",
    [
        ("publish", {"channel": "nope:x", "data": 1}, 404, 102), ("publish", {"channel": "room:x"}, 400, 107),
        ("history", {"channel": "user:x"}, 400, 108), ("history", {"channel": "room:x", "since": {"offset": 1, "epoch": "z"}, "limit": 1}, 416, 112),
    ],
)
async def test_error_mode(apis, method, parameters, status, code):
    response = await apis[1].client.post(f"/api/{method}", json=parameters, headers={"X-Centrifugo-Error-Mode": "transport"})
    assert response.status_code == status and response.json()["code"] == code and response.json()["message"]
    response = await apis[1].client.post(f"/api/{method}", json=parameters)
    assert response.status_code == 200 and response.json()["error"]["code"] == code


async def test_http(cluster):
    key = cluster.env["FANFARE_API_KEY"]
    async with httpx.AsyncClient(base_url=cluster.url(1), trust_env=False) as client:
        good = {"X-API-Key": key}
        assert (await client.post("/api/info", content="{}", headers={"Content-Type": "text/html", **good})).status_code == 415
        assert (await client.post("/api/info", content="{}", headers={"Content-Type": "application/xml", **good})).status_code == 415
        assert (await client.post("/api/info", content="{}", headers=good)).status_code == 200
        assert (await client.post("/api/info", content="{} {}", headers=good)).status_code == 400
        assert (await client.post("/api/info", content=b'{"a":"\xff"}', headers=good)).status_code == 400
        assert (await client.post("/api/info", content="[" * 100000, headers=good)).status_code == 400
        assert (await client.post(f"/api/info?api_key={key}", content="{}")).status_code == 200
        assert (await client.post("/api/info", content="{}", headers={"X-API-Key": key + "x"})).status_code == 401
        assert (await client.post("/api/", content="{}", headers=good)).status_code == 404
        assert (await client.post("/api/info/more", content="{}", headers=good)).status_code == 404
        assert (await client.delete("/api/info", headers=good)).status_code == 405
        assert (await client.get("/")).status_code in (200, 404)
        assert (await client.get("/connection/websocket")).status_code in (400, 426)
        assert (await client.post("/connection/websocket")).status_code in (400, 404, 405, 426)
        assert (await client.get("/connection/other")).status_code == 404
        response = await client.post("/api/publish", json={"channel": "room:x", "data": "x" * 65535}, headers=good)
        assert response.json()["error"]["code"] == 107
        response = await client.post("/api/publish", content=b"x" * (5 << 20), headers=good)
        assert response.status_code == 413
