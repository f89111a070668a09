"""What happens when a node or an engine dies, in the middle of traffic."""

import asyncio
import signal
import time

import httpx
import pytest
from harness.api import ApiError
from harness.cluster import alive
from harness.waiting import eventually


class Publisher:
    """Publishes numbers into a room through one node at a time, again until each is acknowledged, with a key each."""

    def __init__(self, apis, room):
        self.apis = apis
        self.room = room
        self.acknowledged = []
        self.running = True
        self.longest_pause = 0.0
        self.task = asyncio.create_task(self.run())

    async def run(self):
        number = 0
        while self.running:
            begun = time.monotonic()
            attempt = 0
            while True:
                api = self.apis[(number + attempt) % len(self.apis)]
                try:
                    result = await asyncio.wait_for(
                        api("publish", channel=self.room, data=number, idempotency_key=str(number)), 2
                    )
                    break
                except (ApiError, AssertionError, asyncio.TimeoutError, httpx.HTTPError) as error:
                    if isinstance(error, ApiError):
                        assert error.code in (100, 1005, 111, 108), error
                    if not self.running and attempt > 50:
                        return
                    attempt += 1
                    await asyncio.sleep(0.05)
            self.acknowledged.append((result["offset"], number))
            self.longest_pause = max(self.longest_pause, time.monotonic() - begun)
            number += 1
            await asyncio.sleep(0.002)

    async def reached(self, count, within=20.0):
        start = len(self.acknowledged)
        await eventually(lambda: len(self.acknowledged) >= start + count, within, f"{count} more publications")

    async def stop(self):
        self.running = False
        await self.task


async def published_again(api, room):
    """Publishes "after" as soon as Redis is back."""

    async def works():
        try:
            return await api("publish", channel=room, data="after", idempotency_key="after")
        except ApiError as error:
            assert error.code in (1005, 100)

    return await eventually(works, 20, "publishing works again")


def check_stream(follower, publisher):
    """No gap, no repeat, and every acknowledged publication at its offset."""
    assert follower.offsets == list(range(1, len(follower.offsets) + 1))
    delivered = {publication.offset: publication.data for publication in follower.publications}
    for offset, number in publisher.acknowledged:
        assert delivered.get(offset) == number, f"offset {offset}"
    numbers = [publication.data for publication in follower.publications]
    assert len(set(numbers)) == len(numbers), "nothing was published twice"


@pytest.mark.parametrize("victim", [0, 1, 2])
async def test_a_node_is_killed_under_traffic(cluster, open_sdk, unique, victim):
    room = f"room:{unique}"
    survivors = [node for node in range(3) if node != victim]
    apis = [cluster.api(node) for node in survivors]
    clients = [await open_sdk(node) for node in range(3)]
    followers = [await client.subscribe(room) for client in clients]
    publisher = Publisher(apis, room)
    await publisher.reached(50)
    # The victim's client goes to another node, as a load balancer would send it.
    clients[victim].client._address = cluster.websocket(survivors[0])
    cluster.crash(f"node-{victim}")
    killed = time.monotonic()
    await publisher.reached(1, within=5.0)
    await publisher.reached(100)
    assert publisher.longest_pause < 5.0, f"publishing stood still for {publisher.longest_pause:.1f} s"
    await publisher.stop()
    for follower in followers:
        await eventually(
            lambda: follower.publications and follower.publications[-1].offset >= publisher.acknowledged[-1][0], 20,
            "everything that was acknowledged arrived",
        )
        check_stream(follower, publisher)

    async def left():
        cluster_now = await apis[0]("cluster")
        return len([node for node in cluster_now["nodes"] if node["state"] == "active"]) == 2 or len(cluster_now["nodes"]) == 2

    await eventually(left, 15, "the cluster knows that the node is gone")
    assert time.monotonic() - killed < 60
    restarted = cluster.up()
    assert f"node-{victim} had died" in restarted.stdout
    for api in apis:
        await api.close()


async def test_the_fan_out_of_a_killed_node_completes(cluster, unique, tmp_path):
    """30,000 followers: the node that accepted the event dies at once, then the fan-out is done by the others."""
    streamer, count = f"s{unique}", 30_000
    file = tmp_path / "follows.csv"
    file.write_text("".join(f"{streamer},f{unique}-{number}\n" for number in range(count)))
    imported = cluster.command("import", "follows", file, timeout=120)
    assert imported.returncode == 0, imported.stderr
    first, other = cluster.api(0), cluster.api(1)
    event = (await first("start_stream", streamer=streamer, title="x"))["event_id"]
    cluster.crash("node-0")

    async def done():
        status = await other("event_status", event_id=event)
        return status if status["completed_at"] else None

    status = await eventually(done, 60, "the fan-out is complete")
    assert status["recipients"] == count and status["dead_letters"] == 0
    assert status["shards"]["done"] == status["shards"]["total"]
    for number in range(0, count, 1499):
        page = await other("notifications", user=f"f{unique}-{number}", limit=10)
        assert page["unread"] == 1 and len(page["notifications"]) == 1
    await first.close()
    await other.close()


