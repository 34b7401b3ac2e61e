"""What credential providers of asyncio and blocking clients have in common."""

from typing import Any

from redis.credentials import StreamingCredentialProvider

from taskiq_redis._core.credentials import rotation_of


class ProviderProxy:
    """Wraps the user's credential provider; by `isinstance`, redis-py finds the class of that.

    Args:
        provider: the user's credential provider, of any kind.
    """

    def __init__(self, provider: Any) -> None:
        self._provider = provider
        #: see `Rotation`; None if it doesn't replace credentials
        self.rotation = (
            rotation_of(provider) if isinstance(provider, StreamingCredentialProvider) else None
        )

    @property
    def __class__(self) -> type[Any]:
        """The class of the user's provider, which decides what redis-py does with it."""
        return type(self._provider)

    @__class__.setter
    def __class__(self, _: type[Any]) -> None:
        raise AttributeError("__class__")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._provider, name)

    def on_next(self, callback: Any) -> None:
        """Ignore a callback of redis-py: `Rotation` has the one that a provider may keep.

        Args:
            callback: ignored.
        """

    def on_error(self, callback: Any) -> None:
        """Ignore a callback of redis-py.

        Args:
            callback: ignored.
        """
