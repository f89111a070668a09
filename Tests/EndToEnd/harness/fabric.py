"""A cluster whose every process the test holds: nodes that reach PostgreSQL through proxies, or a primary with a replica."""

import pathlib
import shutil
import signal
import subprocess
import tempfile
import threading
import uuid

from .cluster import BINARY, Cluster, alive, clean_environment, free_ports
from .postgres import PASSWORD, PostgresServer
from .proxy import PostgresProxy
from .waiting import eventually_sync


class Fabric(Cluster):
    """Three nodes, Redis and PostgreSQL. `settings` are further variables of the nodes, such as FANFARE_HEARTBEAT_LEASE."""

    def __init__(self, logs, nodes=3, replicated=False, **settings):
        self.state = pathlib.Path(logs)
        self.state.mkdir(parents=True, exist_ok=True)
        self.base_port = free_ports(2 * nodes + 3)
        self.nodes = nodes
        self.settings = settings
        self.redis_port = self.base_port + nodes
        self.redis_data = pathlib.Path(tempfile.mkdtemp(prefix="fanfare-redis."))
        self.processes = {}
        #: Faults that overlap start and kill one after the other.
        self.lock = threading.Lock()
        self.key, self.secret = uuid.uuid4().hex, uuid.uuid4().hex
        self.database = PostgresServer(self.base_port + nodes + 1, self.state / "postgres.log")
        self.replica = PostgresServer(self.base_port + nodes + 2, self.state / "replica.log") if replicated else None
        self.proxies = []

    # What `Cluster` reads from the state folder of cluster/up.

    @property
    def env(self):
        return {
            "FANFARE_API_KEY": self.key, "FANFARE_TOKEN_SECRET": self.secret, "REDIS_URL": f"redis://127.0.0.1:{self.redis_port}",
            "DATABASE_URL": self.database_url(None),
            "FANFARE_NODE_URLS": " ".join(f"http://127.0.0.1:{self.base_port + node}" for node in range(self.nodes)),
        }

    def database_url(self, node):
        """Where a node finds PostgreSQL; None: without a proxy."""
        ports = [self.database.port]
        if self.replica is not None:
            # In the order of their ports, whichever is the primary now.
            ports = sorted([self.database.port, self.replica.port])
        elif node is not None:
            ports = [self.proxies[node].port]
        hosts = ",".join(f"127.0.0.1:{port}" for port in ports)
        return f"postgres://fanfare:{PASSWORD}@{hosts}/fanfare?target_session_attrs=read-write"

    def up(self):
        self.database.create().start()
        self.database.sql("CREATE DATABASE fanfare", "postgres")
        if self.replica is not None:
            self.replicate()
        else:
            first = self.base_port + self.nodes + 3
            self.proxies = [PostgresProxy(first + node, self.database.port) for node in range(self.nodes)]
        self.start_redis()
        for node in range(self.nodes):
            self.start_node(node)
        self.wait_ready()

    def down(self):
        for process in self.processes.values():
            if process.poll() is None:
                process.send_signal(signal.SIGCONT)
                process.kill()
            process.wait()
        for proxy in self.proxies:
            proxy.close()
        for server in filter(None, [self.database, self.replica]):
            server.remove()
        shutil.rmtree(self.redis_data, ignore_errors=True)

    def start(self, name, arguments, **variables):
        with open(self.state / f"{name}.log", "ab") as log:
            process = subprocess.Popen(
                arguments, env=clean_environment(**variables), stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True,
            )
        self.processes[name] = process
        (self.state / f"{name}.pid").write_text(str(process.pid))

    def start_redis(self):
        self.start("redis", [
            "redis-server", "--port", str(self.redis_port), "--bind", "127.0.0.1", "--dir", str(self.redis_data),
            "--appendonly", "yes", "--appendfsync", "everysec", "--save", "", "--maxmemory-policy", "noeviction",
        ])
        eventually_sync(self.redis_answers, 30, "Redis answers")

    def redis_answers(self):
        done = subprocess.run(
            ["redis-cli", "-p", str(self.redis_port), "ping"], capture_output=True, text=True, stdin=subprocess.DEVNULL)
        return done.stdout.strip() == "PONG"

    def start_node(self, node):
        variables = {**self.env, **self.settings, "DATABASE_URL": self.database_url(node), "LOG_FORMAT": "text"}
        del variables["FANFARE_NODE_URLS"]
        self.start(
            f"node-{node}", [BINARY, "serve", "--port", str(self.base_port + node), "--node-name", f"node-{node}"], **variables)

    def wait_ready(self, within=60):
        def ready():
            for node in range(self.nodes):
                assert self.runs(node), f"node-{node} ended: {self.log(f'node-{node}')[-3000:]}"
                try:
                    if self.ready(node)[0] != 200:
                        return False
                except OSError:
                    return False
                except Exception as error:
                    if type(error).__module__.startswith("httpx"):
                        return False
                    raise
            return True

        eventually_sync(ready, within, "all nodes are ready")

    def runs(self, node):
        return self.processes[f"node-{node}"].poll() is None

    def crash(self, name):
        """SIGKILL, and waits until it has gone."""
        with self.lock:
            self.processes[name].kill()
            self.processes[name].wait()
            eventually_sync(lambda: not alive(self.processes[name].pid), what=f"{name} has gone")

    def restart_dead(self):
        """Starts what has died, engines first."""
        with self.lock:
            self.database.start()
            if self.processes["redis"].poll() is not None:
                self.start_redis()
            for node in range(self.nodes):
                if not self.runs(node):
                    self.start_node(node)

    # Primary and replica.

    def replicate(self):
        """Gives the primary its replica and has it wait for it: what is acknowledged is on both."""
        self.replica.follow(self.database, "replica").start()
        self.database.sql("ALTER SYSTEM SET synchronous_standby_names = 'replica'", "postgres")
        self.database.sql("SELECT pg_reload_conf()", "postgres")

        def synchronous():
            return self.database.sql("SELECT sync_state FROM pg_stat_replication", "postgres") == [["sync"]]

        eventually_sync(synchronous, 30, "the replica is synchronous")

    def fail_over(self):
        """The primary dies; the replica takes its place. `replicate` gives it a replica again."""
        self.database.crash()
        self.replica.promote()
        self.database, self.replica = self.replica, self.database
        # It must not wait for a replica that is not there.
        self.database.sql("ALTER SYSTEM RESET synchronous_standby_names", "postgres")
        self.database.sql("SELECT pg_reload_conf()", "postgres")

