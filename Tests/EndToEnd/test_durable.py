"""The durable lane: follows, going live, inboxes, read state."""

import asyncio
import json
import re
import subprocess

import pytest
from harness.api import ApiError
from harness.waiting import eventually

TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")


def pushed(client, user, kind="stream.live"):
    """The notifications that reached the user's own channel."""
    return [each for each in client.publications(f"user:{user}") if each["data"].get("type") == kind]


async def completed(api, event, within=30):
    async def done():
        status = await api("event_status", event_id=event)
        return status if status["completed_at"] else None

    return await eventually(done, within, f"the fan-out of {event} is complete")


async def follow_all(api, users, streamer):
    for start in range(0, len(users), 100):
        body = await api(
            "batch", commands=[{"follow": {"user": user, "streamer": streamer}} for user in users[start : start + 100]]
        )
        assert all("error" not in reply for reply in body["replies"]), body["replies"][:3]


async def test_go_live(cluster, api, open_raw, unique):
    """1,000 followers, 60 of them online on three nodes: 1,000 inbox rows, 60 pushes."""
    streamer = f"s{unique}"
    users = [f"f{unique}-{number}" for number in range(1000)]
    await follow_all(api, users, streamer)
    online = [await open_raw(number % 3, user=users[number]) for number in range(60)]
    stranger = await open_raw(1, user=f"x{unique}")

    started = await api("start_stream", streamer=streamer, title="First", tags=["a"])
    stream, event = started["stream"], started["event_id"]
    assert stream["streamer"] == streamer and stream["status"] == "live" and TIME.fullmatch(stream["started_at"])

    status = await completed(api, event)
    assert status["recipients"] == 1000 and status["dead_letters"] == 0
    assert status["shards"]["done"] == status["shards"]["total"] > 0 and status["type"] == "stream.live"

    for number, client in enumerate(online):
        await client.until(lambda: pushed(client, users[number]), what=f"the push to {users[number]}")

    async def counted():
        return (await api("event_status", event_id=event))["delivered_online"] == 60

    await eventually(counted, what="60 deliveries are counted")
    for number, client in enumerate(online):
        notifications = pushed(client, users[number])
        assert len(notifications) == 1, "one push each"
        body = notifications[0]["data"]
        assert body["event_id"] == event and body["read"] is False and TIME.fullmatch(body["created_at"])
        assert body["data"] == {"stream_id": stream["id"], "streamer": streamer, "title": "First"}
        assert body["id"] == str(notifications[0]["offset"])
    assert not pushed(stranger, f"x{unique}")

    gate = asyncio.Semaphore(16)

    async def inbox(user):
        async with gate:
            return await api("notifications", user=user, limit=10)

    for page in await asyncio.gather(*(inbox(user) for user in users)):
        assert page["unread"] == 1 and [each["event_id"] for each in page["notifications"]] == [event]

    # Read state: what one session marks, the user's other session hears.
    reader, other = online[0], await open_raw(1, user=users[0])
    seen = len(other.pushes)
    identifier = pushed(reader, users[0])[0]["data"]["id"]
    marked = await reader.rpc("mark_read", {"ids": [identifier]})
    assert marked["rpc"]["data"] == {"unread": 0}
    await other.until(lambda: other.pushes[seen:], what="the other session hears of it")
    assert other.pushes[-1]["channel"] == f"user:{users[0]}"
    page = await inbox(users[0])
    assert page["unread"] == 0 and page["notifications"][0]["read"] is True


async def test_a_second_start_is_refused(api, unique):
    streamer = f"s{unique}"
    first = await api("start_stream", streamer=streamer, title="One", idempotency_key="k")
    assert await api("start_stream", streamer=streamer, title="One", idempotency_key="k") == first
    assert await api.error("start_stream", streamer=streamer, title="Two") == 1001
    assert await api.error("start_stream", streamer=streamer, title="Two", idempotency_key="k") == 1006
    ended = await api("stop_stream", streamer=streamer)
    assert ended["stream"]["status"] == "ended" and ended["stream"]["id"] == first["stream"]["id"]
    assert await api.error("stop_stream", streamer=streamer) == 1002
    second = await api("start_stream", streamer=streamer, title="Two")
    assert second["stream"]["id"] != first["stream"]["id"]
    assert (await api("stop_stream", stream=second["stream"]["id"]))["stream"]["status"] == "ended"


async def test_concurrent_starts(cluster, unique):
    """Ten at once on three nodes: one goes live, nine are told so, one event."""
    apis = [cluster.api(node) for node in range(3)]
    responses = await asyncio.gather(
        *(apis[n % 3].raw("start_stream", {"streamer": f"s{unique}", "title": str(n)}) for n in range(10))
    )
    bodies = [response.json() for response in responses]
    assert sum("result" in body for body in bodies) == 1
    assert {body["error"]["code"] for body in bodies if "error" in body} == {1001}
    for api in apis:
        await api.close()


