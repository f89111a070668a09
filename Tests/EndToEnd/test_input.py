"""What nobody should send, and what few do: numbers, keys, nesting, text; every node goes on, and so does every other session."""

import json

import pytest
from harness.frames import BINARY, CLOSE, PONG, TEXT, FrameClient, frame

PUBLISH = '{"id":7,"publish":{"channel":"%s","data":%s}}'

# Each: data as it stands; the code of the error, or of the close, or None where it goes through unchanged.
DATA = {
    "a number of 300 digits": ("1" + "0" * 300, None),
    "an exponent out of range": ("1e999999", None),
    "minus zero": ("-0", None),
    "a lone surrogate": ('"\\ud800"', None),
    "NUL escaped": ('"\\u0000"', None),
    "duplicate keys": ('{"a":1,"a":{"a":2}}', None),
    "an empty key": ('{"":""}', None),
    "line separators": ('"\u2028\u2029"', None),
    "no characters": ('"\U000e0001\ufeff\ufffe"', None),
    "512 deep": ("[" * 512 + "]" * 512, None),
    "513 deep": ("[" * 513 + "]" * 513, 107),
    "60,000 deep": ('{"a":' * 10000 + "[" * 7000 + "]" * 7000 + "}" * 10000, 107),
    "65,536 bytes": ('"' + "x" * 65534 + '"', None),
    "65,537 bytes": ('"' + "x" * 65535 + '"', 107),
    "many small elements": ("[" + ",".join(["0"] * 30000) + "]", None),
    "a leading zero": ("01", 3501),
    "a plus sign": ("+1", 3501),
    "a point without digits": ("1.", 3501),
    "NaN": ("NaN", 3501),
    "single quotes": ("'a'", 3501),
    "a trailing comma": ("[1,]", 3501),
    "a comment": ("1/*x*/", 3501),
    "a raw control character": ('"\x01"', 3501),
    "a bad escape": ('"\\x"', 3501),
    "half an escape": ('"\\u12"', 3501),
    "an open string": ('"abc', 3501),
    "100,000 deep": ("[" * 50000 + "]" * 50000, 107),
    "deep and open": ("[" * 600 + "]" * 599, 3501),
    "deep and crossed": ("[" * 600 + "]" * 300 + "}" + "]" * 299, 3501),
    "nothing": ("", 3501),
}


@pytest.mark.parametrize("case", DATA, ids=str)
async def test_data(open_raw, unique, case):
    data, code = DATA[case]
    room = f"room:{unique}"
    receiver, sender = await open_raw(1), await open_raw(0, user="ann")
    await receiver.result("subscribe", channel=room)
    await sender.send(PUBLISH % (room, data))
    if code is None:
        assert await sender.reply(7) == {"id": 7, "publish": {}}
        await receiver.publication(room)
        assert any(f'"data":{data}' in line for message in receiver.messages for line in message)
        page = await receiver.result("history", channel=room, limit=1)
        assert len(page["publications"]) == 1
    elif code < 1000:
        assert (await sender.reply(7))["error"]["code"] == code
    else:
        assert (await sender.close_code())[0] == code
    assert "epoch" in await receiver.result("history", channel=room)


async def test_data_that_is_missing_or_null(open_raw, unique):
    client = await open_raw(0, user="ann")
    assert (await client.error("publish", channel=f"room:{unique}"))["code"] == 107
    await client.result("publish", channel=f"room:{unique}", data=None)
    page = await client.result("history", channel=f"room:{unique}", limit=1)
    assert [each["data"] for each in page["publications"]] == [None]


async def test_deep_data_by_the_server_api(api, unique):
    for depth, code in ((512, None), (513, 107), (1_000_000, 107)):
        content = '{"channel":"room:%s","data":%s}' % (unique, "[" * depth + "]" * depth)
        answer = (await api.client.post("/api/publish", content=content)).json()
        assert answer.get("error", {}).get("code") == code, answer


