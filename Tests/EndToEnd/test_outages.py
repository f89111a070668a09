"""Outages beyond a plain crash: data that is gone, links that are cut, engines that come late, and the durable lane in them."""

import asyncio
import os
import signal
import subprocess
import time

import httpx
import pytest
from harness.api import ApiError
from harness.cluster import BINARY, alive, clean_environment
from harness.waiting import eventually
from test_durable import completed, follow_all, pushed
from test_failures import Publisher, check_stream


def redis(cluster, *words):
    port = cluster.env["REDIS_URL"].rpartition(":")[2].split("/")[0]
    done = subprocess.run(["redis-cli", "-p", port, *words], capture_output=True, text=True, timeout=10)
    assert done.returncode == 0, done.stderr
    return done.stdout


async def until_ready(cluster, within=15):
    begun = time.monotonic()

    def ready():
        return all(cluster.ready(node)[0] == 200 for node in range(3))

    await eventually(ready, within, "all nodes are ready")
    return time.monotonic() - begun


def check_told(follower, publisher):
    """Every acknowledged publication was delivered once, in order; unless the follower was told that it missed some."""
    told = [each for each in follower.subscribed[1:] if not each.recovered]
    numbers = [publication.data for publication in follower.publications]
    assert len(set(numbers)) == len(numbers), "nothing is delivered twice"
    missing = {number for _, number in publisher.acknowledged} - set(numbers)
    assert not missing or told, f"{len(missing)} publications are missing and nobody was told"
    return missing


@pytest.mark.parametrize("how", ["flushed", "emptied"])
async def test_redis_loses_everything(cluster, open_sdk, open_raw, unique, how):
    """Under traffic, with the server staying or coming back empty."""
    room, user, streamer = f"room:{unique}", f"u{unique}", f"s{unique}"
    apis = [cluster.api(node) for node in range(3)]
    await apis[0]("follow", user=user, streamer=streamer)
    clients = [await open_sdk(node) for node in range(3)]
    followers = [await client.subscribe(room) for client in clients]
    online = [await open_raw(node, user=user) for node in range(3)]
    publisher = Publisher(apis, room)
    await publisher.reached(60)
    if how == "flushed":
        redis(cluster, "FLUSHALL")
    else:
        cluster.crash("redis")
        for folder, _, files in os.walk(cluster.state / "redis"):
            for name in files:
                os.remove(os.path.join(folder, name))
        started = await apis[1]("start_stream", streamer=streamer, title="While away")
        await asyncio.to_thread(cluster.up)
    await publisher.reached(60)
    took = await until_ready(cluster)
    if how == "flushed":
        started = await apis[1]("start_stream", streamer=streamer, title="After the loss")
    await publisher.stop()
    last = publisher.acknowledged[-1][1]
    for follower in followers:
        await eventually(lambda: follower.publications and follower.publications[-1].data == last, 15, "the last one arrives")
        missing = check_told(follower, publisher)
        print(how, "missing:", len(missing), "resubscribed:", len(follower.subscribed) - 1, "pause", publisher.longest_pause)
    print("ready after", took)
    for client in online:
        await client.until(lambda: pushed(client, user), within=15, what="the push")
        assert len(pushed(client, user)) == 1 and client.closed is None
        assert pushed(client, user)[0]["data"]["event_id"] == started["event_id"]
    for api in apis:
        await api.close()


