"""The options of each mechanism: their description, their defaults, what is wrong with them.

The public constructors pass them on. A field is read back from an object under its own name, or
under the one in its metadata, where 1.2.4 gave the attribute another.
"""

import dataclasses
import warnings
from collections.abc import Mapping
from typing import TypeVar

from taskiq.abc.serializer import TaskiqSerializer

from taskiq_redis._core import keys
from taskiq_redis._core.checks import check_at_least, check_entry_id, check_name, check_types
from taskiq_redis.exceptions import (
    DuplicateExpireTimeSelectedError,
    ExpireTimeMustBeMoreThanZeroError,
    InvalidOptionError,
)

Options = TypeVar("Options", bound="QueueOptions | ResultOptions | ScheduleOptions")


def _attribute(name: str) -> dict[str, str]:
    return {"attribute": name}


@dataclasses.dataclass(frozen=True, kw_only=True)
class QueueOptions:
    """What every broker has.

    Args:
        queue_name: the key of the queue (a channel, for pub/sub). The label ``queue_name`` of a
            task sends it elsewhere.
        kick_timeout: s; how long sending waits while Redis can't be reached. A read that is under
            way then still ends by itself, or by redis-py's ``socket_timeout``.
    """

    queue_name: str = "taskiq"
    kick_timeout: float = 10.0

    def __post_init__(self) -> None:
        check_name("queue_name", self.queue_name)
        check_types(self)
        check_at_least("kick_timeout", self.kick_timeout, 0.001)


@dataclasses.dataclass(frozen=True, kw_only=True)
class StreamOptions(QueueOptions):
    """What stream brokers have besides.

    Args:
        consumer_group_name: workers of one group share the messages; each group gets them all.
        consumer_name: the name of this worker in its group; by default a new UUID. It has to be
            unique.
        consumer_id: where a new group begins to read: an entry id, ``0`` or ``$``. By default
            (None) at ``0`` if the stream has no group yet, so that nothing sent earlier is
            missed, else at ``$``.
        mkstream: whether a worker creates a stream that doesn't exist yet.
        xread_block: ms; how long a read waits for new messages before it is renewed. A cluster or
            sentinel broker waits 10,000, a single-node broker 2,000.
        maxlen: cap on the length of the stream at each send; it drops messages that nobody has
            received yet, too. By default there is none.
        approximate: whether `maxlen` may be overshot a little, which is cheaper.
        idle_timeout: ms; a worker's lease on a message. It is renewed all the time, so a task may
            take longer; when a worker has died, its messages go to others after this time.
        unacknowledged_batch_size: most messages that are taken over in one go.
        unacknowledged_lock_timeout: not needed any more, and without effect; a warning says so.
        xread_count: most messages that one read fetches, of all streams together, or None for no
            limit. It fetches one, or as many as are started at once.
        additional_streams: further streams to listen to, and ``>`` for each. An id instead of that
            makes no difference any more: what the consumer itself was given before is taken over as
            what others were given.
        delete_acked: whether a message is deleted once every group of its stream has acknowledged
            it. If not, the stream grows until it is trimmed.
        max_deliveries: a message is not run any more, and moved to the dead letters, when this many
            workers have failed to acknowledge it. None for no limit.
    """

    consumer_group_name: str = "taskiq"
    consumer_name: str | None = None
    consumer_id: str | int | None = None
    mkstream: bool = True
    xread_block: int = dataclasses.field(default=2000, metadata=_attribute("block"))
    maxlen: int | None = None
    approximate: bool = True
    idle_timeout: int = 15_000
    unacknowledged_batch_size: int = 100
    unacknowledged_lock_timeout: float | None = None
    xread_count: int | None = dataclasses.field(default=100, metadata=_attribute("count"))
    additional_streams: Mapping[str, str | int] | None = None
    delete_acked: bool = True
    max_deliveries: int | None = 5

    def __post_init__(self) -> None:
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
                "`maxlen` drops messages that no worker has received yet, if the queue is longer."
            )
        if self.unacknowledged_lock_timeout is not None:
            _warn(
                "`unacknowledged_lock_timeout` has no effect: taking messages over needs no lock."
            )


@dataclasses.dataclass(frozen=True, kw_only=True)
class ResultOptions:
    """What result backends have.

    Args:
        keep_results: whether a result stays in Redis once it was read.
        result_ex_time: s; how long results and progress are kept. By default for ever.
        result_px_time: the same in ms. Give at most one of the two.
        serializer: turns results into bytes and back. By default pickle, read so that it yields
            plain values only and can't run code.
        prefix_str: keys are ``prefix_str:task_id`` instead of ``task_id``.
    """

    keep_results: bool = True
    result_ex_time: int | None = None
    result_px_time: int | None = None
    serializer: TaskiqSerializer | None = None
    prefix_str: str | None = None

    def __post_init__(self) -> None:
        check_types(self)
        if self.prefix_str:
            check_name("prefix_str", self.prefix_str)
        times = [time for time in (self.result_ex_time, self.result_px_time) if time is not None]
        if any(time <= 0 for time in times):
            raise ExpireTimeMustBeMoreThanZeroError
        if len(times) > 1:
            raise DuplicateExpireTimeSelectedError


@dataclasses.dataclass(frozen=True, kw_only=True)
class ScheduleOptions:
    """What schedule sources have.

    Args:
        prefix: what all keys of the source begin with.
        serializer: turns schedules into bytes and back. By default pickle, read so that it yields
            plain values only and can't run code.
        buffer_size: most keys that one MGET reads.
        skip_past_schedules: whether one-off schedules of earlier minutes than that of the first
            read are left alone, instead of being run late. Indexed sources only.
    """

    prefix: str = "schedule"
    serializer: TaskiqSerializer | None = None
    buffer_size: int = 50
    skip_past_schedules: bool = False

    def __post_init__(self) -> None:
        check_name("prefix", self.prefix)
        check_types(self)
        check_at_least("buffer_size", self.buffer_size, 1)


def read_back(source: object, options: type[Options]) -> Options:
    """Read the options that an object has now, changes of its attributes included."""
    # Past the constructor: the values were checked, and warned about, when the user gave them.
    read = object.__new__(options)
    for field in dataclasses.fields(options):
        value = getattr(source, field.metadata.get("attribute", field.name))
        object.__setattr__(read, field.name, value)
    return read


def check_hash_tag(option: str, name: str) -> None:
    """Refuse a name whose side keys would be in other slots of a cluster."""
    if keys.hash_tag(name) is None:
        raise InvalidOptionError(
            option=option,
            problem=f"the keys of {name!r} are spread over the slots of a cluster",
            advice=f"Put braces around the part that they share, as in {{{name}}}.",
        )


def check_side_keys(option: str, name: str) -> None:
    """Refuse a name on a cluster whose side keys would be in another slot than its own."""
    if not keys.has_side_keys(name):
        raise InvalidOptionError(
            option=option,
            problem=f"on a cluster, no key beside {name!r} would share its hash slot",
            advice="Leave out the closing brace, or write a hash tag before it, such as {app}.",
        )


def _warn(message: str) -> None:
    # Named is the line of the user who calls the public constructor.
    warnings.warn(message, UserWarning, stacklevel=5)
