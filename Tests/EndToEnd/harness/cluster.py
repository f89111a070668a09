"""A real cluster: Redis, PostgreSQL and nodes, started by cluster/up in a state folder of its own."""

import json
import os
import pathlib
import random
import shlex
import signal
import socket
import subprocess

import httpx

from .api import Api
from .tokens import token
from .waiting import eventually_sync

ROOT = pathlib.Path(__file__).resolve().parents[3]
BINARY = os.environ.get("FANFARE_E2E_BINARY") or str(ROOT / ".build/debug/fanfare")


def free_ports(count):
    """The first of `count` neighbouring ports that nobody uses."""
    for _ in range(200):
        base = random.randrange(12000, 19000)
        sockets = []
        try:
            for port in range(base, base + count):
                sockets.append(socket.create_server(("127.0.0.1", port)))
            return base
        except OSError:
            continue
        finally:
            for opened in sockets:
                opened.close()
    raise RuntimeError("no free ports")


def clean_environment(**extra):
    """Our environment without what would configure a node."""
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("FANFARE_", "OTEL_")) and name not in ("REDIS_URL", "DATABASE_URL", "LOG_LEVEL", "LOG_FORMAT")
    }
    environment.update(extra)
    return environment


class Cluster:
    def __init__(self, state):
        self.state = pathlib.Path(state)
        # Room above for nodes that tests add.
        self.base_port = free_ports(6)
        self.environment = clean_environment(FANFARE_CLUSTER_DIR=str(self.state))
        self.apis = {}

    def script(self, name, *arguments, check=True, timeout=180):
        done = subprocess.run(
            [str(ROOT / "cluster" / name), *map(str, arguments)],
            env=self.environment, cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout,
        )
        if check and done.returncode != 0:
            raise AssertionError(f"cluster/{name} ended with {done.returncode}:\n{done.stdout[-3000:]}\n{done.stderr[-6000:]}")
        return done

    def up(self, *arguments, **options):
        return self.script("up", "--binary", BINARY, "--nodes", 3, "--base-port", self.base_port, *arguments, **options)

    def down(self):
        return self.script("down", "--wipe", check=False)

    @property
    def env(self):
        values = {}
        for line in (self.state / "env").read_text().splitlines():
            name, _, value = line.partition("=")
            values[name] = shlex.split(value)[0] if value else ""
        return values

    @property
    def urls(self):
        return self.env["FANFARE_NODE_URLS"].split()

    def url(self, node):
        return self.urls[node]

    def websocket(self, node, query=""):
        return self.url(node).replace("http://", "ws://") + "/connection/websocket" + query

    def token(self, user, **claims):
        return token(self.env["FANFARE_TOKEN_SECRET"], user, **claims)

    def api(self, node=0):
        return Api(self.url(node), self.env["FANFARE_API_KEY"])

    def pid(self, name):
        """The process id of `node-0`, `redis`, `postgres` …"""
        return int((self.state / f"{name}.pid").read_text())

    def signal(self, name, number):
        os.kill(self.pid(name), number)

    def crash(self, name):
        """SIGKILL, and waits until it has gone."""
        pid = self.pid(name)
        os.kill(pid, signal.SIGKILL)
        eventually_sync(lambda: not alive(pid), what=f"{name} has gone")

    def log(self, name):
        return (self.state / f"{name}.log").read_text(errors="replace")

    def ready(self, node):
        """Status and body of the readiness endpoint."""
        response = httpx.get(self.url(node) + "/health/ready", timeout=5, trust_env=False)
        return response.status_code, response.json()

    def command(self, *arguments, stdin=None, timeout=60, node=0, **environment):
        """Runs `fanfare` with the cluster's variables."""
        environment = clean_environment(**self.env, **environment)
        return subprocess.run(
            [BINARY, *map(str, arguments)], env=environment, input=stdin, capture_output=True, text=True,
            timeout=timeout, stdin=subprocess.DEVNULL if stdin is None else None,
        )


class LoneNode:
    """One node without engines: the in-memory broker, no database."""

    SECRET = "lone-secret-of-at-least-32-bytes-000"
    KEY = "lone-key"

    def __init__(self, folder, *arguments, **environment):
        self.port = free_ports(1)
        self.url = f"http://127.0.0.1:{self.port}"
        self.log_path = pathlib.Path(folder) / f"lone-{self.port}.log"
        variables = {"FANFARE_TOKEN_SECRET": self.SECRET, "FANFARE_API_KEY": self.KEY, **environment}
        with open(self.log_path, "wb") as log:
            self.process = subprocess.Popen(
                [BINARY, "serve", "--port", str(self.port), *map(str, arguments)],
                env=clean_environment(**{name: value for name, value in variables.items() if value is not None}),
                stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )

    def __enter__(self):
        def check():
            assert self.process.poll() is None, f"the node ended: {self.log()[-3000:]}"
            try:
                return httpx.get(self.url + "/health/ready", timeout=2, trust_env=False).status_code == 200
            except httpx.HTTPError:
                return False

        try:
            eventually_sync(check, within=30, what="the node is ready")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()

    def log(self):
        return self.log_path.read_text(errors="replace")

    def websocket(self, query=""):
        return self.url.replace("http://", "ws://") + "/connection/websocket" + query

    def token(self, user, **claims):
        return token(self.SECRET, user, **claims)

    def api(self):
        return Api(self.url, self.KEY)


def alive(pid):
    """Whether the process runs; a zombie does not."""
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def json_lines(text):
    return [json.loads(line) for line in text.splitlines() if line.strip()]
