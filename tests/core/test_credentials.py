"""What a credential provider says about its credentials reaches all connections."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from redis.auth.token import SimpleToken
from redis.credentials import StreamingCredentialProvider

from taskiq_redis._core.credentials import credentials_in, rotation_of


@dataclass
class Provider(StreamingCredentialProvider):
    """A provider that has no hash, as it is a dataclass."""

    callbacks: list[Callable[[Any], Any]] = field(default_factory=list)
    on_errors: list[Callable[[Exception], Any]] = field(default_factory=list)

    def on_next(self, callback: Callable[[Any], Any]) -> None:
        self.callbacks.append(callback)

    def on_error(self, callback: Callable[[Exception], Any]) -> None:
        self.on_errors.append(callback)

    def is_streaming(self) -> bool:
        return True


class Client:
    """Stands for a client of redis-py."""


def token(**claims: str) -> SimpleToken:
    return SimpleToken("secret", 2e12, 0.0, claims)


def test_provider_gets_one_callback() -> None:
    provider = Provider()
    rotation = rotation_of(provider)
    assert rotation_of(provider) is rotation
    assert len(provider.callbacks) == len(provider.on_errors) == 1
    assert rotation_of(Provider()) is not rotation


def test_callback_works_with_and_without_await() -> None:
    class Awaited:
        def __await__(self) -> Any:
            return note().__await__()

    async def note() -> None:
        done.append("awaited")

    def authenticate_later(client: object) -> Awaitable[None]:
        return Awaited()

    def authenticate_now(client: object) -> None:
        done.append("called")

    async def receive() -> None:
        await provider.callbacks[0](first)
        await asyncio.create_task(provider.callbacks[0](first))
        await provider.on_errors[0](KeyError("a"))

    done: list[str] = []
    provider, one, other = Provider(), Client(), Client()
    rotation = rotation_of(provider)
    rotation.add_client(one, authenticate_later)
    rotation.add_client(other, authenticate_now)
    first, second = token(oid="a"), token(oid="b")
    asyncio.run(receive())
    assert rotation.token is first
    assert sorted(done) == ["awaited", "awaited", "called", "called"]
    provider.callbacks[0](second)
    assert rotation.token is second
    assert done.count("awaited") == 2
    del other
    provider.callbacks[0](first)
    assert done.count("called") == 3


@pytest.mark.parametrize("given", [token(), ("user", "secret"), None])
def test_token_without_username_has_no_credentials(given: Any) -> None:
    assert credentials_in(given) is None


def test_token_has_credentials() -> None:
    assert credentials_in(token(oid="user")) == ("user", "secret")
