"""What users want to hear of, and when: levels, mutes, quiet hours, events that expire."""

import datetime

import pytest

from harness.api import ApiError
from harness.waiting import eventually

UTC = datetime.timezone.utc
NONE = {"notify": "all", "mute_until": None, "quiet_hours": None, "muted_streamers": []}


def pushed(client, user):
    """The events that reached the user's own channel."""
    data = [each["data"] for each in client.publications(f"user:{user}")]
    return [each["event_id"] for each in data if "event_id" in each]


def changes(client, user):
    data = [each["data"] for each in client.publications(f"user:{user}")]
    return [each for each in data if each["type"] == "preferences.changed"]


async def completed(api, event):
    async def done():
        status = await api("event_status", event_id=event)
        return status if status["completed_at"] else None

    return await eventually(done, 30, f"the fan-out of {event} is complete")


async def raid(api, streamer, **options):
    event = (await api("notify", followers_of=streamer, type="raid", data={}, **options))["event_id"]
    await completed(api, event)
    return event


async def inbox(api, user):
    return [each["event_id"] for each in (await api("notifications", user=user))["notifications"]]


def later(seconds):
    return (datetime.datetime.now(UTC) + datetime.timedelta(seconds=seconds)).isoformat()


def quiet_until_next_minute():
    """Hours that are quiet now, and end when a minute does: not in the next seconds."""
    now = datetime.datetime.now(UTC)
    end = (now + datetime.timedelta(seconds=65)).replace(second=0, microsecond=0)
    begin = now - datetime.timedelta(hours=2)
    return {"from": begin.strftime("%H:%M"), "to": end.strftime("%H:%M"), "time_zone": "UTC"}, end


async def test_members_and_sessions(api, open_raw, unique):
    """What one session sets is in force for it at once, and the others hear of it."""
    user = f"u{unique}"
    first, second = await open_raw(0, user=user), await open_raw(1, user=user)
    assert (await first.rpc("preferences"))["rpc"]["data"] == NONE
    hours = {"from": "22:00", "to": "07:00", "time_zone": "Europe/Berlin"}
    expected = NONE | {"notify": "live", "quiet_hours": hours}
    assert (await first.rpc("set_preferences", {"notify": "live", "quiet_hours": hours}))["rpc"]["data"] == expected
    await second.until(lambda: changes(second, user), what="the other session hears of it")
    assert changes(second, user) == [{"type": "preferences.changed"} | expected]
    assert not changes(first, user)
    expected |= {"quiet_hours": None, "mute_until": "2100-01-01T00:00:00.000Z"}
    assert await api("set_preferences", user=user, quiet_hours=None, mute_until="2100-01-01T01:00:00+01:00") == expected
    assert await api("preferences", user=user) == expected
    for client in (first, second):
        await client.until(lambda: changes(client, user), what="all sessions hear of what the server sets")
        assert changes(client, user)[-1] == {"type": "preferences.changed"} | expected
    muted = {"streamer": f"s{unique}", "mute_until": "2100-01-01T00:00:00.000Z"}
    assert (await second.rpc("follow", muted))["rpc"]["data"] == {}
    await first.until(lambda: changes(first, user)[-1]["muted_streamers"] == [muted], what="the mute is told")
    assert (await second.rpc("unfollow", {"streamer": f"s{unique}"}))["rpc"]["data"] == {}
    await first.until(lambda: changes(first, user)[-1]["muted_streamers"] == [], what="its end is told")


