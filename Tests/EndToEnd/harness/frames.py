"""WebSocket frames by hand, for what no library would send."""

import asyncio
import base64
import os
import struct
import urllib.parse


def frame(opcode, payload=b"", fin=True, mask=True, reserved=0, length=None):
    """One frame; `length` writes a length that is not the payload's."""
    size = len(payload) if length is None else length
    first = (0x80 if fin else 0) | reserved | opcode
    flag = 0x80 if mask else 0
    if size < 126:
        head = struct.pack("!BB", first, flag | size)
    elif size < 65536:
        head = struct.pack("!BBH", first, flag | 126, size)
    else:
        head = struct.pack("!BBQ", first, flag | 127, size)
    if not mask:
        return head + payload
    key = os.urandom(4)
    return head + key + bytes(byte ^ key[index % 4] for index, byte in enumerate(payload))


TEXT, BINARY, CLOSE, PING, PONG, CONTINUATION = 1, 2, 8, 9, 10, 0


class FrameClient:
    def __init__(self, reader, writer, response):
        self.reader = reader
        self.writer = writer
        self.response = response

    @classmethod
    async def open(cls, url, headers=None, key=None, version="13"):
        """Sends the upgrade request; `response` holds the head of the answer."""
        parts = urllib.parse.urlsplit(url)
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
        path = parts.path + (f"?{parts.query}" if parts.query else "")
        lines = [
            f"GET {path} HTTP/1.1", f"Host: {parts.netloc}", "Upgrade: websocket", "Connection: Upgrade",
            f"Sec-WebSocket-Key: {key or base64.b64encode(os.urandom(16)).decode()}", f"Sec-WebSocket-Version: {version}",
        ]
        lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
        writer.write(("\r\n".join(lines) + "\r\n\r\n").encode())
        response = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)
        return cls(reader, writer, response.decode())

    @property
    def status(self):
        return int(self.response.split()[1])

    @property
    def headers(self):
        pairs = (line.split(":", 1) for line in self.response.split("\r\n")[1:] if ":" in line)
        return {name.strip().lower(): value.strip() for name, value in pairs}

    async def send(self, *data):
        self.writer.write(b"".join(data))
        await self.writer.drain()

    async def receive(self, within=10.0):
        """(opcode, payload) of the next frame; None when the connection has ended."""

        async def read():
            try:
                first, second = await self.reader.readexactly(2)
                assert not second & 0x80, "a server must not mask"
                size = second & 0x7F
                if size == 126:
                    size = struct.unpack("!H", await self.reader.readexactly(2))[0]
                elif size == 127:
                    size = struct.unpack("!Q", await self.reader.readexactly(8))[0]
                return first & 0x0F, await self.reader.readexactly(size)
            except (asyncio.IncompleteReadError, ConnectionError):
                return None

        return await asyncio.wait_for(read(), within)

    async def next(self, opcode, within=10.0):
        """The payload of the next frame of this kind."""
        while (received := await self.receive(within)) is not None:
            if received[0] == opcode:
                return received[1]
        return None

    async def close_code(self, within=10.0):
        payload = await self.next(CLOSE, within)
        if payload is None:
            return None
        return struct.unpack("!H", payload[:2])[0] if payload else 1005

    def close(self):
        self.writer.close()
