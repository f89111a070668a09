"""`fanfare import follows`: files with bad lines, duplicates and users never seen; imports that break off and are run again."""

import json
import signal
import subprocess

from harness.cluster import BINARY, clean_environment
from harness.waiting import eventually, eventually_sync

COUNT = 60_000


def file_of(folder, unique, count=COUNT):
    """Everybody follows `s…`; one line in ten stands there twice, one in a hundred makes no sense.
    Returns the file, its good lines and its bad ones."""
    good = bad = 0
    file = folder / "follows.csv"
    with open(file, "w") as out:
        out.write("Streamer,Follower\r\n")
        for number in range(count):
            line = f"s{unique},u{unique}-{number}\n"
            out.write(line)
            good += 1
            if number % 10 == 0:
                out.write(f' "s{unique}" ,\tu{unique}-{number}\r\n')
                good += 1
            if number % 100 == 50:
                out.write(["no comma\n", f"s{unique},a b\n", ",x\n", "a,b,c\n", "x" * 600 + ",y\n"][bad % 5])
                bad += 1
        out.write(f"s{unique},s{unique}\n\n")
    return file, good + 1, bad


def sql(cluster, statement):
    done = subprocess.run(
        ["psql", cluster.env["DATABASE_URL"], "-v", "ON_ERROR_STOP=1", "-qAtc", statement], capture_output=True, text=True,
        timeout=30,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def followers(cluster, unique):
    return int(sql(cluster, f"SELECT count(*) FROM follows WHERE streamer = (SELECT id FROM users WHERE name = 's{unique}')"))


def start(cluster, file):
    return subprocess.Popen(
        [BINARY, "import", "follows", str(file), "--skip-bad-lines", "--json"], env=clean_environment(**cluster.env),
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )


async def reaches(api, unique, count):
    """An event goes to each of them, once."""
    event = (await api("notify", followers_of=f"s{unique}", type="custom.test", data={}))["event_id"]

    async def completed():
        status = await api("event_status", event_id=event)
        return status if status["completed_at"] else None

    status = await eventually(completed, 60)
    assert status["recipients"] == count and status["dead_letters"] == 0


async def test_what_is_wrong_is_told_and_the_rest_is_in(cluster, api, tmp_path, unique):
    file, good, bad = file_of(tmp_path, unique)
    done = cluster.command("import", "follows", file, "--skip-bad-lines", "--json", timeout=120)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {
        "lines": good, "new_follows": COUNT, "new_users": COUNT + 1, "self_follows": 1, "skipped": bad,
    }
    told = [line for line in done.stderr.splitlines() if "skipped line" in line]
    assert len(told) == 20 and told[0] == "skipped line 59: not two fields, streamer,follower, but 1", told[0]
    assert "the follower is no user id" in told[1] and "the streamer is no user id" in told[2]
    assert "but 3" in told[3] and "longer than 512 bytes" in told[4]
    assert "further bad lines are counted alone" in done.stderr
    again = cluster.command("import", "follows", file, "--skip-bad-lines", timeout=120)
    assert again.returncode == 0 and "0 new, 0 new users" in again.stdout and f"{bad} bad lines skipped" in again.stdout
    await reaches(api, unique, COUNT)


async def test_killed_and_run_again(cluster, api, tmp_path, unique):
    file, good, bad = file_of(tmp_path, unique)
    for _ in range(2):
        before = followers(cluster, unique)
        process = start(cluster, file)
        try:
            eventually_sync(lambda: followers(cluster, unique) > before, 60, "some of it is in")
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait()
    assert 0 < followers(cluster, unique) < COUNT
    before = followers(cluster, unique)
    done = cluster.command("import", "follows", file, "--skip-bad-lines", "--json", timeout=120)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["lines"] == good and result["new_follows"] == COUNT - before and result["skipped"] == bad
    assert followers(cluster, unique) == COUNT
    await reaches(api, unique, COUNT)


async def test_the_database_dies_under_it(cluster, api, tmp_path, unique):
    """Where it comes back soon the import goes on by itself, else it says how far it is."""
    file, good, _ = file_of(tmp_path, unique)
    process = start(cluster, file)
    try:
        eventually_sync(lambda: followers(cluster, unique) > 0, 60, "some of it is in")
        cluster.crash("postgres")
        output, errors = process.communicate(timeout=120)
    finally:
        process.kill()
        cluster.up("--timeout", 90)
    assert process.returncode == 1 and not output, output
    last = errors.splitlines()[-1]
    assert last.startswith("fanfare: ") and "; everything up to line " in last and "is in, and may be read again" in last
    done = cluster.command("import", "follows", file, "--skip-bad-lines", "--json", timeout=120)
    assert done.returncode == 0 and json.loads(done.stdout)["lines"] == good, done.stderr
    await reaches(api, unique, COUNT)


def test_a_bad_line_ends_it(cluster, tmp_path, unique):
    lines = [f"s{unique},u{unique}-{number}\n" for number in range(12_345)]
    file = tmp_path / "follows.csv"
    file.write_text("".join(lines) + "nonsense\n" + "".join(lines))
    done = cluster.command("import", "follows", file)
    assert done.returncode == 1 and not done.stdout and "line 12346: not two fields" in done.stderr, done.stderr
    assert "everything up to line 12 345 is in" in done.stderr
    assert followers(cluster, unique) == 12_345


def test_from_standard_input(cluster, unique):
    done = cluster.command("import", "follows", "-", "--on-error", "skip", stdin=f"s{unique},a{unique}\nx\n\n\ufeffx,y\ns{unique},b{unique}")
    assert done.returncode == 0 and "2 follows read, 2 new" in done.stdout and "2 bad lines skipped" in done.stdout
    nothing = cluster.command("import", "follows", "-", stdin="")
    assert nothing.returncode == 0 and "0 follows read" in nothing.stdout
