"""Limits and times of connections and subscriptions, handshakes that are slow or odd, and engines that come back."""

import asyncio
import datetime
import subprocess
import time
import urllib.parse

import httpx
import jwt
import pytest
from harness.cluster import LoneNode
from harness.frames import TEXT, FrameClient, frame
from harness.raw import RawClient
from harness.waiting import eventually

HANDSHAKE = (
    "GET /connection/websocket HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
)


def subscription_token(secret, user, channel, ttl=60, **claims):
    return jwt.encode({"sub": user, "channel": channel, "exp": int(time.time()) + ttl, **claims}, secret, "HS256")


@pytest.fixture(scope="module")
def quick(state_folder):
    """A node whose times are short."""
    with LoneNode(state_folder, "--expiry-grace", "0.5", "--stale-timeout", "1") as node:
        yield node


# --- tokens of subscriptions ---------------------------------------------------------------------------------------------


async def test_a_subscription_token(cluster, open_raw, unique):
    room, secret = f"room:{unique}", cluster.env["FANFARE_TOKEN_SECRET"]
    client = await open_raw(1, user="ann")
    token = subscription_token(secret, "ann", room, info={"seat": 7})
    result = await client.result("subscribe", channel=room, token=token)
    assert result["expires"] and 50 < result["ttl"] <= 60
    present = (await client.result("presence", channel=room))["presence"]
    assert present[client.hello["client"]]["chan_info"] == {"seat": 7}
    result = await client.result("sub_refresh", channel=room, token=subscription_token(secret, "ann", room, 500))
    assert result["expires"] and 490 < result["ttl"] <= 500
    error = await client.error("sub_refresh", channel=room, token=subscription_token(secret, "ann", room, -60))
    assert error["code"] == 110
    assert (await client.error("sub_refresh", channel=room, token=""))["code"] == 107


SUBSCRIPTION_TOKENS = {
    "expired": (lambda secret, room: subscription_token(secret, "ann", room, -60), 109),
    "forged": (lambda secret, room: subscription_token("another secret that is just as long", "ann", room), 103),
    "garbage": (lambda secret, room: "garbage", 103),
    "another user": (lambda secret, room: subscription_token(secret, "ben", room), 3500),
    "another channel": (lambda secret, room: subscription_token(secret, "ann", room + "x"), 3500),
}


@pytest.mark.parametrize("case", SUBSCRIPTION_TOKENS, ids=str)
async def test_subscription_tokens_refused(cluster, open_raw, unique, case):
    make, code = SUBSCRIPTION_TOKENS[case]
    client = await open_raw(0, user="ann")
    token = make(cluster.env["FANFARE_TOKEN_SECRET"], f"room:{unique}")
    await client.send(client.numbered("subscribe", {"channel": f"room:{unique}", "token": token}))
    if code < 1000:
        assert (await client.reply(client.last_id))["error"]["code"] == code
        await client.result("subscribe", channel=f"room:{unique}")
    else:
        assert (await client.close_code())[0] == code


async def test_a_token_gives_no_more_than_the_channel_allows(cluster, open_raw, unique):
    client = await open_raw(0, user="cid")
    channel = "dm:ann:ben"
    token = subscription_token(cluster.env["FANFARE_TOKEN_SECRET"], "cid", channel)
    assert (await client.error("subscribe", channel=channel, token=token))["code"] == 103
    other = await open_raw(0, token=cluster.token("cid", channels=[channel, "user:ann", "nope:x", f"room:{unique}"]))
    assert set(other.hello["subs"]) == {"user:cid", f"room:{unique}"}


# --- expiry --------------------------------------------------------------------------------------------------------------


async def test_a_subscription_expires(quick, unique):
    client = await RawClient.connected(quick.websocket(), quick.token("ann"))
    token = subscription_token(quick.SECRET, "ann", f"room:{unique}", 1)
    await client.result("subscribe", channel=f"room:{unique}", token=token)
    assert (await client.close_code())[0] == 3006


