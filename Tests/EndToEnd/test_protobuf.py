"""The protobuf protocol by hand: framing, pings, errors, what is malformed."""

import json

import centrifuge.protocol.client_pb2 as wire
import pytest
from harness.cluster import LoneNode
from harness.frames import BINARY, CLOSE, FrameClient, frame


def varint(number):
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def command(**fields):
    body = wire.Command(**fields).SerializeToString()
    return varint(len(body)) + body


def replies(message):
    """Each object of a message; an empty one is a ping."""
    found, position = [], 0
    while position < len(message):
        size, shift = 0, 0
        while True:
            byte = message[position]
            position += 1
            size |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                break
        assert position + size <= len(message)
        reply = wire.Reply()
        reply.ParseFromString(message[position : position + size])
        found.append(reply)
        position += size
    return found


class ProtobufClient:
    def __init__(self, frames):
        self.frames = frames
        self.waiting = []

    @classmethod
    async def open(cls, url, token="", connect=True):
        frames = await FrameClient.open(url, {"Sec-WebSocket-Protocol": "centrifuge-protobuf"})
        assert frames.headers["sec-websocket-protocol"] == "centrifuge-protobuf"
        client = cls(frames)
        if connect:
            await client.send(command(id=1, connect=wire.ConnectRequest(token=token)))
            client.hello = (await client.reply()).connect
        return client

    async def send(self, *commands):
        await self.frames.send(frame(BINARY, b"".join(commands)))

    async def reply(self):
        while not self.waiting:
            self.waiting = replies(await self.frames.next(BINARY))
        return self.waiting.pop(0)

    async def close_code(self):
        payload = await self.frames.next(CLOSE)
        return int.from_bytes(payload[:2], "big")

    def close(self):
        self.frames.close()


@pytest.fixture
async def open_protobuf(cluster):
    clients = []

    async def open_protobuf(node=0, user=None, **options):
        client = await ProtobufClient.open(cluster.websocket(node), cluster.token(user) if user else "", **options)
        clients.append(client)
        return client

    yield open_protobuf
    for client in clients:
        client.close()


async def test_one_message_of_many_commands(open_protobuf, cluster, unique):
    room = f"room:{unique}"
    client = await open_protobuf(0, connect=False)
    await client.send(
        command(id=1, connect=wire.ConnectRequest(token=cluster.token("ann"))),
        command(id=2, subscribe=wire.SubscribeRequest(channel=room)),
        command(id=3, publish=wire.PublishRequest(channel=room, data=b'{"a":1}')),
        command(id=4, history=wire.HistoryRequest(channel=room, limit=-1)),
        command(id=5, presence=wire.PresenceRequest(channel=room)),
        command(id=6, presence_stats=wire.PresenceStatsRequest(channel=room)),
        command(id=7, unsubscribe=wire.UnsubscribeRequest(channel=room)),
    )
    answers, pushes = {}, []
    while 7 not in answers:
        reply = await client.reply()
        if reply.id:
            answers[reply.id] = reply
        else:
            pushes.append(reply.push)
    assert list(answers) == [1, 2, 3, 4, 5, 6, 7]
    assert answers[1].connect.client and answers[1].connect.ping == 25 and answers[1].connect.pong
    assert answers[1].connect.expires and answers[1].connect.ttl > 3000
    assert "user:ann" in answers[1].connect.subs
    assert answers[2].subscribe.recoverable and answers[2].subscribe.positioned and answers[2].subscribe.epoch
    assert answers[3].HasField("publish") and not answers[3].HasField("error")
    history = answers[4].history
    assert [(each.offset, each.data) for each in history.publications] == [(1, b'{"a":1}')] and history.offset == 1
    assert answers[5].presence.presence[answers[1].connect.client].user == "ann"
    assert (answers[6].presence_stats.num_clients, answers[6].presence_stats.num_users) == (1, 1)
    assert answers[7].HasField("unsubscribe")
    publication = next(push for push in pushes if push.HasField("pub"))
    assert publication.channel == room and publication.pub.data == b'{"a":1}' and publication.pub.offset == 1
    assert publication.pub.info.user == "ann" and publication.pub.info.client == answers[1].connect.client


async def test_the_empty_publish_result_is_there(open_protobuf, unique):
    """Reply to id 3: length 4, id, an empty result (the reference's bytes)."""
    client = await open_protobuf(1, user="ann")
    await client.send(command(id=3, publish=wire.PublishRequest(channel=f"room:{unique}", data=b"1")))
    assert await client.frames.next(BINARY) == bytes.fromhex("04 08 03 42 00".replace(" ", ""))


async def test_errors(open_protobuf, unique):
    client = await open_protobuf(2, user="ann")
    for number, (fields, code) in enumerate(
        [
            ({"subscribe": wire.SubscribeRequest(channel="nope:x")}, 102),
            ({"subscribe": wire.SubscribeRequest(channel="user:ben")}, 103),
            ({"publish": wire.PublishRequest(channel=f"room:{unique}", data=b"\xff")}, 107),
            ({"publish": wire.PublishRequest(channel=f"room:{unique}", data=b"")}, 107),
            ({"publish": wire.PublishRequest(channel=f"room:{unique}", data=b'{"a":1} {}')}, 107),
            ({"rpc": wire.RPCRequest(method="follow", data=b"\x00")}, 107),
            ({"rpc": wire.RPCRequest(method="nope")}, 104),
            ({"sub_refresh": wire.SubRefreshRequest(channel=f"room:{unique}", token="x")}, 103),
        ],
        start=2,
    ):
        await client.send(command(id=number, **fields))
        reply = await client.reply()
        assert reply.id == number and reply.error.code == code and reply.error.message, reply
        assert not reply.error.temporary