async def test_deep_json_that_nobody_gets(open_raw, unique):
    client = await open_raw(0, user="ann")
    deep = "[" * 20000 + "]" * 20000
    await client.send('{"x":%s,"id":7,"history":{"y":%s,"channel":"room:%s"}}' % (deep, deep, unique))
    assert "history" in await client.reply(7)


async def test_line_breaks_in_base64(api, open_raw, cluster, unique):
    """They would cut the lines of other clients' JSON."""
    import base64

    def encode(data):
        return base64.b64encode(data).decode()

    room = f"room:{unique}"
    token = cluster.token("ann", b64info=encode(b'{\n"n":\r\n1}'))
    client = await open_raw(1, token=token)
    await client.result("subscribe", channel=room)
    await api("publish", channel=room, b64data=encode(b'[1,\n2]'))
    assert (await client.publication(room))["data"] == [1, 2]
    presence = await client.result("presence", channel=room)
    assert presence["presence"][client.hello["client"]]["conn_info"] == {"n": 1}
    await client.result("publish", channel=room, data=3)
    assert (await client.publication(room, lambda each: each["data"] == 3))["info"]["conn_info"] == {"n": 1}
    assert await api.error("publish", channel=room, b64data=encode(b"\xff")) == 107
    assert await api.error("publish", channel=room, b64data="?") == 107


COMMANDS = {
    "offset above 64 bits": '{"id":7,"subscribe":{"channel":"room:x","recover":true,"offset":18446744073709551616}}',
    "offset negative": '{"id":7,"subscribe":{"channel":"room:x","recover":true,"offset":-1}}',
    "offset a fraction": '{"id":7,"subscribe":{"channel":"room:x","recover":true,"offset":1.5}}',
    "limit above 32 bits": '{"id":7,"history":{"channel":"room:x","limit":2147483648}}',
    "recover a string": '{"id":7,"subscribe":{"channel":"room:x","recover":"true"}}',
    "id a fraction": '{"id":7.5,"history":{"channel":"room:x"}}',
    "a body that is no object": '{"id":7,"history":[]}',
    "since that is no object": '{"id":7,"history":{"channel":"room:x","since":5}}',
    "a key without quotes": '{id:7,"history":{"channel":"room:x"}}',
    "two blank lines": '{"id":7,"history":{"channel":"room:x"}}\n\n{"id":8,"history":{"channel":"room:x"}}',
    "two objects on a line": '{"id":7,"history":{"channel":"room:x"}}{"id":8,"history":{"channel":"room:x"}}',
    "a byte order mark": '\ufeff{"id":7,"history":{"channel":"room:x"}}',
}


@pytest.mark.parametrize("case", COMMANDS, ids=str)
async def test_commands_that_end_the_connection(open_raw, case):
    client = await open_raw(0, user="ann")
    await client.send(COMMANDS[case])
    assert (await client.close_code())[0] == 3501


async def test_the_largest_numbers(open_raw, unique):
    client = await open_raw(0, user="ann")
    await client.send('{"id":4294967295,"history":{"channel":"room:%s","limit":2147483647}}' % unique)
    assert "history" in await client.reply(4294967295)
    await client.send('{"id":7,"subscribe":{"channel":"room:%s","recover":true,"offset":18446744073709551615}}' % unique)
    result = (await client.reply(7))["subscribe"]
    assert result["was_recovering"] and not result.get("recovered")
    await client.send(
        '{"id":8,"history":{"channel":"room:%s","limit":5,"reverse":true,"since":{"offset":18446744073709551615,"epoch":""}}}'
        % unique
    )
    assert (await client.reply(8))["history"]["publications"] == []
    await client.send('{"id":9,"history":{"channel":"room:%s","limit":-2147483648}}' % unique)
    assert await client.reply(9)
    await client.send('{"id":10,"history":{"channel":"room:%s","limit":1}}' % unique)
    assert "history" in await client.reply(10)


async def test_duplicate_keys_in_a_command(open_raw, unique):
    """Defined: the last one counts, as in most readers."""
    client = await open_raw(0, user="ann")
    await client.send('{"id":6,"id":7,"publish":{"channel":"nope:x","channel":"room:%s","data":1,"data":2}}' % unique)
    assert await client.reply(7) == {"id": 7, "publish": {}}
    page = await client.result("history", channel=f"room:{unique}", limit=5)
    assert [each["data"] for each in page["publications"]] == [2]


