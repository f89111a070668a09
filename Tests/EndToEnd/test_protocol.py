"""The JSON protocol by hand: replies, errors and disconnects, by table."""

import json

import pytest

ROOM = "room:{unique}"


def fill(value, unique):
    return json.loads(json.dumps(value).replace("{unique}", unique))


# --- connecting --------------------------------------------------------------------------------------------------------


async def test_hello(cluster, open_raw):
    client = await open_raw(0, user="ann", name="test", version="1")
    hello = client.hello
    assert hello["client"] and hello["ping"] > 0 and hello["pong"] is True
    assert hello["expires"] is True and 3500 < hello["ttl"] <= 3600
    assert "user:ann" in hello["subs"]
    assert "session" not in hello and "node" not in hello


async def test_anonymous(cluster, open_raw, unique):
    client = await open_raw(0)
    assert "expires" not in client.hello and not client.hello.get("subs")
    room = f"room:{unique}"
    await client.result("subscribe", channel=room)
    assert (await client.error("publish", channel=room, data={}))["code"] == 103
    assert (await client.error("rpc", method="notifications", data={}))["code"] == 101
    assert (await client.result("presence", channel=room))["presence"]
    assert (await client.result("history", channel=room))["publications"] == []


async def test_connect_and_subscribe_in_one_message(cluster, open_raw, unique):
    client = await open_raw(0, connect=False)
    await client.send(
        {"id": 1, "connect": {"token": cluster.token("ann")}}, {"id": 2, "subscribe": {"channel": f"room:{unique}"}}
    )
    subscribed = (await client.reply(2))["subscribe"]
    assert list(client.replies) == [1, 2]
    assert subscribed["recoverable"] and subscribed["positioned"] and subscribed["epoch"]
    assert subscribed.get("offset", 0) == 0


async def test_server_side_subscriptions_of_the_token(cluster, open_raw, unique):
    room = f"room:{unique}"
    client = await open_raw(0, token=cluster.token("ann", channels=[room]))
    assert set(client.hello["subs"]) == {room, "user:ann"}
    sender = await open_raw(1, user="ben")
    await sender.result("publish", channel=room, data=1)
    await client.publication(room)


async def test_server_side_subscriptions_recover(cluster, open_raw, api, unique):
    room = f"room:{unique}"
    token = cluster.token("ann", channels=[room])
    first = await open_raw(0, token=token)
    position = first.hello["subs"][room]
    await first.close()
    await api("publish", channel=room, data=1)
    again = await open_raw(
        1, token=token, subs={room: {"recover": True, "offset": position.get("offset", 0), "epoch": position["epoch"]}}
    )
    recovered = again.hello["subs"][room]
    assert recovered["recovered"] and recovered["was_recovering"]
    assert [each["data"] for each in recovered["publications"]] == [1]


# Each: what is sent as it stands (after connect where the second field says so), the close code.
DISCONNECTS = {
    "empty message": (True, "", 3501),
    "malformed json": (True, "{", 3501),
    "not an object": (True, "[1]", 3501),
    "a number": (True, "7", 3501),
    "trailing garbage": (True, '{"id":2,"history":{"channel":"room:x"}}}', 3501),
    "second line malformed": (True, '{"id":2,"history":{"channel":"room:x"}}\n{', 3501),
    "unknown method": (True, '{"id":2,"dance":{}}', 3501),
    "no method": (True, '{"id":2}', 3501),
    "no id": (True, '{"subscribe":{"channel":"room:x"}}', 3501),
    "id zero": (True, '{"id":0,"subscribe":{"channel":"room:x"}}', 3501),
    "id negative": (True, '{"id":-1,"subscribe":{"channel":"room:x"}}', 3501),
    "id too large": (True, '{"id":4294967296,"subscribe":{"channel":"room:x"}}', 3501),
    "id a string": (True, '{"id":"2","subscribe":{"channel":"room:x"}}', 3501),
    "wrong type": (True, '{"id":2,"subscribe":{"channel":7}}', 3501),
    "empty channel": (True, '{"id":2,"subscribe":{"channel":""}}', 3501),
    "empty channel in publish": (True, '{"id":2,"publish":{"channel":"","data":1}}', 3501),
    "second connect": (True, '{"id":2,"connect":{}}', 3501),
    "ping command": (True, '{"id":2,"ping":{}}', 3501),
    "pong without ping": (True, "{}", 3501),
    "unknown delta": (True, '{"id":2,"subscribe":{"channel":"room:x","delta":"other"}}', 3501),
    "send": (True, '{"send":{"data":{}}}', 3508),
    "before connect": (False, '{"id":1,"subscribe":{"channel":"room:x"}}', 3501),
    "malformed before connect": (False, "nonsense", 3501),
    "deep nesting": (True, '{"id":2,"publish":{"channel":"room:x","data":' + "[" * 50000 + "}}", 3501),
}