async def test_an_epoch_that_is_another(open_protobuf, api, unique):
    room = f"room:{unique}"
    await api("publish", channel=room, data=1)
    client = await open_protobuf(0)
    request = {"channel": room, "recover": True, "offset": 1, "epoch": "zzz"}
    await client.send(command(id=2, subscribe=wire.SubscribeRequest(flag=2, **request)))
    assert (await client.reply()).error.code == 112
    await client.send(command(id=3, subscribe=wire.SubscribeRequest(**request)))
    result = (await client.reply()).subscribe
    assert result.was_recovering and not result.recovered and result.offset == 1 and result.epoch != "zzz"


async def test_pushes_of_the_server(open_protobuf, api, unique):
    user, room = f"u{unique}", f"room:{unique}"
    client = await open_protobuf(1, user=user)
    await api("subscribe", user=user, channel=room)
    push = (await client.reply()).push
    assert push.channel == room and push.subscribe.recoverable and push.subscribe.epoch
    await api("publish", channel=room, data={"a": [1]}, tags={"k": "v"})
    push = (await client.reply()).push
    assert json.loads(push.pub.data) == {"a": [1]} and dict(push.pub.tags) == {"k": "v"} and not push.pub.HasField("info")
    await api("unsubscribe", user=user, channel=room)
    push = (await client.reply()).push
    assert push.channel == room and push.unsubscribe.code == 2000 and push.unsubscribe.reason
    await api("disconnect", user=user)
    assert await client.close_code() == 3503


MALFORMED = {
    "empty message": b"",
    "length without an end": b"\x80",
    "length of eleven bytes": b"\xff" * 11,
    "longer than the message": b"\x05\x08\x01",
    "no protobuf": b"\x03\xff\xff\xff",
    "text in protobuf": b'{"id":2,"history":{"channel":"room:x"}}',
    "id without method": b"\x02\x08\x05",
    "method without id": command(history=wire.HistoryRequest(channel="room:x")),
    "ping command": command(id=5, ping=wire.PingRequest()),
    "second connect": command(id=5, connect=wire.ConnectRequest()),
    "no channel": command(id=5, history=wire.HistoryRequest()),
    "pong without ping": b"\x00",
    "good, then malformed": command(id=5, history=wire.HistoryRequest(channel="room:x")) + b"\x09\x01",
    "unknown delta": command(id=5, subscribe=wire.SubscribeRequest(channel="room:x", delta="other")),
}


@pytest.mark.parametrize("case", MALFORMED, ids=str)
async def test_malformed(open_protobuf, case):
    bystander = await open_protobuf(0)
    client = await open_protobuf(0)
    await client.send(MALFORMED[case])
    assert await client.close_code() == 3501
    await bystander.send(command(id=2, history=wire.HistoryRequest(channel="room:bystander")))
    assert (await bystander.reply()).history.epoch, "nobody else was hurt"


async def test_send_is_not_available(open_protobuf):
    client = await open_protobuf(0)
    await client.send(command(send=wire.SendRequest(data=b"{}")))
    assert await client.close_code() == 3508


async def test_a_ping_is_one_byte(state_folder):
    with LoneNode(state_folder, "--ping-interval", "1", "--pong-timeout", "0.5") as node:
        good, silent = [await ProtobufClient.open(node.websocket()) for _ in range(2)]
        for _ in range(3):
            assert await good.frames.next(BINARY) == b"\x00"
            await good.send(b"\x00")
        assert await silent.close_code() == 3012
        good.close()
        silent.close()


async def test_json_and_protobuf_in_one_room(open_protobuf, open_raw, unique):
    """Numbers that no double holds, and bytes that JSON writers would change, pass unchanged in both directions."""
    room = f"room:{unique}"
    text = b'{"n":12345678901234567890123,"f":1.0e+2, "s":"\\u0061\\/","dup":1,"dup":2}'
    binary, lines = await open_protobuf(0, user="ann"), await open_raw(1, user="ben")
    await binary.send(command(id=2, subscribe=wire.SubscribeRequest(channel=room)))
    assert (await binary.reply()).subscribe.epoch
    await lines.result("subscribe", channel=room)
    await binary.send(command(id=3, publish=wire.PublishRequest(channel=room, data=text)))
    await lines.publication(room)
    assert any(b'"data":' + text in line.encode() for message in lines.messages for line in message)
    await lines.send('{"id":9,"publish":{"channel":"%s","data":%s}}' % (room, text.decode()))
    seen = []

    while len(seen) < 2:
        reply = await binary.reply()
        if reply.HasField("push"):
            seen.append((reply.push.pub.offset, reply.push.pub.data))
    assert seen == [(1, text), (2, text)]
