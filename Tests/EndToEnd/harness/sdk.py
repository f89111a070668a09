"""The Python SDK that nobody here wrote, with handlers that write down what happens."""

import asyncio
import json

from centrifuge import Client, ClientEventHandler, ClientState, SubscriptionEventHandler, SubscriptionState

from .waiting import eventually


class Events(ClientEventHandler):
    def __init__(self):
        self.publications = []
        self.subscribed = []
        self.states = []

    async def on_connected(self, ctx):
        self.states.append(("connected", ctx.client))

    async def on_connecting(self, ctx):
        self.states.append(("connecting", ctx.code))

    async def on_disconnected(self, ctx):
        self.states.append(("disconnected", ctx.code))

    async def on_publication(self, ctx):
        self.publications.append((ctx.channel, ctx.pub))

    async def on_subscribed(self, ctx):
        self.subscribed.append(ctx)


class Follower(SubscriptionEventHandler):
    """Handlers of one subscription."""

    def __init__(self):
        self.publications = []
        self.subscribed = []
        self.unsubscribed = []
        self.joined = []
        self.left = []

    async def on_subscribed(self, ctx):
        self.subscribed.append(ctx)

    async def on_unsubscribed(self, ctx):
        self.unsubscribed.append(ctx)

    async def on_publication(self, ctx):
        self.publications.append(ctx.pub)

    async def on_join(self, ctx):
        self.joined.append(ctx.info)

    async def on_leave(self, ctx):
        self.left.append(ctx.info)

    @property
    def offsets(self):
        return [publication.offset for publication in self.publications]


class Sdk:
    """A client with its events."""

    def __init__(self, url, token="", protobuf=False, **options):
        self.events = Events()
        self.protobuf = protobuf
        # No proxy: the cluster is on loopback.
        self.client = Client(
            url, events=self.events, token=token, use_protobuf=protobuf, max_reconnect_delay=1.0, proxy=None, **options
        )

    async def connect(self, within=10.0):
        await self.client.connect()
        await self.client.ready(within)
        return self

    async def subscribe(self, channel, within=10.0, **options):
        follower = Follower()
        subscription = self.client.new_subscription(channel, events=follower, **options)
        follower.subscription = subscription
        await subscription.subscribe()
        await subscription.ready(within)
        return follower

    def encode(self, value):
        return json.dumps(value).encode() if self.protobuf else value

    def decode(self, value):
        return json.loads(value) if self.protobuf else value

    async def move(self, url):
        """The next connection goes to another address, as behind a load balancer."""
        self.client._address = url

    async def cut(self):
        """Breaks the TCP connection; the SDK comes back by itself."""
        before = len(self.events.states)
        self.client._conn.transport.abort()
        await eventually(
            lambda: ("connecting" in [state for state, _ in self.events.states[before:]]), what="the SDK noticed the cut"
        )

    async def reconnected(self, within=15.0):
        await eventually(lambda: self.client.state == ClientState.CONNECTED, within, "the SDK is connected again")

    async def close(self):
        await self.client.disconnect()


async def close_all(clients):
    await asyncio.gather(*(client.close() for client in clients), return_exceptions=True)


__all__ = ["Sdk", "Follower", "Events", "close_all", "SubscriptionState", "ClientState"]
