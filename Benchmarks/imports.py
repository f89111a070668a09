"""What bringing follows in costs, beside a bare COPY of the same lines and beside the rows that have to be there in the end.

The file has a million users that nobody has seen, one line in a hundred that makes no sense, and one in ten twice.
"""

import pathlib
import re
import statistics
import time

STREAMERS = 1000


def write(file, followers):
    """Everybody follows one star, and every tenth one a small streamer, twice."""
    lines = bad = 0
    with open(file, "w") as out:
        out.write("streamer,follower\n")
        for number in range(followers):
            out.write(f"bench-star,bench-f-{number}\n")
            lines += 1
            if number % 10 == 0:
                again = f"bench-s-{number // 10 % STREAMERS},bench-f-{number}\n"
                out.write(again + again)
                lines += 2
            if number % 100 == 0:
                out.write(f"bench-star,not a user {number}\n" if number % 200 else "no comma at all\n")
                bad += 1
    return lines, bad


def counted(text):
    """`1 234 567 follows read, …`"""
    return [int(number.replace(" ", "")) for number in re.findall(r"\d[\d ]*(?= )", text)]


def copy(cluster, file):
    """The good lines of the file into two columns of text without an index: what PostgreSQL takes to read them."""
    cluster.sql("DROP TABLE IF EXISTS bench_copy; CREATE TABLE bench_copy (streamer text, follower text); CHECKPOINT")
    begun = time.monotonic()
    cluster.sql(f"\\copy bench_copy FROM '{file}' (FORMAT csv)")
    return time.monotonic() - begun


def rows(cluster):
    """The users and follows that came of it once more, in two statements, into tables with the same indexes."""
    cluster.sql(
        """
        DROP TABLE IF EXISTS bench_users, bench_follows;
        CREATE TABLE bench_users (LIKE users INCLUDING ALL);
        CREATE TABLE bench_follows (LIKE follows INCLUDING ALL);
        CHECKPOINT
        """)
    begun = time.monotonic()
    cluster.sql("INSERT INTO bench_users OVERRIDING SYSTEM VALUE SELECT * FROM users ORDER BY name")
    cluster.sql("INSERT INTO bench_follows SELECT * FROM follows ORDER BY streamer, shard, follower")
    took = time.monotonic() - begun
    cluster.sql("DROP TABLE bench_users, bench_follows")
    return took


def measure(cluster, folder, followers, runs, progress):
    file, good = pathlib.Path(folder) / "import.csv", pathlib.Path(folder) / "good.csv"
    lines, bad = write(file, followers)
    with open(file) as all_lines, open(good, "w") as out:
        out.writelines(line for line in all_lines if re.fullmatch(r"bench-[a-z]+(-\d+)?,bench-f-\d+\n", line))
    took, again, bare_copy, bare_rows = [], [], [], []
    for number in range(runs):
        cluster.sql("TRUNCATE users, follows RESTART IDENTITY; CHECKPOINT")
        progress(f"importing {lines:,} follows of {followers:,} new users, and {bad:,} bad lines, run {number + 1}")
        begun = time.monotonic()
        told = cluster.fanfare("import", "follows", file, "--skip-bad-lines")
        took.append(time.monotonic() - begun)
        expected = [lines, followers + followers // 10, followers + 1 + min(STREAMERS, followers // 10), bad]
        if counted(told) != expected:
            raise SystemExit(f"the import says: {told}; expected {expected}")
        progress("the same once more, as after an import that broke off")
        begun = time.monotonic()
        cluster.fanfare("import", "follows", file, "--skip-bad-lines")
        again.append(time.monotonic() - begun)
        progress("the same lines by COPY, the same rows by INSERT")
        bare_copy.append(copy(cluster, good))
        bare_rows.append(rows(cluster))
    cluster.sql("DROP TABLE bench_copy; TRUNCATE users, follows RESTART IDENTITY")
    took, again, bare_copy, bare_rows = map(statistics.median, (took, again, bare_copy, bare_rows))
    return {
        "lines": lines, "bad_lines": bad, "users": followers, "import_s": took, "again_s": again, "copy_s": bare_copy,
        "rows_s": bare_rows, "lines_per_s": lines / took, "copy_lines_per_s": lines / bare_copy,
        "ratio_copy": bare_copy / took, "ratio_rows": (bare_copy + bare_rows) / took,
    }


def lines(results):
    """(what, ours, yardstick, ratio) for the table."""
    yield (f"import of {results['lines']:,} follows, {results['users']:,} new users (bare COPY)", f"{results['import_s']:.1f} s",
           f"{results['copy_s']:.1f} s", results["ratio_copy"])
    yield ("                 follows/s", f"{results['lines_per_s']:,.0f}", f"{results['copy_lines_per_s']:,.0f}", None)
    yield ("                 (COPY, and the rows by INSERT)", f"{results['import_s']:.1f} s",
           f"{results['copy_s'] + results['rows_s']:.1f} s", results["ratio_rows"])
    yield ("                 the same file again", f"{results['again_s']:.1f} s", None, None)
