"""Of an event that takes a while, those online hear first, on all nodes; each follower has it once in the end."""

import asyncio
import re

import pytest
from harness.fabric import Fabric
from harness.raw import RawClient
from harness.waiting import eventually

FOLLOWERS = 400
#: Entries per second: the event takes some seconds.
RATE = 80
ONLINE = 9


@pytest.fixture(scope="module")
def slow(state_folder):
    fabric = Fabric(state_folder / "online-first", FANFARE_FANOUT_RATES=f"custom.slow={RATE}")
    try:
        fabric.up()
        yield fabric
    finally:
        fabric.down()


def pushed(client, user):
    data = [each["data"] for each in client.publications(f"user:{user}")]
    return [each["event_id"] for each in data if "event_id" in each]


async def test_those_online_hear_first(slow, unique):
    apis = [slow.api(node) for node in range(slow.nodes)]
    clients = []
    try:
        ada = f"a{unique}"
        users = [f"f{unique}-{number}" for number in range(FOLLOWERS)]
        gate = asyncio.Semaphore(16)

        async def follow(number, user):
            async with gate:
                await apis[number % slow.nodes]("follow", user=user, streamer=ada)

        # One after the other first: their keys are the highest, so that by the order of keys they would be the last.
        await asyncio.gather(*(follow(number, user) for number, user in enumerate(users[ONLINE:])))
        for number, user in enumerate(users[:ONLINE]):
            await follow(number, user)
        for number, user in enumerate(users[:ONLINE]):
            clients.append(await RawClient.connected(slow.websocket(number % slow.nodes), slow.token(user)))

        async def all_are_known():
            texts = [(await api.client.get("/metrics")).text for api in apis]
            return sum(int(re.search(r"^fanfare_online_users (\d+)", text, re.M)[1]) for text in texts) == ONLINE

        await eventually(all_are_known, 15, "the owners know who is online")
        event = (await apis[0]("notify", followers_of=ada, type="custom.slow", data={}))["event_id"]
        for user, client in zip(users, clients):
            await client.until(lambda: event in pushed(client, user), what="those online hear")
        had = (await apis[1]("event_status", event_id=event))["recipients"]
        assert ONLINE <= had < FOLLOWERS * 3 / 4

        async def complete():
            status = await apis[1]("event_status", event_id=event)
            return status if status["completed_at"] else None

        done = await eventually(complete, 60, "it is complete")
        assert done["recipients"] == FOLLOWERS and done["delivered_online"] == ONLINE
        found = await asyncio.to_thread(
            slow.database.sql, f"SELECT count(*), count(DISTINCT user_id) FROM inbox WHERE event_id = {event}")
        assert found == [[str(FOLLOWERS), str(FOLLOWERS)]]
        # Who came is known by the day.
        marked = await asyncio.to_thread(
            slow.database.sql, f"SELECT count(*) FROM activity a JOIN users u ON u.id = a.user_id WHERE u.name LIKE 'f{unique}-%'")
        assert marked == [[str(ONLINE)]]
        assert all(pushed(client, user) == [event] for user, client in zip(users, clients))
    finally:
        for client in clients:
            await client.close()
        for api in apis:
            await api.close()
