"""The command line: the commands beside `serve`, against the cluster."""

import asyncio
import json
import subprocess

import jwt
import pytest
from harness.cluster import BINARY, alive, clean_environment
from harness.waiting import eventually, eventually_sync


def run(*arguments, **environment):
    return subprocess.run(
        [BINARY, *map(str, arguments)], env=clean_environment(**environment), stdin=subprocess.DEVNULL, capture_output=True,
        text=True, timeout=30,
    )


async def test_token(cluster, open_raw):
    done = cluster.command("token", "ann")
    assert done.returncode == 0, done.stderr
    text = done.stdout.strip()
    claims = jwt.decode(text, cluster.env["FANFARE_TOKEN_SECRET"], algorithms=["HS256"])
    assert claims["sub"] == "ann" and "exp" in claims
    client = await open_raw(0, token=text)
    assert "user:ann" in client.hello["subs"]


def test_token_without_secret():
    done = run("token", "ann")
    assert done.returncode in (1, 2, 64) and done.stderr and not done.stdout


async def test_publish_and_watch(cluster, unique):
    room = f"room:{unique}"
    watcher = await asyncio.create_subprocess_exec(
        BINARY, "watch", room, "--json", "--url", cluster.url(1), env=clean_environment(**cluster.env),
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )
    try:
        api = cluster.api(0)

        async def watching():
            return (await api("presence_stats", channel=room))["num_clients"] == 1

        await eventually(watching, 15, "the watcher is in the room")
        done = cluster.command("publish", room, '{"text":"hello"}', "--url", cluster.url(2))
        assert done.returncode == 0, done.stderr
        line = await asyncio.wait_for(watcher.stdout.readline(), 10)
        assert '"text":"hello"' in line.decode().replace(" ", "")
        await api.close()
    finally:
        if watcher.returncode is None:
            watcher.kill()
        await watcher.wait()


def test_publish_what_is_no_json(cluster):
    done = cluster.command("publish", "room:x", "{nonsense", "--url", cluster.url(0))
    assert done.returncode in (1, 2, 64) and done.stderr


def test_publish_to_nobody(cluster):
    done = cluster.command("publish", "room:x", "1", "--url", "http://127.0.0.1:9")
    assert done.returncode == 1 and len(done.stderr.strip().splitlines()) <= 3


def test_migrate_is_repeatable(cluster):
    for _ in range(2):
        done = cluster.command("migrate")
        assert done.returncode == 0, done.stderr


def test_migrate_without_database():
    done = run("migrate", DATABASE_URL="postgres://nobody@127.0.0.1:9/none")
    assert done.returncode == 1 and done.stderr


@pytest.fixture
def follows(tmp_path, unique):
    """A file with two broken lines among five."""
    file = tmp_path / "follows.csv"
    file.write_text(f"s{unique},a{unique}\ns{unique},b{unique}\nno comma here\ns{unique},not a user!\ns{unique},c{unique}\n")
    return file


async def test_import_skips_bad_lines(cluster, api, follows, unique):
    done = cluster.command("import", "follows", follows, "--skip-bad-lines")
    assert done.returncode == 0, done.stderr
    assert "3" in done.stdout + done.stderr and "4" in done.stdout + done.stderr, "the bad lines' numbers"
    event = (await api("notify", followers_of=f"s{unique}", type="custom.test", data={}))["event_id"]

    async def completed():
        status = await api("event_status", event_id=event)
        return status if status["completed_at"] else None

    assert (await eventually(completed, 20))["recipients"] == 3


def test_import_stops_at_a_bad_line(cluster, follows):
    done = cluster.command("import", "follows", follows)
    assert done.returncode == 1 and "3" in done.stderr


def test_import_of_no_file(cluster):
    done = cluster.command("import", "follows", "no-such-file.csv")
    assert done.returncode in (1, 2, 64) and "no-such-file.csv" in done.stderr


def test_cluster_status(cluster):
    done = cluster.command("cluster", "status", "--json", "--url", cluster.url(0))
    assert done.returncode == 0, done.stderr
    status = json.loads(done.stdout)
    assert {node["name"] for node in status["nodes"]} == {"node-0", "node-1", "node-2"}
    plain = cluster.command("cluster", "status", "--url", cluster.url(0))
    assert plain.returncode == 0 and "node-1" in plain.stdout


