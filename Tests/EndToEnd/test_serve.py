"""`fanfare serve` alone: options that are wrong, one node without engines, limits."""

import asyncio
import json
import socket
import subprocess

import httpx
import pytest
from harness.cluster import BINARY, LoneNode, clean_environment, free_ports
from harness.frames import TEXT, FrameClient, frame
from harness.raw import RawClient
from harness.waiting import eventually, eventually_sync

SECRET = {"FANFARE_TOKEN_SECRET": "a-secret-that-is-long-enough-for-hs256"}

# Each: arguments, environment.
WRONG = {
    "no secret": ([], {}),
    "a port that is none": (["--port", "70000"], SECRET),
    "a port that is a word": (["--port", "http"], SECRET),
    "a Redis URL that is none": (["--redis-url", "nonsense"], SECRET),
    "a Redis URL of another scheme": (["--redis-url", "http://127.0.0.1"], SECRET),
    "a database URL that is none": (["--database-url", "mysql://x"], SECRET),
    "a config file that is not there": (["--config", "no-such-file.yaml"], SECRET),
    "a key set that is not there": (["--jwks", "no-such-file.json"], {}),
    "an unknown option": (["--turbo"], SECRET),
    "a log level that is none": ([], {**SECRET, "LOG_LEVEL": "loudly"}),
    "encryption, which is not offered": (["--tls-certificate", "/etc/ssl/certs/ca-certificates.crt", "--tls-key", "/etc/hostname"], SECRET),
    "events that go before the entries that need them": (["--inbox-retention", "90d", "--event-retention", "30d"], SECRET),
    "events that go though entries stay": (["--inbox-retention", "0", "--event-retention", "30d"], SECRET),
    "a host that is none": (["--host", "no host"], SECRET),
}


@pytest.mark.parametrize("case", WRONG, ids=str)
def test_wrong_options_stop_the_start(case):
    arguments, environment = WRONG[case]
    if "--port" not in arguments:
        arguments = [*arguments, "--port", str(free_ports(1))]
    done = subprocess.run(
        [BINARY, "serve", *arguments], env=clean_environment(**environment), stdin=subprocess.DEVNULL, capture_output=True,
        text=True, timeout=20,
    )
    assert done.returncode in (1, 64), (done.returncode, done.stderr[-500:])
    message = (done.stderr + done.stdout).strip()
    assert message and "Fatal error" not in message
    assert len(message.splitlines()) <= 6, message


def test_a_taken_port():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = subprocess.run(
            [BINARY, "serve", "--port", str(port)], env=clean_environment(**SECRET), stdin=subprocess.DEVNULL,
            capture_output=True, text=True, timeout=20,
        )
    assert done.returncode == 1 and str(port) in done.stderr + done.stdout


def test_unreachable_engines_do_not_stop_the_start(state_folder):
    port = free_ports(1)
    log = state_folder / "unreachable.log"
    with open(log, "wb") as output:
        process = subprocess.Popen(
            [BINARY, "serve", "--port", str(port), "--redis-url", "redis://127.0.0.1:9", "--database-url",
             "postgres://nobody:x@127.0.0.1:9/none"],
            env=clean_environment(**SECRET), stdin=subprocess.DEVNULL, stdout=output, stderr=output,
        )
    try:
        def unready():
            assert process.poll() is None, log.read_text()[-2000:]
            try:
                response = httpx.get(f"http://127.0.0.1:{port}/health/ready", timeout=2, trust_env=False)
            except httpx.HTTPError:
                return None
            return response if response.status_code == 503 else None

        body = eventually_sync(unready, 20, "the node answers 503").text.lower()
        assert "redis" in body or "broker" in body
        assert httpx.get(f"http://127.0.0.1:{port}/health/live", timeout=2, trust_env=False).status_code == 200
    finally:
        process.kill()
        process.wait()


@pytest.fixture(scope="module")
def lone(state_folder):
    with LoneNode(state_folder) as node:
        yield node


