"""What going live costs: rows of a big job, many small ones, small beside big, those online first, broadcasts, and reading
the inbox.

Delays of events are the database's: from the row of the event to `completed_at`, by one clock. Every figure is the median
of the runs; the runs of a figure and of its yardstick take turns.
"""

import base64
import hashlib
import hmac
import json
import os
import pathlib
import statistics
import subprocess
import sys
import time

PARTS = ("big", "small", "mixed", "inbox", "first", "broadcast")
#: Followers of each small streamer.
SMALL = 50
#: Users whose inboxes are read.
READERS = 10


STARTED = time.monotonic()


def progress(text):
    print(f"==> {time.monotonic() - STARTED:4.0f} s: {text}", file=sys.stderr, flush=True)


def median(values):
    return statistics.median(values)


class Fanout:
    def __init__(self, cluster, folder, tools, options):
        self.cluster = cluster
        self.folder = folder
        self.load, self.requests_program = tools
        self.followers = options.followers
        self.streamers = options.streamers
        self.inbox_rows = options.inbox_rows
        self.online = options.online
        self.runs = options.runs
        self.rate = options.rate
        self.events = 0

    # --- data ----------------------------------------------------------------------------------------------------------

    def fill(self, parts):
        """Users and follows, by `fanfare import follows`."""
        file = self.folder / "fanout.csv"
        with open(file, "w") as out:
            out.writelines(f"bench-star,bench-f-{number}\n" for number in range(self.followers))
            if "broadcast" in parts:
                out.writelines(f"bench-tenth,bench-f-{number}\n" for number in range(self.followers // 10))
            if "small" in parts or "mixed" in parts:
                for streamer in range(self.streamers):
                    for follower in range(SMALL):
                        # Spread over all users, none twice for one streamer.
                        number = (streamer * 7919 + follower * (self.followers // SMALL)) % self.followers
                        out.write(f"bench-s-{streamer},bench-f-{number}\n")
            out.writelines(f"bench-writer,bench-reader-{number}\n" for number in range(READERS))
        progress(f"importing {sum(1 for _ in open(file)):,} follows")
        begun = time.monotonic()
        self.cluster.fanfare("import", "follows", file)
        took = time.monotonic() - begun
        file.unlink()
        self.cluster.sql("VACUUM ANALYZE")
        return took

    # --- going live ----------------------------------------------------------------------------------------------------

    def notify(self, streamer):
        self.events += 1
        return self.cluster.api("notify", followers_of=streamer, type="custom.bench", data={"n": self.events})["event_id"]

    def complete(self, event, patience=300):
        deadline = time.monotonic() + patience
        while True:
            status = self.cluster.api("event_status", node=1, event_id=event)
            if status["completed_at"]:
                return status
            if time.monotonic() > deadline:
                sys.exit(f"the fan-out is not complete after {patience} s: {status}")
            time.sleep(0.02)

    def all_complete(self, condition, patience=120):
        """Until all events of the condition are complete."""
        deadline = time.monotonic() + patience
        while True:
            left = self.cluster.sql(f"""
                SELECT count(*) FROM events e LEFT JOIN fanouts f ON f.event_id = e.id
                WHERE {condition} AND f.completed_at IS NULL""")
            if left == "0":
                return
            if time.monotonic() > deadline:
                sys.exit(f"{left} fan-outs are not complete after {patience} s")
            time.sleep(0.1)

    def delays(self, condition):
        """count, p50, p99 and longest delay in ms of the events of the condition; from the first to the last in s."""
        row = self.cluster.sql(f"""
            SELECT count(*), percentile_cont(0.5) WITHIN GROUP (ORDER BY d), percentile_cont(0.99) WITHIN GROUP (ORDER BY d),
                   max(d), extract(epoch FROM max(completed_at) - min(created_at)),
                   extract(epoch FROM max(created_at) - min(created_at))
            FROM (SELECT e.created_at, f.completed_at, extract(epoch FROM f.completed_at - e.created_at) * 1000 AS d
                  FROM events e JOIN fanouts f ON f.event_id = e.id WHERE {condition}) delays""").split("|")
        names = ("events", "p50_ms", "p99_ms", "max_ms", "all_s", "accepted_within_s")
        return dict(zip(names, [int(row[0]), *map(float, row[1:])]))

    def call(self, lines, connections, rate=0, wait=True):
        """Requests as (node, path, body); the generator's figures and the bodies of the answers."""
        file, answers = self.folder / "calls", self.folder / "answers"
        with open(file, "w") as out:
            for node, path, body in lines:
                text = f" {json.dumps(body, separators=(',', ':'))}" if body is not None else ""
                out.write(f"{self.cluster.port(node)} {path}{text}\n")
        arguments = [
            self.requests_program, f"file={file}", f"key={self.cluster.env['FANFARE_API_KEY']}", f"rate={rate}",
            f"connections={connections}", f"answers={answers}",
        ]
        if not wait:
            return subprocess.Popen(arguments, stdout=subprocess.DEVNULL)
        done = subprocess.run(arguments, stdout=subprocess.PIPE, text=True)
        if done.returncode != 0:
            sys.exit("the requests could not be made")
        figures = json.loads(done.stdout)
        if figures["failed"]:
            sys.exit(f"{figures['failed']} of {figures['requests']} requests to {lines[0][1]} failed")
        return figures, [json.loads(line) for line in answers.read_text().splitlines()]

    # --- CPU -----------------------------------------------------------------------------------------------------------

    def cpu(self):
        """CPU seconds of the nodes, and of PostgreSQL with all its processes."""
        postgres = int(self.cluster.pid("postgres"))
        used = {"nodes": sum(ticks(stat(self.cluster.pid(f"node-{node}"))) for node in range(3)), "postgres": 0.0}
        for entry in pathlib.Path("/proc").glob("[0-9]*"):
            fields = stat(entry.name)
            if fields and int(entry.name) == postgres:
                # Its children that have ended are in its own count.
                used["postgres"] += ticks(fields) + (int(fields[13]) + int(fields[14])) / os.sysconf("SC_CLK_TCK")
            elif fields and int(fields[1]) == postgres:
                used["postgres"] += ticks(fields)
        return used

    # --- the figures ---------------------------------------------------------------------------------------------------

    def big(self):
        """Rows/s of one big job, beside the same rows by bare INSERT … SELECTs in the order of the follows' key."""
        runs = []
        for number in range(self.runs):
            progress(f"going live to {self.followers:,} followers, run {number + 1}")
            self.cluster.sql("CHECKPOINT")
            cpu, begun = self.cpu(), time.monotonic()
            event = self.notify("bench-star")
            status = self.complete(event)
            took = time.monotonic() - begun
            used = {name: value - cpu[name] for name, value in self.cpu().items()}
            rows = int(self.cluster.sql(f"SELECT count(*) FROM inbox WHERE event_id = {event}"))
            if rows != self.followers or status["recipients"] != self.followers:
                sys.exit(f"{rows} rows and {status['recipients']} recipients instead of {self.followers}")
            progress("the same rows by bare INSERT ... SELECTs")
            self.cluster.sql("CHECKPOINT")
            cpu, begun = self.cpu(), time.monotonic()
            self.cluster.sql(bare_insert(event))
            bare = time.monotonic() - begun
            # Until the postmaster has counted the process that did it.
            time.sleep(0.3)
            bare_used = self.cpu()["postgres"] - cpu["postgres"]
            copied = int(self.cluster.sql(f"SELECT count(*) FROM inbox WHERE event_id = -{event}"))
            if copied != self.followers:
                sys.exit(f"the bare INSERTs wrote {copied} rows")
            # Nobody's inbox may keep them: their sequences are above those to come.
            self.cluster.sql(f"DELETE FROM inbox WHERE event_id = -{event}")
            self.cluster.sql("VACUUM inbox")
            runs.append({
                "completed_s": took, "bare_s": bare, "ratio": bare / took, "node_cpu_s": used["nodes"],
                "postgres_cpu_s": used["postgres"], "bare_cpu_s": bare_used,
                "cpu_us_per_recipient": sum(used.values()) / self.followers * 1e6,
            })
        return {"followers": self.followers, "rows_per_s": self.followers / median([run["completed_s"] for run in runs]),
                "bare_rows_per_s": self.followers / median([run["bare_s"] for run in runs]), **medians(runs), "runs": runs}

    def small(self, big=None):
        """All small streamers go live within one second."""
        runs = []
        for number in range(self.runs):
            progress(f"{self.streamers:,} streamers with {SMALL} followers each go live within a second, run {number + 1}")
            self.cluster.sql("CHECKPOINT")
            cpu = self.cpu()
            # Another title each time: the same one within the hold-off would go on with the last stream, without an event.
            title = f"Small {number}, {time.time():.0f}"
            lines = [
                (streamer % 3, "/api/start_stream", {"streamer": f"bench-s-{streamer}", "title": title})
                for streamer in range(self.streamers)
            ]
            figures, answers = self.call(lines, connections=24, rate=self.streamers)
            condition = f"e.id IN ({','.join(answer['result']['event_id'] for answer in answers)})"
            self.all_complete(condition)
            used = {name: value - cpu[name] for name, value in self.cpu().items()}
            delays = self.delays(condition)
            recipients = int(self.cluster.sql(f"SELECT count(*) FROM inbox WHERE {condition.replace('e.id', 'event_id')}"))
            if recipients != self.streamers * SMALL:
                sys.exit(f"{recipients} inbox rows instead of {self.streamers * SMALL}")
            runs.append({
                **delays, "answered_p99_ms": figures["p99_ms"], "node_cpu_s": used["nodes"], "postgres_cpu_s": used["postgres"],
                "us_per_recipient": delays["all_s"] / recipients * 1e6,
                "cpu_us_per_recipient": sum(used.values()) / recipients * 1e6,
            })
            self.call([
                (streamer % 3, "/api/stop_stream", {"streamer": f"bench-s-{streamer}"}) for streamer in range(self.streamers)
            ], connections=8)
        result = {"streamers": self.streamers, "followers": SMALL, **medians(runs), "runs": runs}
        if big:
            result["cpu_ratio_to_big"] = result["cpu_us_per_recipient"] / big["cpu_us_per_recipient"]
            result["time_ratio_to_big"] = result["us_per_recipient"] / (big["completed_s"] / self.followers * 1e6)
        return result

    def mixed(self, seconds=10):
        """Delays of small streamers' events while a big job runs, against an idle cluster."""
        runs, rate = [], self.rate
        for number in range(self.runs):
            progress(f"small streamers at {rate}/s, idle and beside {self.followers:,} followers, run {number + 1}")
            self.cluster.sql("CHECKPOINT")
            kind = f"custom.idle-{number}"
            self.call(self.small_notifications(kind, rate * seconds), connections=8, rate=rate)
            self.all_complete(f"e.type = '{kind}'")
            idle = self.delays(f"e.type = '{kind}'")
            kind = f"custom.busy-{number}"
            generator = self.call(self.small_notifications(kind, rate * 300), connections=8, rate=rate, wait=False)
            try:
                # So that the small ones flow already when the big one comes.
                while self.cluster.sql(f"SELECT count(*) > {rate} FROM events WHERE type = '{kind}'") != "t":
                    time.sleep(0.05)
                event = self.notify("bench-star")
                begun = time.monotonic()
                self.complete(event)
                took = time.monotonic() - begun
            finally:
                generator.kill()
                generator.wait()
            self.all_complete(f"e.type = '{kind}'")
            busy = self.delays(f"""e.type = '{kind}' AND e.created_at BETWEEN
                (SELECT created_at FROM events WHERE id = {event}) AND (SELECT completed_at FROM fanouts WHERE event_id = {event})""")
            runs.append({
                "idle_p50_ms": idle["p50_ms"], "idle_p99_ms": idle["p99_ms"], "busy_p50_ms": busy["p50_ms"],
                "busy_p99_ms": busy["p99_ms"], "busy_max_ms": busy["max_ms"], "busy_events": busy["events"], "big_s": took,
                "ratio_p99": busy["p99_ms"] / idle["p99_ms"],
            })
        return {"rate": rate, **medians(runs), "runs": runs}

    def small_notifications(self, kind, count):
        return [
            (number % 3, "/api/notify",
             {"followers_of": f"bench-s-{number % self.streamers}", "type": kind, "data": {"n": number}})
            for number in range(count)
        ]

    def inbox(self):
        """`notifications` with 50 of so many rows and the unread count, beside the cheapest answer of the same server."""
        readers = [f"bench-reader-{number}" for number in range(READERS)]
        progress(f"writing {self.inbox_rows:,} notifications into {READERS} inboxes")
        self.call([
            (number % 3, "/api/notify", {"users": readers, "type": "custom.fill", "data": {"n": number}})
            for number in range(self.inbox_rows)
        ], connections=8)
        self.all_complete("e.type = 'custom.fill'", patience=600)
        self.cluster.sql("VACUUM ANALYZE inbox")
        users = int(self.cluster.sql("SELECT count(*) FROM users"))
        runs = []
        for number in range(self.runs):
            progress(f"reading inboxes, run {number + 1}")
            lines = [
                (number % 3, "/api/notifications", {"user": readers[number * 7 % READERS], "limit": 50})
                for number in range(3000)
            ]
            # Plans, caches and connections first.
            self.call(lines[:300], connections=1)
            figures, answers = self.call(lines, connections=1)
            pages = {(len(answer["result"]["notifications"]), answer["result"]["unread"]) for answer in answers}
            if pages != {(50, self.inbox_rows)}:
                sys.exit(f"(page, unread) are {pages}")
            busy, _ = self.call(lines, connections=4)
            bare, _ = self.call([(number % 3, "/health/live", None) for number in range(3000)], connections=1)
            runs.append({
                "p50_ms": figures["p50_ms"], "p99_ms": figures["p99_ms"], "p99_of_4_ms": busy["p99_ms"],
                "per_s_of_4": busy["requests"] / busy["wall_s"], "bare_p50_ms": bare["p50_ms"], "bare_p99_ms": bare["p99_ms"],
            })
        return {"rows": self.inbox_rows, "users": users, **medians(runs), "runs": runs}

    def first(self, up):
        """Accepted -> the last of those online, and the whole event in rows: with those online first, and without."""
        online = min(1000, self.followers // 10)
        runs = {"with": [], "without": []}
        for number in range(self.runs):
            # In turns, and each first once, so that neither is always on the colder cluster.
            for name in sorted(runs, reverse=number % 2 == 1):
                self.cluster.script("down")
                self.cluster.environment["FANFARE_ONLINE_FIRST"] = "0" if name == "without" else "128"
                self.cluster.up(*up)
                with Listener(self, online, self.followers) as listener:
                    # One that does not count: plans, caches, and the first pushes of the owners.
                    self.complete(listener.hear(self.notify("bench-star"), time.monotonic_ns())[0])
                    progress(f"rows for {self.followers:,} followers, {online:,} online, {name} them first, run {number + 1}")
                    self.cluster.sql("CHECKPOINT")
                    cpu, begun = self.cpu(), time.monotonic_ns()
                    event = self.notify("bench-star")
                    heard = listener.hear(event, begun)[1]
                    self.complete(event)
                    took = (time.monotonic_ns() - begun) / 1e9
                    used = sum(value - cpu[part] for part, value in self.cpu().items())
                    runs[name].append({
                        "p50_ms": heard["p50_ms"], "p99_ms": heard["p99_ms"], "last_ms": heard["last_ms"],
                        "completed_s": took, "cpu_us_per_recipient": used / self.followers * 1e6,
                    })
        del self.cluster.environment["FANFARE_ONLINE_FIRST"]
        results = {name: {**medians(each), "runs": each} for name, each in runs.items()}
        for each in results.values():
            each["rows_per_s"] = self.followers / each["completed_s"]
        return {"online": online, "followers": self.followers, **results}

    def broadcast(self):
        """Accepted -> the last of those online, on three nodes, for a tenth of the followers and for all."""
        online = min(self.online, self.followers // 10)
        results = {"online": online}

        def one(listener, streamer):
            begun = time.monotonic_ns()
            event = self.notify(streamer)
            answered = time.monotonic_ns()
            heard = listener.hear(event, begun)[1]
            status = self.complete(event)
            return {
                "p50_ms": heard["p50_ms"], "p99_ms": heard["p99_ms"], "last_ms": heard["last_ms"],
                "answered_ms": (answered - begun) / 1e6, "recipients": status["recipients"],
                "rows": int(self.cluster.sql(f"SELECT count(*) FROM inbox WHERE event_id = {event}")),
            }

        with Listener(self, online, self.followers // 10) as listener:
            # Nothing is prepared for it, and inboxes are compared before the first push of an owner.
            results["first"] = {"followers": self.followers // 10, **one(listener, "bench-tenth")}
            for name, streamer, followers in (
                ("tenth", "bench-tenth", self.followers // 10), ("all", "bench-star", self.followers),
            ):
                runs = []
                for number in range(self.runs):
                    progress(f"broadcast to {followers:,} followers, {online:,} online, run {number + 1}")
                    runs.append(one(listener, streamer))
                results[name] = {"followers": followers, **medians(runs), "runs": runs}
        results["ratio_p99"] = results["all"]["p99_ms"] / results["tenth"]["p99_ms"]
        return results


class Listener:
    """Followers of all three nodes, spread over the first so many, who tell when each of them has heard of an event."""

    def __init__(self, fanout, online, among):
        self.online = online
        file = fanout.folder / "users"
        with open(file, "w") as out:
            step = among // online
            for number in range(online):
                token = make_token(fanout.cluster.env["FANFARE_TOKEN_SECRET"], f"bench-f-{number * step}")
                out.write(f"{fanout.cluster.port(number % 3)} {token}\n")
        progress(f"connecting {online:,} followers")
        self.process = subprocess.Popen(
            [fanout.load.program, "listen", f"users={file}"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def __enter__(self):
        if self.process.stdout.readline().strip() != "ready":
            sys.exit("the followers could not connect")
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()

    def hear(self, event, begun):
        self.process.stdin.write(f"{event} {begun}\n")
        self.process.stdin.flush()
        heard = json.loads(self.process.stdout.readline())
        if heard["missing"]:
            sys.exit(f"{heard['missing']} of {self.online} online followers were not reached: {heard}")
        return event, heard


def stat(pid):
    """The fields of /proc/PID/stat from the third on; None for a process that has gone."""
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None


def ticks(fields):
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def medians(runs):
    return {name: median([run[name] for run in runs]) for name in runs[0]}


def bare_insert(event):
    """The rows of the event once more, for the event -id, above all sequences: 10,000 of the follows' key at a time."""
    return f"""
        DO $$
        DECLARE
            top bigint := (SELECT max(sequence) + 1000000 FROM inbox WHERE event_id = {event});
            star bigint := (SELECT streamer FROM events WHERE id = {event});
            from_shard smallint := -1; from_follower bigint := 0; to_shard smallint; to_follower bigint;
        BEGIN
            LOOP
                SELECT shard, follower INTO to_shard, to_follower FROM follows
                    WHERE streamer = star AND (shard, follower) > (from_shard, from_follower)
                    ORDER BY shard, follower OFFSET 9999 LIMIT 1;
                IF NOT FOUND THEN to_shard := 32767; to_follower := 0; END IF;
                INSERT INTO inbox (user_id, sequence, event_id)
                    SELECT follower, top, -{event} FROM follows
                    WHERE streamer = star AND (shard, follower) > (from_shard, from_follower)
                        AND (shard, follower) <= (to_shard, to_follower)
                        AND since < {event} AND (until IS NULL OR until >= {event}) AND notify <= 0
                    ORDER BY shard, follower;
                COMMIT;
                EXIT WHEN to_shard = 32767;
                from_shard := to_shard; from_follower := to_follower;
            END LOOP;
        END $$"""


def make_token(secret, user):
    """An HS256 token."""
    def part(data):
        return base64.urlsafe_b64encode(data).rstrip(b"=").decode()

    text = part(b'{"alg":"HS256","typ":"JWT"}') + "." + part(json.dumps({"sub": user, "exp": int(time.time()) + 86400}).encode())
    return text + "." + part(hmac.new(secret.encode(), text.encode(), hashlib.sha256).digest())


def build(folder, source):
    program = folder / "requests"
    subprocess.run(["gcc", "-O2", "-Wall", "-Wextra", "-pthread", "-o", program, source], check=True)
    return program


def measure(cluster, folder, tools, parts, options):
    """Rows first; then, with the nodes started again, the same data as broadcasts."""
    fanout, results = Fanout(cluster, folder, tools, options), {}
    results["import_s"] = fanout.fill(parts)
    if "big" in parts:
        results["big"] = fanout.big()
    if "small" in parts:
        results["small"] = fanout.small(results.get("big"))
    if "mixed" in parts:
        results["mixed"] = fanout.mixed()
    if "inbox" in parts:
        results["inbox"] = fanout.inbox()
    if "first" in parts:
        results["first"] = fanout.first(options.up)
    if "broadcast" in parts:
        cluster.script("down")
        cluster.environment["FANFARE_BROADCAST_THRESHOLD"] = str(max(2, options.followers // 10))
        cluster.up(*options.up)
        results["broadcast"] = fanout.broadcast()
    return results


def lines(results):
    """(what, ours, yardstick, ratio) for the table."""
    big, small, mixed = results.get("big"), results.get("small"), results.get("mixed")
    if big:
        yield (f"go-live, {big['followers']:,} followers, rows/s (bare INSERTs)", f"{big['rows_per_s']:,.0f}",
               f"{big['bare_rows_per_s']:,.0f}", big["rows_per_s"] / big["bare_rows_per_s"])
        yield ("                 to the last row", f"{big['completed_s']:.2f} s", f"{big['bare_s']:.2f} s", None)
        yield ("                 CPU per recipient, nodes and database", f"{big['cpu_us_per_recipient']:.1f} us",
               f"{big['bare_cpu_s'] / big['followers'] * 1e6:.1f} us", None)
    if small:
        yield (f"{small['streamers']:,} x {small['followers']} followers: accepted -> last inbox row", f"{small['all_s']:.2f} s", None, None)
        yield ("                 accepted within", f"{small['accepted_within_s']:.2f} s", None, None)
        yield ("                 delay of one, p50 / p99", f"{small['p50_ms']:.0f}/{small['p99_ms']:.0f} ms", None, None)
        yield ("                 CPU per recipient (big job)", f"{small['cpu_us_per_recipient']:.1f} us",
               f"{big['cpu_us_per_recipient']:.1f} us" if big else None, small.get("cpu_ratio_to_big"))
        yield ("                 time per recipient (big job)", f"{small['us_per_recipient']:.1f} us",
               f"{big['completed_s'] / big['followers'] * 1e6:.1f} us" if big else None, small.get("time_ratio_to_big"))
    if mixed:
        yield ("small streamers beside a big job: p99 delay (idle)", f"{mixed['busy_p99_ms']:.0f} ms",
               f"{mixed['idle_p99_ms']:.0f} ms", mixed["ratio_p99"])
        yield ("                 p50 (idle)", f"{mixed['busy_p50_ms']:.0f} ms", f"{mixed['idle_p50_ms']:.0f} ms",
               mixed["busy_p50_ms"] / mixed["idle_p50_ms"])
    inbox = results.get("inbox")
    if inbox:
        yield (f"50 of {inbox['rows']:,} and unread, {inbox['users']:,} users, p99 (GET)", f"{inbox['p99_ms']:.2f} ms",
               f"{inbox['bare_p99_ms']:.2f} ms", inbox["p99_ms"] / inbox["bare_p99_ms"])
        yield ("                 p50", f"{inbox['p50_ms']:.2f} ms", f"{inbox['bare_p50_ms']:.2f} ms",
               inbox["p50_ms"] / inbox["bare_p50_ms"])
        yield ("                 4 at a time: p99", f"{inbox['p99_of_4_ms']:.2f} ms", None, None)
    first = results.get("first")
    if first:
        ours, other = first["with"], first["without"]
        yield (f"rows, {first['followers']:,} followers, last of {first['online']:,} online (not first)",
               f"{ours['last_ms']:.0f} ms", f"{other['last_ms']:.0f} ms", ours["last_ms"] / other["last_ms"])
        yield ("                 p50 (not first)", f"{ours['p50_ms']:.0f} ms", f"{other['p50_ms']:.0f} ms",
               ours["p50_ms"] / other["p50_ms"])
        yield ("                 rows/s (not first)", f"{ours['rows_per_s']:,.0f}", f"{other['rows_per_s']:,.0f}",
               ours["rows_per_s"] / other["rows_per_s"])
        yield ("                 CPU per recipient (not first)", f"{ours['cpu_us_per_recipient']:.1f} us",
               f"{other['cpu_us_per_recipient']:.1f} us", ours["cpu_us_per_recipient"] / other["cpu_us_per_recipient"])
    broadcast = results.get("broadcast")
    if broadcast:
        for name in ("first", "tenth", "all"):
            each = broadcast[name]
            what = "the nodes' first broadcast" if name == "first" else "broadcast"
            yield (f"{what}, {each['followers']:,} followers, {broadcast['online']:,} online: p99", f"{each['p99_ms']:.0f} ms",
                   None, broadcast["ratio_p99"] if name == "all" else None)
            yield ("                 the last one", f"{each['last_ms']:.0f} ms", None, None)
