"""Names of all keys in Redis."""

from collections.abc import Sequence
from datetime import datetime, timezone


def hash_tag(name: str) -> str | None:
    """Return the hash tag of a key: the part in braces that decides its slot on a cluster."""
    start = name.find("{")
    if start < 0:
        return None
    end = name.find("}", start + 1)
    return name[start + 1 : end] if end > start + 1 else None


def side_key(name: str, suffix: str) -> str:
    """Return a key that belongs to a queue or prefix, in the same hash slot.

    Args:
        name: the queue or prefix.
        suffix: end of the key, such as ``due``.
    """
    # Not an f-string: it would insert the name of an enum member instead of its value.
    return name + ":" + suffix if hash_tag(name) else "{" + name + "}:" + suffix


def producer_key(queue_name: str, producer_id: str) -> str:
    """Return the key with the number of the last batch that a producer sent to a queue."""
    return side_key(queue_name, f"producer:{producer_id}")


def workers_key(stream: str, group: str) -> str:
    """Return the key of the hash with the workers of a group on a stream."""
    return side_key(stream, "workers:" + group)


def dead_letters_key(stream: str) -> str:
    """Return the key of the stream with the dead letters of a stream."""
    return side_key(stream, "dead")


def unknown_tasks_key(queue_name: str) -> str:
    """Return the key of the sorted set with when messages of unknown tasks were refused."""
    return side_key(queue_name, "unknown")


def delayed_key(queue_name: str) -> str:
    """Return the key of the sorted set with the delayed messages of a queue."""
    return side_key(queue_name, "delayed")


def paused_key(queue_name: str) -> str:
    """Return the key that exists while a queue is paused: since when, in ms of Unix time."""
    return side_key(queue_name, "paused")


def tasks_key(queue_name: str) -> str:
    """Return the key of the sorted set with the records of a queue's tracked tasks."""
    return side_key(queue_name, "tasks")


def has_side_keys(name: str) -> bool:
    """Return whether the keys from `side_key` are in the same hash slot as the name.

    In a name without a hash tag, a closing brace would end the hash tag that `side_key` adds.
    """
    return hash_tag(side_key(name, "")) == (hash_tag(name) or name)


def slot_advice(keys: Sequence[str]) -> str:
    """Return advice for a command whose keys are in several hash slots of one endpoint.

    It quotes the name that the user gave, such as a queue or prefix, if there is just one.

    Args:
        keys: keys of the command, or patterns for them.
    """
    tags = {tag for tag in map(hash_tag, keys) if tag}
    names = tags or {key.rpartition(":")[0] for key in keys}
    reason = "This service spreads keys over several servers, unless they share a part in braces"
    if len(names) == 1 and (name := min(names)):
        change = f": write '{{{name}}}' instead of {name!r}"
    else:
        change = ", as in '{tasks}:a' and '{tasks}:b', or in `prefix_str='{results}'`"
    return f"{reason}{change}. For a Redis Cluster, use the Cluster class."


def result_key(task_id: str, prefix: str | None) -> str:
    """Return the key of a result: ``task_id`` or ``prefix:task_id``."""
    # As in `side_key`, names may be members of an enum.
    return task_id if prefix is None else prefix + ":" + task_id


def progress_key(key: str) -> str:
    """Return the key of the progress of a task, given the key of its result."""
    return key + "__progress"


class ScheduleKeys:
    """The keys of a schedule source.

    Args:
        prefix: prefix of all keys.
        family: put before the names of the sorted set, the hashes and so on, so that both kinds of
            sources can share a prefix.
    """

    def __init__(self, prefix: str, family: str = "") -> None:
        self.prefix = prefix
        #: list with the IDs of cron schedules
        self.cron = prefix + ":cron"
        #: list with the IDs of interval schedules
        self.interval = prefix + ":interval"
        #: pattern for SCAN that matches the lists of all minutes
        self.any_minute = f"{escape_glob(prefix)}:time:*"
        names = ("due", "meta", "changes", "minutes", "fired", "claims")
        #: the keys described in `schedule_index.lua`
        self.index = [side_key(prefix, family + name) for name in names]
        self.due, self.meta, self.changes, self.minutes, self.fired, self.claims = self.index
        #: hash with the registered schedulers, shared by both kinds of sources
        self.schedulers = side_key(prefix, "schedulers")
        #: patterns that match all keys, for error messages
        self.patterns = [prefix + ":*", side_key(prefix, "*")]
        #: hash with the lock of a migration, and prefix of the set of the IDs that it has added
        self.migration = side_key(prefix, family + "migration")
        self.migrated = side_key(prefix, family + "migrated")

    def data(self, schedule_id: str) -> str:
        """Return the key of the bytes of a schedule."""
        return self.prefix + ":data:" + schedule_id

    def minute(self, minute: str) -> str:
        """Return the key of the list of one-off schedules of a minute, such as 2030-01-02T03:04."""
        return self.prefix + ":time:" + minute

    def parse_minute(self, key: str) -> str | None:
        """Return the minute in a key from `minute`, or None for any other key."""
        minute = key.removeprefix(self.prefix + ":time:")
        return minute if minute != key and minute_to_unix(minute) is not None else None


def minute_of(time: datetime) -> str:
    """Return the minute of a time in UTC, such as 2030-01-02T03:04; naive times are in UTC."""
    if time.tzinfo is None:
        time = time.replace(tzinfo=timezone.utc)
    try:
        time = time.astimezone(timezone.utc)
    except OverflowError:  # before year 1 or after year 9999 in UTC
        return "0001-01-01T00:00" if time.year == 1 else "9999-12-31T23:59"
    # Not strftime, whose %Y depends on the platform for years before 1000.
    return time.isoformat()[: len("YYYY-MM-DDTHH:MM")]


def minute_to_unix(minute: str) -> int | None:
    """Return the Unix time of a minute in s, or None if the text isn't a minute."""
    try:
        # Not strptime, which imports a module on first use: a fork meanwhile leaves its lock held.
        time = datetime.fromisoformat(minute).replace(tzinfo=timezone.utc)
    except ValueError:
        return None
    # Other spellings of the same minute don't occur in keys.
    return int(time.timestamp()) if minute_of(time) == minute else None


def escape_glob(text: str) -> str:
    r"""Escape the wildcards of SCAN MATCH, so that ``a*b`` matches only itself."""
    return "".join(f"\\{char}" if char in "*?[]^-\\" else char for char in text)
