# Generated from tests/_async/test_subscriptions.py by scripts/unasync.py; edit that.

"""A pub/sub listener detects lost connections with PING when no messages arrive."""

import logging
from contextlib import suppress
from typing import Any

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

from taskiq_redis._drivers.blocking import disconnect
from taskiq_redis._sync import subscription
from taskiq_redis._sync.brokers import pubsub
from tests._sync.support import Listener, build, connections_named, on_all_nodes, opened
from tests._threads import wait_until
from tests.servers import LocalCluster, ServerProcess, Topology, client_of, close_client


def publish_until_received(
    listener: Listener, server: ServerProcess, channel: str, data: str
) -> None:
    """Publish until the listener receives it: a message without a subscriber is lost."""

    def is_received() -> bool:
        # A cluster client may still know a node that was killed.
        with suppress(RedisConnectionError):
            client_of(server.topology).publish(channel, data)
        return data.encode() in listener.got

    wait_until(is_received)


def test_listener_subscribes_to_the_promoted_replica(name: str) -> None:
    with LocalCluster() as cluster:
        topology = cluster.topology
        client = client_of(topology)
        channels = (f"{name}{number}" for number in range(100))
        # The first node stays: its address is all that a new client of the cluster knows.
        channel, port = next(
            (channel, node.port)
            for channel in channels
            if (node := client.get_node_from_key(channel)).port != cluster.primaries[0].port
        )
        with Listener(build(topology, "pubsub", queue_name=channel)) as listener:
            publish_until_received(listener, cluster.primaries[0], channel, "before")
            node = cluster.node_at(port)
            replica = client_of(cluster.replicas[cluster.primaries.index(node)].topology)
            replica.execute_command("CLUSTER FAILOVER")

            def promoted() -> bool:
                return bool(replica.role()[0] == b"master")

            wait_until(promoted)
            node.kill()
            publish_until_received(listener, cluster.primaries[0], channel, "after")
        close_client(topology)


def test_silent_server_is_detected_by_ping(
    name: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(subscription, "PING_AFTER", 0.1)
    monkeypatch.setattr(pubsub, "PONG_WAIT", 0.1)
    with ServerProcess() as server:
        options = {"queue_name": name, "socket_timeout": 0.5}
        with Listener(build(server.topology, "pubsub", **options)) as listener:
            publish_until_received(listener, server, name, "before")
            server.pause()

            def noticed() -> bool:
                return "no reply to PING" in caplog.text

            wait_until(noticed)
            server.resume()
            publish_until_received(listener, server, name, "after")


@pytest.mark.full
@pytest.mark.parametrize("protocol", [2, 3])
def test_user_without_ping_stays_subscribed(
    topology: Topology,
    name: str,
    protocol: int,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(subscription, "PING_AFTER", 0.1)
    commands = ["+subscribe", "+cluster|slots", "+cluster|shards", "+command", "+client|setname"]
    # On Redis 6.2, a new user may use all channels.
    rules: dict[str, Any] = {"reset_channels": True, "channels": [name], "nopass": True}
    rules["enabled"] = True
    on_all_nodes(topology, lambda node: node.acl_setuser(name, commands=commands, **rules))
    options = {"queue_name": name, "client_name": name, "protocol": protocol}
    broker = build(topology, "pubsub", username=name, password="any", **options)
    with caplog.at_level(logging.WARNING, "taskiq_redis"):
        with Listener(broker):

            def refused_again() -> bool:
                return refusals(topology, name) > 1

            wait_until(refused_again)
            assert connections_named(topology, name)
    on_all_nodes(topology, lambda node: node.acl_deluser(name))
    assert not caplog.text


def test_interrupted_subscription_does_not_reconnect(topology: Topology, name: str) -> None:
    with opened(topology, "pubsub", queue_name=name, client_name=name) as broker:
        connection = broker._connection
        wanted = {name}
        client = connection.make_subscriber(name)
        subscribed = subscription.Subscription(client, lambda: frozenset(wanted), 5.0)
        subscribed.update()
        assert subscribed.receive(5.0) is not None  # the reply to SUBSCRIBE
        on_all_nodes(topology, lambda node: kill_named(node, name))

        with pytest.raises(RedisConnectionError):
            subscribed.receive(5.0)
        wanted.add("other")
        # An update doesn't reconnect, which could take long.
        with pytest.raises(RedisConnectionError, match="was interrupted"):
            subscribed.update()
        with pytest.raises(RedisConnectionError):
            subscribed.receive(5.0)
        disconnect(subscribed.client)


def kill_named(node: Any, name: str) -> None:
    """Close the connections of a node with that client name."""
    for client in node.client_list():
        if client["name"] == name:
            node.client_kill_filter(_id=client["id"])


def refusals(topology: Topology, user: str) -> int:
    """Return how often a PING of a user was refused."""
    logs = on_all_nodes(topology, lambda node: node.acl_log())
    return sum(
        int(entry["count"])
        for log in logs
        for entry in log
        if (entry["username"], entry["object"]) == (user, "ping")
    )
