"""A TCP proxy between a node and PostgreSQL that understands so much of the protocol that it can cut a COMMIT."""

import asyncio
import socket
import struct
import threading

#: Codes of the untyped messages that come before the startup message: CancelRequest, SSLRequest, GSSENCRequest.
PRELUDES = (80877102, 80877103, 80877104)
#: What is done to a COMMIT: it never arrives; it arrives and nobody hears of it; or nobody knows.
CUTS = ("before", "after", "meanwhile")
#: Where a COMMIT can be held: it has not reached the server; or it is done and nobody has heard of it.
HOLDS = ("request", "answer")


class PostgresProxy:
    """Forwards to one server, on a thread and a loop of its own, so that no test can slow it down."""

    def __init__(self, port, target):
        self.port = port
        self.target = target
        #: COMMITs that are still to be cut, and how.
        self.armed = []
        self.commits = 0
        self.cuts = 0
        #: Where COMMITs are held, and the condition for it.
        self.holding = None
        self.held = 0
        self.links = set()
        self.loop = asyncio.new_event_loop()
        started = threading.Event()
        self.thread = threading.Thread(target=self.run, args=(started,), daemon=True)
        self.thread.start()
        if not started.wait(10):
            raise RuntimeError(f"the proxy on port {port} did not start")

    def run(self, started):
        asyncio.set_event_loop(self.loop)
        self.server = self.loop.run_until_complete(asyncio.start_server(self.serve, "127.0.0.1", self.port))
        started.set()
        self.loop.run_forever()

    def arm(self, *cuts):
        """The next COMMITs of this node are cut, one after the other."""
        assert all(cut in CUTS for cut in cuts)
        self.loop.call_soon_threadsafe(self.armed.extend, cuts)

    def disarm(self):
        self.loop.call_soon_threadsafe(self.armed.clear)

    def hold(self, where, condition):
        """From now on each COMMIT stops at `where`, one of HOLDS, if the condition is true then: it is called on a thread, for
        every COMMIT. The connection stays as it is until one of its ends goes away."""
        assert where in HOLDS
        self.loop.call_soon_threadsafe(setattr, self, "holding", (where, condition))

    def release(self):
        """No further COMMIT is held."""
        self.loop.call_soon_threadsafe(setattr, self, "holding", None)

    async def holds(self, where):
        if self.holding is None or self.holding[0] != where:
            return False
        if not await asyncio.to_thread(self.holding[1]):
            return False
        self.held += 1
        return True

    def cut_all(self):
        """Every connection ends with a reset, whatever is under way on it."""
        self.loop.call_soon_threadsafe(lambda: [link.cut() for link in list(self.links)])

    def close(self):
        async def stop():
            self.server.close()
            for link in list(self.links):
                link.cut()
            self.loop.stop()

        asyncio.run_coroutine_threadsafe(stop(), self.loop)
        self.thread.join(10)

    async def serve(self, reader, writer):
        try:
            server_reader, server_writer = await asyncio.open_connection("127.0.0.1", self.target)
        except OSError:
            reset(writer)
            return
        link = Link(self, reader, writer, server_reader, server_writer)
        self.links.add(link)
        try:
            await asyncio.gather(link.forward_requests(), link.forward_answers())
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            link.cut()
            self.links.discard(link)


class Link:
    def __init__(self, proxy, client_reader, client_writer, server_reader, server_writer):
        self.proxy = proxy
        self.client_reader, self.client_writer = client_reader, client_writer
        self.server_reader, self.server_writer = server_reader, server_writer
        #: The server's next words are the answer to a COMMIT that the client is not to hear.
        self.swallow = False
        #: They are the answer to one that may be held.
        self.is_committing = False

    def cut(self):
        reset(self.client_writer)
        reset(self.server_writer)

    async def forward_requests(self):
        reader, writer = self.client_reader, self.server_writer
        while True:
            head = await reader.readexactly(8)
            length, code = struct.unpack("!II", head)
            writer.write(head + await reader.readexactly(length - 8))
            await writer.drain()
            if code not in PRELUDES:
                break
        while True:
            head = await reader.readexactly(5)
            body = await reader.readexactly(struct.unpack("!I", head[1:])[0] - 4)
            if head[:1] == b"Q" and body.rstrip(b"\0; ").upper().endswith(b"COMMIT"):
                self.proxy.commits += 1
                if self.proxy.armed:
                    self.proxy.cuts += 1
                    cut = self.proxy.armed.pop(0)
                    if cut == "before":
                        self.cut()
                        return
                    self.swallow = True
                    writer.write(head + body)
                    await writer.drain()
                    if cut == "meanwhile":
                        self.cut()
                        return
                    continue
                if await self.proxy.holds("request"):
                    # Nothing comes until there is an answer, but the end.
                    await reader.read(1)
                    self.cut()
                    return
                self.is_committing = True
            writer.write(head + body)
            await writer.drain()

    async def forward_answers(self):
        while data := await self.server_reader.read(1 << 16):
            if self.swallow:
                break
            if self.is_committing:
                self.is_committing = False
                if await self.proxy.holds("answer"):
                    # `forward_requests` sees the client go.
                    await self.server_reader.read(1)
                    break
            self.client_writer.write(data)
            await self.client_writer.drain()
        self.cut()


def reset(writer):
    """Ends the connection with RST, as a host that went away would have it."""
    try:
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    except (OSError, AttributeError):
        pass
    writer.transport.abort()
