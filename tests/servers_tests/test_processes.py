"""Servers and topologies that a test starts for itself."""

import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from redis import Redis
from redis.exceptions import ConnectionError as RedisConnectionError, TimeoutError as RedisTimeout

from tests import servers
from tests.servers import (
    FAST_FAILOVER,
    HOST,
    LocalCluster,
    LocalSentinel,
    ServerError,
    ServerProcess,
    client_of,
)
from tests.waiting import wait_until


def test_restarted_server_keeps_data_and_port(server: ServerProcess) -> None:
    client = client_of(server.topology)
    client.set("key", "value")

    server.restart()
    assert client.get("key") == b"value"
    client.set("key", "newer")
    server.kill()
    assert not server.running
    with pytest.raises(RedisConnectionError):
        client.get("key")
    server.start()
    assert client.get("key") == b"newer"


def test_paused_server_times_out_and_answers_after_resume(server: ServerProcess) -> None:
    client = Redis.from_url(server.url, socket_timeout=0.2)
    try:
        client.set("key", "value")
        server.pause()
        with pytest.raises(RedisTimeout):
            client.get("key")
        server.resume()
        assert client.get("key") == b"value"
        server.pause()
        server.stop()  # also shuts down a paused server cleanly
    finally:
        client.close()
    assert "ready to exit" in server.log_tail()


def test_server_outlives_thread_that_started_it(server: ServerProcess) -> None:
    thread = threading.Thread(target=server.restart)
    thread.start()
    thread.join()

    with pytest.raises(TimeoutError):
        wait_until(lambda: not server.running, timeout=0.3)
    assert client_of(server.topology).ping()


def test_topology_of_server_with_password_can_log_in() -> None:
    with ServerProcess(extra={"requirepass": "secret"}) as process:
        assert client_of(process.topology).ping()
        unknown = Redis.from_url(f"redis://{HOST}:{process.port}")
        with pytest.raises(RedisConnectionError, match=r"(?i)auth"):
            unknown.ping()
        unknown.close()


def test_close_removes_everything() -> None:
    with ServerProcess() as process:
        directory, pid = process.directory, process.pid
        assert directory.exists()

    assert not directory.exists()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    with pytest.raises(ServerError, match="is not running"):
        process.pause()


def test_failed_start_raises_error_with_log() -> None:
    process = ServerProcess(extra={"no-such-setting": "1"})
    with pytest.raises(ServerError, match=r"(?s)ended with code 1.*no-such-setting"), process:
        pass


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="a signal of Linux")
def test_server_dies_with_its_owner() -> None:
    code = """
import os, sys, time
from tests.servers import ServerProcess
server = ServerProcess()
server.start()
print(server.pid, server.directory, flush=True)
time.sleep(60)
"""
    root = Path(__file__).parents[2]
    with subprocess.Popen(
        [sys.executable, "-c", code], cwd=root, stdout=subprocess.PIPE, text=True
    ) as owner:
        assert owner.stdout is not None
        pid, directory = owner.stdout.readline().split()
        owner.kill()
    try:
        wait_until(lambda: not _exists(int(pid)), what="the end of the server")
    finally:
        shutil.rmtree(directory)


def _exists(pid: int) -> bool:
    try:
        # A zombie counts as ended.
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.slow
def test_sentinels_promote_replica_of_killed_master() -> None:
    with LocalSentinel(down_after=FAST_FAILOVER) as group:
        client = client_of(group.topology)
        client.set("key", "value")
        client.wait(1, 5000)
        old = group.master()

        old.kill()

        new = wait_until(lambda: _other_master(group, old), what="another master")
        assert new is group.data[1]
        assert wait_until(lambda: client.get("key")) == b"value"
        assert group.topology.nodes[0] == new.address


def _other_master(group: LocalSentinel, old: ServerProcess) -> ServerProcess | None:
    # A sentinel may announce the new master before the promotion is complete.
    new = group.master()
    return new if new is not old and _is_master(new) else None


@pytest.mark.slow
def test_cluster_promotes_replica_of_killed_primary() -> None:
    with LocalCluster(extra={"cluster-node-timeout": "1000"}) as group:
        client = client_of(group.topology)
        client.set("key", "value")
        owner = client.get_node_from_key("key")
        client.execute_command("WAIT", 1, 5000, target_nodes=owner)
        old = group.node_at(owner.port)
        new = group.replicas[group.primaries.index(old)]

        old.kill()
        wait_until(lambda: _is_master(new), what="another primary")
        assert wait_until(lambda: client.get("key")) == b"value"

        old.start()
        wait_until(lambda: not _is_master(old), what="the old primary as a replica")
        group.wait_ready()


def _is_master(process: ServerProcess) -> bool:
    with servers.probe(process.url) as client:
        role: Any = client.role()
    return role[0] == "master"
