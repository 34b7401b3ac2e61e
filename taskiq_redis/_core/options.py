"""The options of brokers, result backends and schedule sources, and their validation.

The defaults are those of the public constructors, which pass every field.
"""

import dataclasses
import warnings
from collections.abc import Mapping, Sequence
from typing import TypeVar

from taskiq.abc.serializer import TaskiqSerializer

from taskiq_redis._core import keys
from taskiq_redis._core.checks import (
    check_at_least,
    check_entry_id,
    check_exceptions,
    check_name,
    check_types,
    plain_names,
)
from taskiq_redis.exceptions import (
    DuplicateExpireTimeSelectedError,
    ExpireTimeMustBeMoreThanZeroError,
    InvalidOptionError,
)

#: s; longest time for which tasks are recorded, 100 years
MAX_TRACK_TTL = 3_153_600_000

Options = TypeVar("Options", bound="QueueOptions | ResultOptions | ScheduleOptions")


def _attribute(name: str) -> dict[str, str]:
    """Return the metadata of a field whose attribute had another name in 1.2.4."""
    return {"attribute": name}


@dataclasses.dataclass(frozen=True, kw_only=True)
class QueueOptions:
    """Options of all brokers.

    Args:
        queue_name: key of the queue, or name of the channel for pub/sub. A task with a label
            ``queue_name`` is sent to that queue instead.
        kick_timeout: s; how long sending is retried while Redis can't be reached. One try takes as
            long at most, or a second if that is longer.
    """

    queue_name: str
    kick_timeout: float

    def __post_init__(self) -> None:
        _make_names_plain(self)
        check_name("queue_name", self.queue_name)
        check_types(self)
        check_at_least("kick_timeout", self.kick_timeout, 0.001)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ChannelOptions(QueueOptions):
    """Options of pub/sub brokers.

    Args:
        max_message_size: bytes; longer messages are refused. None for what the server can deliver
            by its ``client-output-buffer-limit`` for pubsub, or by the default of that if the user
            may not read it: a longer one would close the connections of the listeners.
    """

    max_message_size: int | None

    def __post_init__(self) -> None:
        super().__post_init__()
        check_at_least("max_message_size", self.max_message_size, 1)


@dataclasses.dataclass(frozen=True, kw_only=True)
class StoredQueueOptions(QueueOptions):
    """Options of brokers on streams and lists.

    Args:
        keep_failed: whether a task becomes a dead letter when it raises and isn't retried, with its
            error and traceback.
        max_dead_letters: maximum number of dead letters of a queue; the oldest are deleted when
            another one is added. None for no limit.
        dead_letter_ttl: s; older dead letters are deleted when another one is added. None for no
            limit.
        unknown_task_timeout: s; a message whose task a worker doesn't know goes back to the queue
            for other workers. When no worker has known it for so long, it becomes a dead letter,
            and an error result is stored.
        track_tasks: whether each task that is sent is recorded beside its queue, so that `status`
            can tell more about it. Brokers that send, work or ask need the same value.
        track_ttl: s; how long a record is kept after the task was sent, or was due.
    """

    keep_failed: bool
    max_dead_letters: int | None
    dead_letter_ttl: float | None
    unknown_task_timeout: float
    track_tasks: bool
    track_ttl: float

    def __post_init__(self) -> None:
        super().__post_init__()
        check_at_least("max_dead_letters", self.max_dead_letters, 1)
        check_at_least("dead_letter_ttl", self.dead_letter_ttl, 0.001)
        check_at_least("unknown_task_timeout", self.unknown_task_timeout, 0)
        if not 1 <= self.track_ttl <= MAX_TRACK_TTL:
            raise InvalidOptionError(
                option="track_ttl",
                problem=f"{self.track_ttl} is too small or too large",
                advice=f"Give a number of seconds from 1 to {MAX_TRACK_TTL:,}.",
            )


