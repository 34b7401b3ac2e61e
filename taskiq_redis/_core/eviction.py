"""Which keys a server deletes while its memory is full."""

from typing import Any

from taskiq_redis._core.notices import warn_once


def check_policy(memory: Any, queue_name: str, server: str) -> None:
    """Warn once if a server may evict keys without a TTL, such as those of queues.

    Args:
        memory: the section of INFO about memory; of any node of a cluster, or by node.
        queue_name: the queue, for the warning.
        server: description of the server, for the warning.
    """
    for section in [memory, *memory.values()] if isinstance(memory, dict) else []:
        policy = section.get("maxmemory_policy") if isinstance(section, dict) else None
        # Without a limit of its memory, the server evicts nothing; some services hide it.
        if str(policy).startswith("allkeys-") and section.get("maxmemory") != 0:
            warn_once(
                "%s has `maxmemory-policy` %s: while its memory is full, it deletes any keys, also "
                "the queue %r with all of its tasks. Set it to noeviction, or give the tasks a "
                "server of their own. See docs/operations.md.",
                server,
                policy,
                queue_name,
            )
            return