@pytest.mark.parametrize("kind", ["pubsub", "normal"])
async def test_links_are_cut(cluster, open_sdk, open_raw, unique, kind):
    """The server drops connections again and again while a stream goes live and a room talks."""
    room, streamer = f"room:{unique}", f"s{unique}"
    users = [f"f{unique}-{number}" for number in range(60)]
    apis = [cluster.api(node) for node in range(3)]
    await follow_all(apis[0], users, streamer)
    clients = [await open_sdk(node) for node in range(3)]
    followers = [await client.subscribe(room) for client in clients]
    online = [await open_raw(number % 3, user=users[number]) for number in range(60)]
    publisher = Publisher(apis, room)
    await publisher.reached(30)
    events = []
    for number in range(5):
        redis(cluster, "CLIENT", "KILL", "TYPE", kind)
        notified = await apis[number % 3]("notify", followers_of=streamer, type="custom.n", data=number)
        events.append(notified["event_id"])
        await publisher.reached(10)
    await publisher.stop()
    for follower in followers:
        await eventually(
            lambda: follower.publications[-1].offset >= publisher.acknowledged[-1][0], 15, "everything arrived")
        check_stream(follower, publisher)
    for event in events:
        assert (await completed(apis[0], event))["recipients"] == 60
    for number, client in enumerate(online):
        await client.until(lambda: len(pushed(client, users[number], "custom.n")) >= 5, 15, f"the pushes to {number}")
        assert sorted(each["data"]["event_id"] for each in pushed(client, users[number], "custom.n")) == sorted(events)
        offsets = [each["offset"] for each in pushed(client, users[number], "custom.n")]
        assert offsets == sorted(offsets)
    print("longest pause", publisher.longest_pause)
    for api in apis:
        await api.close()


async def test_going_live_without_redis(cluster, open_raw, unique):
    """PostgreSQL alone decides: the inbox is written, and those online hear of it when Redis is back."""
    users, streamer = [f"f{unique}-{number}" for number in range(30)], f"s{unique}"
    api = cluster.api(0)
    await follow_all(api, users, streamer)
    online = [await open_raw(number % 3, user=user) for number, user in enumerate(users)]
    cluster.crash("redis")
    begun = time.monotonic()
    started = await api("start_stream", streamer=streamer, title="x")
    assert time.monotonic() - begun < 5, "going live does not wait for Redis"
    status = await completed(api, started["event_id"], 60)
    assert status["recipients"] == 30
    print("complete without Redis after", time.monotonic() - begun)
    await asyncio.to_thread(cluster.up)
    for number, client in enumerate(online):
        await client.until(lambda: pushed(client, users[number]), 15, "the push")
        assert len(pushed(client, users[number])) == 1 and client.closed is None
    await api.close()


async def test_redis_away_is_told_quickly(cluster, open_raw, unique):
    api, sender = cluster.api(0), await open_raw(1, user="ann")
    room = f"room:{unique}"
    await api("publish", channel=room, data=0)
    cluster.crash("redis")
    slowest = 0.0
    killed = time.monotonic()
    shown = None
    while time.monotonic() - killed < 6:
        begun = time.monotonic()
        with pytest.raises(ApiError) as error:
            await api("publish", channel=room, data=1, idempotency_key="1")
        assert error.value.code in (1005, 111) and error.value.body["error"].get("temporary", True)
        reply = await sender.command("publish", channel=room, data=1)
        assert reply["error"]["code"] in (1005, 111) and reply["error"]["temporary"] is True
        slowest = max(slowest, time.monotonic() - begun)
        status, body = cluster.ready(0)
        if status == 503 and shown is None:
            shown = time.monotonic() - killed
            assert body["parts"]["broker"]["state"] == "failed" and body["parts"]["broker"]["problem"]
    print("slowest refusal", slowest, "shown after", shown)
    assert slowest < 1.5 and shown is not None and shown < 3
    await asyncio.to_thread(cluster.up)
    back = time.monotonic()

    async def works():
        try:
            return await api("publish", channel=room, data=2)
        except ApiError:
            return None

    await eventually(works, 10, "publishing works")
    print("works after", time.monotonic() - back, "ready after", await until_ready(cluster))
    assert [each["data"] for each in (await api("history", channel=room, limit=10))["publications"]] == [0, 2]
    await api.close()


