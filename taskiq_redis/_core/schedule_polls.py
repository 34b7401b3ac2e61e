"""The reply of ``poll_schedules.lua``."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from taskiq_redis._core.wire import as_str, text_pairs


@dataclass(frozen=True)
class PollReply:
    """The reply of ``poll_schedules.lua``.

    Args:
        version: version of the index.
        complete: whether `read` and `due` are all schedules, not only those that changed.
        read: by ID, the score of crons, intervals, and changed schedules; empty without one.
        due: by ID, the due time of one-offs in ms.
        no_lists: keys that aren't lists.
        over: minutes whose lists can be deleted when their schedules were sent.
        crowded: whether most of the IDs in the lists of crons and intervals are of no use.
        refusal: why the scheduler isn't registered; empty if it is, or needn't be.
    """

    version: str
    complete: bool
    read: dict[str, str]
    due: dict[str, int]
    no_lists: list[str]
    over: list[str]
    crowded: bool
    refusal: str


def parse_poll(reply: Sequence[Any]) -> PollReply:
    """Parse the reply of ``poll_schedules.lua``.

    Args:
        reply: the reply.
    """
    version, complete, read, due, no_lists, over, crowded, refusal = reply
    return PollReply(
        as_str(version),
        bool(complete),
        dict(text_pairs(read)),
        {schedule_id: int(float(score)) for schedule_id, score in text_pairs(due)},
        [as_str(key) for key in no_lists],
        [as_str(minute) for minute in over],
        bool(crowded),
        as_str(refusal),
    )