async def test_an_unsubscribed_one_does_not(quick, unique):
    client = await RawClient.connected(quick.websocket(), quick.token("ann", ttl=4))
    token = subscription_token(quick.SECRET, "ann", f"room:{unique}", 1)
    await client.result("subscribe", channel=f"room:{unique}", token=token)
    await client.result("unsubscribe", channel=f"room:{unique}")
    assert (await client.close_code())[0] == 3005


async def test_refresh_in_the_time_of_grace(quick):
    client = await RawClient.connected(quick.websocket(), quick.token("ann", ttl=1))
    assert client.hello["expires"] and client.hello["ttl"] == 1
    result = await client.result("refresh", token=quick.token("ann", ttl=None))
    assert not result.get("expires")
    await client.close()


async def test_anonymous_refresh(quick):
    client = await RawClient.connected(quick.websocket())
    await client.send(client.numbered("refresh", {"token": quick.token("ann")}))
    assert (await client.close_code())[0] == 3501


async def test_a_stale_connection(quick):
    silent = await RawClient.open(quick.websocket())
    assert (await silent.close_code())[0] == 3502


# --- sizes ---------------------------------------------------------------------------------------------------------------


async def test_128_channels(cluster, open_raw, unique):
    """The user's own channel is among them."""
    client = await open_raw(0, user=f"u{unique}")
    commands = [client.numbered("subscribe", {"channel": f"room:{unique}-{number}"}) for number in range(128)]
    await client.send(*commands)
    replies = [await client.reply(command["id"]) for command in commands]
    codes = [reply["error"]["code"] if "error" in reply else 0 for reply in replies]
    assert codes == [0] * 127 + [106]
    await client.result("unsubscribe", channel=f"room:{unique}-0")
    await client.result("subscribe", channel=f"room:{unique}-128")
    client.pushes.clear()
    sender = await open_raw(1, user="ann")
    for number in range(1, 129):
        if number != 127:
            await sender.result("publish", channel=f"room:{unique}-{number}", data=number)
    await client.until(lambda: len([push for push in client.pushes if "pub" in push]) == 127)


async def test_too_many_commands_at_once(open_raw, unique):
    client = await open_raw(0, user="ann")
    await client.send(*[client.numbered("publish", {"channel": f"room:{unique}", "data": 1}) for _ in range(1024)])
    last = client.last_id
    await client.until(lambda: len(client.replies) >= 1024, 30)
    assert last in client.replies
    codes = {reply["error"]["code"] for reply in client.replies.values() if "error" in reply}
    assert codes <= {111}
    await client.send("\n".join(['{"id":9999,"history":{"channel":"room:x"}}'] * 1025))
    assert (await client.close_code())[0] == 3501


async def test_a_used_id_is_used_again(open_raw, unique):
    """Every command is answered; those of one id wait for each other, so that the limit of what is under way holds."""
    client = await open_raw(0, user="ann")
    room = f"room:{unique}"
    commands = [{"id": 7, "publish": {"channel": room, "data": number}} for number in range(50)]
    await client.send(*commands, {"id": 8, "history": {"channel": room, "limit": 100}})
    page = (await client.reply(8))["history"]
    assert [each["data"] for each in page["publications"]] == list(range(50))
    answers = [line for message in client.messages for line in message if line == '{"id":7,"publish":{}}']
    assert len(answers) == 50