async def test_postgres_is_killed_under_fan_out(cluster, open_raw, unique, tmp_path):
    streamer, count = f"s{unique}", 20_000
    file = tmp_path / "follows.csv"
    file.write_text("".join(f"{streamer},f{unique}-{number}\n" for number in range(count)))
    imported = cluster.command("import", "follows", file, timeout=120)
    assert imported.returncode == 0, imported.stderr
    apis = [cluster.api(node) for node in range(3)]
    room = f"room:{unique}"
    online = [await open_raw(number % 3, user=f"f{unique}-{number}") for number in range(30)]
    for client in online[:3]:
        await client.result("subscribe", channel=room)
    events = []
    publisher = Publisher(apis, room)
    await publisher.reached(20)
    for number in range(2):
        events.append((await apis[number]("notify", followers_of=streamer, type="custom.n", data=number))["event_id"])
        cluster.crash("postgres")
        begun = time.monotonic()
        assert await apis[2].error("follow", user=f"f{unique}-1", streamer="x") == 1004
        assert time.monotonic() - begun < 3

        def shown():
            return all(cluster.ready(node)[1]["parts"]["database"]["state"] == "failed" for node in range(3))

        await eventually(shown, 5, "readiness shows it")
        await publisher.reached(100)
        await asyncio.to_thread(cluster.up, "--timeout", 90)
    await publisher.stop()
    print("longest pause of the room", publisher.longest_pause)
    assert publisher.longest_pause < 1
    begun = time.monotonic()
    for event in events:
        status = await completed(apis[0], event, 60)
        assert status["recipients"] == count and status["dead_letters"] == 0, status
    print("fan-outs complete after", time.monotonic() - begun)
    for number, client in enumerate(online):
        user = f"f{unique}-{number}"
        await client.until(lambda: len(pushed(client, user, "custom.n")) >= 2, 15, "the pushes")
        assert [each["data"]["event_id"] for each in pushed(client, user, "custom.n")] == events
        assert client.closed is None
    for number in range(0, count, 1999):
        page = await apis[1]("notifications", user=f"f{unique}-{number}", limit=10)
        assert page["unread"] == 2 and [each["event_id"] for each in page["notifications"]] == events[::-1]
    for api in apis:
        await api.close()


async def test_coming_back_while_postgres_is_away(cluster, open_raw, unique):
    """The client's own position is good for going on; what it missed comes with the database, and no position is believed
    for longer."""
    user, channel, api = f"u{unique}", f"user:u{unique}", cluster.api(0)
    client = await open_raw(0, user=user)
    position = client.hello["subs"][channel]
    await api("notify", users=[user], type="mention", data={"n": 0})
    seen = (await client.publication(channel))["offset"]
    await client.cut()
    await completed(api, (await api("notify", users=[user], type="mention", data={"n": 1}))["event_id"])

    def recovery(offset):
        return {channel: {"recover": True, "offset": offset, "epoch": position["epoch"]}}

    cluster.crash("postgres")
    try:
        honest = await open_raw(1, user=user, subs=recovery(seen))
        told = honest.hello["subs"][channel]
        assert told["recovered"] and told["was_recovering"] and told["offset"] == seen and not told.get("publications")
        liar = await open_raw(2, user=user, subs=recovery(seen + 1_000_000))
    finally:
        await asyncio.to_thread(cluster.up, "--timeout", 90)
    await api("notify", users=[user], type="mention", data={"n": 2})
    await honest.publication(channel, lambda each: each["data"].get("data") == {"n": 2}, within=15)
    assert [each["data"]["data"]["n"] for each in honest.publications(channel)] == [1, 2]
    assert (await liar.close_code(15))[0] == 3010
    await api.close()


