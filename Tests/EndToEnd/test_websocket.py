"""RFC 6455 by hand: the handshake, frames that no library sends, sizes."""

import asyncio
import struct

import pytest
from harness.frames import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, FrameClient, frame

CONNECT = b'{"id":1,"connect":{}}'


async def connected(cluster, node=0):
    client = await FrameClient.open(cluster.websocket(node))
    assert client.status == 101, client.response
    await client.send(frame(TEXT, CONNECT))
    assert b'"connect"' in await client.next(TEXT)
    return client


async def test_handshake_answer(cluster):
    client = await FrameClient.open(cluster.websocket(0), key="dGhlIHNhbXBsZSBub25jZQ==")
    assert client.status == 101
    assert client.headers["sec-websocket-accept"] == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
    assert "sec-websocket-protocol" not in client.headers and "sec-websocket-extensions" not in client.headers
    client.close()


@pytest.mark.parametrize(
    "offered,chosen",
    [
        ("centrifuge-json", "centrifuge-json"), ("centrifuge-protobuf", "centrifuge-protobuf"),
        ("centrifuge-protobuf, centrifuge-json", "centrifuge-protobuf"), ("centrifuge-json, centrifuge-protobuf", "centrifuge-json"),
        ("other, centrifuge-json", "centrifuge-json"), ("other", None),
    ],
)
async def test_subprotocols(cluster, offered, chosen):
    client = await FrameClient.open(cluster.websocket(0), {"Sec-WebSocket-Protocol": offered})
    assert client.status == 101
    assert client.headers.get("sec-websocket-protocol") == chosen
    client.close()


@pytest.mark.parametrize("query", ["?format=protobuf", "?cf_protocol=protobuf"])
async def test_protobuf_by_query(cluster, query):
    client = await FrameClient.open(cluster.websocket(0, query))
    # Command(id: 1, connect: {}) with its length before it.
    await client.send(frame(BINARY, bytes([4, 0x08, 1, 0x22, 0])))
    payload = await client.next(BINARY)
    assert payload[1:3] == bytes([0x08, 1]) and payload[3] == 0x2A, "Reply(id: 1, connect: …)"
    client.close()


@pytest.mark.parametrize(
    "headers,query",
    [({"Origin": "http://elsewhere.example"}, ""), ({"Origin": "null"}, "")],
    ids=["another origin", "null origin"],
)
async def test_origin_refused(cluster, headers, query):
    client = await FrameClient.open(cluster.websocket(0, query), headers)
    assert client.status == 403
    client.close()


async def test_same_origin(cluster):
    client = await FrameClient.open(cluster.websocket(0), {"Origin": cluster.url(0)})
    assert client.status == 101
    client.close()


@pytest.mark.parametrize("version", ["12", "0", "x"])
async def test_other_versions_are_refused(cluster, version):
    client = await FrameClient.open(cluster.websocket(0), version=version)
    assert client.status in (400, 426)
    client.close()


async def test_a_bad_key_is_refused(cluster):
    client = await FrameClient.open(cluster.websocket(0), key="short")
    assert client.status == 400
    client.close()


COMMAND = b'{"id":2,"history":{"channel":"room:frames"}}'


@pytest.mark.parametrize("size", [1, 7, len(COMMAND) - 1])
async def test_fragments_make_one_message(cluster, size):
    client = await connected(cluster)
    pieces = [COMMAND[start : start + size] for start in range(0, len(COMMAND), size)]
    for index, piece in enumerate(pieces):
        await client.send(frame(TEXT if index == 0 else CONTINUATION, piece, fin=index == len(pieces) - 1))
        if index == 0:
            await client.send(frame(PING, b"between"))
    assert await client.next(PONG) == b"between"
    assert b'"history"' in await client.next(TEXT)
    client.close()


async def test_bytes_one_by_one(cluster):
    client = await connected(cluster)
    for byte in frame(TEXT, COMMAND):
        await client.send(bytes([byte]))
    assert b'"history"' in await client.next(TEXT)
    client.close()


async def test_many_frames_at_once(cluster):
    client = await connected(cluster)
    await client.send(*(frame(TEXT, COMMAND.replace(b'"id":2', b'"id":%d' % number)) for number in range(2, 52)))
    answers = b""
    while b'"id":51' not in answers:
        answers += await client.next(TEXT) + b"\n"
    assert [line.split(b",")[0] for line in answers.split()] == [b'{"id":%d' % number for number in range(2, 52)]
    client.close()


async def test_ping_is_answered(cluster):
    client = await connected(cluster)
    await client.send(frame(PING, b"x" * 125))
    assert await client.next(PONG) == b"x" * 125
    await client.send(frame(PONG, b"nobody asked"))
    await client.send(frame(PING, b""))
    assert await client.next(PONG) == b""
    client.close()