async def test_stream_channel_shows_the_status(api, open_raw, unique):
    streamer = f"s{unique}"
    started = await api("start_stream", streamer=streamer, title="Shown")
    channel = f"stream:{started['stream']['id']}"
    client = await open_raw(2)
    await client.result("subscribe", channel=channel)
    await api("stop_stream", streamer=streamer)
    await client.publication(channel, lambda each: each["data"].get("status") == "ended")


async def test_preferences(api, unique):
    streamer, kinds = f"s{unique}", ("all", "live", "none")
    for kind in kinds:
        await api("follow", user=f"{kind}-{unique}", streamer=streamer, notify=kind)
        await api("follow", user=f"{kind}-{unique}", streamer=streamer, notify=kind)
    await api("follow", user=f"gone-{unique}", streamer=streamer)
    assert await api("unfollow", user=f"gone-{unique}", streamer=streamer) == {}
    assert await api("unfollow", user=f"gone-{unique}", streamer=streamer) == {}
    live = (await api("start_stream", streamer=streamer, title="x"))["event_id"]
    custom = (await api("notify", followers_of=streamer, type="custom.news", data={"n": 1}))["event_id"]
    assert (await completed(api, live))["recipients"] == 2
    assert (await completed(api, custom))["recipients"] == 1
    types = {}
    for kind in (*kinds, "gone"):
        page = await api("notifications", user=f"{kind}-{unique}", limit=10)
        types[kind] = [each["type"] for each in page["notifications"]]
    assert types == {"all": ["custom.news", "stream.live"], "live": ["stream.live"], "none": [], "gone": []}


async def test_inbox_paging_and_reading(api, unique):
    user = f"u{unique}"
    await api("follow", user=user, streamer=f"s{unique}")
    events = []
    for number in range(7):
        events.append((await api("notify", users=[user], type="mention", data={"n": number}))["event_id"])
        await completed(api, events[-1])
    seen, before = [], {}
    while True:
        page = await api("notifications", user=user, limit=3, **before)
        assert page["unread"] == 7
        if not page["notifications"]:
            break
        seen += page["notifications"]
        before = {"before": page["notifications"][-1]["id"]}
    assert [each["data"]["n"] for each in seen] == [6, 5, 4, 3, 2, 1, 0], "newest first"
    assert [int(each["id"]) for each in seen] == sorted({int(each["id"]) for each in seen}, reverse=True)

    assert await api("mark_read", user=user, ids=[seen[1]["id"], seen[1]["id"]]) == {"unread": 6}
    assert await api("mark_read", user=user, ids=[seen[1]["id"]]) == {"unread": 6}
    assert await api("mark_read", user=user, up_to=seen[4]["id"]) == {"unread": 3}
    unread = await api("notifications", user=user, limit=10, unread=True)
    assert [each["data"]["n"] for each in unread["notifications"]] == [6, 4, 3]
    assert await api("mark_read", user=user, up_to=seen[0]["id"]) == {"unread": 0}


async def test_notify_key(api, unique):
    user = f"u{unique}"
    await api("follow", user=user, streamer="someone")
    first = await api("notify", users=[user], type="mention", data={"a": 1}, idempotency_key=unique)
    assert await api("notify", users=[user], type="mention", data={"a": 1}, idempotency_key=unique) == first
    assert await api.error("notify", users=[user], type="mention", data={"a": 2}, idempotency_key=unique) == 1006
    assert await api.error("notify", users=[user, f"nobody{unique}"], type="mention", data={}) == 1003
    await completed(api, first["event_id"])
    assert (await api("notifications", user=user, limit=10))["unread"] == 1


async def test_the_user_channel_recovers_from_the_inbox(cluster, api, open_raw, unique):
    user = f"u{unique}"
    await api("follow", user=user, streamer="someone")
    channel = f"user:{user}"
    client = await open_raw(0, user=user)
    position = client.hello["subs"][channel]
    assert position["recoverable"] and position["epoch"]
    await api("notify", users=[user], type="mention", data={"n": 0})
    seen = await client.publication(channel)
    await client.cut()
    for number in range(1, 6):
        await completed(api, (await api("notify", users=[user], type="mention", data={"n": number}))["event_id"])
    again = await open_raw(
        2, user=user, subs={channel: {"recover": True, "offset": seen["offset"], "epoch": position["epoch"]}}
    )
    recovered = again.hello["subs"][channel]
    assert recovered["recovered"] and recovered["was_recovering"] and recovered["epoch"] == position["epoch"]
    assert [each["data"]["data"]["n"] for each in recovered["publications"]] == [1, 2, 3, 4, 5]
    await api("notify", users=[user], type="mention", data={"n": 6})
    await again.publication(channel, lambda each: each["data"].get("data") == {"n": 6})