def test_cluster_slots(cluster):
    done = cluster.command("cluster", "slots", "--json", "--url", cluster.url(1))
    assert done.returncode == 0, done.stderr
    nodes = {node["name"]: node["slots"] for node in json.loads(done.stdout)["nodes"]}
    assert sorted(slot for slots in nodes.values() for slot in slots) == list(range(1024))
    place = json.loads(cluster.command("cluster", "slots", "room:lobby", "--json", "--url", cluster.url(2)).stdout)["channel"]
    assert place["slot"] in nodes[place["node"]]
    plain = cluster.command("cluster", "slots", "--url", cluster.url(0))
    assert plain.returncode == 0 and "node-2" in plain.stdout


async def test_cluster_drain(cluster, open_raw):
    client = await open_raw(2, user="ann")
    pid = cluster.pid("node-2")
    done = cluster.command("cluster", "drain", "node-2", "--url", cluster.url(0))
    assert done.returncode == 0, done.stderr
    assert (await client.close_code(within=10))[0] == 3001
    eventually_sync(lambda: not alive(pid), 12, "the node has ended")
    left = json.loads(cluster.command("cluster", "slots", "--json", "--url", cluster.url(0)).stdout)
    assert {node["name"] for node in left["nodes"]} == {"node-0", "node-1"}


def test_cluster_drain_of_nobody(cluster):
    done = cluster.command("cluster", "drain", "node-9", "--url", cluster.url(0))
    assert done.returncode == 1 and len(done.stderr.strip().splitlines()) == 1


def test_dead_letters(cluster):
    done = cluster.command("deadletters", "list", "--json")
    assert done.returncode == 0, done.stderr
    json.loads(done.stdout)


COMMANDS = [
    [], ["serve"], ["token"], ["watch"], ["publish"], ["migrate"], ["import"], ["import", "follows"], ["cluster"],
    ["cluster", "status"], ["cluster", "slots"], ["cluster", "drain"], ["deadletters"], ["deadletters", "list"], ["deadletters", "show"], ["deadletters", "replay"],
    ["deadletters", "discard"], ["events"], ["events", "list"], ["events", "status"], ["events", "pause"], ["events", "resume"],
    ["events", "cancel"], ["events", "scheduled"], ["events", "unschedule"],
]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_help(command):
    done = run(*command, "--help")
    assert done.returncode == 0 and "fanfare" in done.stdout
    if command and command[-1] not in ("import", "cluster", "deadletters", "events"):
        assert "xample" in done.stdout, "an example in each"


@pytest.mark.parametrize("arguments", [["dance"], ["serve", "--bogus"], ["token"], ["watch"], ["publish", "room:x"]])
def test_wrong_usage(arguments):
    done = run(*arguments)
    assert done.returncode in (2, 64) and done.stderr


def test_the_scripts_refuse_wrong_arguments(cluster):
    for script, arguments in {
        "up": ["--nodes", "none"], "down": ["now"], "status": ["--xml"], "add-node": ["--port"], "kill": ["first"],
        "logs": ["--all"], "test": ["--everything"],
    }.items():
        done = cluster.script(script, *arguments, check=False)
        assert done.returncode == 64 and "Usage:" in done.stderr, script


def test_up_again_is_harmless(cluster):
    before = {name: cluster.pid(name) for name in ("node-0", "node-1", "node-2", "redis", "postgres")}
    cluster.up()
    assert {name: cluster.pid(name) for name in before} == before
    status = json.loads(cluster.script("status", "--json").stdout)
    assert [node["state"] for node in status["nodes"]] == ["ready"] * 3
    assert status["redis"]["state"] == status["postgres"]["state"] == "running"
    assert (cluster.state / "env").stat().st_mode & 0o777 == 0o600


def test_up_with_a_taken_port(cluster, state_folder):
    other = clean_environment(FANFARE_CLUSTER_DIR=str(state_folder / "second"))
    cluster_up = cluster.script.__func__
    second = type("Second", (), {"environment": other, "state": state_folder / "second"})()
    done = cluster_up(second, "up", "--binary", BINARY, "--base-port", cluster.base_port, check=False)
    assert done.returncode == 1
    assert f"port {cluster.base_port}" in done.stderr and str(cluster.pid("node-0")) in done.stderr
    assert not (state_folder / "second" / "redis.pid").exists(), "nothing was started"
