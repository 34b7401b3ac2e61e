# Generated from taskiq_redis/_async/brokers/unknown_tasks.py by scripts/unasync.py; edit that.

"""Put back messages of a list whose tasks a worker doesn't know."""

import hashlib
import logging
from typing import Any

from taskiq import TaskiqMessage

from taskiq_redis._core import lua
from taskiq_redis._core.keys import unknown_tasks_key
from taskiq_redis._sync.brokers.dead_letter_store import describe_task
from taskiq_redis._sync.brokers.producer import QueueProducer, message_request
from taskiq_redis._sync.connection import Connection
from taskiq_redis.exceptions import TaskIQRedisError

RECORD_UNKNOWN_TASK = lua.load("record_unknown_task")

#: s; how long a message is delayed that was put back
DELAY = 1.0
#: s; how long putting it back is retried: without it, the message is lost
RETRY_TIMEOUT = 60.0
#: ms; how long the time of a refusal is kept, in addition to twice the timeout
KEPT = 60_000
#: maximum number of messages whose first refusal is remembered
LIMIT = 100_000

logger = logging.getLogger("taskiq_redis")


def put_back(
    connection: Connection,
    producer: QueueProducer,
    queue_name: str,
    data: bytes,
    task: TaskiqMessage,
    timeout: float,
) -> bool:
    """Put a message back into its queue, for other workers, which may know its task.

    It is delayed for a moment, so that this worker doesn't pop it again at once. If Redis can't be
    reached for a minute, or refuses this, the message is lost. This logs that, and returns True.

    Args:
        connection: where the queue is.
        producer: adds messages to the queue.
        queue_name: Redis key of the list.
        data: the message as it was sent, with its signature.
        task: its task, for log messages.
        timeout: s; how long other workers may take it.

    Returns:
        Whether it was put back; False if a worker has first refused it too long ago.
    """
    if timeout == 0:
        return False
    timeout_ms = round(timeout * 1000)
    digest = hashlib.sha1(data).hexdigest()  # noqa: S324 - no secret
    try:
        refused_for: Any = connection.run_script(
            RECORD_UNKNOWN_TASK,
            [unknown_tasks_key(queue_name)],
            [digest, timeout_ms, 2 * timeout_ms + KEPT, LIMIT],
            retry_timeout=RETRY_TIMEOUT,
        )
        if refused_for >= timeout_ms:
            return False
        request = message_request(data, DELAY, RETRY_TIMEOUT)
        producer.submit(queue_name, DELAY > 0, request)
    except TaskIQRedisError as error:
        logger.error(  # noqa: TRY400 - its traceback adds nothing
            "The message of %s is lost, since it can't be put back into the queue %r: %s",
            describe_task(task),
            queue_name,
            error,
        )
    return True
