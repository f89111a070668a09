"""PostgreSQL servers of a test: primary and streaming replica, killed, restarted and promoted."""

import os
import pathlib
import pwd
import shutil
import signal
import subprocess
import tempfile
import threading

from .waiting import eventually_sync


def binaries():
    """The folder with initdb and postgres of the newest version that is installed."""
    found = sorted(pathlib.Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: float(path.parts[4]))
    return found[-1].parent if found else pathlib.Path(shutil.which("initdb")).resolve().parent


BIN = binaries()
PASSWORD = "fanfare"


def as_postgres():
    """PostgreSQL refuses to run as root: its own user then."""
    if os.geteuid() != 0:
        return {}
    entry = pwd.getpwnam("postgres")
    return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}


def is_zombie(entry):
    return (entry / "stat").read_text().rpartition(")")[2].split()[0] in "ZX"


class PostgresServer:
    """One server on loopback. Its data lies where PostgreSQL's user can get, and goes away with `remove`."""

    def __init__(self, port, log):
        self.port = port
        self.log = pathlib.Path(log)
        self.base = pathlib.Path(tempfile.mkdtemp(prefix="fanfare-postgres.", dir="/var/tmp"))
        self.base.chmod(0o755)
        self.data = self.base / "data"
        self.data.mkdir(mode=0o700)
        if "user" in as_postgres():
            os.chown(self.data, as_postgres()["user"], as_postgres()["group"])
        self.process = None
        #: Of two that start it at once, or of one that starts and one that kills it, one is second.
        self.lock = threading.RLock()
        #: Settings of the next start.
        self.settings = {"listen_addresses": "127.0.0.1", "unix_socket_directories": "", "max_connections": "200"}

    def run(self, program, *arguments, stdin=None):
        with open(self.log, "ab") as log:
            done = subprocess.run(
                [str(BIN / program), *map(str, arguments)], stdout=log, stderr=log, input=stdin, timeout=120, cwd="/",
                env={"PATH": os.environ["PATH"], "PGPASSWORD": PASSWORD, "HOME": "/", "LC_ALL": "C.UTF-8"}, **as_postgres(),
            )
        assert done.returncode == 0, f"{program} ended with {done.returncode}: {self.log.read_text(errors='replace')[-2000:]}"

    def create(self):
        secret = self.base / "password"
        secret.write_text(PASSWORD + "\n")
        secret.chmod(0o644)
        self.run("initdb", "-D", self.data, "-U", "fanfare", f"--pwfile={secret}", "--auth=scram-sha-256",
                 "--encoding=UTF8", "--locale=C.UTF-8")
        return self

    def follow(self, primary, name):
        """Becomes a streaming replica of `primary` with the application name `name`; what was here before goes."""
        for entry in self.data.iterdir():
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
        self.run("pg_basebackup", "-D", self.data, "-R", "-X", "stream", "-c", "fast",
                 "-d", f"{primary.conninfo('postgres')} application_name={name}")
        return self

    def start(self):
        """Also after a crash: the further turns are for a predecessor whose children have not all gone. What runs is left."""
        with self.lock:
            return self if self.process is not None and self.process.poll() is None else self.start_dead()

    def start_dead(self):
        arguments = [argument for name, value in self.settings.items() for argument in ("-c", f"{name}={value}")]
        for _ in range(5):
            with open(self.log, "ab") as log:
                self.process = subprocess.Popen(
                    [str(BIN / "postgres"), "-D", str(self.data), "-p", str(self.port), *arguments],
                    stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd="/", start_new_session=True,
                    env={"PATH": os.environ["PATH"], "HOME": "/", "LC_ALL": "C.UTF-8"}, **as_postgres(),
                )
            eventually_sync(lambda: self.process.poll() is not None or self.answers(), 60, "PostgreSQL answers")
            if self.process.poll() is None:
                return self
            eventually_sync(self.has_gone, 30, "its predecessor's children have gone")
        raise AssertionError(f"PostgreSQL did not start: {self.log.read_text(errors='replace')[-2000:]}")

    def answers(self):
        return subprocess.run(
            [str(BIN / "pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(self.port)], stdin=subprocess.DEVNULL
        ).returncode == 0

    def crash(self):
        """SIGKILL to the postmaster and all its children, as when the machine goes."""
        with self.lock:
            self.kill_all()

    def kill_all(self):
        children = self.processes()
        self.process.kill()
        for pid in children:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        self.process.wait()
        eventually_sync(self.has_gone, 30, "PostgreSQL's children have gone")

    def processes(self):
        """All processes of this server: they work in its data folder, each in a session of its own."""
        found = []
        for entry in pathlib.Path("/proc").glob("[0-9]*"):
            try:
                if os.readlink(entry / "cwd") == str(self.data) and not is_zombie(entry):
                    found.append(int(entry.name))
            except OSError:
                continue
        return found

    def has_gone(self):
        return not self.processes()

    def promote(self):
        self.run("pg_ctl", "promote", "-D", self.data, "-w", "-t", "60")

    def conninfo(self, database="fanfare"):
        return f"host=127.0.0.1 port={self.port} user=fanfare password={PASSWORD} dbname={database}"

    def sql(self, text, database="fanfare"):
        """The rows, as lists of strings."""
        done = subprocess.run(
            [str(BIN / "psql"), "-X", "-q", "-A", "-t", "-F", "\t", "-v", "ON_ERROR_STOP=1", self.conninfo(database), "-c", text],
            capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL,
        )
        assert done.returncode == 0, f"psql: {done.stderr.strip()}"
        return [line.split("\t") for line in done.stdout.splitlines()]

    def remove(self):
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGQUIT)
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        shutil.rmtree(self.base, ignore_errors=True)
