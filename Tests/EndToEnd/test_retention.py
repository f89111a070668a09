"""What is old goes, by PostgreSQL's clock: entries all at one moment, with the unread count; events after them."""

import asyncio
import datetime

import pytest

from harness.cluster import LoneNode, free_ports
from harness.postgres import PASSWORD, PostgresServer
from harness.waiting import eventually

#: A partition is open for a second then.
INBOX = 3


@pytest.fixture
def database(state_folder):
    server = PostgresServer(free_ports(1), state_folder / "retention-postgres.log")
    try:
        server.create().start()
        server.sql("CREATE DATABASE fanfare", "postgres")
        yield server
    finally:
        server.remove()


@pytest.fixture
def node(state_folder, database):
    url = f"postgres://fanfare:{PASSWORD}@127.0.0.1:{database.port}/fanfare"
    with LoneNode(
        state_folder, "--database-url", url, "--inbox-retention", f"{INBOX}s", "--event-retention", "4s",
        "--inbox-limit", "60",
    ) as node:
        yield node


def now(database):
    return datetime.datetime.fromisoformat(database.sql("SELECT to_json(clock_timestamp()) #>> '{}'")[0][0])


async def test_entries_go_with_their_time(database, node):
    api = node.api()
    await api("follow", user="bob", streamer="ada")
    for number in range(3):
        await api("notify", followers_of="ada", type="raid", data={"n": number})
    sent = 3
    alive, gone = {}, {}
    before = now(database)
    while not len(gone) >= 3:
        before, page = now(database), await api("notifications", user="bob", limit=200)
        entries = {each["id"]: each for each in page["notifications"]}
        assert page["unread"] == sum(not each["read"] for each in entries.values())
        for identifier in set(alive) - set(entries) - set(gone):
            gone[identifier] = now(database) - datetime.datetime.fromisoformat(alive[identifier]["created_at"])
        assert not set(gone) & set(entries), "an entry came back"
        alive |= entries
        if len(alive) > 4:
            await api("mark_read", user="bob", ids=sorted(entries, key=int)[:1])
        await api("notify", followers_of="ada", type="raid", data={"n": sent})
        sent += 1
        assert sent < 2000, "nothing goes"
        await asyncio.sleep(0.05)
    assert min(gone.values()) >= datetime.timedelta(seconds=INBOX), "an entry went before its time"

    async def all_gone():
        page = await api("notifications", user="bob", limit=200)
        assert page["unread"] == sum(not each["read"] for each in page["notifications"])
        return page["notifications"] == []

    await eventually(all_gone, 30, "all entries have gone")

    def dropped():
        return database.sql("SELECT (SELECT count(*) FROM events), (SELECT count(*) FROM inbox)") == [["0", "0"]]

    await eventually(dropped, 30, "tables of entries and events were dropped")
    counts = await api("event_counts", streamer="ada")
    assert counts == {"counts": [{"type": "raid", "count": sent}], "total": sent}
    assert await api("event_counts", streamer="ada", type="custom.other") == {"counts": [], "total": 0}
    metrics = (await api.client.get("/metrics")).text
    dropped_here = [line for line in metrics.splitlines() if line.startswith("fanfare_partitions_dropped_total ")]
    assert float(dropped_here[0].split()[1]) > 2
    assert 'fanfare_partitions{log="events",state="open"} 1' in metrics
    # And on.
    event = (await api("notify", followers_of="ada", type="raid", data={}))["event_id"]

    async def comes():
        entries = (await api("notifications", user="bob"))["notifications"]
        return [each["event_id"] for each in entries] == [event]

    await eventually(comes, what="the next entry")
    await api.close()


async def test_an_inbox_shows_its_newest(node):
    api = node.api()
    await api("follow", user="eve", streamer="ada")
    events = [(await api("notify", followers_of="ada", type="raid", data={"n": n}))["event_id"] for n in range(70)]

    async def newest():
        page = await api("notifications", user="eve", limit=200)
        assert page["unread"] == len(page["notifications"]) <= 60
        return page["notifications"][:1] and page["notifications"][0]["event_id"] == events[-1] and page

    page = await eventually(newest, what="the last one")
    oldest = page["notifications"][-1]["id"]
    assert (await api("notifications", user="eve", limit=200, before=oldest))["notifications"] == []
    await api.close()