async def test_a_paused_node_hears_what_it_missed(cluster, open_raw, unique):
    """Six seconds of silence: its shards go to others, and its sessions get their notifications afterwards."""
    streamer, users = f"s{unique}", [f"f{unique}-{number}" for number in range(60)]
    apis = [cluster.api(node) for node in range(3)]
    await follow_all(apis[0], users, streamer)
    online = [await open_raw(number % 3, user=user) for number, user in enumerate(users)]
    cluster.signal("node-1", signal.SIGSTOP)
    try:
        begun = time.monotonic()
        started = await apis[0]("start_stream", streamer=streamer, title="x")
        status = await completed(apis[2], started["event_id"], 30)
        print("complete after", time.monotonic() - begun)
        assert status["recipients"] == 60
        await asyncio.sleep(max(0, 6 - (time.monotonic() - begun)))
    finally:
        cluster.signal("node-1", signal.SIGCONT)
    woken = time.monotonic()
    for number, client in enumerate(online):
        await client.until(lambda: pushed(client, users[number]), 10, f"the push to {number}")
        assert len(pushed(client, users[number])) == 1
    print("all pushed after", time.monotonic() - woken)

    async def back():
        nodes = (await apis[0]("cluster"))["nodes"]
        return len([node for node in nodes if node["slots"] > 0]) == 3

    await eventually(back, 10, "it is a member again")
    for api in apis:
        await api.close()


async def test_a_token_is_enough_to_be_notified(cluster, api, open_raw, unique):
    user = f"u{unique}"
    assert await api.error("notify", users=[user], type="mention", data={}) == 1003
    client = await open_raw(2, user=user)
    event = (await api("notify", users=[user], type="mention", data={}))["event_id"]
    await client.publication(f"user:{user}", lambda each: each["data"]["event_id"] == event)


async def test_two_hundred_sessions_are_sent_away(cluster, open_sdk, unique):
    room = f"room:{unique}"
    apis = [cluster.api(node) for node in (0, 1)]
    clients = [await open_sdk(2) for _ in range(200)]
    followers = [await client.subscribe(room) for client in clients]
    publisher = Publisher(apis, room)
    await publisher.reached(30)
    pid = cluster.pid("node-2")
    for number, client in enumerate(clients):
        client.client._address = cluster.websocket(number % 2)
    begun = time.monotonic()
    cluster.signal("node-2", signal.SIGTERM)

    def draining():
        status, body = cluster.ready(2)
        return status == 503 and body["parts"]["node"]["state"] == "draining"

    await eventually(draining, 2, "readiness shows it")
    await eventually(lambda: not alive(pid), 10, "the node has ended")
    print("ended after", time.monotonic() - begun)
    await publisher.reached(30)
    await publisher.stop()
    for client in clients:
        assert ("connecting", 3001) in client.events.states, client.events.states
    for follower in followers:
        await eventually(
            lambda: follower.publications[-1].offset >= publisher.acknowledged[-1][0], 15, "everything arrived")
        check_stream(follower, publisher)
    assert "Fatal error" not in cluster.log("node-2")
    print("longest pause", publisher.longest_pause)
    for api in apis:
        await api.close()