async def test_rpc_acts_for_its_own_user(cluster, api, open_raw, unique):
    follower, streamer = f"f{unique}", f"s{unique}"
    fan, host = await open_raw(0, user=follower), await open_raw(1, user=streamer)

    async def call(client, method, data):
        reply = await client.rpc(method, data)
        assert "rpc" in reply, reply
        return reply["rpc"]["data"]

    assert await call(fan, "follow", {"streamer": streamer}) == {}
    started = await call(host, "start_stream", {"title": "By rpc"})
    assert started["stream"]["streamer"] == streamer
    await fan.until(lambda: pushed(fan, follower))
    page = await call(fan, "notifications", {"limit": 5})
    assert page["unread"] == 1 and page["notifications"][0]["data"]["title"] == "By rpc"
    assert await call(fan, "mark_read", {"up_to": page["notifications"][0]["id"]}) == {"unread": 0}
    assert (await call(host, "stop_stream", {}))["stream"]["status"] == "ended"
    assert await call(fan, "unfollow", {"streamer": streamer}) == {}
    published = await call(fan, "publish", {"channel": f"room:{unique}", "data": 1, "idempotency_key": "k"})
    assert published["offset"] == 1
    assert await call(fan, "publish", {"channel": f"room:{unique}", "data": 1, "idempotency_key": "k"}) == published


async def test_what_is_archived_is_put_away(api, open_raw, unique):
    user = f"u{unique}"
    desk, phone = await open_raw(0, user=user), await open_raw(2, user=user)
    for number in range(3):
        await api("notify", users=[user], type="mention", data={"n": number})
    await phone.until(lambda: len(phone.pushes) == 3)
    page = await api("notifications", user=user, limit=10)
    ids = [each["id"] for each in page["notifications"]]
    assert page["unread"] == 3 and not any("archived" in each for each in page["notifications"])

    seen = len(phone.pushes)
    assert (await desk.rpc("archive", {"ids": [ids[0]]}))["rpc"]["data"] == {"unread": 2}
    await phone.until(lambda: phone.pushes[seen:], what="the other session hears of it")
    notice = phone.pushes[-1]["pub"]["data"]
    assert notice == {"type": "notifications.archived", "ids": [ids[0]], "unread": 2}

    async def listed(**query):
        page = await api("notifications", user=user, limit=10, **query)
        return [each["id"] for each in page["notifications"]]

    assert await listed() == ids[1:] and await listed(archived=True) == ids[:1]
    assert await api("archive", user=user, up_to=ids[2]) == {"unread": 1}
    assert await listed() == [ids[1]] and await listed(archived=True) == [ids[0], ids[2]]
    assert await api.error("archive", user=user) == 107
    assert await api.error("archive", user=user, ids=[ids[0]], up_to=ids[0]) == 107


async def test_the_sdk_hears_of_going_live(cluster, api, open_sdk, unique):
    viewers = [await open_sdk(node, user=f"f{unique}-{node}", protobuf=node == 2) for node in range(3)]
    for node in range(3):
        await api("follow", user=f"f{unique}-{node}", streamer=f"s{unique}")
    event = (await api("start_stream", streamer=f"s{unique}", title="x"))["event_id"]
    for node, viewer in enumerate(viewers):
        await eventually(lambda: viewer.events.publications, what="the push")
        channel, publication = viewer.events.publications[0]
        assert channel == f"user:f{unique}-{node}"
        assert viewer.decode(publication.data)["event_id"] == event


async def test_dead_letters_are_listed(api):
    assert isinstance((await api("dead_letters"))["dead_letters"], list)
    assert (await api("replay_dead_letters", ids=[]))["replayed"] == 0