async def test_a_node_alone_has_rooms(lone):
    sender, receiver = [await RawClient.connected(lone.websocket(), lone.token(user)) for user in ("ann", "ben")]
    await receiver.result("subscribe", channel="room:lone")
    await sender.result("publish", channel="room:lone", data={"n": 1})
    assert (await receiver.publication("room:lone"))["data"] == {"n": 1}
    reply = await sender.rpc("notifications", {"limit": 1})
    assert reply["error"]["code"] in (108, 1004) and reply["error"]["message"]
    for client in (sender, receiver):
        await client.close()


async def test_what_is_missing_is_told_with_a_time(lone):
    """Durable methods without a database: 1004, as a status 503 where statuses were asked for."""
    api = lone.api()
    assert await api.error("follow", user="ann", streamer="ben") == 1004
    response = await api.client.post(
        "/api/follow", json={"user": "ann", "streamer": "ben"}, headers={"X-Centrifugo-Error-Mode": "transport"}
    )
    assert response.status_code == 503 and int(response.headers["retry-after"]) >= 1
    assert response.json()["code"] == 1004 and response.json()["temporary"]
    await api.close()


async def test_without_api_key_there_is_no_server_api(state_folder):
    with LoneNode(state_folder, FANFARE_API_KEY=None) as node:
        async with httpx.AsyncClient(trust_env=False) as client:
            response = await client.post(node.url + "/api/info", json={}, headers={"X-API-Key": ""})
            assert response.status_code in (401, 404)


async def test_allowed_origins(state_folder):
    with LoneNode(state_folder, FANFARE_ALLOWED_ORIGINS="https://good.example") as node:
        for origin, status in (("https://good.example", 101), ("https://bad.example", 403)):
            client = await FrameClient.open(node.websocket(), {"Origin": origin})
            assert client.status == status, origin
            client.close()


async def test_ping_and_pong(state_folder):
    with LoneNode(state_folder, "--ping-interval", "1", "--pong-timeout", "0.5") as node:
        good, silent = await RawClient.connected(node.websocket()), await RawClient.connected(node.websocket())
        silent.answer_pings = False
        assert good.hello["ping"] == 1 and good.hello["pong"] is True
        assert (await silent.close_code(within=10))[0] == 3012
        await good.until(lambda: good.pings >= 2, what="two pings")
        assert good.closed is None
        await good.close()


async def test_whoever_never_connects_is_closed(lone):
    client = await RawClient.open(lone.websocket())
    assert (await client.close_code(within=25))[0] == 3502


async def test_a_slow_client_is_cut_and_the_others_are_not(lone):
    """A client that does not read is closed when its queue is full; memory stays bounded, others go on."""
    reader = await RawClient.connected(lone.websocket(), lone.token("ann"))
    await reader.result("subscribe", channel="room:slow")
    slow, writer = await asyncio.open_connection("127.0.0.1", lone.port, limit=1024)
    writer.transport.pause_reading()
    writer.write(
        b"GET /connection/websocket HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
    writer.write(frame(TEXT, b'{"id":1,"connect":{}}\n{"id":2,"subscribe":{"channel":"room:slow"}}'))
    await writer.drain()
    api = lone.api()

    async def present():
        return (await api("presence_stats", channel="room:slow"))["num_clients"] == 2

    await eventually(present)
    data, sent = "x" * 60_000, 0

    async def cut():
        nonlocal sent
        await api("publish", channel="room:slow", data=data)
        sent += 1
        return (await api("presence_stats", channel="room:slow"))["num_clients"] == 1

    await eventually(cut, 30, "the slow one was cut")
    assert sent < 400
    await reader.until(lambda: len(reader.publications("room:slow")) == sent, what="the other has everything")
    writer.close()
    await reader.close()
    await api.close()


async def test_logs_are_json_where_nobody_watches(lone):
    lines = [line for line in lone.log().splitlines() if line.strip()]
    assert lines
    for line in lines:
        assert isinstance(json.loads(line), dict), line
