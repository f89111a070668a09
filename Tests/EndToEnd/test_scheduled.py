"""Events that are scheduled: sent when they are due, to who follows then, once."""

import datetime

import pytest

from harness.api import ApiError
from harness.waiting import eventually

UTC = datetime.timezone.utc


def pushed(client, user):
    data = [each["data"] for each in client.publications(f"user:{user}")]
    return [each["data"] for each in data if "event_id" in each]


def at(seconds):
    return (datetime.datetime.now(UTC) + datetime.timedelta(seconds=seconds)).isoformat(timespec="milliseconds")


async def test_sent_when_due(cluster, api, open_raw, unique):
    streamer, early, late = f"s{unique}", f"e{unique}", f"l{unique}"
    await api("follow", user=early, streamer=streamer)
    due = at(3)
    scheduled = await api("notify", followers_of=streamer, type="raid", data={"n": 1}, at=due)
    again = await api("notify", followers_of=streamer, type="raid", data={"n": 2}, at=at(3600))
    assert datetime.datetime.fromisoformat(scheduled["at"]) == datetime.datetime.fromisoformat(due)
    await api("unfollow", user=early, streamer=streamer)
    await api("follow", user=late, streamer=streamer)
    clients = [await open_raw(node, user=late) for node in range(3)]
    for client in clients:
        await client.until(lambda: pushed(client, late), 20, "the event")
        assert datetime.datetime.now(UTC) >= datetime.datetime.fromisoformat(due)
        assert pushed(client, late) == [{"n": 1}]
    other = cluster.api(2)
    listed = (await other("scheduled_events", settled=True, limit=1000))["scheduled_events"]
    states = {each["scheduled_id"]: each for each in listed}
    sent = states[scheduled["scheduled_id"]]
    assert sent["state"] == "sent" and sent["followers_of"] == streamer
    assert (await api("event_status", event_id=sent["event_id"]))["type"] == "raid"
    assert states[again["scheduled_id"]]["state"] == "waiting"
    assert await other("cancel_scheduled_event", scheduled_id=again["scheduled_id"]) == {}
    await other.close()

    async def counted():
        return (await api("notifications", user=late))["unread"] == 1

    await eventually(counted, what="one entry")
    assert (await api("notifications", user=early))["notifications"] == []
    with pytest.raises(ApiError) as refusal:
        await api("cancel_scheduled_event", scheduled_id=scheduled["scheduled_id"])
    assert refusal.value.code == 107


@pytest.mark.parametrize("wrong", ["soon", "2026-02-30T00:00:00Z", "9999-01-01T00:00:00Z", 5])
async def test_refused(api, unique, wrong):
    await api("follow", user=f"u{unique}", streamer=f"s{unique}")
    with pytest.raises(ApiError) as refusal:
        await api("notify", followers_of=f"s{unique}", type="raid", data={}, at=wrong)
    assert refusal.value.code == 107
