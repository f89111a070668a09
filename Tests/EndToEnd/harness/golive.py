"""Streamers, followers and clients of the chaos tests, and what must be true of them after each round.

The model knows who followed whom when an event was accepted. After a round the database and the clients are held
against it: every one of these has exactly one inbox row per event, sequences grow, every client has every notification
of its user once and in order, events are complete and counted right.
"""

import asyncio
import collections
import random
import time

import httpx

from .api import ApiError
from .sdk import Sdk
from .waiting import TimedOut, eventually

#: Refusals that say "again later".
TEMPORARY = (100, 1004, 1005, 108, 111)
#: A port that nobody listens on: where clients are sent that are to stay away.
NOWHERE = "ws://127.0.0.1:9/connection/websocket"


class Client:
    """One device: an SDK client that comes back by itself, to the node that the load balancer names."""

    def __init__(self, user, sdk):
        self.user = user
        self.sdk = sdk
        self.away = False
        #: In this round.
        self.was_away = False

    @property
    def publications(self):
        return [each for channel, each in self.sdk.events.publications if channel == f"user:{self.user}"]

    @property
    def heard(self):
        """(offset, event) of the notifications, as they came."""
        return [(each.offset, each.data["event_id"]) for each in self.publications if "event_id" in each.data]


class Event:
    def __init__(self, identifier, streamer, audience):
        self.id = identifier
        self.streamer = streamer
        #: Names of those who must have it.
        self.audience = audience


