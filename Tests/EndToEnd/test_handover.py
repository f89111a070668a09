"""The owner of a user's shard dies at the worst instants of a push: its successor makes it good, and nobody notices.

The instants are those of a COMMIT. A proxy before PostgreSQL holds it, as soon as the event is seen in the database: its
answer, so that the rows are there and nothing was pushed; or the next one on its way, so that all was pushed and the
database does not know. Then the node is killed with SIGKILL.
"""

import asyncio

import pytest
from harness.fabric import Fabric
from harness.sdk import Sdk
from harness.waiting import eventually

LEASE = "1500ms"
#: From this number of followers on an event is stored once for all.
BROADCASTS_FROM = 40
ONLINE = 12


@pytest.fixture(scope="module")
def fabric(state_folder):
    fabric = Fabric(
        state_folder / "handover", FANFARE_HEARTBEAT_LEASE=LEASE, FANFARE_BROADCAST_THRESHOLD=str(BROADCASTS_FROM))
    try:
        fabric.up()
        yield fabric
    finally:
        fabric.down()


async def follow(api, streamer, users):
    for user in users:
        await api("follow", user=user, streamer=streamer)


def owners(fabric):
    """The node that owns each shard, by the last claim."""
    rows = fabric.database.sql("SELECT shard, owner FROM shards WHERE owner <> ''")
    return {int(shard): int(owner.rpartition("-")[2]) for shard, owner in rows}


def shards(fabric, users):
    names = ",".join(f"'{user}'" for user in users)
    rows = fabric.database.sql(f"SELECT name, shard FROM users WHERE name IN ({names})")
    return {name: int(shard) for name, shard in rows}


def written(fabric, streamer, shard):
    """How often the streamer's only event is there for the user's shard: as rows of users, or once for all."""
    (rows,), = fabric.database.sql(f"""
        SELECT (SELECT count(*) FROM inbox i JOIN events e ON e.id = i.event_id JOIN users u ON u.id = i.user_id
                WHERE e.streamer = s.id AND u.shard = {shard})
            + (SELECT count(*) FROM broadcasts b WHERE b.streamer = s.id AND b.shard = {shard})
        FROM users s WHERE s.name = '{streamer}'""")
    return int(rows)


@pytest.mark.parametrize("stored", ["rows", "broadcast"])
@pytest.mark.parametrize("where", ["before_the_push", "before_it_is_known"])
async def test_an_owner_dies_at_its_push(fabric, unique, where, stored):
    """Clients on the nodes that live get it once, and need not come back for it; the database has it once."""
    streamer = f"s{unique}"
    users = [f"u{unique}-{number}" for number in range(ONLINE)]
    crowd = [f"c{unique}-{number}" for number in range(BROADCASTS_FROM)] if stored == "broadcast" else []
    apis = [fabric.api(node) for node in range(fabric.nodes)]
    clients = {}
    victim = None
    try:
        await asyncio.to_thread(fabric.wait_ready)
        await follow(apis[0], streamer, users + crowd)
        where_to = await asyncio.to_thread(shards, fabric, users)

        async def all_owned():
            found = await asyncio.to_thread(owners, fabric)
            return found if len(found) == 256 and len(set(found.values())) == fabric.nodes else None

        owned = await eventually(all_owned, 20, "every shard has an owner")
        victim = owned[where_to[users[0]]]
        living = [node for node in range(fabric.nodes) if node != victim]
        # Those of the victim's shards: their pushes are what it owes.
        theirs = [user for user in users if owned[where_to[user]] == victim]
        for index, user in enumerate(theirs):
            clients[user] = Sdk(fabric.websocket(living[index % 2]), fabric.token(user))
            await clients[user].connect()
        # An event before, so that the owner's pushes are followed already, and clients have something to compare with.
        first = (await apis[living[0]]("notify", users=theirs, type="mention", data={"n": 1}))["event_id"]

        def heard(user):
            return [
                each.data["event_id"] for channel, each in clients[user].events.publications if channel == f"user:{user}"]

        await eventually(lambda: all(heard(user) == [first] for user in theirs), 20, "the first event arrived")

        one = where_to[users[0]]
        proxy = fabric.proxies[victim]
        before = proxy.held
        if where == "before_the_push":
            proxy.hold("answer", lambda: written(fabric, streamer, one) > 0)
        else:
            proxy.hold("request", lambda: len(heard(users[0])) > 1)
        event = (await apis[living[0]]("notify", followers_of=streamer, type="custom.handover", data={"n": 2}))["event_id"]
        await eventually(lambda: proxy.held > before, 20, "the victim's COMMIT is held")
        unsettled = await asyncio.to_thread(
            fabric.database.sql, f"SELECT settled_sequence < next_sequence - 1 FROM shards WHERE shard = {one}")
        assert unsettled == [["t"]], "nobody said that it was pushed"
        await asyncio.to_thread(fabric.crash, f"node-{victim}")
        proxy.release()
        if where == "before_it_is_known":
            assert heard(users[0]) == [first, event]
        assert await asyncio.to_thread(written, fabric, streamer, one) >= 1

        async def complete():
            status = await apis[living[0]]("event_status", event_id=event)
            return status if status["completed_at"] else None

        status = await eventually(complete, 30, "the event is complete")
        assert status["recipients"] == len(users) + len(crowd) and status["dead_letters"] == 0
        for user in theirs:
            await eventually(lambda: len(heard(user)) >= 2, 20, f"{user} has it")
        # An event after that: what would come twice has come by then.
        last = (await apis[living[1]]("notify", users=theirs, type="mention", data={"n": 3}))["event_id"]
        for user in theirs:
            await eventually(lambda: heard(user)[-1] == last, 20, f"{user} has the last one")
            assert heard(user) == [first, event, last]
            states = [state for state, _ in clients[user].events.states]
            assert states == ["connecting", "connected"], "nobody had to come back for it"
        for user in users + crowd[:5]:
            page = (await apis[living[0]]("notifications", user=user, limit=10))["notifications"]
            assert [each["event_id"] for each in page].count(event) == 1
        if stored == "rows":
            rows = await asyncio.to_thread(
                fabric.database.sql, f"SELECT count(*), count(DISTINCT user_id) FROM inbox WHERE event_id = {event}")
            assert rows == [[str(len(users))] * 2]
        else:
            rows = await asyncio.to_thread(
                fabric.database.sql,
                f"SELECT count(*), count(DISTINCT shard) FROM broadcasts WHERE event_id = {event}")
            assert rows[0][0] == rows[0][1] != "0"
    finally:
        for proxy in fabric.proxies:
            proxy.release()
        await asyncio.gather(*(client.close() for client in clients.values()), return_exceptions=True)
        await asyncio.gather(*(api.close() for api in apis), return_exceptions=True)
        await asyncio.to_thread(fabric.restart_dead)
        await asyncio.to_thread(fabric.wait_ready)