async def test_engines_come_late(cluster, unique, tmp_path):
    """A node that starts before its engines keeps trying, says what is missing, and becomes ready by itself."""
    cluster.script("down")
    log_path = tmp_path / "late.log"
    base = cluster.base_port + 5
    with open(log_path, "wb") as log:
        process = subprocess.Popen(
            [BINARY, "serve", "--port", str(base), "--node-name", "late"],
            env=clean_environment(**{**cluster.env, "FANFARE_NODE_URLS": ""}),
            stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        def ready():
            response = httpx.get(f"http://127.0.0.1:{base}/health/ready", timeout=2, trust_env=False)
            return response.status_code, response.json()["parts"]

        def refused():
            try:
                status, parts = ready()
            except httpx.HTTPError:
                return False
            return (status == 503 and parts["broker"]["state"] == "failed" and parts["database"]["state"] == "failed"
                    and "refused" in parts["broker"]["problem"].lower() and "refused" in parts["database"]["problem"].lower())

        await eventually(refused, 10, "readiness names both engines and why")
        assert process.poll() is None
        await asyncio.to_thread(cluster.up)
        begun = time.monotonic()
        await eventually(lambda: ready()[0] == 200, 10, "the late node is ready")
        print("ready after", time.monotonic() - begun)
        process.terminate()
        assert await asyncio.to_thread(process.wait, 10) == 0
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()


async def test_two_nodes_with_one_name(cluster, open_sdk, unique, tmp_path):
    """The second one stays unready and says why; the cluster does not notice it; when the first has gone it takes over."""
    await until_ready(cluster)
    room, log_path, base = f"room:{unique}", tmp_path / "second.log", cluster.base_port + 5
    apis = [cluster.api(node) for node in range(3)]
    name = sorted(each["name"] for each in (await apis[1]("cluster"))["nodes"])[1]
    follower = await (await open_sdk(1)).subscribe(room)
    publisher = Publisher(apis, room)
    await publisher.reached(20)
    view = (await apis[0]("cluster"))["view"]
    with open(log_path, "wb") as log:
        second = subprocess.Popen(
            [BINARY, "serve", "--port", str(base), "--node-name", name],
            env=clean_environment(**{**cluster.env, "FANFARE_NODE_URLS": ""}), stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        def membership():
            try:
                response = httpx.get(f"http://127.0.0.1:{base}/health/ready", timeout=2, trust_env=False)
            except httpx.HTTPError:
                return None
            return response.status_code, response.json()["parts"]["membership"].get("problem", "")

        def says_why():
            found = membership()
            return found and found[0] == 503 and name in found[1] and cluster.url(1) in found[1]

        await eventually(says_why, 10, "the second one says why it is not ready")
        await eventually(lambda: "another process runs under this node's name" in log_path.read_text(), 10, "it is logged")
        begun = time.monotonic()
        while time.monotonic() - begun < 6:
            assert (await apis[0]("cluster"))["view"] == view and says_why()
            assert all(cluster.ready(node)[0] == 200 for node in range(3))
            await publisher.reached(10)
        assert log_path.read_text().count("another process runs under this node's name") == 1
        await publisher.stop()
        assert publisher.longest_pause < 1
        await eventually(
            lambda: follower.publications[-1].offset >= publisher.acknowledged[-1][0], 15, "everything arrived")
        check_stream(follower, publisher)
        cluster.crash("node-1")
        await eventually(lambda: membership()[0] == 200, 10, "the second one has the name")
        assert name in [each["name"] for each in (await apis[0]("cluster"))["nodes"]]
    finally:
        second.kill()
        second.wait()
        await asyncio.to_thread(cluster.up)
    for api in apis:
        await api.close()


@pytest.mark.parametrize("engine", ["redis", "postgres"])
async def test_an_engine_hangs(cluster, open_raw, open_sdk, unique, engine):
    """It accepts connections and answers nothing: worse than gone."""
    room, user = f"room:{unique}", f"u{unique}"
    api = cluster.api(0)
    await api("publish", channel=room, data=0)
    old = await open_raw(0, user=user)
    await old.result("subscribe", channel=room)
    pids = [cluster.pid(engine)]
    if engine == "postgres":
        done = subprocess.run(["pgrep", "-P", str(pids[0])], capture_output=True, text=True)
        pids += [int(word) for word in done.stdout.split()]
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        begun = time.monotonic()
        for _ in range(3):
            each = time.monotonic()
            if engine == "redis":
                reply = await old.command("publish", channel=room, data=1, within=10)
                assert reply["error"]["code"] in (1005, 111) and reply["error"]["temporary"]
            else:
                assert await api.error("follow", user=user, streamer="x") == 1004
                await old.result("publish", channel=room, data=1)
            print("answered after", time.monotonic() - each)
        # Ready or not, who comes now is served with what there is.
        each = time.monotonic()
        late = await asyncio.wait_for(open_raw(1, user=user), 15)
        print("connected after", time.monotonic() - each)

        def shown():
            part = {"redis": "broker", "postgres": "database"}[engine]
            status, body = cluster.ready(1)
            return status == 503 and body["parts"][part]["state"] == "failed"

        await eventually(shown, 15, "readiness shows it")
        print("shown after", time.monotonic() - begun)
        await asyncio.sleep(max(0, 5 - (time.monotonic() - begun)))
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)
    print("ready again after", await until_ready(cluster, 20))
    event = (await api("notify", users=[user], type="mention", data={"n": unique}))["event_id"]
    for client in (old, late):
        await client.publication(f"user:{user}", lambda each: each["data"].get("event_id") == event)
    await api("publish", channel=room, data="after")
    await old.publication(room, lambda each: each["data"] == "after")
    await api.close()


async def test_rooms_never_ask_postgres(cluster, open_raw, unique):
    """PostgreSQL hangs: its breakers open class by class, and three nodes deliver as quickly as before."""
    room, api = f"room:{unique}", cluster.api(0)
    viewers = [await open_raw(node, user=f"u{unique}-{node}") for node in range(3)]
    for viewer in viewers:
        await viewer.result("subscribe", channel=room)

    async def slowest(first, count):
        """Published through one node after the other; until the last of the three viewers has it."""
        worst = 0
        for number in range(first, first + count):
            begun = time.monotonic()
            await viewers[number % 3].result("publish", channel=room, data=number)
            for viewer in viewers:
                await viewer.publication(room, lambda each: each["data"] == number, within=5)
            worst = max(worst, time.monotonic() - begun)
        return worst

    before = await slowest(0, 60)
    pids = [cluster.pid("postgres")]
    done = subprocess.run(["pgrep", "-P", str(pids[0])], capture_output=True, text=True)
    pids += [int(word) for word in done.stdout.split()]
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        during = [await slowest(60, 30)]

        async def opened():
            for method, parameters in (("follow", {"user": "a", "streamer": "b"}), ("notifications", {"user": "a", "limit": 1})):
                assert await api.error(method, **parameters) == 1004
            breakers = cluster.ready(0)[1]["parts"]["database"]["breakers"]
            return breakers if breakers["read"] != "closed" and breakers["write"] != "closed" else None

        await eventually(opened, 40, "both breakers open")
        during.append(await slowest(90, 60))
        status, body = cluster.ready(0)
        assert status == 503 and body["parts"]["database"]["state"] == "failed"
        assert set(body["parts"]["broker"]["breakers"].values()) == {"closed"} and body["parts"]["broker"]["state"] == "ok"
        with pytest.raises(ApiError) as error:
            await api("follow", user="a", streamer="b")
        assert error.value.code == 1004 and error.value.body["error"]["temporary"]
        assert 100 <= error.value.body["error"]["retry_after_ms"] <= 10000
        text = (await api.client.get("/metrics")).text
        for work in ("read", "write"):
            assert f'fanfare_breaker_open{{backend="postgres",class="{work}"}} 1' in text, text
        for work in ("membership", "write", "read", "messages"):
            assert f'fanfare_breaker_open{{backend="redis",class="{work}"}} 0' in text
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)
    await until_ready(cluster, 20)
    assert set(cluster.ready(0)[1]["parts"]["database"]["breakers"].values()) == {"closed"}
    print("slowest before", before, "during", during)
    assert max(during) < max(1, 5 * before)
    await api.close()


