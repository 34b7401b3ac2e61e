"""Add messages to a queue exactly once, in numbered batches with one in flight at a time."""

import logging
import secrets
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeVar

from taskiq_redis._async.batcher import Batcher, Request, drop_abandoned
from taskiq_redis._async.brokers.task_records import TaskRecorder
from taskiq_redis._async.clients import Client
from taskiq_redis._async.connection import Connection, evaluate, execute
from taskiq_redis._core import lua
from taskiq_redis._core.delays import (
    forbids_for_user,
    forbids_scripts,
    make_unique,
)
from taskiq_redis._core.keys import delayed_key, producer_key, tasks_key
from taskiq_redis._core.locks import ForkSafeLock
from taskiq_redis._core.redis_errors import is_auth_error, keys_are_moving, refuses_any_write
from taskiq_redis._core.refusals import ScriptRefusal
from taskiq_redis._core.wire import as_str
from taskiq_redis.exceptions import CommandRefusedError

T = TypeVar("T")

ENQUEUE = lua.load("producer_sequence", "enqueue")
DELAY_BATCH = lua.load("producer_sequence", "delay")

#: number of producer IDs to try for a batch, if other programs change the number that Redis stores
MAX_IDS = 3
#: number of queues above which a producer forgets those without waiting messages
MANY_QUEUES = 1000

#: advice if workers can't run scripts
DELAYS_NEED_SCRIPTS = (
    "Workers move delayed messages into their queue by a Lua script, so this one would never "
    "arrive: send without a delay, or grant EVAL and EVALSHA to senders and workers."
)

#: returns the words of a command that adds a message: ``name, *arguments``. The queue is inserted
#: after the name, and the message is appended.
AddCommand = Callable[[], tuple[str | int, ...]]

logger = logging.getLogger("taskiq_redis")


class ProducerId:
    """The ID by which Redis knows a producer, and how often its current batch was sent.

    Args:
        queue_name: Redis key of the queue.
    """

    def __init__(self, queue_name: str) -> None:
        self._queue_name = queue_name
        self.number = 0
        #: number of times that the script was sent with this batch and this ID
        self.tries = 0
        self.renew()

    def renew(self) -> None:
        """Get a new producer ID."""
        #: Redis key of the number of the last batch
        self.key = producer_key(self._queue_name, secrets.token_hex(8))
        self.tries = 0

    def begin(self, number: int) -> None:
        """Begin a batch, unless it is the current one."""
        if number != self.number:
            self.number, self.tries = number, 0

    def has_sent(self, stored: bytes | str, repeated: bool) -> bool:
        """Return whether Redis refuses the current batch because an earlier try has added it.

        Args:
            stored: number of the last batch, as Redis has stored it.
            repeated: whether redis-py may have sent the script more than once per try.
        """
        return as_str(stored) == str(self.number) and (self.tries > 1 or repeated)