async def test_redis_dies_and_comes_back(cluster, open_raw, open_sdk, unique):
    room = f"room:{unique}"
    clients = [await open_sdk(node) for node in range(3)]
    followers = [await client.subscribe(room) for client in clients]
    sessions = [client.events.states[-1] for client in clients]
    api, sender = cluster.api(0), await open_raw(1, user="ann")
    before = await api("publish", channel=room, data="before")
    await eventually(lambda: all(len(follower.publications) == 1 for follower in followers))

    cluster.crash("redis")

    async def refused():
        reply = await sender.command("publish", channel=room, data="while away")
        if "error" not in reply:
            return False
        assert reply["error"]["temporary"] is True and reply["error"]["code"] in (1005, 100), reply
        return True

    await eventually(refused, 10, "a publish gets a temporary error")
    with pytest.raises(ApiError) as error:
        await api("publish", channel=room, data="while away", idempotency_key="away")
    assert error.value.code in (1005, 100)

    async def unready():
        return cluster.ready(0)[0] == 503

    await eventually(unready, 10, "readiness shows it")
    assert (await api.client.get("/health/live")).status_code == 200
    assert "client" in sender.hello and sender.closed is None

    assert "Redis had died" in cluster.up().stdout

    after = await published_again(api, room)
    assert after["epoch"] == before["epoch"]
    for follower in followers:
        await eventually(lambda: follower.publications[-1].data == "after", 20, "it arrives everywhere")
        assert follower.offsets == list(range(1, after["offset"] + 1))
    assert [client.events.states[-1] for client in clients] == sessions, "no session was lost"
    await api.close()


async def test_redis_dies_while_the_owner_writes(cluster, open_raw, unique):
    """What nodes send to a server that has just died is in doubt: it counts as done, and the room's epoch stays."""
    room = f"room:{unique}"
    api, senders = cluster.api(0), [await open_raw(node, user="ann") for node in range(3)]
    for sender in senders:
        await sender.result("subscribe", channel=room)
    before = await api("publish", channel=room, data="before")
    nodes = [f"node-{number}" for number in range(3)]
    for node in nodes:
        cluster.signal(node, signal.SIGSTOP)
    try:
        commands = [sender.numbered("publish", {"channel": room, "data": "in doubt"}) for sender in senders]
        for sender, command in zip(senders, commands):
            await sender.send(command)
        cluster.crash("redis")
    finally:
        for node in nodes:
            cluster.signal(node, signal.SIGCONT)
    begun = time.monotonic()
    for sender, command in zip(senders, commands):
        assert (await sender.reply(command["id"]))["error"]["temporary"] is True
    assert time.monotonic() - begun < 1.5, "nobody waits for answers that cannot come"
    await asyncio.to_thread(cluster.up)

    after = await published_again(api, room)
    assert after["epoch"] == before["epoch"]
    history = await api("history", channel=room, limit=10)
    told = [each["data"] for each in history["publications"]]
    assert told[0] == "before" and told[-1] == "after" and set(told[1:-1]) <= {"in doubt"}
    for sender in senders:
        await sender.until(lambda: len(sender.publications(room)) == len(told), 20, "all of it arrives")
        assert [each["data"] for each in sender.publications(room)] == told
        assert [each["offset"] for each in sender.publications(room)] == list(range(1, len(told) + 1))
    await api.close()


async def test_postgres_dies_and_comes_back(cluster, open_raw, unique):
    room, user, streamer = f"room:{unique}", f"u{unique}", f"s{unique}"
    api = cluster.api(0)
    await api("follow", user=user, streamer=streamer)
    receiver, sender = await open_raw(1, user=user), await open_raw(2, user="ann")
    await receiver.result("subscribe", channel=room)

    pid = cluster.pid("postgres")
    cluster.signal("postgres", signal.SIGQUIT)
    await eventually(lambda: not alive(pid), what="PostgreSQL has gone")

    async def refused():
        return await api.error("start_stream", streamer=streamer, title="x") == 1004

    await eventually(refused, 15, "durable work is refused with 1004")
    reply = await sender.rpc("notifications", {"limit": 5})
    assert reply["error"]["code"] == 1004 and reply["error"]["temporary"] is True
    for number in range(20):
        await sender.result("publish", channel=room, data=number)
    await receiver.until(lambda: len(receiver.publications(room)) == 20, what="rooms go on")

    def shown():
        status, body = cluster.ready(0)
        part = body["parts"]["database"]
        return status == 503 and part["state"] == "failed" and part["problem"]

    await eventually(shown, 10, "readiness shows it")

    assert "PostgreSQL had died" in cluster.up("--timeout", 90).stdout

    async def works():
        try:
            return await api("start_stream", streamer=streamer, title="back")
        except ApiError as error:
            assert error.code == 1004, error

    await eventually(works, 30, "durable work is accepted again")
    await receiver.publication(f"user:{user}", lambda each: each["data"].get("type") == "stream.live", within=30)
    await api.close()