async def test_commands_are_paced(state_folder, unique):
    """Asked for, the rate holds for clients on this machine, too."""
    with LoneNode(state_folder, "--session-rate", "1", "--session-burst", "20") as node:
        client = await RawClient.connected(node.websocket(), node.token("ann"))
        other = await RawClient.connected(node.websocket(), node.token("ann"))
        began = time.monotonic()
        room = f"room:{unique}"
        await client.send(*[{"id": number, "publish": {"channel": room, "data": number}} for number in range(101, 131)])
        await client.until(lambda: len(client.replies) >= 31)
        refused = [reply for reply in client.replies.values() if "error" in reply]
        assert 10 - (time.monotonic() - began) - 1 <= len(refused) <= 10
        for reply in refused:
            assert reply["error"] == {"code": 111, "message": "too many requests", "temporary": True}
        assert client.replies[120] == {"id": 120, "publish": {}}
        # Every session for itself, and again after a while.
        assert "epoch" in await other.result("history", channel=room)

        async def again():
            return "history" in await client.command("history", channel=room)

        await eventually(again)
        metrics = httpx.get(node.url + "/metrics", trust_env=False).text
        assert 'fanfare_rate_limited_total{limit="session_commands"}' in metrics
        await client.close()
        await other.close()


async def test_connects_are_paced(state_folder):
    with LoneNode(state_folder, "--connect-rate", "1", "--connect-burst", "3") as node:
        statuses = []
        for _ in range(6):
            client = await FrameClient.open(node.websocket())
            statuses.append(client.status)
            if client.status == 429:
                assert int(client.headers["retry-after"]) >= 1
            client.close()
        assert statuses[:3] == [101] * 3 and statuses.count(429) >= 2
        # What is no connect is free.
        assert httpx.get(node.url + "/health/live", trust_env=False).status_code == 200


async def test_idempotency_keys_are_bounded(state_folder, unique):
    with LoneNode(state_folder, "--idempotency-keys", "3") as node:
        api = node.api()
        room = f"room:{unique}"
        for number in range(3):
            assert (await api("publish", channel=room, data=number, idempotency_key=f"k{number}"))["offset"] == number + 1
        body = (await api.raw("publish", {"channel": room, "data": 3, "idempotency_key": "k3"})).json()
        assert body["error"]["code"] == 111 and body["error"]["temporary"]
        # What is known already is answered as ever.
        for number in (0, 2, 1):
            assert (await api("publish", channel=room, data="again", idempotency_key=f"k{number}"))["offset"] == number + 1
        assert (await api("publish", channel=room, data=3))["offset"] == 4
        history = await api("history", channel=room, limit=10)
        assert [publication["data"] for publication in history["publications"]] == [0, 1, 2, 3]
        body = (await api.raw("publish", {"channel": room, "data": 3, "idempotency_key": "k3"})).json()
        assert body["error"]["code"] == 111
        assert "fanfare_idempotency_keys 3" in httpx.get(node.url + "/metrics", trust_env=False).text
        await api.close()


async def test_idempotency_keys_are_forgotten(state_folder, unique):
    with LoneNode(state_folder, "--idempotency-keys", "1", "--idempotency-window", "1s") as node:
        api = node.api()
        await api("publish", channel=f"room:{unique}", data=1, idempotency_key="k")

        async def again():
            body = (await api.raw("publish", {"channel": f"room:{unique}", "data": 1, "idempotency_key": "k"})).json()
            return body.get("result", {}).get("offset") == 2

        await eventually(again)
        await api.close()


async def test_the_size_of_data_is_one_for_all(state_folder, unique):
    with LoneNode(state_folder, "--data-bytes", "100") as node:
        api = node.api()
        client = await RawClient.connected(node.websocket(), node.token("ann"))
        for size, code in ((100, None), (101, 107)):
            data = "x" * (size - 2)
            replies = [
                await client.command("publish", channel=f"room:{unique}", data=data),
                await client.rpc("publish", {"channel": f"room:{unique}", "data": data}),
                (await api.raw("publish", {"channel": f"room:{unique}", "data": data})).json(),
                (await api.raw("batch", {"commands": [{"publish": {"channel": f"room:{unique}", "data": data}}]})).json()["replies"][0],
            ]
            assert [reply.get("error", {}).get("code") for reply in replies] == [code] * 4
        await client.close()
        await api.close()


