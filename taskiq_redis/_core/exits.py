"""Event loops that end while the process exits."""

import contextlib
from typing import Any


def let_end_at_exit(loop: Any) -> None:
    """Let an event loop end at exit, when Python 3.12 forbids to start threads.

    asyncio starts one to wait for the loop's own threads, which Python has waited for by then.

    Args:
        loop: an event loop of asyncio.
    """
    shutdown = loop.shutdown_default_executor

    async def shutdown_default_executor(*args: Any, **kwargs: Any) -> None:
        with contextlib.suppress(RuntimeError):
            await shutdown(*args, **kwargs)

    loop.shutdown_default_executor = shutdown_default_executor
