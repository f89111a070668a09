"""Rooms over three nodes, with the SDK: order, recovery, presence, history."""

import asyncio
import json

import pytest
from harness.waiting import eventually

from centrifuge import ReplyError, StreamPosition


async def test_one_order_for_all(cluster, open_sdk, unique):
    """1,000 publications of 10 publishers over three nodes reach 30 subscribers over three nodes in one order."""
    room = f"room:{unique}"
    followers = [await (await open_sdk(number % 3)).subscribe(room) for number in range(30)]
    publishers = [await open_sdk(number % 3, user=f"p{number}") for number in range(10)]

    async def publish(number):
        for index in range(100):
            await publishers[number].client.publish(room, {"from": number, "index": index})

    await asyncio.gather(*(publish(number) for number in range(10)))
    await eventually(
        lambda: all(len(follower.publications) >= 1000 for follower in followers), 60, "everything arrived everywhere"
    )

    def order(follower):
        return [(each.data["from"], each.data["index"]) for each in follower.publications]

    first = order(followers[0])
    assert len(set(first)) == 1000
    for number in range(10):
        assert [index for sender, index in first if sender == number] == list(range(100)), "each publisher's own order"
    for follower in followers:
        assert follower.offsets == list(range(1, 1001)), "no gap, no repeat"
        assert order(follower) == first
        assert len(follower.subscribed) == 1, "nobody had to subscribe again"
    assert {publication.info.user for publication in followers[0].publications} == {f"p{number}" for number in range(10)}


@pytest.mark.parametrize("protobuf", [False, True], ids=["json", "protobuf"])
@pytest.mark.parametrize("elsewhere", [False, True], ids=["same-node", "another-node"])
async def test_recovers_exactly_what_it_missed(cluster, open_sdk, unique, protobuf, elsewhere):
    room = f"room:{unique}"
    viewer = await open_sdk(0, protobuf=protobuf)
    follower = await viewer.subscribe(room)
    publisher = await open_sdk(1, user="ann")
    for index in range(5):
        await publisher.client.publish(room, {"index": index})
    await eventually(lambda: len(follower.publications) == 5)

    # Away: the client cannot come back before we let it.
    viewer.client._address = "ws://127.0.0.1:9/connection/websocket"
    await viewer.cut()
    for index in range(5, 25):
        await publisher.client.publish(room, {"index": index})
    assert len(follower.publications) == 5
    await viewer.move(cluster.websocket(2 if elsewhere else 0))
    await eventually(lambda: len(follower.publications) == 25, 15, "what was missed has come")

    assert follower.offsets == list(range(1, 26))
    assert [viewer.decode(each.data)["index"] for each in follower.publications] == list(range(25))
    last = follower.subscribed[-1]
    assert last.was_recovering and last.recovered

    await publisher.client.publish(room, {"index": 25})
    await eventually(lambda: len(follower.publications) == 26)


async def test_told_when_too_much_was_missed(cluster, open_sdk, api, unique):
    """More than the history holds: `recovered` is false, and the client is at the top."""
    room = f"room:{unique}"
    viewer = await open_sdk(0)
    follower = await viewer.subscribe(room)
    await api("publish", channel=room, data=0)
    await eventually(lambda: len(follower.publications) == 1)
    viewer.client._address = "ws://127.0.0.1:9/connection/websocket"
    await viewer.cut()
    for start in range(0, 400, 100):
        await api("batch", commands=[{"publish": {"channel": room, "data": start + index}} for index in range(100)])
    await viewer.move(cluster.websocket(0))
    await eventually(lambda: len(follower.subscribed) == 2, 15, "subscribed again")
    last = follower.subscribed[-1]
    assert last.was_recovering and not last.recovered
    assert last.stream_position.offset == 401
    await api("publish", channel=room, data="next")
    await eventually(lambda: follower.publications[-1].data == "next")
    assert follower.publications[-1].offset == 402
    assert len(follower.publications) == 2


async def test_presence_over_nodes(cluster, open_sdk, unique):
    room = f"room:{unique}"
    users = ["ann", "ann", "ben"]
    clients = [await open_sdk(node, token=cluster.token(user, info={"badge": user})) for node, user in enumerate(users)]
    for client in clients:
        await client.subscribe(room)
    asker = await open_sdk(1, user="asker")
    watching = await asker.subscribe(room)

    async def everyone():
        present = (await watching.subscription.presence()).clients
        return present if len(present) == 4 else None

    present = await eventually(everyone, what="all four are present")
    assert sorted(each.user for each in present.values()) == ["ann", "ann", "asker", "ben"]
    assert next(each for each in present.values() if each.user == "ben").conn_info == {"badge": "ben"}
    stats = await watching.subscription.presence_stats()
    assert (stats.num_clients, stats.num_users) == (4, 3)

    await clients[2].close()

    async def gone():
        return (await watching.subscription.presence_stats()).num_clients == 3

    await eventually(gone, 15, "the one who left is gone")


async def test_presence_forgets_a_cut_connection(cluster, open_raw, unique):
    room = f"room:{unique}"
    leaver, asker = await open_raw(0, user="ann"), await open_raw(1, user="ben")
    for client in (leaver, asker):
        await client.result("subscribe", channel=room)
    await eventually(lambda: present(asker, room, 2), what="both are present")
    await leaver.cut()
    await eventually(lambda: present(asker, room, 1), 15, "the cut one is gone")