class World:
    #: Followers by streamer, who are never online.
    CROWDS = {"big": 6000, "middle": 700, "small": 40}

    def __init__(self, fabric, seed, users=30, crowds=None, broadcasts_from=None):
        """`broadcasts_from`: the number of followers from which the nodes store an event once for all."""
        self.fabric = fabric
        self.broadcasts_from = broadcasts_from or 1 << 60
        self.random = random.Random(seed)
        self.crowds = crowds or self.CROWDS
        self.users = [f"u{number}" for number in range(users)]
        self.movable = [f"m{number}" for number in range(40)]
        self.follows = {streamer: set() for streamer in self.crowds}
        self.clients = []
        self.apis = [fabric.api(node) for node in range(fabric.nodes)]
        self.keys = 0
        #: All accepted events, in the order in which they were acknowledged.
        self.events = []
        self.round_events = []
        #: The events that each user has marked as read.
        self.read = collections.defaultdict(set)
        #: The streams that run, by streamer.
        self.live = {}
        #: Nodes that a load balancer sends nobody to.
        self.dead = set()
        self.violations = []

    async def open(self, folder):
        file = folder / "follows.csv"
        with open(file, "w") as lines:
            for streamer, count in self.crowds.items():
                names = [f"{streamer}-{number}" for number in range(count)]
                names += [user for user in self.users + self.movable if self.random.random() < 0.7]
                self.follows[streamer] = set(names)
                lines.writelines(f"{streamer},{name}\n" for name in names)
        imported = await asyncio.to_thread(self.fabric.command, "import", "follows", file, timeout=180)
        assert imported.returncode == 0, imported.stderr
        # Nobody may be named whom the system has not seen.
        self.movable = sorted(set(self.movable) & set().union(*self.follows.values()))
        # Every fifth user has two devices.
        for number, user in enumerate(self.users):
            for device in range(2 if number % 5 == 0 else 1):
                node = (number + device) % self.fabric.nodes
                sdk = Sdk(self.fabric.websocket(node), self.fabric.token(user))
                await sdk.connect()
                self.clients.append(Client(user, sdk))
                self.balance(self.clients[-1])

    def balance(self, client):
        """Whenever the connection is lost the next attempt goes to a node that lives."""

        async def on_connecting(context):
            client.sdk.events.states.append(("connecting", context.code))
            self.route(client)

        client.sdk.events.on_connecting = on_connecting

    def route(self, client):
        living = [node for node in range(self.fabric.nodes) if node not in self.dead]
        client.sdk.client._address = NOWHERE if client.away else self.fabric.websocket(self.random.choice(living))

    async def close(self):
        await asyncio.gather(*(client.sdk.close() for client in self.clients), return_exceptions=True)
        await asyncio.gather(*(api.close() for api in self.apis), return_exceptions=True)

    # What the round does.

    async def call(self, method, /, avoiding=(), within=90, **parameters):
        """Again through one node after the other until it is done. Only for what may be repeated."""
        deadline = time.monotonic() + within
        while True:
            node = self.random.choice([node for node in range(self.fabric.nodes) if node not in avoiding])
            try:
                return await asyncio.wait_for(self.apis[node](method, **parameters), 6)
            except ApiError as error:
                if error.code not in TEMPORARY:
                    raise
                problem = error
            except (httpx.HTTPError, asyncio.TimeoutError) as error:
                problem = error
            if time.monotonic() > deadline:
                raise TimedOut(f"{method} was not accepted within {within} s; last: {problem!r}")
            await asyncio.sleep(0.05)

    async def read_some(self, avoiding):
        """Users look into their inboxes and mark what they see, one by one or all up to one."""
        for user in self.random.sample(self.users, 5):
            page = (await self.call("notifications", user=user, limit=20))["notifications"]
            if not page:
                continue
            chosen = self.random.choice(page)
            if self.random.random() < 0.5:
                await self.call("mark_read", avoiding=avoiding, user=user, ids=[chosen["id"]])
                self.read[user].add(chosen["event_id"])
            else:
                await self.call("mark_read", avoiding=avoiding, user=user, up_to=chosen["id"])
                # Older ones too, which a page of 20 may not show.
                older = {each["event_id"] for each in page if int(each["id"]) <= int(chosen["id"])}
                seen = {each["event_id"] for each in page}
                self.read[user] |= older | (set(self.old_events(user)) - seen)

    def old_events(self, user):
        """What was in the inbox of the user before this round."""
        return [event.id for event in self.events if event not in self.round_events and user in event.audience]

    def key(self):
        self.keys += 1
        return f"key-{self.keys}"

    def leave(self, count):
        """Devices whose network goes away."""
        chosen = self.random.sample(self.clients, count)
        for client in self.clients:
            client.away = client.was_away = client in chosen
        for client in chosen:
            client.sdk.client._address = NOWHERE
            if client.sdk.client._conn is not None:
                client.sdk.client._conn.transport.abort()

    def come_back(self):
        for client in self.clients:
            client.away = False
            self.route(client)

    async def change_follows(self, streamer, count, avoiding):
        """Follows and unfollows that are acknowledged when this returns. Not through a node that may be paused: what it
        had begun would be done when it wakes up."""
        for user in self.random.sample(self.movable, count):
            if user in self.follows[streamer]:
                await self.call("unfollow", avoiding=avoiding, user=user, streamer=streamer)
                self.follows[streamer].discard(user)
            else:
                await self.call("follow", avoiding=avoiding, user=user, streamer=streamer)
                self.follows[streamer].add(user)

    async def happen(self, streamer, avoiding):
        """One event of the streamer, follows that change before it and right after it."""
        await self.change_follows(streamer, 2, avoiding)
        audience = set(self.follows[streamer])
        if self.random.random() < 0.6 and streamer not in self.live:
            started = await self.call("start_stream", streamer=streamer, title=f"Title {self.keys}", idempotency_key=self.key())
            self.accepted(Event(started["event_id"], streamer, audience))
            self.live[streamer] = started["stream"]["id"]
            await self.change_follows(streamer, 2, avoiding)
        else:
            notified = await self.call(
                "notify", followers_of=streamer, type="custom.chaos", data={"n": self.keys}, idempotency_key=self.key())
            self.accepted(Event(notified["event_id"], streamer, audience))
            await self.change_follows(streamer, 2, avoiding)

    async def stop(self, stream):
        try:
            await self.call("stop_stream", stream=stream)
        except ApiError as error:
            # An earlier attempt whose answer was lost has done it.
            if error.code != 1002:
                raise

    async def notify_some(self):
        users = self.random.sample(self.users + self.movable, 12)
        notified = await self.call("notify", users=users, type="mention", data={"n": self.keys}, idempotency_key=self.key())
        self.accepted(Event(notified["event_id"], None, set(users)))

    def accepted(self, event):
        if any(each.id == event.id for each in self.events):
            self.violations.append(f"event {event.id} was accepted twice under two keys")
        self.events.append(event)
        self.round_events.append(event)

    async def go_live(self, avoiding=()):
        """The events of one round: those of a streamer one after the other, those of different streamers meanwhile."""
        self.round_events = []

        async def several(streamer, count):
            for _ in range(count):
                await self.happen(streamer, avoiding)

        async def mentions():
            for _ in range(3):
                await self.notify_some()

        await asyncio.gather(
            *(several(streamer, self.random.randint(1, 2)) for streamer in self.crowds), mentions(), self.read_some(avoiding))

    # What must be true afterwards.

    def expected(self, user):
        return [event.id for event in self.events if user in event.audience]

    def violated(self, what):
        self.violations.append(what)

    async def check(self, delivered_exactly=False, within=60):
        """Appends to `violations` what is not as it must be."""
        before = len(self.violations)
        deadline = time.monotonic() + within
        for event in self.round_events:
            await self.check_completion(event, deadline, delivered_exactly)
        await self.check_inboxes()
        for client in self.clients:
            await self.check_client(client, deadline)
        for user in self.random.sample(self.users, 4):
            await self.check_page(user)
        # Not before: a go-live whose stream ended is not pushed any more.
        for stream in self.live.values():
            await self.stop(stream)
        self.live = {}
        return self.violations[before:]

    async def check_completion(self, event, deadline, delivered_exactly):
        async def done():
            status = await self.call("event_status", event_id=event.id)
            return status if status["completed_at"] else None

        try:
            status = await eventually(done, max(1, deadline - time.monotonic()), f"event {event.id} is complete")
        except TimedOut as error:
            status = await self.call("event_status", event_id=event.id)
            self.violated(f"stuck: {error}; {status}")
            return
        if status["recipients"] != len(event.audience):
            self.violated(f"event {event.id}: {status['recipients']} recipients are counted, not {len(event.audience)}")
        if status["dead_letters"] != 0:
            self.violated(f"event {event.id}: {status['dead_letters']} dead letters")
        if status["shards"]["done"] != status["shards"]["total"]:
            self.violated(f"event {event.id} is complete with {status['shards']}")
        # Users or their devices may be counted, each once.
        devices = [client for client in self.clients if client.user in event.audience]
        low = len({client.user for client in devices if not client.was_away}) if delivered_exactly else 0
        if not low <= status["delivered_online"] <= len(devices):
            self.violated(
                f"event {event.id}: {status['delivered_online']} are counted as delivered, not {low} to {len(devices)}")

    async def rows(self, text):
        return await asyncio.to_thread(self.fabric.database.sql, text)

    async def check_inboxes(self):
        """Every follower at acceptance has exactly one row, nobody else has one; the sequences of each user grow."""
        await self.check_broadcasts()
        for event in self.round_events:
            if self.is_broadcast(event):
                continue
            found = collections.Counter(
                name for name, in await self.rows(
                    f"SELECT u.name FROM inbox i JOIN users u ON u.id = i.user_id WHERE i.event_id = {event.id}"))
            lost, extra = event.audience - set(found), set(found) - event.audience
            twice = [name for name, count in found.items() if count > 1]
            for what, names in (("lost", lost), ("not theirs", extra), ("twice", twice)):
                if names:
                    self.violated(f"event {event.id} ({event.streamer}), {what}: {len(names)}, as {sorted(names)[:3]}")
        if not self.round_events:
            return
        ids = ",".join(event.id for event in self.round_events)
        old = ",".join(event.id for event in self.events if event not in self.round_events) or "0"
        shrunk = await self.rows(f"""
            SELECT count(*) FROM (
                SELECT user_id FROM inbox WHERE event_id IN ({ids}, {old}) GROUP BY user_id
                HAVING min(sequence) FILTER (WHERE event_id IN ({ids})) < max(sequence) FILTER (WHERE event_id IN ({old}))) s""")
        if shrunk != [["0"]]:
            self.violated(f"the sequences of {shrunk[0][0]} users did not grow")
        swapped = await self.rows(f"""
            SELECT count(*) FROM (
                SELECT i.event_id < lag(i.event_id) OVER (PARTITION BY i.user_id, e.streamer ORDER BY i.sequence) AS swapped
                FROM inbox i JOIN events e ON e.id = i.event_id
                WHERE i.event_id IN ({ids}) AND e.streamer IS NOT NULL) s WHERE swapped""")
        if swapped != [["0"]]:
            self.violated(f"{swapped[0][0]} rows stand before an older event of their streamer")

    def is_broadcast(self, event):
        return event.streamer is not None and len(event.audience) >= self.broadcasts_from

    async def check_broadcasts(self):
        """By what readers see: all who can be online or change their mind, and some of each crowd."""
        broadcasts = [event for event in self.round_events if self.is_broadcast(event)]
        if not broadcasts:
            return
        crowds = {event.streamer for event in broadcasts}
        names = self.users + self.movable
        names += [f"{crowd}-{self.random.randrange(self.crowds[crowd])}" for crowd in sorted(crowds) for _ in range(20)]
        for name in sorted(set(names)):
            page = await self.call("notifications", user=name, limit=200)
            found = collections.Counter(each["event_id"] for each in page["notifications"])
            for event in broadcasts:
                wanted = 1 if name in event.audience else 0
                if found[event.id] != wanted:
                    self.violated(f"event {event.id} ({event.streamer}, broadcast): {found[event.id]} times in {name}'s inbox, not {wanted}")

    async def check_client(self, client, deadline):
        """Everything came, once, by growing offsets; also what was missed while away."""
        expected = set(self.expected(client.user))

        def complete():
            return expected <= {event for _, event in client.heard}

        try:
            await eventually(complete, max(5, deadline - time.monotonic()), "everything arrived")
        except TimedOut:
            missing = sorted(expected - {event for _, event in client.heard}, key=int)
            self.violated(f"{client.user} was not pushed {missing[:5]} of {len(missing)}; states {client.sdk.events.states[-4:]}")
        offsets = [offset for offset, _ in client.heard]
        repeated = [offset for offset, count in collections.Counter(offsets).items() if count > 1]
        if repeated:
            self.violated(f"{client.user} was pushed {len(repeated)} twice, as {repeated[:3]}")
        elif offsets != sorted(offsets):
            self.violated(f"{client.user} was pushed out of order: {offsets[-10:]}")
        extra = [event for _, event in client.heard if event not in expected]
        if extra:
            self.violated(f"{client.user} was pushed what is not for it: {extra[:3]}")
        for context in client.sdk.events.subscribed:
            if context.channel == f"user:{client.user}" and context.was_recovering and not context.recovered:
                self.violated(f"{client.user} was not recovered")

    async def check_page(self, user):
        page = await self.call("notifications", user=user, limit=200)
        expected = self.expected(user)
        ids = [int(each["id"]) for each in page["notifications"]]
        unread = [event for event in expected if event not in self.read[user]]
        if page["unread"] != len(unread):
            self.violated(f"{user} has {page['unread']} unread, not {len(unread)}")
        marked = {each["event_id"] for each in page["notifications"] if each["read"]}
        if marked != self.read[user] & {each["event_id"] for each in page["notifications"]}:
            self.violated(f"in the inbox of {user} {sorted(marked)[:5]} are read, not {sorted(self.read[user])[:5]}")
        if ids != sorted(ids, reverse=True) or len(set(ids)) != len(ids):
            self.violated(f"the inbox of {user} is not in order: {ids[:10]}")
        if {each["event_id"] for each in page["notifications"]} != set(expected[-200:]) and len(expected) <= 200:
            self.violated(f"the inbox of {user} has other events than were accepted for it")