def sql(cluster, statement):
    """On the cluster's own database, beside the nodes."""
    done = subprocess.run(
        ["psql", cluster.env["DATABASE_URL"], "-v", "ON_ERROR_STOP=1", "-qAtc", statement], capture_output=True, text=True, timeout=20
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture
def poison(cluster, unique):
    """Rows of users whose name begins with `bad` and this test's own name are refused."""
    sql(
        cluster,
        f"""
        CREATE FUNCTION poison_{unique}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            IF NEW.user_id IN (SELECT id FROM users WHERE name LIKE 'bad{unique}%') THEN
                RAISE EXCEPTION 'poisonous' USING ERRCODE = '23514';
            END IF;
            RETURN NEW;
        END $$;
        CREATE TRIGGER poison_{unique} BEFORE INSERT ON inbox FOR EACH ROW EXECUTE FUNCTION poison_{unique}();
        """,
    )

    def heal():
        sql(cluster, f"DROP TRIGGER IF EXISTS poison_{unique} ON inbox; DROP FUNCTION IF EXISTS poison_{unique}()")

    yield heal
    heal()


async def test_dead_letters_are_replayed(cluster, api, open_raw, unique, poison):
    """What an operator does: two rows of two events are set apart, listed, replayed by the command line, in order, once."""
    streamer, bad = f"s{unique}", [f"bad{unique}-{number}" for number in range(2)]
    await follow_all(api, bad + [f"good{unique}-{number}" for number in range(20)], streamer)
    events = [
        (await api("notify", followers_of=streamer, type="custom.test", data={"n": number}))["event_id"] for number in range(2)
    ]
    for event in events:
        status = await completed(api, event)
        assert status["recipients"] == 20 and status["dead_letters"] == 2
    found = await api("dead_letters", streamer=streamer, count=True)
    letters = found["dead_letters"]
    assert found["total"] == 4 and found["last_id"] == letters[-1]["id"]
    first = letters[0]
    assert first["event_id"] in events and first["user"] in bad and first["endpoint"] == f"user:{first['user']}"
    assert (first["kind"], first["error_class"], first["sqlstate"], first["cause"]) == ("fanout", "data", "23514", "poisonous")
    assert first["order_key"] == f"streamer:{streamer}" and first["attempts"] == 1 and first["state"] == "dead"
    assert TIME.fullmatch(first["first_failed_at"]) and TIME.fullmatch(first["last_failed_at"])
    assert first["payload"] == {"event": first["event_id"], "user": first["user"]}

    shown = cluster.command("deadletters", "show", first["id"], "--json")
    assert json.loads(shown.stdout) == first
    listed = cluster.command("deadletters", "list", "--user", bad[0], "--error-class", "data", "--json")
    assert {letter["event_id"] for letter in json.loads(listed.stdout)} == set(events)

    dry = cluster.command("deadletters", "replay", "--streamer", streamer, "--dry-run", "--json")
    assert json.loads(dry.stdout) == {"replayed": 0, "matched": 4}
    poison()
    online = await open_raw(1, user=bad[0])
    done = cluster.command("deadletters", "replay", "--streamer", streamer, "--rate", 20)
    assert (done.returncode, done.stdout) == (0, "replayed: 4\n"), done.stderr

    async def arrived():
        inbox = await api("notifications", user=bad[0], limit=10)
        return [entry["event_id"] for entry in reversed(inbox["notifications"])] == events

    await eventually(arrived, 20, "both are there, in order")
    await online.until(lambda: len(pushed(online, bad[0], "custom.test")) == 2, what="both pushes")
    assert [each["data"]["event_id"] for each in pushed(online, bad[0], "custom.test")] == events

    # The other one's rows are of another shard: nothing says that they are written by then.
    async def all_written():
        return (await api("event_status", event_id=events[0]))["recipients"] == 22

    await eventually(all_written, 20, "the other one's row is there, too")

    for command in ("replay", "discard"):
        again = cluster.command("deadletters", command, first["id"])
        assert again.returncode == 1 and "was replayed already" in again.stderr, again.stderr
        nobody = cluster.command("deadletters", command, 999999999)
        assert nobody.returncode == 1 and "no dead letter 999999999" in nobody.stderr
        with pytest.raises(ApiError) as error:
            await api(f"{command}_dead_letters", ids=[first["id"]])
        assert error.value.code == 107
    assert json.loads(cluster.command("deadletters", "replay", "--streamer", streamer, "--json").stdout) == {"replayed": 0}


@pytest.mark.parametrize(
    "arguments",
    [
        ["replay"], ["replay", 1, "--all"], ["replay", 1, "--kind", "fanout"], ["discard", "--after", 3], ["replay", "x"],
        ["replay", "--all", "--rate", 0], ["list", "--older-than", "soon"], ["list", "--limit", 1001], ["replay", -1],
    ],
)
def test_wrong_usage_of_dead_letters(cluster, arguments):
    done = cluster.command("deadletters", *arguments)
    assert done.returncode in (2, 64) and done.stderr and not done.stdout, (done.returncode, done.stderr)


@pytest.mark.parametrize("arguments", [["--kind", "nonsense"], ["--error-class", "bad"], ["--sqlstate", "1"], ["--user", "a b"]])
def test_wrong_filters_of_dead_letters(cluster, arguments):
    done = cluster.command("deadletters", "list", *arguments)
    assert done.returncode == 1 and "error 107" in done.stderr and len(done.stderr.splitlines()) == 1
