"""Open connections authenticate again when a credential provider replaces the credentials."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from typing import Any

import pytest
from redis.auth.token import TokenInterface
from redis.credentials import CredentialProvider, StreamingCredentialProvider

from taskiq_redis._async.connection import execute
from tests._aio import together, wait_until
from tests._async.support import (
    BackgroundWait,
    Listener,
    build,
    message,
    on_all_nodes,
    opened,
    result,
    take,
)
from tests.servers import Topology, node_url, probe

pytestmark = [pytest.mark.anyio, pytest.mark.full]


#: commands of connections that stay open: blocking reads and subscriptions
READS = ("brpop", "xreadgroup", "subscribe")


class Token(TokenInterface):
    """A token, whose claim `oid` is the username."""

    def __init__(self, username: str, password: str) -> None:
        self._username = username
        self._password = password

    def try_get(self, key: str) -> str:
        """Return a claim."""
        return {"oid": self._username}[key]

    def get_value(self) -> str:
        """Return the password."""
        return self._password

    def is_expired(self) -> bool:
        """Return that it is valid."""
        return False

    def ttl(self) -> float:
        """Return its time to live in ms."""
        return 1000.0

    def get_expires_at_ms(self) -> float:
        """Return when it expires."""
        return 0.0

    def get_received_at_ms(self) -> float:
        """Return when it was received."""
        return 0.0


class Provider(StreamingCredentialProvider):
    """A provider like that for Entra ID, which keeps one callback only."""

    def __init__(self, username: str) -> None:
        self._token = Token(username, "p")
        self._on_next: Callable[[Any], Any] | None = None
        self._on_error: Callable[[Exception], Any] | None = None

    def get_credentials(self) -> tuple[str, str]:
        """Return the username and the password."""
        return self._token.try_get("oid"), self._token.get_value()

    def on_next(self, callback: Callable[[Any], Any]) -> None:
        """Keep a callback for new tokens."""
        self._on_next = callback

    def on_error(self, callback: Callable[[Exception], Any]) -> None:
        """Keep a callback for errors."""
        self._on_error = callback

    def is_streaming(self) -> bool:
        """Return that it is."""
        return True

    def replace(self, username: str) -> None:
        """Replace the credentials by those of another user."""
        self._token = Token(username, "p")

    async def rotate(self, username: str) -> None:
        """Replace the credentials by those of another user, and call the callback."""
        self.replace(username)
        assert self._on_next is not None
        await self._on_next(self._token)

    async def fail(self, error: Exception) -> None:
        """Report an error."""
        assert self._on_error is not None
        await self._on_error(error)


class Plain(CredentialProvider):
    """A provider that returns other credentials from time to time.

    Args:
        username: name of the user.
    """

    def __init__(self, username: str) -> None:
        self.username = username

    def get_credentials(self) -> tuple[str, str]:
        """Return the username and the password."""
        return self.username, "p"


@pytest.fixture
def users(topology: Topology, name: str) -> Iterator[tuple[str, str]]:
    """Two users who may do everything."""
    both = (f"{name}-old", f"{name}-new")
    rules = ("on", ">p", "+@all", "~*", "&*")
    for user in both:
        on_all_nodes(topology, partial(set_user, user, rules))
    yield both
    for user in both:
        on_all_nodes(topology, partial(delete_user, user))


def set_user(user: str, rules: tuple[str, ...], node: Any) -> None:
    """Create or change a user on a node."""
    node.execute_command("ACL SETUSER", user, *rules)


def delete_user(user: str, node: Any) -> None:
    """Delete a user on a node, which closes its connections."""
    node.acl_deluser(user)


def connections_of(topology: Topology, user: str, *commands: str) -> set[str]:
    """Return the addresses of the connections of a user.

    Args:
        topology: the servers.
        user: name of the user.
        commands: only connections whose last command is one of these.
    """
    clients = on_all_nodes(topology, lambda node: node.client_list())
    return {
        each["addr"]
        for on_node in clients
        for each in on_node
        if each["user"] == user and (not commands or each["cmd"] in commands)
    }


async def have_authenticated(topology: Topology, user: str, addresses: set[str]) -> bool:
    """Return whether connections are those of a user."""
    return addresses <= connections_of(topology, user)


async def none_of(topology: Topology, user: str) -> bool:
    """Return whether a user has no connections."""
    return not connections_of(topology, user)


async def test_idle_connections_authenticate_at_once(
    topology: Topology, name: str, users: tuple[str, str]
) -> None:
    provider = Provider(users[0])
    async with opened(topology, "results", credential_provider=provider) as backend:
        connection = backend._connection
        command = partial(connection.call, lambda client: execute(client, "SET", name, 1))
        # A cluster client that loads its slots in several tasks closes connections of some.
        await command()
        await together(*[command] * 5)
        before = connections_of(topology, users[0])
        await provider.rotate(users[1])
        authenticated = connections_of(topology, users[1])
        assert authenticated
        # A cluster client closes the first connection, after it has loaded its slots.
        assert authenticated <= before
        await wait_until(partial(none_of, topology, users[0]))
        await command()
        assert connections_of(topology, users[1]) <= authenticated


@pytest.mark.parametrize("mechanism", ["pubsub", "stream"])
async def test_connections_of_listener_stay_open(
    topology: Topology, name: str, mechanism: str, users: tuple[str, str]
) -> None:
    provider = Provider(users[0])
    options: dict[str, Any] = {"queue_name": name, "credential_provider": provider}
    # Leases are renewed often, by a thread with connections of its own.
    options |= {"idle_timeout": 3000} if mechanism == "stream" else {}
    async with Listener(build(topology, mechanism, **options)) as listener:

        async def receives() -> bool:
            await listener.broker.kick(message(b"a"))
            return bool(listener.got)

        await wait_until(receives)
        readers = partial(connections_of, topology, users[0], *READS)

        async def has_reader() -> bool:
            return bool(readers())

        await wait_until(has_reader)
        before = readers()
        await provider.rotate(users[1])
        await wait_until(partial(have_authenticated, topology, users[1], before))
        # This closes those that haven't.
        on_all_nodes(topology, partial(delete_user, users[0]))
        listener.got.clear()
        await wait_until(receives)
        assert before <= connections_of(topology, users[1])


async def test_subscription_for_results_stays_open(
    topology: Topology, name: str, users: tuple[str, str]
) -> None:
    provider = Provider(users[0])
    options: dict[str, Any] = {"prefix_str": name, "credential_provider": provider}
    async with (
        opened(topology, "results", **options) as backend,
        BackgroundWait(backend, "id") as waiting,
    ):
        before = connections_of(topology, users[0], *READS)
        await provider.rotate(users[1])
        await wait_until(partial(have_authenticated, topology, users[1], before))
        await backend.set_result("id", result(1))
        await wait_until(waiting.done)
        assert before <= connections_of(topology, users[1])


async def test_connections_made_for_old_token_are_replaced_if_refused(
    topology: Topology, name: str, users: tuple[str, str]
) -> None:
    provider = Provider(users[0])
    options: dict[str, Any] = {"queue_name": name, "credential_provider": provider}
    async with opened(topology, "list", **options) as broker:
        await broker.kick(message(b"a"))
        before = connections_of(topology, users[0])
        await provider.rotate(f"{name}-unknown")
        provider.replace(users[1])
        await broker.kick(message(b"b"))
        assert await take(broker, 2) == [b"a", b"b"]
        assert not before & connections_of(topology, users[1])


async def test_connections_of_sends_with_deadline_stay_open(
    topology: Topology, name: str, users: tuple[str, str]
) -> None:
    provider = Provider(users[0])
    options: dict[str, Any] = {"queue_name": name, "credential_provider": provider}
    # Without a timeout, sends get connections of their own.
    async with opened(topology, "list", socket_timeout=None, **options) as broker:
        await broker.kick(message(b"a"))
        before = connections_of(topology, users[0], "eval", "evalsha")
        assert before
        await provider.rotate(users[1])
        await broker.kick(message(b"b"))
        assert before <= connections_of(topology, users[1])


@pytest.mark.parametrize("topology", ["sentinel"], indirect=True)
async def test_connections_to_sentinels_authenticate(topology: Topology, name: str) -> None:
    with ExitStack() as stack:
        sentinels = [stack.enter_context(probe(node_url(each))) for each in topology.sentinels]
        for sentinel in sentinels:
            for user in ("old", "new"):
                set_user(f"{name}-{user}", ("on", ">p", "+@all"), sentinel)
        provider = Provider(f"{name}-old")
        options: dict[str, Any] = {"sentinel_kwargs": {"credential_provider": provider}}
        async with opened(topology, "list", queue_name=name, **options) as broker:
            await broker.kick(message(b"a"))
            await provider.rotate(f"{name}-new")
            users = {each["user"] for node in sentinels for each in node.client_list()}
            assert f"{name}-new" in users
            assert f"{name}-old" not in users
        for sentinel in sentinels:
            for user in ("old", "new"):
                delete_user(f"{name}-{user}", sentinel)


@pytest.mark.parametrize("topology", ["single"], indirect=True)
async def test_failure_of_provider_is_logged(
    topology: Topology, name: str, users: tuple[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    provider = Provider(users[0])
    options: dict[str, Any] = {"queue_name": name, "credential_provider": provider}
    async with opened(topology, "list", **options) as broker:
        await broker.kick(message(b"a"))
        await provider.fail(KeyError("token"))
        assert "Provider has no new credentials, and connections keep theirs" in caplog.text
        await broker.kick(message(b"a"))
        assert connections_of(topology, users[0])


@pytest.mark.full
async def test_new_connections_use_new_password(
    topology: Topology, name: str, users: tuple[str, str]
) -> None:
    provider = Plain(users[0])
    options: dict[str, Any] = {"queue_name": name, "credential_provider": provider}
    async with (
        opened(topology, "stream", queue_name=name) as sender,
        Listener(build(topology, "stream", **options)) as listener,
    ):

        async def receives() -> bool:
            await sender.kick(message(b"a"))
            return bool(listener.got)

        await wait_until(receives)
        provider.username = users[1]
        # This closes its connections.
        on_all_nodes(topology, partial(delete_user, users[0]))

        async def has_connected() -> bool:
            return bool(connections_of(topology, users[1], *READS))

        await wait_until(has_connected)
        listener.got.clear()
        await wait_until(receives)
