"""What applications see through the SDK, in JSON and in protobuf: states, errors, tokens, subscriptions by the server."""

import asyncio

import pytest
from harness.cluster import LoneNode
from harness.sdk import ClientState, Sdk, SubscriptionState
from harness.waiting import eventually

from centrifuge import ReplyError, StreamPosition

pytestmark = pytest.mark.parametrize("protobuf", [False, True], ids=["json", "protobuf"])


async def refused(call):
    with pytest.raises(ReplyError) as error:
        await call
    assert error.value.message if hasattr(error.value, "message") else str(error.value)
    return error.value.code


async def test_errors_of_calls(cluster, open_sdk, unique, protobuf):
    sdk = await open_sdk(0, user="ann", protobuf=protobuf)
    client, value = sdk.client, sdk.encode({})
    assert await refused(client.publish("nope:x", value)) == 102
    assert await refused(client.publish("lobby", value)) == 102
    assert await refused(client.publish("stream:x", value)) == 103
    assert await refused(client.publish("user:ben", value)) == 103
    assert await refused(client.publish("dm:ben:ann", value)) == 107
    assert await refused(client.publish("dm:ben:cid", value)) == 103
    assert await refused(client.publish(f"room:{unique}", sdk.encode("x" * 65536))) == 107
    assert await refused(client.presence("user:ben")) == 103
    assert await refused(client.history("dm:ben:cid", limit=1)) == 103
    assert await refused(client.rpc("nope", value)) == 104
    assert await refused(client.rpc("follow", value)) == 107
    position = StreamPosition(offset=1, epoch="zzz")
    assert await refused(client.history(f"room:{unique}", limit=1, since=position)) == 112


async def test_anonymous(cluster, open_sdk, unique, protobuf):
    sdk = await open_sdk(2, protobuf=protobuf)
    follower = await sdk.subscribe(f"room:{unique}")
    assert await refused(sdk.client.publish(f"room:{unique}", sdk.encode(1))) == 103
    assert await refused(sdk.client.rpc("notifications", sdk.encode({}))) == 101
    present = (await follower.subscription.presence()).clients
    assert [each.user for each in present.values()] == [""]


async def test_refused_subscriptions_end(cluster, open_sdk, unique, protobuf):
    sdk = await open_sdk(1, user="ann", protobuf=protobuf)
    for channel, code in (("nope:x", 102), ("user:ben", 103), ("dm:ben:ann", 107), ("dm:ben:cid", 103)):
        subscription = sdk.client.new_subscription(channel)
        await subscription.subscribe()
        await eventually(lambda: subscription.state == SubscriptionState.UNSUBSCRIBED, what=f"{channel} is refused with {code}")
    assert sdk.client.state == ClientState.CONNECTED


async def test_an_expired_token_is_replaced(cluster, unique, protobuf):
    asked = []

    async def fresh():
        asked.append(1)
        return cluster.token("ann")

    sdk = Sdk(cluster.websocket(0), cluster.token("ann", ttl=-60), protobuf, get_token=fresh)
    await sdk.connect()
    assert asked == [1]
    await sdk.close()


async def test_a_token_is_refreshed_in_time(state_folder, protobuf):
    """Shorter than a test: a token of 2 s and a grace of 1 s; the connection lives on through three of them."""
    with LoneNode(state_folder, "--expiry-grace", "1") as node:
        asked = []

        async def fresh():
            asked.append(1)
            return node.token("ann", ttl=2)

        sdk = Sdk(node.websocket(), node.token("ann", ttl=2), protobuf, get_token=fresh)
        careless = Sdk(node.websocket(), node.token("ben", ttl=1), protobuf)
        await sdk.connect()
        await careless.connect()
        await eventually(lambda: len(asked) >= 3, 15, "refreshed three times")
        assert [state for state, _ in sdk.events.states] == ["connecting", "connected"]
        await eventually(
            lambda: len([each for each in careless.events.states if each[0] != "connected"]) >= 2, 15, "who does not refresh is out"
        )
        await sdk.close()
        await careless.close()


@pytest.mark.parametrize("make", ["garbage", "forged"])
async def test_a_bad_token_is_final(cluster, protobuf, make):
    token = "garbage" if make == "garbage" else cluster.token("ann")[:-6] + "AAAAAA"
    sdk = Sdk(cluster.websocket(0), token, protobuf)
    await sdk.client.connect()
    await eventually(lambda: ("disconnected", 3500) in sdk.events.states)
    await sdk.close()


async def test_the_server_sends_away(cluster, open_sdk, api, unique, protobuf):
    user = f"u{unique}"
    sdk = await open_sdk(2, user=user, protobuf=protobuf)
    first = sdk.events.states[-1]
    await api("disconnect", user=user, disconnect={"code": 3011, "reason": "force reconnect"})
    await eventually(lambda: sdk.events.states[-1][0] == "connected" and sdk.events.states[-1] != first, 10, "it is back")
    assert ("connecting", 3011) in sdk.events.states
    await api("disconnect", user=user)
    await eventually(lambda: sdk.events.states[-1] == ("disconnected", 3503))


