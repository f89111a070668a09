"""Clients that come and go under traffic: whoever recovers has everything once, in order."""

import asyncio
import random

from harness.raw import RawClient
from harness.waiting import eventually

SEED = 20260131


class Wanderer:
    """Follows one channel through cuts and changes of node, and keeps what came."""

    def __init__(self, cluster, chance, channel, user=None):
        self.cluster, self.chance, self.channel, self.user = cluster, chance, channel, user
        self.offsets, self.data = [], []
        self.position = None
        self.failed_recoveries = 0
        self.moves = 0

    async def stay(self, stop):
        while True:
            client = await self.come()
            taken = 0
            leave = asyncio.get_running_loop().time() + self.chance.uniform(0.05, 0.8)
            while True:
                publications = client.publications(self.channel)
                for publication in publications[taken:]:
                    self.take(publication)
                taken = len(publications)
                assert client.closed is None, client.closed
                if stop.is_set() and self.caught_up(stop):
                    await client.close()
                    return
                if not stop.is_set() and asyncio.get_running_loop().time() > leave:
                    break
                await asyncio.sleep(0.01)
            await (client.cut() if self.chance.random() < 0.7 else client.close())
            self.moves += 1
            # What came with the cut counts as well: the SDK would have handled it.
            for publication in client.publications(self.channel)[taken:]:
                self.take(publication)

    def caught_up(self, stop):
        return self.position["offset"] >= stop.top

    async def come(self):
        url = self.cluster.websocket(self.chance.randrange(3))
        recovery = {} if self.position is None else {"recover": True, **self.position}
        if self.user:
            client = await RawClient.connected(
                url, self.cluster.token(self.user), subs={self.channel: recovery} if recovery else {}
            )
            result = client.hello["subs"][self.channel]
        else:
            client = await RawClient.connected(url)
            result = await client.result("subscribe", channel=self.channel, **recovery)
        if recovery and not result.get("recovered"):
            self.failed_recoveries += 1
        if self.position is None or not result.get("recovered"):
            self.position = {"offset": result.get("offset", 0), "epoch": result["epoch"]}
        for publication in result.get("publications", []):
            self.take(publication)
        return client

    def take(self, publication):
        if not publication.get("offset"):
            return
        self.offsets.append(publication["offset"])
        self.data.append(publication["data"])
        self.position["offset"] = publication["offset"]


class Stop(asyncio.Event):
    top = 0


async def test_a_room(cluster, unique):
    chance, room, stop = random.Random(SEED), f"room:{unique}", Stop()
    wanderers = [Wanderer(cluster, random.Random(SEED + number), room) for number in range(24)]
    tasks = [asyncio.create_task(wanderer.stay(stop)) for wanderer in wanderers]
    await eventually(lambda: all(wanderer.position for wanderer in wanderers))
    apis = [cluster.api(node) for node in range(3)]
    sent = {}

    async def publish(number):
        for index in range(150):
            result = await apis[(number + index) % 3]("publish", channel=room, data=[number, index])
            sent[result["offset"]] = [number, index]
            await asyncio.sleep(chance.uniform(0, 0.03))

    await asyncio.gather(*(publish(number) for number in range(3)))
    stop.top = max(sent)
    stop.set()
    await asyncio.wait_for(asyncio.gather(*tasks), 30)
    assert sorted(sent) == list(range(1, 451))
    for wanderer in wanderers:
        assert wanderer.failed_recoveries == 0
        assert wanderer.offsets == list(range(wanderer.offsets[0], 451)), "no gap, no repeat"
        assert wanderer.data == [sent[offset] for offset in wanderer.offsets]
    assert sum(wanderer.moves for wanderer in wanderers) > 50, "they did come and go"
    for api in apis:
        await api.close()


async def test_a_users_channel(cluster, api, unique):
    users = [f"u{unique}-{number}" for number in range(8)]
    for user in users:
        await api("follow", user=user, streamer=f"s{unique}")
    stop = Stop()
    wanderers = [
        Wanderer(cluster, random.Random(SEED + number), f"user:{users[number % 8]}", users[number % 8]) for number in range(16)
    ]
    tasks = [asyncio.create_task(wanderer.stay(stop)) for wanderer in wanderers]
    await eventually(lambda: all(wanderer.position for wanderer in wanderers))
    for index in range(80):
        kind = {"followers_of": f"s{unique}"} if index % 2 else {"users": users}
        await api("notify", type="custom.storm", data=index, **kind)

    async def whole():
        pages = [await api("notifications", user=user, limit=200) for user in users]
        return pages if all(page["unread"] == 80 for page in pages) else None

    pages = await eventually(whole, 30, "every inbox has 80 entries")
    tops = {user: int(page["notifications"][0]["id"]) for user, page in zip(users, pages)}
    for wanderer in wanderers:
        wanderer.caught_up = lambda _, own=wanderer: own.position["offset"] >= tops[own.user]
    stop.set()
    await asyncio.wait_for(asyncio.gather(*tasks), 30)
    for wanderer in wanderers:
        page = pages[users.index(wanderer.user)]["notifications"]
        assert wanderer.failed_recoveries == 0
        assert wanderer.offsets == sorted(set(wanderer.offsets)), "in order, no repeat"
        assert wanderer.offsets == [int(each["id"]) for each in reversed(page)], "no gap"
    assert sum(wanderer.moves for wanderer in wanderers) > 20