@pytest.mark.parametrize("case", DISCONNECTS, ids=str)
async def test_disconnects(cluster, open_raw, case):
    connected, text, code = DISCONNECTS[case]
    bystander = await open_raw(0)
    client = await open_raw(0, connect=connected)
    client.answer_pings = False
    await client.socket.send(text)
    assert (await client.close_code())[0] == code
    assert client.closed[1], "a reason stands beside the code"
    assert "epoch" in await bystander.result("history", channel="room:bystander"), "nobody else was hurt"


# Each: user (None = anonymous), method, fields, the error's code.
ERRORS = {
    "no namespace": ("ann", "subscribe", {"channel": "lobby"}, 102),
    "unknown namespace": ("ann", "subscribe", {"channel": "nope:x"}, 102),
    "another user's channel": ("ann", "subscribe", {"channel": "user:ben"}, 103),
    "dm of others": ("ann", "subscribe", {"channel": "dm:ben:cid"}, 103),
    "dm out of order": ("ann", "subscribe", {"channel": "dm:ben:ann"}, 107),
    "dm with oneself": ("ann", "subscribe", {"channel": "dm:ann:ann"}, 107),
    "channel too long": ("ann", "subscribe", {"channel": "room:" + "x" * 251}, 107),
    "channel not ASCII": ("ann", "subscribe", {"channel": "room:ä"}, 107),
    "typed subscription": ("ann", "subscribe", {"channel": "room:{unique}", "type": 1}, 108),
    "publish to unknown": ("ann", "publish", {"channel": "nope:x", "data": 1}, 102),
    "publish to a stream": ("ann", "publish", {"channel": "stream:{unique}", "data": 1}, 103),
    "publish to own user channel": ("ann", "publish", {"channel": "user:ann", "data": 1}, 103),
    "anonymous publish": (None, "publish", {"channel": "room:{unique}", "data": 1}, 103),
    "data too large": ("ann", "publish", {"channel": "room:{unique}", "data": "x" * 65536}, 107),
    "history of another user": ("ann", "history", {"channel": "user:ben"}, 103),
    "presence of another user": ("ann", "presence", {"channel": "user:ben"}, 103),
    "history reverse from zero": (
        "ann", "history", {"channel": "room:{unique}", "limit": 1, "reverse": True, "since": {"offset": 0, "epoch": ""}}, 107,
    ),
    "history of another epoch": (
        "ann", "history", {"channel": "room:{unique}", "limit": 1, "since": {"offset": 1, "epoch": "zzz"}}, 112,
    ),
    "sub_refresh without subscription": ("ann", "sub_refresh", {"channel": "room:{unique}", "token": "x"}, 103),
    "unknown rpc": ("ann", "rpc", {"method": "nope", "data": {}}, 104),
    "anonymous rpc": (None, "rpc", {"method": "notifications", "data": {}}, 101),
    "rpc limit zero": ("ann", "rpc", {"method": "notifications", "data": {"limit": 0}}, 107),
    "rpc limit too large": ("ann", "rpc", {"method": "notifications", "data": {"limit": 201}}, 107),
    "rpc with a wrong type": ("ann", "rpc", {"method": "follow", "data": {"streamer": 7}}, 107),
    "rpc without what it needs": ("ann", "rpc", {"method": "follow", "data": {}}, 107),
    "rpc with an illegal user": ("ann", "rpc", {"method": "follow", "data": {"streamer": "no spaces"}}, 107),
}