async def present(client, room, count):
    return (await client.result("presence_stats", channel=room))["num_clients"] == count


async def test_history_pages_in_both_directions(cluster, open_sdk, api, unique):
    room = f"room:{unique}"
    for index in range(1, 11):
        await api("publish", channel=room, data=index)
    client = await open_sdk(2)
    top = await client.client.history(room)
    assert (top.offset, top.publications) == (10, [])
    for reverse, expected in ((False, list(range(1, 11))), (True, list(range(10, 0, -1)))):
        seen, since = [], None
        while True:
            page = await client.client.history(room, limit=3, since=since, reverse=reverse)
            assert page.offset == 10, "the result's position is the top, not the page's"
            seen += [each.offset for each in page.publications]
            if len(page.publications) < 3 or (reverse and page.publications[-1].offset == 1):
                break
            since = StreamPosition(page.publications[-1].offset, page.epoch)
        assert seen == expected


async def test_protobuf_and_json_see_the_same(cluster, open_sdk, open_raw, unique):
    room = f"room:{unique}"
    json_client, protobuf_client = await open_sdk(0, user="ann"), await open_sdk(1, user="ben", protobuf=True)
    json_side, protobuf_side = await json_client.subscribe(room), await protobuf_client.subscribe(room)
    value = {"text": "Grüße, 世界 \u2028 \"quoted\"", "number": 12345678901234567890, "nested": [1, [2, {"x": None}]]}
    await protobuf_client.client.publish(room, json.dumps(value).encode())
    await json_client.client.publish(room, value)
    await eventually(lambda: len(json_side.publications) == 2 and len(protobuf_side.publications) == 2)
    assert [each.data for each in json_side.publications] == [value, value]
    assert [json.loads(each.data) for each in protobuf_side.publications] == [value, value]
    assert [each.info.user for each in json_side.publications] == ["ben", "ann"]
    assert int(protobuf_side.publications[1].offset) == 2

    with pytest.raises(ReplyError) as refused:
        await protobuf_client.client.publish(room, b"\xff\xfe no JSON")
    assert refused.value.code == 107
    presence = await protobuf_client.client.presence_stats(room)
    assert presence.num_clients == 2
    page = await protobuf_client.client.history(room, limit=10)
    assert [json.loads(each.data) for each in page.publications] == [value, value]


@pytest.mark.parametrize(
    "data",
    [
        '{"a":1,"a":2}', '{ "b" :  [ 1 , 2.50e+10, -0.0 ] }', '"\\u00e9\\ud83d\\ude00"', "123456789012345678901234567890",
        "null", "true", "[]", '""', '{"deep":' + "[" * 60 + "]" * 60 + "}",
    ],
)
async def test_data_arrives_byte_for_byte(cluster, open_raw, unique, data):
    room = f"room:{unique}"
    sender, receiver = await open_raw(0, user="ann"), await open_raw(1)
    await receiver.result("subscribe", channel=room)
    await sender.send(f'{{"id":9,"publish":{{"channel":"{room}","data":{data}}}}}')
    reply = await sender.reply(9)
    assert reply == {"id": 9, "publish": {}}
    await receiver.publication(room)
    line = next(line for message in receiver.messages for line in message if '"pub"' in line)
    assert f'"data":{data}' in line


async def test_line_breaks_in_data_become_spaces(cluster, open_raw, api, unique):
    room = f"room:{unique}"
    receiver = await open_raw(1)
    await receiver.result("subscribe", channel=room)
    body = f'{{"channel":"{room}","data":{{\n"a":\r\n1}}}}'
    response = await api.client.post("/api/publish", content=body, headers={"Content-Type": "application/json"})
    assert "result" in response.json(), response.text
    await receiver.publication(room)
    line = next(line for message in receiver.messages for line in message if '"pub"' in line)
    assert '"data":{ "a":  1}' in line


async def test_direct_messages(cluster, open_sdk, unique):
    a, b = f"a{unique}", f"b{unique}"
    channel = f"dm:{a}:{b}"
    ann, ben = await open_sdk(0, user=a), await open_sdk(1, user=b)
    received = await ben.subscribe(channel)
    for index in range(3):
        await ann.client.publish(channel, {"index": index})
    await eventually(lambda: len(received.publications) == 3)
    assert received.offsets == [1, 2, 3]
    page = await ben.client.history(channel, limit=10)
    assert [each.data["index"] for each in page.publications] == [0, 1, 2]
    stranger = await open_sdk(2, user=f"c{unique}")
    with pytest.raises(ReplyError) as refused:
        await stranger.client.publish(channel, {})
    assert refused.value.code == 103
    with pytest.raises(ReplyError) as refused:
        await stranger.client.history(channel, limit=10)
    assert refused.value.code == 103


async def test_a_publication_carries_its_sender(cluster, open_raw, unique):
    room = f"room:{unique}"
    sender = await open_raw(0, token=cluster.token("ann", info={"color": "red"}))
    await sender.result("subscribe", channel=room)
    await sender.result("publish", channel=room, data={"x": 1})
    publication = await sender.publication(room)
    assert publication["info"]["user"] == "ann"
    assert publication["info"]["client"] == sender.hello["client"]
    assert publication["offset"] == 1