async def test_close_is_answered(cluster):
    client = await connected(cluster)
    await client.send(frame(CLOSE, struct.pack("!H", 1000) + b"bye"))
    assert await client.close_code() == 1000
    assert await client.receive() is None, "and the connection ends"
    client.close()


BROKEN = {
    "not masked": (frame(TEXT, COMMAND, mask=False), 1002),
    "reserved bit": (frame(TEXT, COMMAND, reserved=0x40), 1002),
    "reserved opcode": (frame(3, b"x"), 1002),
    "reserved control opcode": (frame(11, b""), 1002),
    "fragmented ping": (frame(PING, b"x", fin=False), 1002),
    "long ping": (frame(PING, b"x" * 126), 1002),
    "continuation of nothing": (frame(CONTINUATION, b"x"), 1002),
    "text within a message": (frame(TEXT, b"{", fin=False) + frame(TEXT, b"}"), 1002),
    "close of one byte": (frame(CLOSE, b"\x03"), 1002),
    "close with a forbidden code": (frame(CLOSE, struct.pack("!H", 1005)), 1002),
    "close with a bad reason": (frame(CLOSE, struct.pack("!H", 1000) + b"\xff"), 1007),
    "text that is not UTF-8": (frame(TEXT, b'{"id":2,"\xc3\x28":1}'), 1007),
    "text with a surrogate": (frame(TEXT, b'"\xed\xa0\x80"'), 1007),
    "text cut within a character": (frame(TEXT, b'{"\xe4\xb8', fin=False) + frame(CONTINUATION, b'"}'), 1007),
    "a length with the top bit": (frame(TEXT, b"", length=1 << 63), 1002),
    "a huge length": (frame(TEXT, b"", length=1 << 40), 1009),
}


@pytest.mark.parametrize("case", BROKEN, ids=str)
async def test_broken_frames(cluster, case):
    data, code = BROKEN[case]
    client = await connected(cluster)
    await client.send(data)
    got = await client.close_code()
    # A length with its top bit set may be seen as broken or as too large.
    assert got == code or (case == "a length with the top bit" and got == 1009)
    client.close()


async def test_message_size(cluster, unique):
    """Up to 128 KiB a message is read, above it the connection is closed with 1009."""
    client = await connected(cluster)
    fits = b'{"id":2,"history":{"channel":"room:%s"%s}}' % (unique.encode(), b" " * (128 * 1024 - 60))
    assert len(fits) <= 128 * 1024
    await client.send(frame(TEXT, fits))
    assert b'"history"' in await client.next(TEXT)
    await client.send(frame(TEXT, b" " * (128 * 1024 + 1)))
    assert await client.close_code() == 1009
    client.close()


async def test_fragments_add_up(cluster):
    client = await connected(cluster)
    await client.send(frame(TEXT, b" " * 65536, fin=False))
    await client.send(frame(CONTINUATION, b" " * 65536, fin=False))
    await client.send(frame(CONTINUATION, b" ", fin=True))
    assert await client.close_code() == 1009
    client.close()


async def test_data_of_64_kib_goes_through(cluster, open_raw, unique):
    room = f"room:{unique}"
    sender, receiver = await open_raw(0, user="ann"), await open_raw(1)
    await receiver.result("subscribe", channel=room)
    data = "x" * (65536 - 2)
    await sender.result("publish", channel=room, data=data)
    assert (await receiver.publication(room))["data"] == data


@pytest.mark.parametrize(
    "request_,status",
    [
        (b"GET /connection/websocket HTTP/1.1\r\nHost: x\r\n\r\n", (400, 426)),
        (b"GET /nowhere HTTP/1.1\r\nHost: x\r\n\r\n", (404,)),
        (b"nonsense\r\n\r\n", (400,)),
        (b"GET / HTTP/1.1\r\nX: " + b"y" * 200_000 + b"\r\n\r\n", (400, 431, 413)),
        (b"POST /api/publish HTTP/1.1\r\nHost: x\r\nContent-Length: 999999999\r\n\r\n", (401, 413)),
    ],
    ids=["no upgrade", "unknown path", "no HTTP", "long header", "long body"],
)
async def test_http_that_is_not_ours(cluster, request_, status):
    port = int(cluster.url(0).rpartition(":")[2])
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request_)
    try:
        line = await asyncio.wait_for(reader.readline(), 10)
    except ConnectionError:
        line = b""
    # What is no HTTP at all may also just be hung up on.
    if line or request_.startswith(b"GET /") and len(request_) < 1000:
        assert int(line.split()[1]) in status, line
    writer.close()
    again = await connected(cluster)
    again.close()