@pytest.mark.parametrize("case", ERRORS, ids=str)
async def test_errors(cluster, open_raw, unique, case):
    user, method, fields, code = ERRORS[case]
    client = await open_raw(1, user=user)
    error = await client.error(method, **fill(fields, unique))
    assert error["code"] == code, error
    assert not error.get("temporary")
    assert "epoch" in await client.result("history", channel=f"room:{unique}"), "the session goes on"


async def test_subscribe_twice(cluster, open_raw, unique):
    client = await open_raw()
    await client.result("subscribe", channel=f"room:{unique}")
    assert (await client.error("subscribe", channel=f"room:{unique}"))["code"] == 105


async def test_own_user_channel_beside_the_servers_subscription(cluster, open_raw, unique):
    """Subscribed by the server on connect; a client may ask for it once more as its own."""
    client = await open_raw(user=f"u{unique}")
    result = await client.result("subscribe", channel=f"user:u{unique}", recover=True, offset=0, epoch="")
    assert result["recoverable"] and result["recovered"] and result["epoch"]
    assert (await client.error("subscribe", channel=f"user:u{unique}"))["code"] == 105


async def test_rpc_without_data(open_raw, unique):
    client = await open_raw(0, user=f"u{unique}")
    for data in ("", ',"data":null', ',"data":{}'):
        client.last_id += 1
        await client.send('{"id":%d,"rpc":{"method":"notifications"%s}}' % (client.last_id, data))
        assert (await client.reply(client.last_id))["rpc"] == {"data": {"notifications": [], "unread": 0}}
    assert (await client.rpc("notifications", [1]))["error"]["code"] == 107


async def test_subscription_limit(cluster, open_raw, unique):
    client = await open_raw()
    replies = []
    for number in range(140):
        replies.append(await client.subscribe(f"room:{unique}-{number}"))
    refused = [reply for reply in replies if "error" in reply]
    assert len(refused) == 12 and {reply["error"]["code"] for reply in refused} == {106}


async def test_unsubscribe(cluster, open_raw, api, unique):
    room = f"room:{unique}"
    client = await open_raw(1)
    await client.result("subscribe", channel=room)
    assert await client.command("unsubscribe", channel=room) == {"id": client.last_id, "unsubscribe": {}}
    await client.result("unsubscribe", channel=room)
    await client.result("unsubscribe", channel=f"room:{unique}-never")
    await api("publish", channel=room, data=1)
    await client.result("subscribe", channel=room)
    await api("publish", channel=room, data=2)
    await client.publication(room, lambda publication: publication["data"] == 2)
    assert [each["data"] for each in client.publications(room)] == [2]


async def test_a_batch_is_answered_in_order(cluster, open_raw, unique):
    room = f"room:{unique}"
    client = await open_raw(2, user="ann")
    first = client.last_id + 1
    commands = [client.numbered("subscribe", {"channel": room})]
    commands += [client.numbered("publish", {"channel": room, "data": index}) for index in range(30)]
    commands += [client.numbered("history", {"channel": room, "limit": 100})]
    await client.send(*commands)
    history = (await client.reply(client.last_id))["history"]
    assert [each["data"] for each in history["publications"]] == list(range(30))
    assert [number for number in client.replies if number >= first] == list(range(first, client.last_id + 1))
    await client.until(lambda: len(client.publications(room)) == 30)
    assert [each["offset"] for each in client.publications(room)] == list(range(1, 31))


async def test_unknown_fields_are_ignored(cluster, open_raw, unique):
    client = await open_raw(0)
    await client.send({"id": 5, "subscribe": {"channel": f"room:{unique}", "whatever": [1], "tf": None}, "more": {}})
    assert "subscribe" in await client.reply(5)


async def test_first_method_in_schema_order_wins(cluster, open_raw, unique):
    client = await open_raw(0)
    await client.send({"id": 5, "history": {"channel": f"room:{unique}"}, "subscribe": {"channel": f"room:{unique}"}})
    assert "subscribe" in await client.reply(5)


async def test_a_trailing_line_break_is_tolerated(cluster, open_raw, unique):
    client = await open_raw(0)
    await client.socket.send(f'{{"id":5,"history":{{"channel":"room:{unique}"}}}}\n')
    assert "history" in await client.reply(5)


