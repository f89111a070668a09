import os
import pathlib
import sys
import uuid

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parent))

from harness.cluster import Cluster  # noqa: E402
from harness.raw import RawClient  # noqa: E402
from harness.sdk import Sdk  # noqa: E402


@pytest.fixture(scope="session")
def state_folder(tmp_path_factory):
    folder = os.environ.get("FANFARE_E2E_STATE")
    return pathlib.Path(folder) if folder else tmp_path_factory.mktemp("fanfare")


@pytest.fixture(scope="session")
def whole_cluster(state_folder):
    cluster = Cluster(state_folder / "cluster")
    try:
        cluster.up()
        yield cluster
    finally:
        for name in sorted(cluster.state.glob("*.log")):
            (state_folder / f"kept-{name.name}").write_bytes(name.read_bytes())
        cluster.down()


@pytest.fixture
def cluster(whole_cluster):
    """Three nodes that run: what an earlier test has broken is mended first."""
    if whole_cluster.script("status", check=False).returncode != 0:
        whole_cluster.up()
    return whole_cluster


@pytest.fixture
def unique():
    """A name that no other test uses."""
    return uuid.uuid4().hex[:12]


@pytest.fixture
async def api(cluster):
    """The server API of node 0."""
    api = cluster.api(0)
    yield api
    await api.close()


@pytest.fixture
async def open_raw(cluster):
    """Opens clients that speak the protocol by hand, connected unless told otherwise; closes them at the end."""
    clients = []

    async def open_raw(node=0, user=None, connect=True, url=None, **fields):
        address = url or cluster.websocket(node)
        if connect:
            token = fields.pop("token", None) or (cluster.token(user) if user else None)
            client = await RawClient.connected(address, token, **fields)
        else:
            client = await RawClient.open(address, **fields)
        clients.append(client)
        return client

    yield open_raw
    for client in clients:
        await client.close()


@pytest.fixture
async def open_sdk(cluster):
    """Connects clients of the SDK; closes them at the end."""
    clients = []

    async def open_sdk(node=0, user=None, protobuf=False, connect=True, **options):
        token = options.pop("token", None) or (cluster.token(user) if user else "")
        client = Sdk(cluster.websocket(node), token, protobuf, **options)
        clients.append(client)
        if connect:
            await client.connect()
        return client

    yield open_sdk
    for client in clients:
        await client.close()
