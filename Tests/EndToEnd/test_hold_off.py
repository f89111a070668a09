"""A stream that flaps: what was not sent when it stopped waits, and goes on with it or is given up."""

import asyncio

import pytest
from harness.fabric import Fabric
from harness.waiting import eventually

FOLLOWERS = 400
#: Rows per second, so that a stop finds the fan-out half done.
RATE = 100
HOLD_OFF = 8


@pytest.fixture(scope="module")
def slow(state_folder, tmp_path_factory):
    """Nodes that write few rows of a go-live in a second, one after the other."""
    fabric = Fabric(
        state_folder / "hold-off", FANFARE_FANOUT_RATES=f"stream.live={RATE}", FANFARE_HOLD_OFF=f"{HOLD_OFF}s")
    try:
        fabric.up()
        yield fabric
    finally:
        fabric.down()


async def follow(apis, streamer, prefix, count=FOLLOWERS):
    users = [f"{prefix}-{number}" for number in range(count)]
    gate = asyncio.Semaphore(16)

    async def one(number, user):
        async with gate:
            await apis[number % len(apis)]("follow", user=user, streamer=streamer)

    await asyncio.gather(*(one(number, user) for number, user in enumerate(users)))


async def rows(fabric, event):
    found = await asyncio.to_thread(
        fabric.database.sql, f"SELECT count(*), count(DISTINCT user_id) FROM inbox WHERE event_id = {event}")
    count, users = map(int, found[0])
    assert count == users, f"{count} rows of {users} users"
    return count


async def status(api, event, condition, what, within=30):
    async def holds():
        current = await api("event_status", event_id=event)
        return current if condition(current) else None

    return await eventually(holds, within, what)


async def others_go_on(apis, streamer):
    other = (await apis[0]("start_stream", streamer=streamer, title="t"))["event_id"]
    done = await status(apis[1], other, lambda each: each["completed_at"], "others go on")
    assert done["recipients"] == RATE // 2


@pytest.mark.parametrize("goes_on", [True, False], ids=["goes on", "is over"])
async def test_a_stop_holds_what_was_not_sent(slow, unique, goes_on):
    apis = [slow.api(node) for node in range(slow.nodes)]
    try:
        ada, eve, bob = f"a{unique}", f"e{unique}", f"b{unique}"
        await follow(apis, ada, f"f{unique}")
        for other in (eve, bob):
            await follow(apis, other, f"f{unique}", RATE // 2)
        started = await apis[0]("start_stream", streamer=ada, title="t")
        event = started["event_id"]
        await status(apis[0], event, lambda each: each["recipients"] >= RATE / 2, "some have it")
        await apis[1]("stop_stream", streamer=ada)
        stopped = await apis[2]("event_status", event_id=event)
        assert stopped["state"] == "stopped" and stopped["completed_at"] is None
        # What was being written when the stream stopped is written; and then nothing, while others of its budget go on.
        await others_go_on(apis, eve)
        had = await rows(slow, event)
        assert 0 < had < FOLLOWERS
        await others_go_on(apis, bob)
        assert await rows(slow, event) == had
        if goes_on:
            again = await apis[2]("start_stream", streamer=ada, title="t")
            assert again["event_id"] == event and again["stream"]["id"] == started["stream"]["id"]
            done = await status(apis[0], event, lambda each: each["completed_at"], "it is complete")
            assert done["state"] == "done" and done["recipients"] == FOLLOWERS
            assert await rows(slow, event) == FOLLOWERS
        else:
            over = await status(apis[0], event, lambda each: each["completed_at"], "it is given up", HOLD_OFF + 30)
            assert over["state"] == "stopped" and over["recipients"] == had and over["withdrawn"] == 0
            assert await rows(slow, event) == had
            later = await apis[2]("start_stream", streamer=ada, title="t")
            assert later["event_id"] != event
    finally:
        for api in apis:
            await api.close()