class QueueProducer:
    """Adds each message to its queue exactly once, or at most once if `submit` raises.

    Redis recognizes a batch that is sent again by the ID of its producer and its number. Each queue
    has a producer ID, and another one for its delayed messages.

    Args:
        connection: where the queues are.
        add_command: see `AddCommand`.
        recorder: records the tasks of the messages. None if they are not tracked.
    """

    def __init__(
        self,
        connection: Connection,
        add_command: AddCommand,
        recorder: TaskRecorder | None,
    ) -> None:
        self._connection = connection
        self._add_command = add_command
        self._recorder = recorder
        self._lock = ForkSafeLock()
        #: by queue, and whether it is for delayed messages
        self._batchers: dict[tuple[str, bool], Batcher[Request]] = {}
        self._refusal = ScriptRefusal(logger, "Messages are sent exactly once again")
        #: the last refusal, if Redis refuses all scripts
        self._no_scripts: CommandRefusedError | None = None
        #: by queue, and whether it is for delayed messages, while its hash slot is moving
        self._moving: dict[tuple[str, bool], ScriptRefusal] = {}

    async def submit(self, queue_name: str, delayed: bool, *requests: Request) -> None:
        """Add messages to a queue in their order.

        Args:
            queue_name: Redis key of the queue.
            delayed: whether the messages have a delay.
            requests: the messages; see `message_request`.

        Raises:
            ServerUnavailableError: Redis could not be reached until their retry timeout.
            CommandRefusedError: Redis refuses one of them.
        """
        queue = (queue_name, delayed)
        refusal_before = self._moving.get(queue) or self._refusal
        if refusal_before.active and not refusal_before.may_retry():
            await self._submit_without_script(queue_name, delayed, requests)
            return
        batcher = self._batchers.get(queue)
        refusal = None
        try:
            await (batcher or self._make_batcher(queue_name, delayed)).submit(*requests)
        except CommandRefusedError as error:
            refusal = error
        if refusal is not None:
            refused = [request for request in requests if request.error is not None]
            await self._submit_refused(queue_name, delayed, refused, refusal)
        elif refusal_before.active:
            refusal_before.record_success()
            self._moving.pop(queue, None)

    def _make_batcher(self, queue_name: str, delayed: bool) -> Batcher[Request]:
        key = _key_of(queue_name, delayed)
        send = partial(self._send, key, ProducerId(queue_name), delayed)
        if self._recorder is not None:
            send = partial(self._recorder.send, send, tasks_key(queue_name))
        batcher = Batcher(self._connection, key, send)
        with self._lock:
            if len(self._batchers) >= MANY_QUEUES:
                self._batchers = {
                    key: batcher for key, batcher in self._batchers.items() if not batcher.idle
                }
            return self._batchers.setdefault((queue_name, delayed), batcher)

    async def _send(
        self,
        key: str,
        producer: ProducerId,
        delayed: bool,
        number: int,
        requests: list[Request],
        retry_timeout: float,
        records: str | None = None,
    ) -> None:
        """Add a batch, completely or not at all (EVALSHA).

        While the hash slot is moving, Redis refuses that, unless it may have been added before.

        Args:
            key: Redis key to add to.
            producer: its ID there.
            delayed: whether the messages have a delay.
            number: number of the batch.
            requests: the messages.
            retry_timeout: s; how long to retry.
            records: Redis key of the records of tasks; None if they are not recorded.
        """
        script = DELAY_BATCH if delayed else ENQUEUE

        async def add(client: Client) -> Any:
            # Redis adds a batch with this number only once, even if a retry has fewer messages. A
            # single message is sent by its own caller.
            if len(requests) > 1:
                drop_abandoned(requests)
            producer.tries += 1
            args: list[str | bytes | int] = [number]
            if not delayed:
                args.append(" ".join(map(str, self._add_command())))
            if records is not None and self._recorder is not None:
                keys = [key, producer.key, records]
                return await self._recorder.add(keys, args, delayed, requests, client)
            for request in requests:
                args += request.args
            return await evaluate(script, [key, producer.key], args, client)

        producer.begin(number)
        size, left = max([request.size for request in requests]), retry_timeout
        began = time.monotonic()
        for _ in range(MAX_IDS):
            reply = await self._connection.call(
                add,
                key=[key, producer.key],
                size=size,
                retry_timeout=left,
                bounded=True,
                # Only the script can find out whether the batch was added when it was sent before.
                waits_for_slot=producer.tries > 0,
            )
            # A list says why the tasks of the batch could not be recorded.
            if reply == 1 or isinstance(reply, list):
                if self._recorder is not None and records is not None:
                    self._recorder.record_reply(reply)
                return
            if producer.has_sent(reply, self._connection.may_repeat):
                return
            logger.warning(
                "The key %r was changed by another program: it doesn't hold the number of a batch "
                "that this process has sent. The messages are sent again, under another key. "
                "Restrict who may write to it.",
                producer.key,
            )
            producer.renew()
            left = max(0.0, retry_timeout - (time.monotonic() - began))
        raise CommandRefusedError(
            server=str(self._connection.server),
            reason=f"another program changes keys such as {producer.key}",
            advice="Use ACL rules to restrict who may write to them.",
        )

    async def _submit_refused(
        self,
        queue_name: str,
        delayed: bool,
        requests: Sequence[Request],
        refusal: CommandRefusedError,
    ) -> None:
        """Add messages without the script that Redis refuses, unless it refuses every command."""
        if is_auth_error(refusal.__cause__):
            raise refusal
        self._no_scripts = refusal if forbids_scripts(refusal) else None
        await self._submit_without_script(queue_name, delayed, requests)
        if self._recorder is not None:
            self._recorder.record_plain()
        if refusal.__cause__ is None:
            # Redis refuses nothing; that another program changes keys is logged each time.
            return
        if keys_are_moving(refusal.__cause__):
            moving = ScriptRefusal(
                logger, f"Messages to {queue_name!r} are sent exactly once again"
            )
            moving = self._moving.setdefault((queue_name, delayed), moving)
            moving.record_refusal(
                "Messages to %r are sent by plain commands, since its hash slot is moving. "
                "Messages whose reply is lost are not sent again. Finish the move, or end it "
                "(CLUSTER SETSLOT <slot> STABLE).",
                queue_name,
            )
            return
        # A plain command would have failed as well if the key was the reason.
        if not refuses_any_write(refusal):
            self._refusal.record_refusal(
                "Messages are sent by plain commands, since the script is refused: %s Messages "
                "whose reply is lost are not sent again. To send each exactly once, grant EVAL, "
                "EVALSHA, SET and the keys %s.",
                refusal,
                producer_key(queue_name, "*"),
            )

    async def _submit_without_script(
        self, queue_name: str, delayed: bool, requests: Sequence[Request]
    ) -> None:
        """Add messages by plain commands (XADD, LPUSH or ZADD).

        If the reply to XADD or LPUSH is lost, the command isn't retried: it may have been executed.
        """
        key = _key_of(queue_name, delayed)
        if delayed and self._no_scripts is not None:
            await self._check_delays(key, self._no_scripts)
        for request in requests:
            await self._connection.call(
                partial(_run, self._plain_command(key, delayed, request)),
                key=key,
                size=request.size,
                # Adding the same member to a sorted set again changes nothing.
                repeatable=delayed,
                retry_timeout=request.time_left(),
                bounded=True,
            )

    async def _check_delays(self, key: str, refusal: CommandRefusedError) -> None:
        """Refuse delayed messages if workers can't move them, since these need a script for that.

        A user who may read them like a worker (ZRANGE) is taken for that of the workers, too.
        Others only send, and the workers may have another user, who may run scripts.
        """
        if forbids_for_user(refusal):
            try:
                await self._connection.call(lambda client: client.zrange(key, 0, 0), key=key)
            except CommandRefusedError:
                return
        raise CommandRefusedError(
            server=refusal.server, reason=refusal.reason, advice=DELAYS_NEED_SCRIPTS
        ) from refusal.__cause__

    def _plain_command(self, key: str, delayed: bool, request: Request) -> list[str | bytes | int]:
        if delayed:
            delay, data = request.args
            # Without a script, the due time is by this computer's clock.
            return ["ZADD", key, int(time.time() * 1000) + int(delay), data]
        name, *arguments = self._add_command()
        return [name, key, *arguments, *request.args]


def message_request(data: bytes, delay: float, retry_timeout: float) -> Request:
    """Return the request that adds a message to its queue.

    Args:
        data: the message.
        delay: s; how long it waits in Redis before it is added to the queue.
        retry_timeout: s; how long to retry.
    """
    if delay > 0:
        data = make_unique(data)
        return Request((round(delay * 1000), data), retry_timeout, len(data))
    return Request((data,), retry_timeout, len(data))


def _key_of(queue_name: str, delayed: bool) -> str:
    return delayed_key(queue_name) if delayed else queue_name


async def _run(command: Sequence[str | bytes | int], client: Client) -> None:
    await execute(client, *command)
