"""What operators do with events on their way: `fanfare events`, against the cluster."""

import datetime
import json
import subprocess

import pytest
from harness.cluster import BINARY, clean_environment
from harness.waiting import eventually


def listed(cluster, *arguments):
    done = cluster.command("events", "list", "--json", *arguments)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


FOLLOWERS = 20_000


async def paused_event(cluster, api, unique):
    """An event for so many that it is not done before it is paused."""
    streamer = f"s{unique}"
    lines = "".join(f"{streamer},f{unique}-{number}\n" for number in range(FOLLOWERS))
    imported = cluster.command("import", "follows", "-", stdin=lines)
    assert imported.returncode == 0, imported.stderr
    event = (await api("notify", followers_of=streamer, type="custom.test", data={}))["event_id"]
    assert await api("pause_event", event_id=event) == {"event_id": event, "state": "paused"}
    return streamer, event


async def test_pause_list_watch_resume(cluster, api, unique):
    streamer, event = await paused_event(cluster, api, unique)
    for url in (cluster.url(0), cluster.url(2)):
        (found,) = listed(cluster, "--streamer", streamer, "--url", url)
        assert (found["event_id"], found["state"], found["streamer"]) == (event, "paused", streamer)
    assert event in [each["event_id"] for each in listed(cluster, "--state", "paused", "--limit", 10000)]
    assert listed(cluster, "--streamer", streamer, "--type", "raid") == []
    newest = listed(cluster, "--streamer", streamer, "--all")
    assert newest[0]["event_id"] == event
    assert listed(cluster, "--streamer", streamer, "--all", "--before", event) == newest[1:]
    table = cluster.command("events", "list", "--streamer", streamer)
    assert table.returncode == 0 and event in table.stdout and "paused" in table.stdout

    shown = cluster.command("events", "status", event, "--json")
    assert json.loads(shown.stdout) == await api("event_status", event_id=event)
    plain = cluster.command("events", "status", event)
    assert "state" in plain.stdout and "paused" in plain.stdout and "of" in plain.stdout

    watcher = subprocess.Popen(
        [BINARY, "events", "status", event, "--watch", "--json"], env=clean_environment(**cluster.env),
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )
    try:
        assert json.loads(watcher.stdout.readline())["state"] == "paused"
        done = cluster.command("events", "resume", event, "--json")
        assert [each["event_id"] for each in json.loads(done.stdout)] == [event], done.stderr
        rest, errors = watcher.communicate(timeout=30)
    finally:
        watcher.kill()
    assert watcher.returncode == 0, errors
    last = json.loads(rest.splitlines()[-1])
    assert last["state"] == "done" and last["recipients"] == last["total"] == FOLLOWERS and last["eta_s"] == 0
    told = cluster.command("events", "status", event, "--watch")
    assert told.returncode == 0 and "100 % 20 000 of 20 000 recipients" in told.stderr and "done" in told.stdout


async def test_cancel(cluster, api, unique):
    streamer, event = await paused_event(cluster, api, unique)
    for _ in range(2):
        done = cluster.command("events", "cancel", event)
        assert (done.returncode, done.stdout) == (0, f"{event} cancelled\n"), done.stderr
    # One of several that cannot be done does not keep the others from it.
    _, other = await paused_event(cluster, api, unique + "b")
    done = cluster.command("events", "resume", event, other, 999_999_999)
    assert done.returncode == 1 and done.stdout == f"{other} running\n", (done.stdout, done.stderr)
    assert f"event {event}: error 107: bad request: the event was cancelled" in done.stderr
    assert "event 999999999: error 107: bad request: unknown event_id" in done.stderr
    assert [each["event_id"] for each in listed(cluster, "--streamer", streamer, "--state", "cancelled")] == [event]

    async def over():
        return (await api("event_status", event_id=event))["completed_at"]

    await eventually(over, what="nothing is left to take back")
    watched = cluster.command("events", "status", event, "--watch")
    assert watched.returncode == 0 and "cancelled" in watched.stdout


async def test_scheduled(cluster, api, unique):
    await api("follow", user=f"f{unique}", streamer=f"s{unique}")
    later = (datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(hours=1)).isoformat()
    scheduled = (await api("notify", followers_of=f"s{unique}", type="raid", data={}, at=later))["scheduled_id"]
    before = str(int(scheduled) - 1)
    shown = json.loads(cluster.command("events", "scheduled", "--json", "--after", before).stdout)
    assert (shown[0]["scheduled_id"], shown[0]["followers_of"]) == (scheduled, f"s{unique}")
    assert f"followers of s{unique}" in cluster.command("events", "scheduled", "--after", before).stdout
    done = cluster.command("events", "unschedule", scheduled)
    assert (done.returncode, done.stdout) == (0, f"{scheduled} cancelled\n"), done.stderr
    gone = json.loads(cluster.command("events", "scheduled", "--json", "--settled", "--after", before).stdout)
    assert gone[0]["state"] == "cancelled"
    assert all(each["scheduled_id"] != scheduled for each in json.loads(cluster.command("events", "scheduled", "--json").stdout))


@pytest.mark.parametrize(
    "arguments",
    [
        ["status"], ["status", "x"], ["status", -1], ["pause"], ["resume", "x"], ["cancel", -5], ["list", "--limit", 0],
        ["list", "--limit", 10001], ["list", "--state", "odd"], ["list", "--state", "done", "--all"],
        ["list", "--before", -1], ["scheduled", "--limit", 1001], ["unschedule"], ["cancel", *range(1, 1002)],
    ],
    ids=lambda arguments: " ".join(map(str, arguments[:4])),
)
def test_wrong_usage(cluster, arguments):
    done = cluster.command("events", *arguments)
    assert done.returncode in (2, 64) and done.stderr and not done.stdout, (done.returncode, done.stderr)


@pytest.mark.parametrize(
    "arguments",
    [
        ["status", 999_999_999], ["status", 999_999_999, "--watch"], ["cancel", 999_999_999], ["unschedule", 999_999_999],
        ["list", "--streamer", "a b"], ["list", "--type", "x" * 65],
    ],
    ids=lambda arguments: " ".join(map(str, arguments[:2])),
)
def test_refused(cluster, arguments):
    done = cluster.command("events", *arguments)
    assert done.returncode == 1 and "error 107" in done.stderr and len(done.stderr.splitlines()) == 1, done.stderr


async def test_wrong_parameters(api):
    for wrong in (
        {"state": "odd"}, {"state": 5}, {"all": "yes"}, {"state": "done", "all": True}, {"limit": 0}, {"limit": 201},
        {"before": "x"}, {"before": -1}, {"streamer": "a b"}, {"streamer": ""}, {"type": ""}, {"type": "x" * 65},
    ):
        assert await api.error("events", **wrong) == 107, wrong
    assert await api("events", streamer="nobody-at-all") == {"events": [], "next": None}