async def test_sigterm_drains(cluster, open_raw, open_sdk, unique):
    room = f"room:{unique}"
    apis = [cluster.api(node) for node in (0, 1)]
    raw = await open_raw(2)
    client = await open_sdk(2)
    stays = await open_sdk(0)
    followers = [await client.subscribe(room), await stays.subscribe(room)]
    publisher = Publisher(apis, room)
    await publisher.reached(30)
    pid = cluster.pid("node-2")
    client.client._address = cluster.websocket(1)
    begun = time.monotonic()
    cluster.signal("node-2", signal.SIGTERM)
    code, reason = await raw.close_code(within=10)
    assert code in (3001, 3011) and reason
    await eventually(lambda: not alive(pid), 10, "the node ends within 10 s")
    assert time.monotonic() - begun < 10
    await publisher.reached(50)
    await publisher.stop()
    for follower in followers:
        await eventually(
            lambda: follower.publications[-1].offset >= publisher.acknowledged[-1][0], 15, "everything arrived"
        )
        check_stream(follower, publisher)
    assert publisher.longest_pause < 2.0, "a drain is not a crash"
    for api in apis:
        await api.close()


async def test_a_second_sigterm_ends_at_once(cluster, open_raw):
    for _ in range(20):
        await open_raw(1)
    pid = cluster.pid("node-1")
    cluster.signal("node-1", signal.SIGTERM)
    cluster.signal("node-1", signal.SIGTERM)
    begun = time.monotonic()
    await eventually(lambda: not alive(pid), 3, "the node has ended")
    assert time.monotonic() - begun < 3


async def test_a_paused_node_does_not_fork_a_room(cluster, unique):
    """SIGSTOP for longer than the heartbeat timeout: the others take its slots; woken up, it may append nothing of its own."""
    apis = [cluster.api(node) for node in range(3)]
    rooms = [f"room:{unique}-{number}" for number in range(12)]
    for room in rooms:
        await apis[0]("publish", channel=room, data=0)
    cluster.signal("node-1", signal.SIGSTOP)
    try:

        async def taken_over():
            for room in rooms:
                try:
                    await asyncio.wait_for(apis[0]("publish", channel=room, data=1, idempotency_key="one"), 3)
                except (ApiError, asyncio.TimeoutError, httpx.HTTPError):
                    return False
            return True

        await eventually(taken_over, 20, "the others own every room")
    finally:
        cluster.signal("node-1", signal.SIGCONT)
    for index, room in enumerate(rooms):

        async def published():
            try:
                return await apis[1]("publish", channel=room, data=2, idempotency_key="two")
            except ApiError as error:
                assert error.code in (100, 1005, 108, 111)

        await eventually(published, 15, "the woken node publishes through the owners")
        pages = [await api("history", channel=room, limit=10) for api in apis]
        assert [each["data"] for each in pages[0]["publications"]] == [0, 1, 2]
        assert pages[0]["publications"] == pages[1]["publications"] == pages[2]["publications"]
        assert len({(page["offset"], page["epoch"]) for page in pages}) == 1
    for api in apis:
        await api.close()


async def test_a_node_joins_and_leaves(cluster, open_sdk, unique):
    room = f"room:{unique}"
    apis = [cluster.api(node) for node in (0, 1)]
    client = await open_sdk(0)
    follower = await client.subscribe(room)
    publisher = Publisher(apis, room)
    await publisher.reached(20)
    cluster.script("add-node")

    async def members():
        return {node["name"]: node["slots"] for node in (await apis[0]("cluster"))["nodes"]}

    slots = await eventually(lambda: owners(members, 4), 15, "four nodes share the slots")
    assert 150 < slots["node-3"] < 350
    await publisher.reached(50)
    cluster.script("kill", 3, "TERM")
    await eventually(lambda: owners(members, 3), 15, "three nodes share the slots")
    await publisher.reached(50)
    await publisher.stop()
    await eventually(lambda: follower.publications[-1].offset >= publisher.acknowledged[-1][0], 15, "everything arrived")
    check_stream(follower, publisher)
    for api in apis:
        await api.close()
    await client.close()
    # Back to three nodes for the tests that follow, with their data.
    cluster.script("down")
    cluster.up()


async def owners(members, count):
    """The slots by node, once exactly so many nodes share all of them."""
    slots = {name: number for name, number in (await members()).items() if number > 0}
    return slots if len(slots) == count and sum(slots.values()) == 1024 else None