async def test_the_server_subscribes(cluster, open_sdk, api, unique, protobuf):
    user, room = f"u{unique}", f"room:{unique}"
    sdk = await open_sdk(1, user=user, protobuf=protobuf)
    await api("subscribe", user=user, channel=room)
    await eventually(lambda: room in [each.channel for each in sdk.events.subscribed], what="the push came")
    await api("publish", channel=room, data={"n": 1})
    await eventually(lambda: [each for each in sdk.events.publications if each[0] == room])
    # A reconnect keeps what the connection's own token grants; this one was the API's alone.
    await api("unsubscribe", user=user, channel=room)
    await api("publish", channel=room, data={"n": 2})
    marker = cluster.api(1)
    await marker("publish", channel=f"user:{user}", data={"marker": True})
    await marker.close()
    await eventually(lambda: sdk.events.publications[-1][0] == f"user:{user}", what="the marker")
    assert len([each for each in sdk.events.publications if each[0] == room]) == 1


async def test_the_server_ends_a_subscription(cluster, open_sdk, api, unique, protobuf):
    user, room = f"u{unique}", f"room:{unique}"
    sdk = await open_sdk(1, user=user, protobuf=protobuf)
    follower = await sdk.subscribe(room)
    await api("unsubscribe", user=user, channel=room)
    await eventually(lambda: follower.unsubscribed)
    assert follower.unsubscribed[-1].code == 2000
    await follower.subscription.subscribe()
    await follower.subscription.ready(10)
    await api("publish", channel=room, data=1)
    await eventually(lambda: follower.publications)


async def test_unsubscribe_and_come_again(cluster, open_sdk, api, unique, protobuf):
    room = f"room:{unique}"
    sdk = await open_sdk(0, user="ann", protobuf=protobuf)
    follower = await sdk.subscribe(room)
    for number in range(3):
        await follower.subscription.unsubscribe()
        await api("publish", channel=room, data={"missed": number})
        await follower.subscription.subscribe()
        await follower.subscription.ready(10)
    await api("publish", channel=room, data={"last": True})
    await eventually(lambda: follower.publications and sdk.decode(follower.publications[-1].data) == {"last": True})
    # The SDK recovers on its own where it had a position: each one at most once, in order.
    offsets = [int(offset) for offset in follower.offsets]
    assert offsets == sorted(set(offsets)) and offsets[-1] == 4


async def test_rpc(cluster, open_sdk, api, unique, protobuf):
    fan = await open_sdk(0, user=f"f{unique}", protobuf=protobuf)
    host = await open_sdk(1, user=f"s{unique}", protobuf=protobuf)

    async def call(sdk, method, data):
        return sdk.decode((await sdk.client.rpc(method, sdk.encode(data))).data)

    assert await call(fan, "follow", {"streamer": f"s{unique}"}) == {}
    started = await call(host, "start_stream", {"title": "Hi"})
    assert await refused(host.client.rpc("start_stream", host.encode({"title": "Hi"}))) == 1001
    assert await refused(fan.client.rpc("start_stream", fan.encode({"title": "x", "streamer": f"s{unique}"}))) == 103
    assert await refused(fan.client.rpc("notify", fan.encode({"users": ["x"]}))) == 104
    assert await refused(fan.client.rpc("notifications", fan.encode({"user": f"s{unique}"}))) == 103
    await eventually(lambda: fan.events.publications)
    pushed = fan.decode(fan.events.publications[0][1].data)
    assert pushed["data"]["stream_id"] == started["stream"]["id"] and pushed["id"] == str(fan.events.publications[0][1].offset)
    assert (await call(fan, "mark_read", {"ids": [pushed["id"]]})) == {"unread": 0}
    first = await call(fan, "publish", {"channel": f"room:{unique}", "data": {"a": 1}, "idempotency_key": "k"})
    other = await call(fan, "publish", {"channel": f"room:{unique}", "data": {"a": 2}, "idempotency_key": "k"})
    assert first == other and first["offset"] == 1


async def test_own_user_channel_as_a_subscription(cluster, open_sdk, api, unique, protobuf):
    """Recovers from the inbox, though another node is asked."""
    user = f"u{unique}"
    await api("follow", user=user, streamer="someone")
    sdk = await open_sdk(0, user=user, protobuf=protobuf)
    follower = await sdk.subscribe(f"user:{user}")
    await api("notify", users=[user], type="mention", data={"n": 0})
    await eventually(lambda: follower.publications)
    sdk.client._address = "ws://127.0.0.1:9/connection/websocket"
    await sdk.cut()
    for number in range(1, 4):
        await api("notify", users=[user], type="mention", data={"n": number})

    async def there():
        return (await api("notifications", user=user, limit=10))["unread"] == 4

    await eventually(there)
    await sdk.move(cluster.websocket(2))
    await eventually(lambda: len(follower.publications) == 4, 15, "what was missed")
    assert [sdk.decode(each.data)["data"]["n"] for each in follower.publications] == [0, 1, 2, 3]
    assert follower.subscribed[-1].recovered


async def test_a_room_removed_behind_the_clients_back(cluster, open_sdk, api, unique, protobuf):
    """`get_state` makes the SDK ask for error 112 where it cannot recover."""
    room, asked = f"room:{unique}", []
    for number in range(3):
        top = await api("publish", channel=room, data=number)

    async def state(_):
        asked.append(1)
        return StreamPosition(top["offset"], top["epoch"] if len(asked) > 1 else "other")

    sdk = await open_sdk(1, user="ann", protobuf=protobuf)
    follower = await sdk.subscribe(room, get_state=state)
    assert len(asked) == 2 and follower.subscribed[-1].recovered
    await asyncio.gather(*(sdk.client.publish(room, sdk.encode(number)) for number in range(20)))
    await eventually(lambda: len(follower.publications) == 20)
    assert [int(each) for each in follower.offsets] == list(range(4, 24))