async def test_keys_with_escapes(open_raw, unique):
    client = await open_raw(0, user="ann")
    await client.send('{"\\u0069d":7,"publ\\u0069sh":{"ch\\u0061nnel":"room\\u003a%s","data":1}}' % unique)
    assert await client.reply(7) == {"id": 7, "publish": {}}


CHANNELS = {
    "room:": 107, "room": 102, ":x": 102, "": 3501, "ROOM:x": 102, "room:a b": 107, "room:\u00e4": 107, "room:\x00": 107,
    "room:\n": 107, "user:": 107, "user:a/b": 107, "dm:a": 107, "dm::b": 107, "dm:a:": 107, "dm:a:b:c": 107, "dm:b:a": 107,
    "dm:a:a": 107, "$room:x": 102, "room:" + "x" * 250: None, "room:" + "x" * 251: 107, "room:a:b": None, "room:a#b,c": None,
    "room:*": None, "room:{x}": None, "stream:x": None,
}


@pytest.mark.parametrize("channel", CHANNELS, ids=lambda channel: ascii(channel)[:30])
async def test_channel_names(open_raw, channel):
    code = CHANNELS[channel]
    client = await open_raw(2, user="a")
    for method in ("subscribe", "history", "presence"):
        if code == 3501:
            await client.send(client.numbered(method, {"channel": channel}))
            assert (await client.close_code())[0] == 3501
            return
        reply = await client.command(method, channel=channel)
        if code is None:
            assert method in reply, reply
        else:
            assert reply["error"]["code"] == code, reply


async def test_rooms_with_odd_names_keep_apart(open_raw, api, unique):
    """What has a meaning for engines or patterns has none in a name."""
    names = [f"room:{unique}{end}" for end in ("", "*", "?", "{a}", "{b}", ":x", "'", '"', "\\", "%s", "[a]")]
    client = await open_raw(1)
    for name in names:
        await client.result("subscribe", channel=name)
    for index, name in enumerate(names):
        await api("publish", channel=name, data=index)
    for index, name in enumerate(names):
        await client.publication(name)
        assert [each["data"] for each in client.publications(name)] == [index]


async def test_text_frames_must_be_utf8(cluster):
    for parts in ([b'{"id":1,"connect":{"name":"\xff"}}'], [b'{"id":1,"connect":{"name":"\xc3', b'\x28"}}']):
        client = await FrameClient.open(cluster.websocket(1))
        for index, part in enumerate(parts):
            await client.send(frame(TEXT if index == 0 else 0, part, fin=index == len(parts) - 1))
        payload = await client.next(CLOSE)
        assert int.from_bytes(payload[:2], "big") == 1007
        client.close()


async def test_a_character_may_be_cut_by_fragments(cluster):
    client = await FrameClient.open(cluster.websocket(1))
    text = '{"id":1,"connect":{"name":"ä世\U0001f600"}}'.encode()
    for index in range(len(text)):
        await client.send(frame(TEXT if index == 0 else 0, text[index : index + 1], fin=index == len(text) - 1))
        if index % 7 == 3:
            await client.send(frame(9, b"in between"))
    pongs = 0
    while True:
        opcode, payload = await client.receive()
        if opcode == PONG:
            assert payload == b"in between"
            pongs += 1
        else:
            assert opcode == TEXT and json.loads(payload)["connect"]["client"]
            break
    assert pongs
    client.close()


async def test_binary_frames_to_a_json_session(cluster):
    """Commands are told by their bytes; what is no UTF-8 there is malformed JSON."""
    client = await FrameClient.open(cluster.websocket(1))
    await client.send(frame(BINARY, b'{"id":1,"connect":{"name":"\xff"}}'))
    payload = await client.next(CLOSE)
    assert int.from_bytes(payload[:2], "big") in (1003, 1007, 3501)
    client.close()