async def test_a_slow_consumer(cluster, api, unique):
    """Cut with 3008 where it can still be told; the connection ends in any case."""
    room = f"room:{unique}"
    slow, writer = await asyncio.open_connection(*cluster.url(0).removeprefix("http://").split(":"), limit=1024)
    writer.transport.pause_reading()
    writer.write((HANDSHAKE + "\r\n").encode())
    writer.write(frame(TEXT, b'{"id":1,"connect":{}}\n{"id":2,"subscribe":{"channel":"%s"}}' % room.encode()))
    await writer.drain()

    async def count():
        return (await api("presence_stats", channel=room))["num_clients"]

    async def present():
        return await count() == 1

    async def cut():
        await asyncio.gather(*(api("publish", channel=room, data="x" * 60000) for _ in range(8)))
        return await count() == 0

    await eventually(present)
    await eventually(cut, 30)
    writer.transport.resume_reading()
    rest = b""
    while chunk := await asyncio.wait_for(slow.read(1 << 20), 10):
        rest = (rest + chunk)[-200:]
    assert b"\x0b\xc0slow" in rest, rest[-40:]
    writer.close()


# --- handshakes ----------------------------------------------------------------------------------------------------------


async def answer(cluster, head, pieces=1, rest=b""):
    reader, writer = await asyncio.open_connection(*cluster.url(0).removeprefix("http://").split(":"))
    data = head.encode("latin-1") + b"\r\n" + rest
    step = -(-len(data) // pieces)
    for start in range(0, len(data), step):
        writer.write(data[start : start + step])
        await writer.drain()
        if pieces > 1:
            await asyncio.sleep(0.001)
    line = await asyncio.wait_for(reader.readline(), 10)
    return int(line.split()[1]) if line else None, reader, writer


HEADS = {
    "keep-alive, Upgrade": (HANDSHAKE.replace("Connection: Upgrade", "Connection: keep-alive, Upgrade"), 101),
    "letters of any case": (HANDSHAKE.replace("Upgrade: websocket", "uPGRADE: WebSocket").replace("Connection:", "CONNECTION:"), 101),
    "8 KiB of cookies": (HANDSHAKE + f"Cookie: {'c' * 8000}\r\n", 101),
    "compression offered": (HANDSHAKE + "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n", 101),
    "a query": (HANDSHAKE.replace("/websocket", "/websocket?a=b&c=%20"), 101),
    "20 KiB of cookies": (HANDSHAKE + f"Cookie: {'c' * 20000}\r\n", 431),
    "HTTP/1.0": (HANDSHAKE.replace("HTTP/1.1", "HTTP/1.0"), (400, 505)),
    "no host": (HANDSHAKE.replace("Host: 127.0.0.1\r\n", ""), 400),
    "no key": (HANDSHAKE.replace("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n", ""), 400),
    "another upgrade": (HANDSHAKE.replace("Upgrade: websocket", "Upgrade: h2c"), (400, 426)),
    "a header without colon": (HANDSHAKE + "nonsense\r\n", 400),
    "a folded header": (HANDSHAKE + "X: a\r\n b\r\n", 400),
    "a slash at the end": (HANDSHAKE.replace("/websocket", "/websocket/"), (404, 426)),
    "POST": (HANDSHAKE.replace("GET", "POST"), (400, 404, 405)),
    "another path": (HANDSHAKE.replace("/websocket", "/elsewhere"), 404),
    "two hosts' origin": (HANDSHAKE + "Origin: http://127.0.0.1.evil.example\r\n", 403),
    "origin with user": (HANDSHAKE + "Origin: http://127.0.0.1@evil.example\r\n", 403),
}


@pytest.mark.parametrize("case", HEADS, ids=str)
@pytest.mark.parametrize("pieces", [1, 40])
async def test_heads(cluster, case, pieces):
    head, expected = HEADS[case]
    status, _, writer = await answer(cluster, head, pieces)
    assert status == expected or (isinstance(expected, tuple) and status in expected)
    writer.close()


async def test_frames_in_the_same_packet_as_the_handshake(cluster):
    status, reader, writer = await answer(cluster, HANDSHAKE, rest=frame(TEXT, b'{"id":1,"connect":{}}'))
    assert status == 101
    await asyncio.wait_for(reader.readuntil(b'"connect"'), 10)
    writer.close()


# --- engines -------------------------------------------------------------------------------------------------------------


async def test_direct_messages_outlive_redis(cluster, open_raw, unique):
    channel = f"dm:a{unique}:b{unique}"
    ann = await open_raw(0, user=f"a{unique}")
    await ann.result("subscribe", channel=channel)
    for number in range(3):
        await ann.result("publish", channel=channel, data=number)
    before = await ann.result("history", channel=channel, limit=-1)
    cluster.crash("redis")
    cluster.up()
    ben = await open_raw(1, user=f"b{unique}")

    async def there():
        reply = await ben.command("history", channel=channel, limit=-1)
        return reply.get("history")

    after = await eventually(there, 20)
    assert after == before and [each["data"] for each in after["publications"]] == [0, 1, 2]

    async def recovered():
        client = await open_raw(2, user=f"b{unique}")
        reply = await client.command("subscribe", channel=channel, recover=True, offset=1, epoch=before["epoch"])
        return reply.get("subscribe")

    result = await eventually(recovered, 20)
    assert result["recovered"] and [each["data"] for each in result["publications"]] == [1, 2]

    async def sent():
        return "publish" in await ben.command("publish", channel=channel, data="after")

    await eventually(sent, 20)
    await ann.publication(channel, lambda each: each["data"] == "after", within=20)
    assert [each["offset"] for each in ann.publications(channel)] == list(range(1, ann.publications(channel)[-1]["offset"] + 1))


# --- limits of the durable lane ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def narrow(whole_cluster, state_folder):
    """A node with a database of its own, whose limits are low."""
    url = urllib.parse.urlsplit(whole_cluster.env["DATABASE_URL"])
    subprocess.run(["psql", url.geturl(), "-qc", "CREATE DATABASE narrow"], check=True, timeout=30)
    with LoneNode(
        state_folder, "--muted-streamers", 1, "--scheduled-events", 1, "--notification-ttl", "60s", "--data-bytes", "1KiB",
        DATABASE_URL=url._replace(path="/narrow").geturl(),
    ) as node:
        yield node


async def metric(api, name):
    text = (await api.client.get("/metrics")).text
    return next((float(line.rsplit(" ", 1)[1]) for line in text.splitlines() if line.startswith(name)), 0)


async def test_operators_set_the_limits_of_the_durable_lane(narrow, unique):
    api, user, until = narrow.api(), f"u{unique}", "2100-01-01T00:00:00Z"
    await api("follow", user=user, streamer="ada", mute_until=until)
    await api("follow", user=user, streamer="ada", mute_until=until)
    assert await api.error("follow", user=user, streamer="eve", mute_until=until) == 106
    assert [each["streamer"] for each in (await api("preferences", user=user))["muted_streamers"]] == ["ada"]
    mention = {"users": [user], "type": "mention", "data": 1}
    later = (datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(hours=1)).isoformat()
    first = await api("notify", **mention, at=later)
    assert await api.error("notify", **mention, at=later) == 106
    await api("cancel_scheduled_event", scheduled_id=first["scheduled_id"])
    await api("notify", **mention, at=later)
    assert (await api("notify", **mention, ttl_s=60))["event_id"]
    assert await api.error("notify", **mention, ttl_s=61) == 107
    assert await api.error("notify", **mention | {"data": "x" * 1023}) == 107
    for limit in ("muted_streamers", "scheduled_events", "ttl"):
        assert await metric(api, 'fanfare_limits_reached_total{limit="%s"}' % limit) == 1, limit

    async def measured():
        return await metric(api, "fanfare_scheduled_events ") == 1

    await eventually(measured, 25, "what waits is measured")
    await api.close()