async def test_an_idle_cluster_rests(cluster, unique):
    """Nothing to do costs next to nothing: no busy loops, also after an outage."""
    def used(pid):
        with open(f"/proc/{pid}/stat") as stat:
            fields = stat.read().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def resident(pid):
        with open(f"/proc/{pid}/status") as status:
            return next(line.split()[1] for line in status if line.startswith("VmRSS"))

    await until_ready(cluster)
    pids = [cluster.pid(f"node-{number}") for number in range(3)]
    before = [used(pid) for pid in pids]
    begun = time.monotonic()
    await asyncio.sleep(10)
    spent = [(used(pid) - start) / (time.monotonic() - begun) for pid, start in zip(pids, before)]
    print("share of a core:", spent, "RSS KiB:", [resident(pid) for pid in pids])
    assert max(spent) < 0.05


async def test_a_node_is_back_before_it_is_missed(cluster, open_sdk, unique):
    """Killed and started again at once, under its old name."""
    room = f"room:{unique}"
    apis = [cluster.api(node) for node in (0, 2)]
    clients = [await open_sdk(node) for node in range(3)]
    followers = [await client.subscribe(room) for client in clients]
    publishers = [Publisher(apis, f"{room}-{number}") for number in range(8)]
    publisher = Publisher(apis, room)
    await publisher.reached(30)
    cluster.crash("node-1")
    await asyncio.to_thread(cluster.up)
    await publisher.reached(50)
    for each in [*publishers, publisher]:
        await each.stop()
        assert each.longest_pause < 5
    for follower in followers:
        await eventually(
            lambda: follower.publications[-1].offset >= publisher.acknowledged[-1][0], 15, "everything arrived")
        check_stream(follower, publisher)
    for api in apis:
        await api.close()


