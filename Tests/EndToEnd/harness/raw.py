"""A client that speaks the JSON protocol by hand, so that tests see every reply as it came."""

import asyncio
import json

import websockets
from websockets.asyncio.client import connect


class RawClient:
    def __init__(self, socket):
        self.socket = socket
        self.last_id = 0
        self.replies = {}
        self.pushes = []
        self.pings = 0
        self.answer_pings = True
        #: What each WebSocket message held, in order: lists of text lines.
        self.messages = []
        self.changed = asyncio.Condition()
        self.closed = None
        self.reader = asyncio.create_task(self.read())

    @classmethod
    async def open(cls, url, **options):
        options.setdefault("compression", None)
        options.setdefault("ping_interval", None)
        options.setdefault("max_size", None)
        options.setdefault("proxy", None)
        return cls(await connect(url, **options))

    @classmethod
    async def connected(cls, url, token=None, **connect_fields):
        client = await cls.open(url)
        reply = await client.connect(token, **connect_fields)
        assert "connect" in reply, reply
        client.hello = reply["connect"]
        return client

    async def read(self):
        try:
            async for message in self.socket:
                lines = [line for line in message.split("\n") if line]
                self.messages.append(lines)
                for line in lines:
                    reply = json.loads(line)
                    if reply == {}:
                        self.pings += 1
                        if self.answer_pings:
                            await self.socket.send("{}")
                    elif "id" in reply:
                        self.replies[reply["id"]] = reply
                    else:
                        assert "push" in reply, reply
                        self.pushes.append(reply["push"])
                async with self.changed:
                    self.changed.notify_all()
        except websockets.ConnectionClosed:
            pass
        finally:
            self.closed = (self.socket.close_code, self.socket.close_reason)
            async with self.changed:
                self.changed.notify_all()

    async def until(self, check, within=10.0, what="the condition"):
        """Waits until `check()` gives something true, after whatever came in."""

        async def wait():
            async with self.changed:
                while not (value := check()):
                    if self.closed and not check():
                        raise AssertionError(f"{what}: the connection was closed with {self.closed}")
                    await self.changed.wait()
                return value

        try:
            return await asyncio.wait_for(wait(), within)
        except asyncio.TimeoutError:
            raise AssertionError(f"{what}: not within {within} s; pushes: {self.pushes[-3:]}") from None

    async def send(self, *commands):
        """Commands (dictionaries, or text as it is) in one message."""
        lines = [each if isinstance(each, str) else json.dumps(each) for each in commands]
        await self.socket.send("\n".join(lines))

    def numbered(self, method, fields):
        self.last_id += 1
        return {"id": self.last_id, method: fields}

    async def reply(self, number, within=10.0):
        return await self.until(lambda: self.replies.get(number), within, f"a reply to {number}")

    async def command(self, method, /, within=10.0, **fields):
        command = self.numbered(method, fields)
        await self.send(command)
        return await self.reply(command["id"], within)

    async def connect(self, token=None, **fields):
        if token is not None:
            fields["token"] = token
        return await self.command("connect", **fields)

    async def subscribe(self, channel, **fields):
        return await self.command("subscribe", channel=channel, **fields)

    async def rpc(self, method, data=None):
        return await self.command("rpc", method=method, data={} if data is None else data)

    async def result(self, method, /, **fields):
        """The result of a command that must succeed."""
        reply = await self.command(method, **fields)
        assert method in reply, reply
        return reply[method]

    async def error(self, method, /, **fields):
        """The error of a command that must fail."""
        reply = await self.command(method, **fields)
        assert "error" in reply, reply
        assert reply["error"]["message"]
        return reply["error"]

    def publications(self, channel):
        return [push["pub"] for push in self.pushes if push.get("channel") == channel and "pub" in push]

    async def publication(self, channel, check=lambda _: True, within=10.0):
        return await self.until(
            lambda: next((each for each in self.publications(channel) if check(each)), None), within,
            f"a publication on {channel}",
        )

    async def close_code(self, within=10.0):
        """Waits for the server's close and returns (code, reason)."""
        await asyncio.wait_for(asyncio.shield(self.reader), within)
        return self.closed

    async def close(self):
        await self.socket.close()
        await self.reader

    async def cut(self):
        """Drops the TCP connection without a close handshake."""
        self.socket.transport.abort()
        await self.reader