@pytest.mark.parametrize(
    "wrong",
    [
        {"notify": "some"},
        {"notify": 1},
        {"mute_until": "tomorrow"},
        {"mute_until": 5},
        {"mute_until": "2026-02-30T00:00:00Z"},
        {"quiet_hours": "22-7"},
        {"quiet_hours": {"from": "22:00", "to": "07:00"}},
        {"quiet_hours": {"from": "22:00", "to": "22:00", "time_zone": "UTC"}},
        {"quiet_hours": {"from": "24:00", "to": "07:00", "time_zone": "UTC"}},
        {"quiet_hours": {"from": "22:0", "to": "07:00", "time_zone": "UTC"}},
        {"quiet_hours": {"from": "22:00", "to": "07:00", "time_zone": "Europe/Nowhere"}},
        {"quiet_hours": {"from": "22:00", "to": "07:00", "time_zone": "XYZ3"}},
        {"quiet_hours": {"from": "22:00", "to": "07:00", "time_zone": "x" * 65}},
    ],
)
async def test_what_is_refused(api, open_raw, unique, wrong):
    user = f"u{unique}"
    with pytest.raises(ApiError) as refusal:
        await api("set_preferences", **({"user": user, "notify": "none"} | wrong))
    assert refusal.value.code == 107
    assert await api("preferences", user=user) == NONE, "nothing is half done"
    client = await open_raw(0, user=user)
    assert (await client.rpc("set_preferences", wrong))["error"]["code"] == 107


async def test_anonymous_and_others(api, open_raw, unique):
    anonymous = await open_raw(0)
    assert (await anonymous.rpc("preferences"))["error"]["code"] == 101
    client = await open_raw(0, user=f"u{unique}")
    assert (await client.rpc("set_preferences", {"user": "other", "notify": "none"}))["error"]["code"] == 103
    for wrong in (0, -1, 2_592_001, "1"):
        with pytest.raises(ApiError) as refusal:
            await api("notify", users=[f"u{unique}"], type="raid", data={}, ttl_s=wrong)
        assert refusal.value.code == 107


async def test_levels(api, open_raw, unique):
    """The level narrows what comes into the inbox, and gives back what was chosen."""
    user, ada, eve = f"u{unique}", f"a{unique}", f"e{unique}"
    await api("follow", user=user, streamer=ada)
    await api("follow", user=user, streamer=eve, notify="live")
    await api("set_preferences", user=user, notify="live")
    await raid(api, ada)
    live = (await api("start_stream", streamer=ada, title="t"))["event_id"]
    await completed(api, live)
    assert await inbox(api, user) == [live]
    await api("set_preferences", user=user, notify="none")
    await raid(api, ada)
    named = (await api("notify", users=[user], type="mention", data={}))["event_id"]
    await completed(api, named)
    assert await inbox(api, user) == [named, live]
    await api("set_preferences", user=user, notify="all")
    await raid(api, eve)
    last = await raid(api, ada)
    assert await inbox(api, user) == [last, named, live]


async def test_mutes(api, open_raw, unique):
    """What is muted is in the inbox, unread, and not pushed: now, later, or when the client recovers."""
    user, ada, eve = f"u{unique}", f"a{unique}", f"e{unique}"
    for streamer in (ada, eve):
        await api("follow", user=user, streamer=streamer)
    clients = [await open_raw(node, user=user) for node in range(3)]
    before = await raid(api, ada)
    await api("follow", user=user, streamer=ada, mute_until=later(3600))
    for client in clients:
        await client.until(lambda: pushed(client, user) and changes(client, user), what="the mute is known")
    muted, heard = await raid(api, ada), await raid(api, eve)
    for client in clients:
        await client.until(lambda: heard in pushed(client, user), what="the other streamer is heard")
        assert pushed(client, user) == [before, heard]
    await api("set_preferences", user=user, mute_until=later(3600))
    for client in clients:
        await client.until(lambda: len(changes(client, user)) == 2, what="the mute of all is known")
    silent = await raid(api, eve)
    channel = f"user:{user}"
    offset = clients[0].publications(channel)[0]["offset"]
    epoch = clients[0].hello["subs"][channel]["epoch"]
    again = await open_raw(1, user=user, subs={channel: {"recover": True, "offset": offset, "epoch": epoch}})
    recovered = again.hello["subs"][channel]
    assert recovered["recovered"] and not recovered.get("publications"), "not even what came before the mute"
    await api("set_preferences", user=user, mute_until=None)
    for client in clients:
        await client.until(lambda: len(changes(client, user)) == 3, what="the end of the mute is known")
    last = await raid(api, eve)
    for client in clients:
        await client.until(lambda: last in pushed(client, user), what="what comes after the mute is heard")
        assert pushed(client, user) == [before, heard, last]
    page = await api("notifications", user=user)
    assert [each["event_id"] for each in page["notifications"]] == [last, silent, heard, muted, before]
    assert page["unread"] == 5


