"""Certificates and keys that can't be used are refused, with the option and the reason."""

from pathlib import Path
from typing import Any

import pytest
import trustme

from taskiq_redis._core.tls import certificate_advice, check_tls_options
from taskiq_redis.exceptions import InvalidOptionError
from tests.tls import client_files, write_client_files


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Paths of certificates and keys."""
    directory = tmp_path_factory.mktemp("tls")
    authority = trustme.CA()
    ca_file = directory / "ca.pem"
    authority.cert_pem.write_to_path(str(ca_file))
    write_client_files(authority, ca_file)
    certificate, key = client_files(ca_file)
    other = directory / "other.pem"
    authority.issue_cert("other@example.org").private_key_pem.write_to_path(str(other))
    text = directory / "text.pem"
    text.write_text("text")
    encrypted = directory / "encrypted.pem"
    encrypted.write_text(ENCRYPTED_KEY)
    return {
        "ca": str(ca_file),
        "certificate": certificate,
        "key": key,
        "other key": str(other),
        "text": str(text),
        "encrypted key": str(encrypted),
        "missing": str(directory / "missing.pem"),
        "directory": str(directory),
    }


#: begins as a key that needs a password
ENCRYPTED_KEY = """\
-----BEGIN ENCRYPTED PRIVATE KEY-----
MIHsMFcGCSqGSIb3DQEFDTBKMCkGCSqGSIb3DQEFDDAcBAgx7mOHGGZ8VQICCAAw
-----END ENCRYPTED PRIVATE KEY-----
"""


def options_of(files: dict[str, str], names: dict[str, str]) -> dict[str, Any]:
    """Return options with the paths of files."""
    return {f"ssl_{option}": files.get(name, name) for option, name in names.items()}


@pytest.mark.parametrize(
    "names",
    [
        {},
        {"ca_certs": "ca"},
        {"ca_path": "directory", "ciphers": "ECDHE+AESGCM"},
        {"ca_certs": "ca", "certfile": "certificate", "keyfile": "key"},
        {"ca_certs": "", "certfile": "", "keyfile": "", "ca_path": ""},
    ],
)
def test_usable_files_are_accepted(files: dict[str, str], names: dict[str, str]) -> None:
    check_tls_options(options_of(files, names))


@pytest.mark.parametrize(
    ("names", "option", "reason"),
    [
        ({"ca_certs": "missing"}, "ssl_ca_certs", "No such file or directory"),
        ({"ca_certs": "text"}, "ssl_ca_certs", ""),
        ({"ca_certs": "directory"}, "ssl_ca_certs", ""),
        ({"ca_path": "ca"}, "ssl_ca_path", "Not a directory"),
        ({"ca_data": "text"}, "ssl_ca_data", ""),
        ({"certfile": "missing", "keyfile": "key"}, "ssl_certfile", "No such file or directory"),
        ({"certfile": "certificate", "keyfile": "missing"}, "ssl_keyfile", "No such file"),
        ({"certfile": "certificate", "keyfile": "other key"}, "ssl_certfile", ""),
        ({"certfile": "certificate", "keyfile": "encrypted key"}, "ssl_certfile", ""),
        ({"certfile": "certificate"}, "ssl_certfile", ""),
        ({"keyfile": "key"}, "ssl_keyfile", "there is no `ssl_certfile`"),
        ({"ciphers": "none of these"}, "ssl_ciphers", ""),
    ],
)
def test_unusable_files_are_named(
    files: dict[str, str], names: dict[str, str], option: str, reason: str
) -> None:
    options = options_of(files, names)
    with pytest.raises(InvalidOptionError) as error:
        check_tls_options(options, "sentinel_kwargs")
    text = str(error.value)
    assert text.startswith(f"Invalid option `sentinel_kwargs: {option}`: ")
    assert f"can't be used ({reason}" in text
    if option != "ssl_ca_data":
        assert repr(options[option]) in text


def test_file_that_may_not_be_read_is_named(files: dict[str, str], tmp_path: Path) -> None:
    unreadable = tmp_path / "loop.pem"
    # Also for the superuser, who may read every file.
    unreadable.symlink_to(unreadable)
    with pytest.raises(InvalidOptionError, match=r"`ssl_certfile`.*loop\.pem' can't be used"):
        check_tls_options({"ssl_certfile": str(unreadable), "ssl_keyfile": files["key"]})


@pytest.mark.parametrize(
    "reason",
    [
        "Error while reading from h:1 : (104, 'Connection reset by peer')",
        "Connection closed by server",
        "[SSL: TLSV13_ALERT_CERTIFICATE_REQUIRED] tlsv13 alert certificate required",
    ],
)
def test_closed_connection_may_lack_a_certificate(reason: str) -> None:
    assert "`ssl_certfile`" in certificate_advice({}, reason)
    assert certificate_advice({}, reason, "o").endswith("`ssl_keyfile` in `o`.")
    assert certificate_advice({"ssl_certfile": "path"}, reason) == ""


@pytest.mark.parametrize("reason", ["Timeout connecting to server", "Connection refused"])
def test_unreachable_server_does_not_lack_a_certificate(reason: str) -> None:
    assert certificate_advice({}, reason) == ""
