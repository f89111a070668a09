"""What is refused, by the server API, by clients' rpc and by the command line alike: a typed error, and nothing half done.

Each case is tried between two counts of all that is durable."""

import json
import subprocess

import pytest
from harness.waiting import eventually

#: A large event, a key, a bad id: names are filled in for each test, `{u}` with a name that no other test uses.
KNOWN, OTHER, LIVE, NOBODY = "k{u}", "o{u}", "l{u}", "nobody{u}"
BIG = "x" * 65_535  # With its quotes one byte above the limit.
DEEP = json.loads("[" * 400 + "]" * 400)
HOURS = {"from": "22:00", "to": "07:00"}


def sql(cluster, statement):
    done = subprocess.run(
        ["psql", cluster.env["DATABASE_URL"], "-v", "ON_ERROR_STOP=1", "-qAtc", statement], capture_output=True, text=True,
        timeout=20,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def counts(cluster):
    """All that a call could have begun. Keys that stand for single calls come and go."""
    tables = {
        "users": "true", "follows": "until IS NULL", "streams": "true", "events": "true", "scheduled_events": "true",
        "idempotency_keys": "scope <> 'call'", "preferences": "true", "streamer_mutes": "true",
    }
    parts = [f"'{name}', (SELECT count(*) FROM {name} WHERE {condition})" for name, condition in tables.items()]
    parts.append("'live', (SELECT count(*) FROM streams WHERE ended_at IS NULL)")
    parts.append("'notify', (SELECT sum(notify) FROM follows)")
    parts.append("'versions', (SELECT sum(version) FROM preferences)")
    parts.append("'dead', (SELECT count(*) FROM dead_letters WHERE state = 0)")
    return json.loads(sql(cluster, f"SELECT json_build_object({', '.join(parts)})"))


def filled(value, unique):
    if isinstance(value, str):
        return value.replace("{u}", unique)
    if isinstance(value, list):
        return [filled(each, unique) for each in value]
    if isinstance(value, dict):
        return {key: filled(each, unique) for key, each in value.items()}
    return value


@pytest.fixture
async def scene(cluster, api, unique):
    """Known users, a stream that is live, keys that are taken, and all of it settled."""
    known, other, live = (filled(name, unique) for name in (KNOWN, OTHER, LIVE))
    await api("follow", user=known, streamer=live)
    await api("follow", user=other, streamer=live)
    await api("start_stream", streamer=live, title="First", idempotency_key=f"start-{unique}")
    await api("set_preferences", user=known, notify="all")
    event = await api("notify", users=[known], type="mention", data={"n": 1}, idempotency_key=f"key-{unique}")
    await api("notify", users=[known], type="mention", data=1, at="2000-01-01T00:00:00Z", idempotency_key=f"at-{unique}")

    async def settled():
        status = await api("event_status", event_id=event["event_id"])
        return status["completed_at"] and not (await api("events", streamer=live))["events"]

    await eventually(settled, 20, "the scene is set")

    async def sent():
        page = await api("notifications", user=known)
        return len(page["notifications"]) == 3

    await eventually(sent, 20, "the scheduled one, too")
    return unique


MANY = [f"m{number}" for number in range(10_001)]
MENTION = {"type": "mention", "data": {}}

#: By the server API. Where the third member is true, clients are refused the same by rpc, with their own name for `user`
#: and, in streams, for `streamer`.
CASES = {
    "notify a user never seen": ("notify", {"users": [NOBODY], **MENTION}, 1003),
    "notify some never seen": ("notify", {"users": [KNOWN, OTHER, NOBODY], **MENTION}, 1003),
    "notify followers of nobody": ("notify", {"followers_of": NOBODY, **MENTION}, 1003),
    "notify 10,001 users": ("notify", {"users": MANY, **MENTION}, 106),
    "notify no users": ("notify", {"users": [], **MENTION}, 107),
    "notify users that are no list": ("notify", {"users": KNOWN, **MENTION}, 107),
    "notify users and followers": ("notify", {"users": [KNOWN], "followers_of": LIVE, **MENTION}, 107),
    "notify nobody at all": ("notify", MENTION, 107),
    "notify an illegal name": ("notify", {"users": [KNOWN, "a b"], **MENTION}, 107),
    "notify with a payload above the limit": ("notify", {"users": [KNOWN], "type": "mention", "data": BIG}, 107),
    "notify without data": ("notify", {"users": [KNOWN], "type": "mention"}, 107),
    "notify with a type of its own": ("notify", {"users": [KNOWN], "type": "raids", "data": {}}, 107),
    "notify with a type that is long": ("notify", {"users": [KNOWN], "type": "custom." + "x" * 60, "data": {}}, 107),
    "notify with no ttl": ("notify", {"users": [KNOWN], "ttl_s": 0, **MENTION}, 107),
    "notify with a ttl above the limit": ("notify", {"users": [KNOWN], "ttl_s": 2_592_001, **MENTION}, 107),
    "notify with a ttl that is a text": ("notify", {"users": [KNOWN], "ttl_s": "5", **MENTION}, 107),
    "notify with a used key": ("notify", {"users": [KNOWN], **MENTION, "idempotency_key": "key-{u}"}, 1006),
    "notify others with a used key": (
        "notify", {"users": [KNOWN, OTHER], "type": "mention", "data": {"n": 1}, "idempotency_key": "key-{u}"}, 1006,
    ),
    "notify with a key that is long": ("notify", {"users": [KNOWN], **MENTION, "idempotency_key": "k" * 256}, 107),
    "notify with a character that no text has": ("notify", {"users": [KNOWN], "type": "mention", "data": "\0"}, None),
    "schedule with a used key": (
        "notify", {"users": [KNOWN], **MENTION, "at": "2000-01-01T00:00:00Z", "idempotency_key": "at-{u}"}, 1006,
    ),
    "schedule for a user never seen": ("notify", {"users": [NOBODY], **MENTION, "at": "2000-01-01T00:00:00Z"}, 1003),
    "schedule at no time": ("notify", {"users": [KNOWN], **MENTION, "at": "tomorrow"}, 107),
    "schedule in years": ("notify", {"users": [KNOWN], **MENTION, "at": "2999-01-01T00:00:00Z"}, 107),
    "cancel a scheduled one that is none": ("cancel_scheduled_event", {"scheduled_id": "999999999"}, 107),
    "pause an unknown event": ("pause_event", {"event_id": "999999999"}, 107),
    "resume an unknown event": ("resume_event", {"event_id": "999999999"}, 107),
    "cancel an unknown event": ("cancel_event", {"event_id": "999999999"}, 107),
    "control what is no id": ("cancel_event", {"event_id": "x"}, 107),
    "control nothing": ("cancel_event", {}, 107),
    "replay a letter that is none": ("replay_dead_letters", {"ids": ["999999999"]}, 107),
    "discard a letter that is none": ("discard_dead_letters", {"ids": [999999999]}, 107),
    "replay 1,001": ("replay_dead_letters", {"ids": list(range(1, 1002))}, 106),
    "replay what is no id": ("replay_dead_letters", {"ids": ["x"]}, 107),
    "replay without saying which": ("replay_dead_letters", {}, 107),
    "replay ids and a filter": ("replay_dead_letters", {"ids": ["1"], "kind": "fanout"}, 107),
    "replay ids and all": ("replay_dead_letters", {"ids": ["1"], "all": True}, 107),
}

#: By both. `user` and, in streams, `streamer` are the caller's: the server names them, a client is them.
SHARED = {
    "follow oneself": (KNOWN, "follow", {"streamer": KNOWN}, 107),
    "follow a user that cannot be": (KNOWN, "follow", {"streamer": "a b"}, 107),
    "follow nobody": (KNOWN, "follow", {}, 107),
    "follow with a preference that is none": (KNOWN, "follow", {"streamer": OTHER, "notify": "loud"}, 107),
    "follow with a mute at no time": (KNOWN, "follow", {"streamer": OTHER, "mute_until": "soon"}, 107),
    "unfollow a user that cannot be": (KNOWN, "unfollow", {"streamer": "x" * 65}, 107),
    "start while live": (LIVE, "start_stream", {"title": "Second"}, 1001),
    "start with a used key": (LIVE, "start_stream", {"title": "Other", "idempotency_key": "start-{u}"}, 1006),
    "start with other tags and a used key": (
        LIVE, "start_stream", {"title": "First", "tags": ["a"], "idempotency_key": "start-{u}"}, 1006,
    ),
    "start without a title": (KNOWN, "start_stream", {}, 107),
    "start with a title that is long": (KNOWN, "start_stream", {"title": "x" * 501}, 107),
    "start with 21 tags": (KNOWN, "start_stream", {"title": "t", "tags": ["t"] * 21}, 107),
    "start with a tag that is long": (KNOWN, "start_stream", {"title": "t", "tags": ["x" * 65]}, 107),
    "start with tags that are none": (KNOWN, "start_stream", {"title": "t", "tags": "a,b"}, 107),
    "start with a title that PostgreSQL cannot hold": (KNOWN, "start_stream", {"title": "a\0b"}, 107),
    "stop what is not live": (KNOWN, "stop_stream", {}, 1002),
    "a time zone that does not exist": (
        KNOWN, "set_preferences", {"notify": "none", "quiet_hours": {**HOURS, "time_zone": "Europe/Nowhere"}}, 107,
    ),
    "a time zone that PostgreSQL would take": (
        KNOWN, "set_preferences", {"notify": "none", "quiet_hours": {**HOURS, "time_zone": "XYZ3"}}, 107,
    ),
    "a time zone that PostgreSQL cannot hold": (
        KNOWN, "set_preferences", {"notify": "none", "quiet_hours": {**HOURS, "time_zone": "Europe/\0Berlin"}}, 107,
    ),
    "hours that are none": (
        KNOWN, "set_preferences", {"notify": "none", "quiet_hours": {"from": "25:00", "to": "7:00", "time_zone": "UTC"}}, 107,
    ),
    "a level that is none": (KNOWN, "set_preferences", {"notify": "some", "mute_until": "2100-01-01T00:00:00Z"}, 107),
    "a mute at no time": (KNOWN, "set_preferences", {"notify": "none", "mute_until": "2100-13-01T00:00:00Z"}, 107),
    "0 notifications": (KNOWN, "notifications", {"limit": 0}, 107),
    "201 notifications": (KNOWN, "notifications", {"limit": 201}, 107),
    "notifications before what is no id": (KNOWN, "notifications", {"before": "x"}, 107),
    "mark nothing": (KNOWN, "mark_read", {}, 107),
    "mark in two ways": (KNOWN, "mark_read", {"ids": ["1"], "up_to": "1"}, 107),
    "mark 1,001": (KNOWN, "mark_read", {"ids": list(range(1, 1002))}, 106),
    "archive what is no id": (KNOWN, "archive", {"ids": ["1", "x"]}, 107),
    "publish above the limit": (KNOWN, "publish", {"channel": "room:{u}", "data": BIG}, 107),
    "publish to no channel": (KNOWN, "publish", {"channel": "nope:{u}", "data": 1}, 102),
    "publish nothing": (KNOWN, "publish", {"channel": "room:{u}"}, 107),
}
STREAMS = ("start_stream", "stop_stream")


@pytest.mark.parametrize("case", CASES, ids=str)
async def test_by_the_server_api(cluster, api, scene, case):
    method, parameters, code = CASES[case]
    before = counts(cluster)
    if code is None:
        # As text it is a JSON escape of six characters, and as such it is kept and given.
        assert "event_id" in await api(method, **filled(parameters, scene))
        return
    assert await api.error(method, **filled(parameters, scene)) == code
    assert counts(cluster) == before


@pytest.mark.parametrize("case", CASES, ids=str)
async def test_clients_may_not(cluster, open_raw, scene, case):
    """What is the server's alone is no method to clients, whatever comes with it."""
    method, parameters, _ = CASES[case]
    client = await open_raw(1, user=filled(KNOWN, scene))
    anonymous = await open_raw(2)
    parameters = filled(parameters, scene)
    if method == "notify" and parameters.get("users") == MANY:
        parameters["users"] = MANY[:5]
    before = counts(cluster)
    assert (await client.rpc(method, parameters))["error"]["code"] == 104
    assert (await anonymous.rpc(method, parameters))["error"]["code"] == 101
    assert counts(cluster) == before


@pytest.mark.parametrize("case", SHARED, ids=str)
async def test_by_both(cluster, api, open_raw, scene, case):
    user, method, parameters, code = SHARED[case]
    user, parameters = filled(user, scene), filled(parameters, scene)
    client, anonymous = await open_raw(1, user=user), await open_raw(2)
    before = counts(cluster)
    subject = {} if method == "publish" else {"streamer" if method in STREAMS else "user": user}
    assert await api.error(method, **subject, **parameters) == code
    error = (await client.rpc(method, parameters))["error"]
    assert error["code"] == code and error["message"] and not error.get("temporary")
    assert (await anonymous.rpc(method, parameters))["error"]["code"] == 101
    assert counts(cluster) == before
    # The connection has come to no harm.
    assert "rpc" in await client.rpc("notifications", {"limit": 1})


@pytest.mark.parametrize("method", ["follow", "unfollow", "start_stream", "notifications", "mark_read", "set_preferences"])
async def test_clients_do_not_act_for_others(cluster, open_raw, scene, method):
    client = await open_raw(0, user=filled(KNOWN, scene))
    other = filled(OTHER, scene)
    parameters = {
        "follow": {"user": other, "streamer": filled(LIVE, scene)}, "unfollow": {"user": other, "streamer": filled(LIVE, scene)},
        "start_stream": {"streamer": other, "title": "t"}, "notifications": {"user": other},
        "mark_read": {"user": other, "up_to": "999"}, "set_preferences": {"user": other, "notify": "none"},
    }[method]
    before = counts(cluster)
    assert (await client.rpc(method, parameters))["error"]["code"] == 103
    assert counts(cluster) == before


async def test_a_used_key_of_a_publication_gets_the_first_result(cluster, api, open_raw, scene):
    """As in Centrifugo: 1006 is for what is durable."""
    client = await open_raw(1, user=filled(KNOWN, scene))
    first = {"channel": f"room:{scene}", "data": 1, "idempotency_key": "k"}
    position = await api("publish", **first)
    assert (await client.rpc("publish", {**first, "data": 2}))["rpc"]["data"] == position


#: The command line: arguments, what it says.
COMMANDS = {
    "publish above the limit": (["publish", "room:{u}", json.dumps(BIG)], "error 107: bad request: 'data' is larger than 65536 bytes"),
    "publish what is too deep": (["publish", "room:{u}", "[" * 513 + "]" * 513], "the data is nested more than 512 levels deep"),
    "publish to no channel": (["publish", "nope:{u}", "1"], "error 102"),
    "publish to nobody's room": (["publish", "dm:b:a", "1"], "error 107"),
    "publish no JSON": (["publish", "room:{u}", "{"], "the data is no JSON"),
    "show a letter that is none": (["deadletters", "show", "999999999"], "there is no dead letter 999999999"),
    "replay a letter that is none": (["deadletters", "replay", "999999999"], "error 107: bad request: there is no dead letter 999999999"),
    "try to replay a letter that is none": (["deadletters", "replay", "999999999", "--dry-run"], "error 107: bad request: there is no dead"),
    "discard a letter that is none": (["deadletters", "discard", "999999999"], "error 107: bad request: there is no dead letter"),
    "an event that is none": (["events", "status", "999999999"], "error 107: bad request: unknown event_id"),
    "cancel an event that is none": (["events", "cancel", "999999999"], "error 107: bad request: unknown event_id"),
    "give up a scheduled event that is none": (["events", "unschedule", "999999999"], "error 107: bad request: unknown scheduled event"),
    "drain nobody": (["cluster", "drain", "nobody{u}"], "error 107"),
    "a slot of no channel": (["cluster", "slots", "nope:{u}"], "error 102"),
    "import what is not there": (["import", "follows", "/no/such/file.csv"], "cannot read '/no/such/file.csv'"),
    "import a folder": (["import", "follows", "/tmp"], "it is a folder"),
    "watch no channel": (["watch", "nope:{u}"], "102"),
}


@pytest.mark.parametrize("case", COMMANDS, ids=str)
async def test_by_the_command_line(cluster, scene, case):
    arguments, message = COMMANDS[case]
    before = counts(cluster)
    done = cluster.command(*filled(arguments, scene))
    assert done.returncode == 1 and not done.stdout, (done.returncode, done.stdout, done.stderr)
    assert message in done.stderr and len(done.stderr.splitlines()) == 1, done.stderr
    assert counts(cluster) == before


async def test_a_letter_that_was_settled_keeps_the_others_waiting(cluster, api, scene):
    """Two letters: one is discarded, and then neither a replay nor a discard of both does anything."""
    first, second = sql(
        cluster,
        f"""
        INSERT INTO dead_letters (event_id, user_id, first_failed_at, last_failed_at, attempts, kind, payload, cause, order_key)
        SELECT max(e.id), u.id, now(), now(), 1, 'push', '{{}}', 'of a test', 'user:' || u.name
        FROM events e, users u WHERE u.name LIKE '_{scene}' GROUP BY u.id LIMIT 2 RETURNING id
        """,
    ).split()
    try:
        assert await api("discard_dead_letters", ids=[first]) == {"discarded": 1}
        before = counts(cluster)
        for ids in ([first], [second, first], [second, "999999999"]):
            for method in ("replay_dead_letters", "discard_dead_letters"):
                assert await api.error(method, ids=ids) == 107
                assert await api.error(method, ids=ids, dry_run=True) == 107
            for verb in ("replay", "discard"):
                done = cluster.command("deadletters", verb, *ids)
                assert done.returncode == 1 and "error 107" in done.stderr and not done.stdout, done.stderr
                assert len(done.stderr.splitlines()) == 1
        assert counts(cluster) == before
    finally:
        sql(cluster, f"DELETE FROM dead_letters WHERE id IN ({first}, {second})")