async def test_quiet_hours(api, open_raw, unique):
    """What comes in quiet hours is pushed when they end, in order: on every node, to who was there and to who came."""
    user, ada = f"u{unique}", f"a{unique}"
    await api("follow", user=user, streamer=ada)
    clients = [await open_raw(node, user=user) for node in range(3)]
    first = await raid(api, ada)
    for client in clients:
        await client.until(lambda: pushed(client, user) == [first], what="the first event")
    channel = f"user:{user}"
    offset = clients[0].publications(channel)[0]["offset"]
    epoch = clients[0].hello["subs"][channel]["epoch"]
    hours, end = quiet_until_next_minute()
    await api("set_preferences", user=user, quiet_hours=hours)
    for client in clients:
        await client.until(lambda: changes(client, user), what="the hours are known")
    quiet = [await raid(api, ada) for _ in range(3)]
    # Who recovers meanwhile is not woken either.
    recovering = await open_raw(2, user=user, subs={channel: {"recover": True, "offset": offset, "epoch": epoch}})
    subscription = recovering.hello["subs"][channel]
    assert subscription["recovered"] and not subscription.get("publications") and subscription["offset"] == offset
    clients.append(recovering)
    assert datetime.datetime.now(UTC) < end
    assert not any(set(quiet) & set(pushed(client, user)) for client in clients), "nothing comes in quiet hours"
    for client in clients:
        await client.until(lambda: quiet[-1] in pushed(client, user), 80, "what waited")
        assert datetime.datetime.now(UTC) >= end - datetime.timedelta(milliseconds=50)
        assert [each for each in pushed(client, user) if each != first] == quiet
    last = await raid(api, ada)
    for client in clients:
        await client.until(lambda: last in pushed(client, user), what="pushes flow again")
        assert [each for each in pushed(client, user) if each != first] == [*quiet, last]


async def test_quiet_hours_taken_back(api, open_raw, unique):
    user, ada = f"u{unique}", f"a{unique}"
    await api("follow", user=user, streamer=ada)
    client = await open_raw(1, user=user)
    now = datetime.datetime.now(UTC)
    hours = {
        "from": (now - datetime.timedelta(hours=2)).strftime("%H:%M"),
        "to": (now + datetime.timedelta(hours=2)).strftime("%H:%M"),
        "time_zone": "UTC",
    }
    await client.rpc("set_preferences", {"quiet_hours": hours})
    stream = (await api("start_stream", streamer=ada, title="t"))["event_id"]
    await completed(api, stream)
    waiting, short = await raid(api, ada), await raid(api, ada, ttl_s=1)
    # Stale when its time comes: the stream is over, the other one expires.
    await api("stop_stream", streamer=ada)

    async def expired():
        entries = (await api("notifications", user=user))["notifications"]
        at = next(each["expires_at"] for each in entries if each["event_id"] == short)
        return datetime.datetime.fromisoformat(at) < datetime.datetime.now(UTC)

    await eventually(expired, what="the short one expires")
    assert pushed(client, user) == []
    await client.rpc("set_preferences", {"quiet_hours": None})
    await client.until(lambda: pushed(client, user), what="what waited")
    last = await raid(api, ada)
    await client.until(lambda: last in pushed(client, user), what="pushes flow again")
    assert pushed(client, user) == [waiting, last]
    assert await inbox(api, user) == [last, short, waiting, stream]