async def test_a_rolling_restart_loses_nothing(cluster, open_sdk, unique):
    """One node after the other leaves in peace and comes back, while a room talks and users are notified."""
    room, users = f"room:{unique}", [f"u{unique}-{node}" for node in range(3)]
    apis = [cluster.api(node) for node in range(3)]
    clients = [await open_sdk(node, user=users[node]) for node in range(3)]
    followers = [await client.subscribe(room) for client in clients]
    publisher = Publisher(apis, room)
    events = []
    for node in range(3):
        await publisher.reached(30)
        for client in clients:
            client.client._address = cluster.websocket((node + 1) % 3)
        pid = cluster.pid(f"node-{node}")
        cluster.signal(f"node-{node}", signal.SIGTERM)
        notified = await apis[(node + 1) % 3]("notify", users=users, type="mention", data=node)
        events.append(notified["event_id"])
        await eventually(lambda: not alive(pid), 10, "it has ended")
        await asyncio.to_thread(cluster.up)
        await publisher.reached(30)
    await publisher.stop()
    print("longest pause", publisher.longest_pause)
    for follower in followers:
        await eventually(
            lambda: follower.publications[-1].offset >= publisher.acknowledged[-1][0], 15, "everything arrived")
        check_stream(follower, publisher)
    for user, client in zip(users, clients):

        def got():
            return [each.data["event_id"] for channel, each in client.events.publications if channel == f"user:{user}"]

        await eventually(lambda: len(got()) >= 3, 10, "the notifications")
        assert got() == events
    for api in apis:
        await api.close()


async def test_redis_fails_under_fan_out(cluster, open_raw, unique, tmp_path):
    streamer, count = f"s{unique}", 20_000
    file = tmp_path / "follows.csv"
    file.write_text("".join(f"{streamer},f{unique}-{number}\n" for number in range(count)))
    assert cluster.command("import", "follows", file, timeout=120).returncode == 0
    users = [f"f{unique}-{number}" for number in range(60)]
    online = [await open_raw(number % 3, user=user) for number, user in enumerate(users)]
    api, events = cluster.api(1), []
    for fault in ("crash", "cut", "flush"):
        notified = await api("notify", followers_of=streamer, type="custom.n", data=fault)
        events.append(notified["event_id"])
        if fault == "crash":
            cluster.crash("redis")
            await asyncio.to_thread(cluster.up)
        elif fault == "cut":
            redis(cluster, "CLIENT", "KILL", "TYPE", "pubsub")
        else:
            redis(cluster, "FLUSHALL")
        assert (await completed(api, events[-1], 60))["recipients"] == count
        for client, user in zip(online, users):
            await client.until(lambda: len(pushed(client, user, "custom.n")) >= len(events), 20, f"the push after a {fault}")
            assert [each["data"]["event_id"] for each in pushed(client, user, "custom.n")] == events
    await api.close()