@dataclasses.dataclass(frozen=True, kw_only=True)
class StreamOptions(StoredQueueOptions):
    """Options of stream brokers.

    Args:
        consumer_group_name: name of the consumer group. Its workers share the messages; each group
            gets all messages.
        consumer_name: name of this worker in its group, unique among all workers. None for a new
            UUID.
        consumer_id: where a new group begins to read: an entry ID, ``0`` or ``$``. None for ``0``
            if the stream has no group yet, so that no earlier message is missed, else ``$``.
        mkstream: whether a worker creates a stream that doesn't exist.
        xread_block: ms; how long one XREADGROUP waits for new messages.
        maxlen: maximum length of the stream, applied at each send. It drops messages that no worker
            has received, too. None for no maximum.
        approximate: whether the stream may become a little longer than `maxlen`, which is cheaper.
        idle_timeout: ms; a worker's lease on a message. It is renewed while the task runs, so a
            task may take longer. When a worker dies, others get its messages after this time.
        unacknowledged_batch_size: maximum number of messages that one claim takes from other
            workers.
        unacknowledged_lock_timeout: accepted for 1.2.4, without effect; a warning says so.
        xread_count: maximum number of messages per read, of all streams together; None for no
            limit. A read fetches one message, or more while the worker starts all of them promptly.
        additional_streams: further streams to listen to, each with ``>``. An entry ID in place of
            ``>`` makes no difference: pending messages of this consumer are claimed like those of
            others.
        delete_acked: whether a message is deleted when every group of its stream has acknowledged
            it. If not, the stream grows until it is trimmed.
        max_deliveries: a message that so many workers failed to acknowledge is moved to the dead
            letters instead of being run again. None for no limit.
    """

    consumer_group_name: str
    consumer_name: str | None
    consumer_id: str | int | None
    mkstream: bool
    xread_block: int = dataclasses.field(metadata=_attribute("block"))
    maxlen: int | None
    approximate: bool
    idle_timeout: int
    unacknowledged_batch_size: int
    unacknowledged_lock_timeout: float | None
    xread_count: int | None = dataclasses.field(metadata=_attribute("count"))
    additional_streams: Mapping[str, str | int] | None
    delete_acked: bool
    max_deliveries: int | None

    def __post_init__(self) -> None:
        _make_names_plain(self)
        check_name("consumer_group_name", self.consumer_group_name)
        super().__post_init__()
        if self.consumer_name:
            check_name("consumer_name", self.consumer_name)
        if self.consumer_id is not None:
            check_entry_id("consumer_id", self.consumer_id, "$")
        for name, position in (self.additional_streams or {}).items():
            check_name("additional_streams", name)
            check_entry_id("additional_streams", position, ">")
        check_at_least("xread_block", self.xread_block, 1)
        check_at_least("idle_timeout", self.idle_timeout, 1)
        check_at_least("unacknowledged_batch_size", self.unacknowledged_batch_size, 1)
        check_at_least("xread_count", self.xread_count, 1)
        check_at_least("max_deliveries", self.max_deliveries, 1)
        check_at_least("maxlen", self.maxlen, 0)
        if self.maxlen is not None:
            _warn(
                "`maxlen` drops messages that no worker has received yet when the stream is longer."
            )
        if self.unacknowledged_lock_timeout is not None:
            _warn("`unacknowledged_lock_timeout` has no effect: claiming messages needs no lock.")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ResultOptions:
    """Options of result backends.

    Args:
        keep_results: whether a result stays in Redis when it has been read.
        result_ex_time: s; how long results and progress are kept. None for ever.
        result_px_time: ms; the same. At most one of the two can be given.
        serializer: turns results into bytes and back. None for pickle, read so that it yields
            plain values only and can't run code.
        prefix_str: keys are ``prefix_str:task_id`` instead of ``task_id``.
        store_tracebacks: whether the traceback of a failed task is stored as the log of its result,
            which ``get_result(with_logs=True)`` returns. It shows source code of the worker, and
            the texts of exceptions.
        max_value_size: bytes; longer results and progress are neither stored nor read. None for no
            limit.
        allowed_exceptions: classes of exceptions that a result may raise, with their subclasses;
            those of this package are in any case. Others, and `StopIteration` unless it is listed
            itself, are replaced by `RefusedExceptionError`.
        read_timeout: s; how long reading is retried while Redis can't be reached. One try takes as
            long at most, or a second if that is longer.
    """

    keep_results: bool
    result_ex_time: int | None
    result_px_time: int | None
    serializer: TaskiqSerializer | None
    prefix_str: str | None
    store_tracebacks: bool
    max_value_size: int | None
    allowed_exceptions: Sequence[type[BaseException]]
    read_timeout: float

    def __post_init__(self) -> None:
        _make_names_plain(self)
        check_types(self)
        check_at_least("max_value_size", self.max_value_size, 1)
        check_exceptions("allowed_exceptions", self.allowed_exceptions)
        check_at_least("read_timeout", self.read_timeout, 0.001)
        if self.prefix_str:
            check_name("prefix_str", self.prefix_str)
        times = [time for time in (self.result_ex_time, self.result_px_time) if time is not None]
        if any(time <= 0 for time in times):
            raise ExpireTimeMustBeMoreThanZeroError
        if len(times) > 1:
            raise DuplicateExpireTimeSelectedError


