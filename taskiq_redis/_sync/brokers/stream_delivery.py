# Generated from taskiq_redis/_async/brokers/stream_delivery.py by scripts/unasync.py; edit that.

"""The delivery of a stream entry to taskiq's receiver."""

import sys
from collections.abc import Callable
from functools import partial
from typing import Any

from taskiq_redis._core.messages import Delivery, is_task_cancelled, is_task_unknown
from taskiq_redis._runtime.blocking import on_task_done, result_of
from taskiq_redis._sync.brokers.acks import Acknowledger
from taskiq_redis._sync.brokers.consumer_groups import Consumer
from taskiq_redis._sync.brokers.listeners import Fetched


class StreamDelivery(Delivery):
    """One delivery of an entry, whose lease lasts until it is acknowledged or dropped.

    There is one for each message that a worker has fetched. So it has no closures, which would
    make the garbage collector run more often.

    Args:
        consumer: the consumer that got the entry.
        fetched: the entry.
        data: its message, without a signature.
        acknowledger: acknowledges it.
        delete: whether the entry is deleted then.
        finish: called with the delivery instead, if the outcome of the task may call for more.
        always_finish: whether that is for every outcome.
        replaced: acknowledges the entry instead of the acknowledger, if a subclass or an instance
            overrides that; a function of either kind.
    """

    __slots__ = (
        "_acknowledger",
        "_always_finish",
        "_delete",
        "_finish",
        "_replaced",
        "_unwatch",
        "consumer",
        "data",
        "fetched",
    )

    def __init__(
        self,
        consumer: Consumer,
        fetched: Fetched,
        data: bytes,
        acknowledger: Acknowledger,
        delete: bool,
        finish: Callable[[Any], None],
        always_finish: bool,
        replaced: Callable[[], Any] | None,
    ) -> None:
        super().__init__()
        self.consumer = consumer
        self.fetched = fetched
        self.data = data
        self._acknowledger = acknowledger
        self._delete = delete
        self._finish = finish
        self._always_finish = always_finish
        self._replaced = replaced
        self._unwatch: Callable[[], object] | None = None

    def received(self) -> None:
        """Let the lease end with the task of taskiq's receiver, which calls this."""
        # That task may handle other messages later, so it must not refer to the delivery.
        done = partial(self.fetched.keeper.receiver_done, self.fetched.entry)
        self._unwatch = on_task_done(done)

    def dropped(self) -> None:
        """Let the lease end, since nothing can acknowledge the entry any more."""
        self.fetched.keeper.drop(self.fetched.entry, self.is_read)

    def acknowledge(self) -> None:
        """Acknowledge the entry, or do what the outcome of its task calls for."""
        is_special = is_task_unknown.get() or is_task_cancelled.get() or sys.exc_info()[0]
        if is_special or self._always_finish:
            self._finish(self)
        else:
            self.acknowledge_entry()
        self.is_acknowledged = True
        unwatch, self._unwatch = self._unwatch, None
        if unwatch is not None:
            unwatch()

    def acknowledge_entry(self) -> None:
        """Acknowledge the entry, and end its lease."""
        if self._replaced is not None:
            result_of(self._replaced())
            return
        entry = self.fetched.entry
        group = self.consumer.group.name
        self._acknowledger.acknowledge(entry.stream, group, entry.id, self._delete)
        self.fetched.release()