# --- recovery ----------------------------------------------------------------------------------------------------------


@pytest.fixture
async def filled_room(cluster, api, unique):
    """A room with three publications, and its epoch."""
    room = f"room:{unique}"
    for index in (1, 2, 3):
        position = await api("publish", channel=room, data=index)
    return room, position["epoch"]


async def test_subscribe_shows_the_top(open_raw, filled_room):
    room, epoch = filled_room
    result = await (await open_raw(2)).result("subscribe", channel=room)
    assert (result["offset"], result["epoch"]) == (3, epoch)
    assert "publications" not in result and not result.get("was_recovering")


# Each: offset and epoch asked for (None: the right one), offsets that come back; None where it cannot be recovered.
RECOVERIES = {
    "all": (0, None, [1, 2, 3]),
    "some": (1, None, [2, 3]),
    "none missed": (3, None, []),
    "unknown epoch": (1, "", [2, 3]),
    "other epoch": (1, "zzz", None),
    "beyond the top": (4, None, None),
}


@pytest.mark.parametrize("case", RECOVERIES, ids=str)
async def test_recovery(open_raw, filled_room, case):
    room, epoch = filled_room
    offset, asked, expected = RECOVERIES[case]
    fields = {"channel": room, "recover": True, "offset": offset, "epoch": epoch if asked is None else asked}
    result = await (await open_raw(1)).result("subscribe", **fields)
    assert result["was_recovering"] and result["epoch"] == epoch
    if expected is None:
        assert not result.get("recovered") and result["offset"] == 3 and not result.get("publications")
        error = await (await open_raw(1)).error("subscribe", flag=2, **fields)
        assert error["code"] == 112
    else:
        assert result["recovered"] and result.get("offset", 0) == offset
        assert [each["offset"] for each in result.get("publications", [])] == expected


# Each: fields of history, offsets that come back.
HISTORIES = {
    "position only": ({}, []),
    "limit zero": ({"limit": 0}, []),
    "all": ({"limit": -1}, [1, 2, 3]),
    "forward": ({"limit": 2}, [1, 2]),
    "reverse": ({"limit": 2, "reverse": True}, [3, 2]),
    "since": ({"limit": 9, "since": {"offset": 1, "epoch": ""}}, [2, 3]),
    "since reverse": ({"limit": 9, "since": {"offset": 3, "epoch": ""}, "reverse": True}, [2, 1]),
    "since the top": ({"limit": 9, "since": {"offset": 3, "epoch": ""}}, []),
}


@pytest.mark.parametrize("case", HISTORIES, ids=str)
async def test_history(open_raw, filled_room, case):
    room, epoch = filled_room
    fields, expected = HISTORIES[case]
    result = await (await open_raw(1)).result("history", channel=room, **fields)
    assert (result["epoch"], result["offset"]) == (epoch, 3)
    assert [each["offset"] for each in result["publications"]] == expected


async def test_join_leave_is_a_wish_that_is_not_granted(open_raw, unique):
    """As the protocol has it for what a channel does not offer: the subscription stands, and says nothing of it."""
    room = f"room:{unique}"
    first = await open_raw(0, user="ann")
    result = await first.result("subscribe", channel=room, join_leave=True)
    assert result["recoverable"] and "join_leave" not in result
    second = await open_raw(1, user="ben")
    await second.result("subscribe", channel=room, join_leave=True)
    await second.result("publish", channel=room, data=1)
    await second.result("unsubscribe", channel=room)
    await second.result("publish", channel=room, data=2)
    await first.publication(room, lambda each: each["data"] == 2)
    assert [list(push)[-1] for push in first.pushes if push.get("channel") == room] == ["pub", "pub"]


async def test_the_history_of_a_user_channel_is_the_inbox(open_raw, unique):
    client = await open_raw(0, user=f"u{unique}")
    error = await client.error("history", channel=f"user:u{unique}", limit=10)
    assert error["code"] == 108 and "notifications" in error["message"]
    assert (await client.error("history", channel="user:another", limit=10))["code"] == 103
