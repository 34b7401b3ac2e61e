"""Check TLS options before the first connection, and explain connections that servers close."""

import os
import ssl
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from taskiq_redis.exceptions import InvalidOptionError

_GIVE_FILE = "Give the path of a PEM file that this process may read."
_GIVE_DATA = "Give certificates as text in PEM format, or as bytes in DER format."
_GIVE_PAIR = (
    "Give a certificate, its private key in `ssl_keyfile`, and the password of the key in "
    "`ssl_password`, if it has one."
)
#: texts in the errors of connections that a server closes during or after the handshake
_CLOSED = ("alert", "broken pipe", "closed", "eof", "handshake", "reset")


def check_tls_options(options: Mapping[str, Any], owner: str = "") -> None:
    """Check that certificates and keys can be used; redis-py reads them when it connects.

    Args:
        options: connection options.
        owner: the option that holds them; '' if they are options of their own.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    certificate, key = options.get("ssl_certfile"), options.get("ssl_keyfile")
    # Without a password, OpenSSL would ask for it on the terminal.
    password = options.get("ssl_password") or ""
    checks: list[tuple[str, Callable[[Any], object], str]] = [
        ("ssl_ca_certs", lambda path: context.load_verify_locations(cafile=path), _GIVE_FILE),
        ("ssl_ca_path", os.listdir, "Give the path of a directory that this process may read."),
        ("ssl_ca_data", lambda data: context.load_verify_locations(cadata=data), _GIVE_DATA),
        ("ssl_certfile", _read, _GIVE_FILE),
        ("ssl_keyfile", _read, _GIVE_FILE),
        ("ssl_keyfile", lambda _: _require(certificate), _GIVE_PAIR),
        ("ssl_certfile", lambda path: context.load_cert_chain(path, key, password), _GIVE_PAIR),
        ("ssl_ciphers", context.set_ciphers, "Give ciphers as `openssl ciphers` prints them."),
    ]
    for option, check, advice in checks:
        value = options.get(option)
        if not value:
            continue
        try:
            check(value)
        except (OSError, TypeError, ValueError) as error:
            what = "the value" if option == "ssl_ca_data" else repr(value)
            raise InvalidOptionError(
                option=f"{owner}: {option}" if owner else option,
                problem=f"{what} can't be used ({getattr(error, 'strerror', None) or error})",
                advice=advice,
            ) from error


def _read(path: Any) -> None:
    with Path(path).open("rb") as file:
        file.read(1)


def _require(certificate: Any) -> None:
    if not certificate:
        raise ValueError("there is no `ssl_certfile`")


def certificate_advice(options: Mapping[str, Any], reason: str, owner: str = "") -> str:
    """Return further advice if the server may require a client certificate; '' if not.

    Such a server just closes a connection without one.

    Args:
        options: options of a connection that uses TLS.
        reason: text of the error.
        owner: the option that holds them; '' if they are options of their own.
    """
    if options.get("ssl_certfile") or not any(text in reason.lower() for text in _CLOSED):
        return ""
    where = f" in `{owner}`" if owner else ""
    return (
        "If the server requires a client certificate, give `ssl_certfile` and "
        f"`ssl_keyfile`{where}."
    )
