"""What the first page and `cluster/up` tell a newcomer to paste works when it is pasted."""

import json
import re
import shlex
import subprocess

import pytest
from harness.cluster import BINARY, ROOT, clean_environment


def printed_by_up(cluster):
    """The commands under "Try", which are indented deeper than the words around them."""
    text = re.sub(r"\x1b\[[0-9;]*m", "", cluster.up().stdout)
    return "\n".join(line[7:] for line in text[text.index("Try (") :].splitlines() if line.startswith(" " * 7))


def printed_by_the_first_page(cluster):
    """For this cluster's ports, secrets and program."""
    blocks = re.findall(r"```sh\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    block = next(block for block in blocks if "start_stream" in block)
    for number in range(3):
        block = block.replace(f"127.0.0.1:{8000 + number}", f"127.0.0.1:{cluster.base_port + number}")
        block = block.replace(f"api {8000 + number}/", f"api {cluster.base_port + number}/")
    for old, new in ((".cluster/env", cluster.state / "env"), (".build/release/fanfare", BINARY)):
        assert old in block
        block = block.replace(old, shlex.quote(str(new)))
    return block


@pytest.mark.parametrize("printed", [printed_by_up, printed_by_the_first_page])
async def test_what_is_pasted_works(cluster, api, printed):
    # Other tests may have left the streamer live.
    await api.raw("stop_stream", {"streamer": "bob"})
    commands = printed(cluster)
    # Watching has no end: the other test of `watch` shows it.
    script = "".join(line + "\n" for line in commands.splitlines() if " watch room:lobby " not in line)
    assert script.count("\n") < commands.count("\n") + 1 and "sleep 1" not in script
    environment = clean_environment(FANFARE_API_KEY=cluster.env["FANFARE_API_KEY"])
    before = (await api("history", channel="room:lobby"))["offset"]
    for attempt in ("first", "again"):
        done = subprocess.run(
            ["bash", "-c", script], cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 0 and done.stderr == "", (attempt, done)
        replies = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
        page = replies[-1]["result"]["notifications"]
        assert page[0]["type"] == "stream.live" and page[0]["data"]["title"] == "First stream", done.stdout
        if attempt == "first":
            status = replies[-2]["result"]
            assert status["completed_at"] and status["event_id"] == page[0]["event_id"]
        else:
            # The stream is live already, and nothing is waited for.
            assert 1001 in [reply.get("error", {}).get("code") for reply in replies]
    assert (await api("history", channel="room:lobby"))["offset"] == before + 2