@dataclasses.dataclass(frozen=True, kw_only=True)
class ScheduleOptions:
    """Options of schedule sources.

    Args:
        prefix: prefix of all keys of the source.
        serializer: turns schedules into bytes and back. None for pickle, read so that it yields
            plain values only and can't run code.
        buffer_size: maximum number of keys per MGET.
        skip_past_schedules: whether one-off schedules that were due before the minute of the first
            read are skipped, instead of being run late. Indexed sources only.
        max_value_size: bytes; longer schedules are neither stored nor read. None for no limit.
    """

    prefix: str
    serializer: TaskiqSerializer | None
    buffer_size: int
    skip_past_schedules: bool
    max_value_size: int | None

    def __post_init__(self) -> None:
        _make_names_plain(self)
        check_name("prefix", self.prefix)
        check_types(self)
        check_at_least("buffer_size", self.buffer_size, 1)
        check_at_least("max_value_size", self.max_value_size, 1)


def read_back(source: object, options: type[Options]) -> Options:
    """Return the current options of an object, with later changes of its attributes.

    Args:
        source: a broker, result backend or schedule source.
        options: class of its options.
    """
    # Without the constructor, which would check the values, and warn about them, once more.
    read = object.__new__(options)
    for field in dataclasses.fields(options):
        value = getattr(source, field.metadata.get("attribute", field.name))
        object.__setattr__(read, field.name, value)
    _make_names_plain(read)
    return read


def _make_names_plain(options: "QueueOptions | ResultOptions | ScheduleOptions") -> None:
    for field in dataclasses.fields(options):
        value = getattr(options, field.name)
        plain = plain_names(value)
        if plain is not value:
            object.__setattr__(options, field.name, plain)


def check_hash_tag(option: str, name: str) -> None:
    """Refuse a prefix without a hash tag, whose keys would be in many slots of a cluster.

    Args:
        option: name of the option, for error messages.
        name: the prefix.
    """
    if keys.hash_tag(name) is None:
        raise InvalidOptionError(
            option=option,
            problem=f"the keys with the prefix {name!r} would be in many slots of the cluster",
            advice=f"Put braces around the prefix, as in {{{name}}}: a hash tag keeps them in one.",
        )


def check_side_keys(option: str, name: str) -> None:
    """Refuse a queue on a cluster whose side keys would be in another slot than the queue.

    Args:
        option: name of the option, for error messages.
        name: the queue.
    """
    if not keys.has_side_keys(name):
        raise InvalidOptionError(
            option=option,
            problem=f"on a cluster, the side keys of {name!r} would be in another hash slot",
            advice="Leave out the closing brace, or put a hash tag such as {app} before it.",
        )


def _warn(message: str) -> None:
    # The warning shows the line that calls the public constructor.
    warnings.warn(message, UserWarning, stacklevel=5)
