# Generated from tests/_async/test_tls.py by scripts/unasync.py; edit that.

"""TLS works, and what is wrong with its options, files and servers is said."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from taskiq_redis.exceptions import (
    CommandRefusedError,
    InvalidOptionError,
    ServerUnavailableError,
)
from tests._sync.bad_input import FAIL_SOON, MECHANISMS, ON, at_port, names_of, use
from tests._sync.support import build, message, opened
from tests.servers import HOST, Topology
from tests.tls import client_files, tls_in_front_of


def test_tls_client_on_plain_port_is_reported(topology: Topology) -> None:
    plain = topology.nodes[0][1]
    tls_topology = at_port(topology, plain, "rediss") if topology.kind != "sentinel" else topology
    options: dict[str, Any] = {"ssl": True} if topology.kind == "sentinel" else {}
    options |= {"socket_timeout": 0.2, "socket_connect_timeout": 0.2, **FAIL_SOON}
    with opened(tls_topology, "list", **options) as broker:
        with pytest.raises(ServerUnavailableError, match="both sides use TLS or neither does"):
            broker.kick(message(b"a"))


@pytest.fixture
def tls(topology: Topology, tmp_path: Path) -> Iterator[tuple[int, str]]:
    """A TLS port, and the file with its CA certificate."""
    ca_file = tmp_path / "ca.pem"
    with tls_in_front_of(topology.nodes[0], ca_file) as port:
        yield port, str(ca_file)


@ON["single"]
@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_tls_connection_works(
    topology: Topology, name: str, mechanism: str, tls: tuple[int, str]
) -> None:
    port, ca_file = tls
    options = {"ssl_ca_certs": ca_file, **names_of(mechanism, name)}
    with opened(at_port(topology, port, "rediss"), mechanism, **options) as made:
        use(made, mechanism)


@pytest.mark.parametrize("topology", ["single", "cluster"], indirect=True)
def test_plain_client_on_tls_port_is_reported(topology: Topology, tls: tuple[int, str]) -> None:
    with opened(at_port(topology, tls[0]), "list", **FAIL_SOON) as broker:
        with pytest.raises((ServerUnavailableError, CommandRefusedError), match="TLS"):
            broker.kick(message(b"a"))


@ON["sentinel"]
def test_plain_client_on_tls_port_of_sentinel_is_reported(
    topology: Topology, tmp_path: Path, name: str
) -> None:
    with tls_in_front_of(topology.sentinels[0], tmp_path / "ca.pem") as port:
        behind = replace(topology, sentinels=((HOST, port),))
        with opened(behind, "list", **FAIL_SOON) as broker:
            with pytest.raises(ServerUnavailableError, match=r"`sentinel_kwargs` .*'ssl': True"):
                broker.kick(message(b"a"))
        options = {"ssl": True, "ssl_ca_certs": str(tmp_path / "ca.pem")}
        with opened(behind, "list", queue_name=name, sentinel_kwargs=options) as broker:
            broker.kick(message(b"a"))


@pytest.mark.parametrize("topology", ["single", "cluster"], indirect=True)
def test_untrusted_certificate_is_reported(topology: Topology, tls: tuple[int, str]) -> None:
    with opened(at_port(topology, tls[0], "rediss"), "list") as broker:
        with pytest.raises(CommandRefusedError, match=r"host name, and `ssl_ca_certs`\."):
            broker.kick(message(b"a"))


@pytest.fixture
def mutual_tls(topology: Topology, tmp_path: Path) -> Iterator[tuple[int, Path]]:
    """A TLS port that requires a client certificate, and the file with its CA certificate."""
    ca_file = tmp_path / "ca.pem"
    with tls_in_front_of(topology.nodes[0], ca_file, mutual=True) as port:
        yield port, ca_file


@ON["single"]
@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_client_certificate_works(
    topology: Topology, name: str, mechanism: str, mutual_tls: tuple[int, Path]
) -> None:
    port, ca_file = mutual_tls
    certificate, key = client_files(ca_file)
    options = {"ssl_ca_certs": str(ca_file), "ssl_certfile": certificate, "ssl_keyfile": key}
    secured = at_port(topology, port, "rediss")
    with opened(secured, mechanism, **options, **names_of(mechanism, name)) as made:
        use(made, mechanism)


def test_missing_client_certificate_is_reported(
    topology: Topology, mutual_tls: tuple[int, Path]
) -> None:
    port, ca_file = mutual_tls
    options: dict[str, Any] = {"ssl_ca_certs": str(ca_file)}
    where = ""
    if topology.kind == "sentinel":
        options, where = {"sentinel_kwargs": {"ssl": True, **options}}, " in `sentinel_kwargs`"
    secured = at_port(topology, port, "rediss")
    with opened(secured, "list", **options, **FAIL_SOON) as broker:
        with pytest.raises(ServerUnavailableError) as error:
            broker.kick(message(b"a"))
    advice = "If the server requires a client certificate, give `ssl_certfile` and `ssl_keyfile`"
    assert str(error.value).endswith(f"{advice}{where}.")


def test_missing_tls_file_is_reported_when_the_object_is_made(
    topology: Topology, tmp_path: Path
) -> None:
    missing = str(tmp_path / "missing.pem")
    problem = f"'{missing}' can't be used (No such file or directory). Give"
    secured = replace(topology, url=topology.url.replace("redis:", "rediss:"))
    for option in ("ssl_ca_certs", "ssl_ca_path", "ssl_certfile", "ssl_keyfile"):
        options: dict[str, Any] = {"ssl": True} if topology.kind == "sentinel" else {}
        for mechanism in MECHANISMS:
            with pytest.raises(InvalidOptionError) as error:
                build(secured, mechanism, **options, **{option: missing})
            assert f"Invalid option `{option}`: {problem}" in str(error.value)
        if topology.kind == "sentinel":
            with pytest.raises(InvalidOptionError) as error:
                build(topology, "list", sentinel_kwargs={"ssl": True, option: missing})
            assert f"Invalid option `sentinel_kwargs: {option}`: {problem}" in str(error.value)
        else:
            in_url = replace(secured, url=f"{secured.url}?{option}={quote(missing)}")
            with pytest.raises(InvalidOptionError) as error:
                build(in_url, "list")
            assert f"Invalid option `{option}`: {problem}" in str(error.value)
