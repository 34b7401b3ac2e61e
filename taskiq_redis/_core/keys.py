"""Every key name in Redis, in this one place."""

from datetime import datetime, timezone


def hash_tag(name: str) -> str | None:
    """Return the part of a key name that alone decides its slot on a cluster, if it has one."""
    start = name.find("{")
    if start < 0:
        return None
    end = name.find("}", start + 1)
    return name[start + 1 : end] if end > start + 1 else None


def side_key(name: str, suffix: str) -> str:
    """Name a key beside a queue or a prefix, in the same hash slot.

    Args:
        name: the queue or prefix.
        suffix: what the key is for, such as ``due``.
    """
    # Not formatted: a member of an enum of strings would give its own name instead of its value.
    return name + ":" + suffix if hash_tag(name) else "{" + name + "}:" + suffix


def producer_key(queue_name: str, producer_id: str) -> str:
    """Name the key of the number of the last batch that a producer sent to a queue."""
    return side_key(queue_name, f"producer:{producer_id}")


def workers_key(stream: str, group: str) -> str:
    """Name the hash of the workers of a group that listen to a stream."""
    return side_key(stream, f"workers:{group}")


def dead_key(stream: str) -> str:
    """Name the stream of the dead letters of a stream."""
    return side_key(stream, "dead")


def delayed_key(queue_name: str) -> str:
    """Name the sorted set of the messages that are to be in a queue later."""
    return side_key(queue_name, "delayed")


def has_side_keys(name: str) -> bool:
    """Tell whether the keys that `side_key` names are in the slot of the name on a cluster.

    In a name without a hash tag, a closing brace would end the tag that `side_key` makes.
    """
    return hash_tag(side_key(name, "")) == (hash_tag(name) or name)


def result_key(task_id: str, prefix: str | None) -> str:
    """Name the key of a result: ``task_id`` or ``prefix:task_id``."""
    return task_id if prefix is None else f"{prefix}:{task_id}"


def progress_key(key: str) -> str:
    """Name the key of the progress of a task, by the one of its result."""
    return f"{key}__progress"


class ScheduleKeys:
    """The keys of an indexed schedule source.

    Args:
        prefix: what they all begin with.
    """

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix
        #: list of the ids of cron schedules
        self.cron = f"{prefix}:cron"
        #: list of the ids of interval schedules
        self.interval = f"{prefix}:interval"
        #: sorted set of the minutes that have schedules, scored by their Unix time
        self.due = side_key(prefix, "due")
        #: matches the keys of all minutes, also those that an older writer made
        self.any_minute = f"{escape_glob(prefix)}:time:*"

    def data(self, schedule_id: str) -> str:
        """Name the key that holds the bytes of one schedule."""
        return f"{self.prefix}:data:{schedule_id}"

    def minute(self, minute: str) -> str:
        """Name the list of the ids of the one-offs of a minute, such as 2030-01-02T03:04."""
        return f"{self.prefix}:time:{minute}"

    def parse_minute(self, key: str) -> str | None:
        """Return the minute of a key that `minute` made, or None for any other key."""
        minute = key.removeprefix(f"{self.prefix}:time:")
        return minute if minute != key and minute_to_unix(minute) is not None else None


def minute_of(time: datetime) -> str:
    """Write the minute of a time as the keys have it: in UTC; a time without a zone is UTC."""
    if time.tzinfo is None:
        time = time.replace(tzinfo=timezone.utc)
    try:
        time = time.astimezone(timezone.utc)
    except OverflowError:  # before the first or after the last minute of the calendar
        return "0001-01-01T00:00" if time.year == 1 else "9999-12-31T23:59"
    # Not strftime: it writes years before 1000 differently from platform to platform.
    return time.isoformat()[: len("YYYY-MM-DDTHH:MM")]


def minute_to_unix(minute: str) -> int | None:
    """Return the Unix time in seconds of a minute, or None if it isn't one."""
    try:
        # Not strptime: it imports a module on first use, which a fork meanwhile leaves locked.
        time = datetime.fromisoformat(minute).replace(tzinfo=timezone.utc)
    except ValueError:
        return None
    # Other ways to write the same time are no minutes of ours.
    return int(time.timestamp()) if minute_of(time) == minute else None


def escape_glob(text: str) -> str:
    r"""Escape what MATCH of SCAN takes for a wildcard, so that ``a*b`` matches itself only."""
    return "".join(f"\\{char}" if char in "*?[]^-\\" else char for char in text)
