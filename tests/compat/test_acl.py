"""The ACL rules in docs/migration.md are sufficient, and none of them is unnecessary."""

import asyncio
import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

import taskiq_redis
from taskiq_redis._async.brokers import leases
from taskiq_redis._core.wire import as_str
from taskiq_redis._sync.brokers import leases as blocking_leases
from tests._async.support import CLASSES, on_all_nodes, result
from tests.compat.recorded import maybe_await
from tests.compat.roles import ACTIONS, INDEXED, PROCESSES, Admin, Make
from tests.leaks import PASSWORD
from tests.servers import ServerProcess, Topology, client_of, close_client
from tests.waiting import TIMEOUT, wait_until

pytestmark = [pytest.mark.anyio, pytest.mark.full]

GUIDE = Path(__file__).parent.parent.parent / "docs" / "migration.md"
#: commands of each connection that are always allowed, or may be refused; Redis 6.2 notes `client`
IGNORED = {"auth", "client", "client|setinfo", "hello", "info", "xackdel"}

#: ACL rules by user of the guide
RULES: dict[str, list[str]] = {
    user: rules.split()
    for user, rules in re.findall(
        r"^ACL SETUSER (\S+) (.+)$", GUIDE.read_text("utf-8"), re.MULTILINE
    )
}


@pytest.fixture(autouse=True)
def patient_renewals(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a busy machine take longer to renew a short lease, which is no refusal."""
    for module in (leases, blocking_leases):
        monkeypatch.setattr(module, "renewal_timeout", lambda lease: TIMEOUT)


def own_rules(user: str, name: str) -> list[str]:
    """Return the rules of a user with the key names of a test."""
    return [re.sub(r"taskiq|schedule|results", name, rule) for rule in RULES[user]]


def commands_of(user: str) -> set[str]:
    """Return the commands that the rules of a user allow."""
    return {rule[1:] for rule in RULES[user] if rule.startswith("+")}


def maker(topology: Topology, twin: str, **login: Any) -> Make:
    """Return a function that creates objects of a mechanism with credentials."""

    def make(mechanism: str, **options: Any) -> Any:
        kind = getattr(taskiq_redis, f"{twin}{CLASSES[topology.kind][mechanism].__name__}")
        where: list[Any] = [topology.url]
        if topology.kind == "sentinel":
            where = [list(topology.sentinels), topology.master_name]
        return kind(*where, **login, **options)

    return make


async def run_actions(user: str, *arguments: Any) -> None:
    """Run the actions of a user; a listener without a permission would retry forever."""
    act = PROCESSES[user][0] if user in PROCESSES else ACTIONS[user]
    await asyncio.wait_for(act(*arguments), TIMEOUT)


def login(user: str) -> dict[str, str]:
    return {"username": user, "password": PASSWORD}


def create_user(node: Any, user: str, rules: list[str]) -> None:
    node.execute_command("ACL", "SETUSER", user, "reset", "on", f">{PASSWORD}", *rules)


def refused(topology: Topology, user: str) -> set[str]:
    """Return the commands and keys that were refused to a user on any node."""
    logs = on_all_nodes(topology, lambda node: node.acl_log())
    entries = [entry for log in logs for entry in log if entry["username"] == user]
    return {entry["object"] for entry in entries} - IGNORED


@pytest.fixture(params=[*ACTIONS, *PROCESSES])
def user(request: pytest.FixtureRequest) -> str:
    """The name of each user of the guide."""
    name: str = request.param
    return name


def test_guide_has_rules_for_each_tested_user() -> None:
    tested = ACTIONS.keys() | PROCESSES.keys()
    assert RULES.keys() - tested == {"everybody", "sentinel-client"}
    assert tested <= RULES.keys()


@pytest.mark.parametrize("process", PROCESSES)
def test_processes_have_the_rules_of_their_roles(process: str) -> None:
    roles = [set(RULES[role]) for role in PROCESSES[process][1]]
    assert set(RULES[process]) == set().union(*roles)


def knows_all_nodes(topology: Topology) -> bool:
    """Return whether the client of a cluster knows all nodes, and load them again if not."""
    client = client_of(topology)
    if len(client.get_nodes()) < len(topology.nodes):
        client.nodes_manager.initialize()
    return len(client.get_nodes()) >= len(topology.nodes)


@pytest.fixture
def permitted(topology: Topology, name: str, user: str) -> Iterator[str]:
    """Create a user with the rules of the guide, and return its prefix or queue."""
    own = f"{{{name}}}" if user in INDEXED else name
    rules = own_rules(user, name)
    if topology.kind == "cluster":
        rules += RULES["everybody"]
        # For some seconds, CLUSTER SLOTS leaves replicas out, which `stats()` asks, too.
        wait_until(lambda: knows_all_nodes(topology), what="the replicas")
    on_all_nodes(topology, lambda node: create_user(node, name, rules))
    yield own if topology.kind == "cluster" else name
    on_all_nodes(topology, lambda node: node.acl_deluser(name))


async def test_rules_are_sufficient(
    topology: Topology, name: str, permitted: str, twin: str, user: str, caplog: Any
) -> None:
    with caplog.at_level(logging.WARNING):
        await run_actions(
            user, maker(topology, twin, **login(name)), permitted, Admin(client_of(topology))
        )
    assert refused(topology, name) == set()
    assert [text for text in caplog.messages if "Added a dead letter" not in text] == []


@pytest.fixture(scope="module")
def private_server() -> Iterator[ServerProcess]:
    """A server that counts only the commands of these tests."""
    with ServerProcess() as server:
        yield server
        close_client(server.url)


@pytest.mark.parametrize("user", ACTIONS, indirect=True)
async def test_no_allowed_command_is_unnecessary(
    private_server: ServerProcess, name: str, twin: str, user: str
) -> None:
    topology = private_server.topology
    client = client_of(topology)
    create_user(client, name, ["~*", "&*", "+@all"])
    client.script_flush()
    client.config_resetstat()
    admin = Admin(client)
    await run_actions(user, maker(topology, twin, **login(name)), name, admin)
    calls = {
        command.removeprefix("cmdstat_"): counts["calls"]
        for command, counts in client.info("commandstats").items()
    }
    used = {command for command, count in calls.items() if count > admin.calls[command]}
    if "xackdel" in used:
        used |= {"xack"}  # XACKDEL replaces it on this server
    allowed = commands_of(user)
    if "config" in used:  # Redis 6.2 doesn't count subcommands
        allowed = {command.partition("|")[0] for command in allowed}
    assert used - IGNORED - {"config", "config|resetstat"} == allowed


def test_rules_restrict_users_that_may_use_all_channels_by_default(
    private_server: ServerProcess,
) -> None:
    client = client_of(private_server.topology)
    (default,) = client.config_get("acl-pubsub-default").values()
    client.config_set("acl-pubsub-default", "allchannels")
    for user, rules in RULES.items():
        if any(rule.startswith("&") for rule in rules):
            client.execute_command("ACL", "SETUSER", user, *rules)
            channels = [as_str(channel) for channel in client.acl_getuser(user)["channels"]]
            assert [f"&{channel.lstrip('&')}" for channel in channels] == [
                rule for rule in rules if rule.startswith("&")
            ]
            client.acl_deluser(user)
    client.config_set("acl-pubsub-default", default)


@pytest.mark.parametrize("topology", ["sentinel"], indirect=True)
async def test_rules_for_sentinels_are_sufficient(topology: Topology, name: str, twin: str) -> None:
    sentinels = [Redis(host=host, port=port) for host, port in topology.sentinels]
    for sentinel in sentinels:
        create_user(sentinel, name, RULES["sentinel-client"][2:])
    make = maker(topology, twin, sentinel_kwargs=login(name))
    backend = make("results", prefix_str=name)
    await maybe_await(backend.set_result("id", result(1)))
    await maybe_await(backend.shutdown())
    for sentinel in sentinels:
        assert {entry["object"] for entry in sentinel.acl_log()} <= IGNORED
        sentinel.acl_deluser(name)
        sentinel.close()
