"""Leases without I/O: which entries a worker holds, and when it may claim those of others."""

import time
from collections import deque
from collections.abc import Collection, Iterable

from taskiq_redis._core.locks import ForkSafeLock
from taskiq_redis._core.wire import StreamEntry

#: part of a lease that a renewal may wait for a reply; a renewal starts every third
TIMEOUT_FRACTION = 6
#: s, and part of a lease: a renewal waits for the shorter of both at least, or short leases could
#: not be renewed from afar, or by a busy computer
MIN_TIMEOUT, MIN_TIMEOUT_FRACTION = 0.5, 2
#: s; maximum, or a worker with long leases could not stop while Redis doesn't answer
MAX_TIMEOUT = 5.0

#: the stream and the ID of an entry
EntryKey = tuple[str, str]


class LeaseTable:
    """The entries that one reader holds, each from its delivery until its acknowledgement.

    An entry is first *fetched*, then *leased* when it is handed over to be run. A lease that ends
    without an acknowledgement leaves the entry *failed*, until it is handed back; or *unacked*,
    which isn't renewed and is delivered again, until it isn't pending for this consumer any more.
    An entry whose receiver was cancelled is *cut short* if the worker stops, else *failed*.
    """

    def __init__(self) -> None:
        self._lock = ForkSafeLock()
        self._fetched: set[EntryKey] = set()
        self._leased: dict[EntryKey, StreamEntry] = {}
        self._failed: dict[EntryKey, StreamEntry] = {}
        #: when the receivers of failed entries were cancelled, by the monotonic clock
        self._cancelled: dict[EntryKey, float] = {}
        #: None instead of the entry once `record_unacked` has returned it
        self._unacked: dict[EntryKey, StreamEntry | None] = {}
        #: leased entries without a receiver task that could end their lease; the reader does
        self._untracked: set[EntryKey] = set()
        # Appended to without the lock, as the garbage collector may do it at any time.
        self._discarded: deque[StreamEntry] = deque()
        self._dropped: deque[StreamEntry] = deque()

    def __len__(self) -> int:
        """Return the number of leases."""
        return len(self._leased)

    def __contains__(self, key: EntryKey) -> bool:
        """Return whether an entry is leased."""
        return key in self._leased

    @property
    def has_entries_to_hand_back(self) -> bool:
        """Whether an entry waits to be handed back, or for the end of its lease."""
        return bool(self._failed or self._discarded or self._dropped)

    @property
    def has_running_entries(self) -> bool:
        """Whether a receiver task may still acknowledge an entry."""
        return len(self._leased) > len(self._failed) + len(self._untracked)

    def drop(self, entry: StreamEntry, was_read: bool) -> None:
        """Record that nothing can acknowledge a leased entry any more; never waits.

        Args:
            entry: the entry.
            was_read: whether its data was read, so that it may have been run. If not, the receiver
                has discarded it.
        """
        (self._dropped if was_read else self._discarded).append(entry)

    def pop_dropped(self) -> StreamEntry | None:
        """Return an entry that was read and dropped, whose lease is to be ended; None for none."""
        return self._dropped.popleft() if self._dropped else None

    def pop_discarded(self) -> StreamEntry | None:
        """Forget an entry that was discarded and is still leased, and return it, or None."""
        while self._discarded:
            entry = self._discarded.popleft()
            with self._lock:
                if self._leased.get(_key_of(entry)) is entry:
                    self._forget(_key_of(entry))
                    return entry
        return None

    def add_fetched(self, entries: Iterable[StreamEntry]) -> None:
        """Record entries that were delivered and are not handed over yet."""
        with self._lock:
            for key in map(_key_of, entries):
                self._fetched.add(key)
                self._unacked.pop(key, None)

    def lease(self, entry: StreamEntry, *, tracked: bool) -> None:
        """Begin the lease of an entry that is handed over.

        Args:
            entry: the entry.
            tracked: whether `end` or `drop` is called, if its receiver doesn't acknowledge it.
        """
        key = _key_of(entry)
        with self._lock:
            self._fetched.discard(key)
            self._leased[key] = entry
            if not tracked:
                self._untracked.add(key)

    def release(self, key: EntryKey) -> StreamEntry | None:
        """Forget an entry that is acknowledged, lost or handed back; return it if it was leased."""
        with self._lock:
            self._fetched.discard(key)
            self._unacked.pop(key, None)
            return self._forget(key)

    def _forget(self, key: EntryKey) -> StreamEntry | None:
        self._failed.pop(key, None)
        self._cancelled.pop(key, None)
        self._untracked.discard(key)
        return self._leased.pop(key, None)

    def end_untracked(self) -> list[EntryKey]:
        """End the leases of entries that no receiver task tracks, and return their keys."""
        with self._lock:
            keys = list(self._untracked)
            for key in keys:
                self._forget(key)
                self._unacked[key] = None
            return keys

    def unacked(self, stream: str) -> list[str]:
        """Return the IDs of the unacknowledged entries of a stream."""
        with self._lock:
            return [entry_id for of, entry_id in self._unacked if of == stream]

    def record_unacked(
        self, stream: str, checked: Iterable[str], gone: Collection[str]
    ) -> list[StreamEntry]:
        """Forget unacknowledged entries that are gone, and return the others, each only once.

        Args:
            stream: their stream.
            checked: IDs of the entries that were looked up.
            gone: IDs of those that are not pending for this consumer any more.
        """
        with self._lock:
            for entry_id in gone:
                self._unacked.pop((stream, entry_id), None)
            keys = [(stream, entry_id) for entry_id in checked]
            entries = [self._unacked.get(key) for key in keys]
            self._unacked.update((key, None) for key in keys if key in self._unacked)
        return [entry for entry in entries if entry is not None]

    def end(self, entry: StreamEntry, *, failed: bool, cancelled: bool = False) -> bool:
        """End the lease of an entry whose receiver is done, and return whether it had one.

        Args:
            entry: the entry; an acknowledged one has no lease any more.
            failed: whether the receiver raised an exception or was cancelled.
            cancelled: whether it was cancelled.
        """
        with self._lock:
            key = _key_of(entry)
            if self._leased.get(key) is not entry or key in self._failed:
                return False
            if failed:
                # Renewed until it is handed back.
                self._failed[key] = entry
                if cancelled:
                    self._cancelled[key] = time.monotonic()
            else:
                self._forget(key)
                self._unacked[key] = entry
            return True

    def pop_failed(self, wait: float = 0.0) -> StreamEntry | None:
        """Forget an entry that failed, and return it; None if there is none.

        Args:
            wait: s; for how long an entry whose receiver was cancelled is kept, since the worker
                may be about to stop.
        """
        with self._lock:
            latest = time.monotonic() - wait
            for key in self._failed:
                if self._cancelled.get(key, latest) <= latest:
                    return self._forget(key)
        return None

    def pop_cut_short(self, *, running: bool) -> list[StreamEntry]:
        """Forget entries that the stop of a worker has cut short, and return them.

        Args:
            running: whether those count whose receivers are not done, not only those whose
                receivers were cancelled.
        """
        with self._lock:
            keys = set(self._cancelled)
            if running:
                keys |= self._leased.keys() - self._failed.keys() - self._untracked
            return [entry for entry in map(self._forget, sorted(keys)) if entry is not None]

    def leased(self, stream: str) -> list[str]:
        """Return the IDs of the leased entries of a stream."""
        with self._lock:
            return [entry_id for of, entry_id in self._leased if of == stream]

    def not_started(self, stream: str, pending: Iterable[str]) -> set[str]:
        """Return the IDs of entries that this worker has not started to run.

        Args:
            stream: their stream.
            pending: IDs of all entries that Redis lists as pending for this consumer.
        """
        with self._lock:
            started = {entry_id for of, entry_id in (*self._leased, *self._unacked) if of == stream}
            fetched = {entry_id for of, entry_id in self._fetched if of == stream}
        return fetched.union(pending) - started


def _key_of(entry: StreamEntry) -> EntryKey:
    return entry.stream, entry.id


def renewal_timeout(lease: float) -> float:
    """Return how long a renewal waits for a reply, so that a second try is still in time.

    Args:
        lease: s; duration of the lease.
    """
    fraction = min(MAX_TIMEOUT, lease / TIMEOUT_FRACTION)
    return max(fraction, min(MIN_TIMEOUT, lease / MIN_TIMEOUT_FRACTION))


class RenewalState:
    """When the leases on a stream were last renewed, and whether others' leases may be claimed.

    Args:
        lease: s; duration of the worker's own leases.
    """

    def __init__(self, lease: float) -> None:
        self._lease = lease
        #: by the monotonic clock
        self._renewed = time.monotonic()
        #: ms of Unix time by the server's clock
        self._server_time = 0
        #: by the monotonic clock
        self._trusted_from = float("inf")
        #: ms of Unix time by the server's clock; when it was first renewed, 0 before that
        self.started = 0

    def record(self, began: float, server_time: int, last_seen: int) -> None:
        """Record a renewal.

        Args:
            began: when it was sent, by the monotonic clock.
            server_time: ms of Unix time; when the server executed it.
            last_seen: ms of Unix time; the previous renewal that the server has; 0 for none.
        """
        # A replica that has just been promoted may have missed renewals of all workers.
        gap = max(began - self._renewed, (server_time - last_seen) / 1000)
        if self._trusted_from == float("inf") or gap > self._lease / 2:
            self._trusted_from = time.monotonic() + self._lease / 2
        self._renewed, self._server_time = began, server_time
        self.started = self.started or server_time

    def may_claim_until(self) -> int:
        """Return until when entries of others may be claimed, in ms of Unix time; 0 for not now.

        After a start or an outage, leases of live workers seem to have expired until they renew
        them. The server compares the limit with its own clock, as it may execute a claim late.
        """
        now = time.monotonic()
        if now - self._renewed > self._lease / 2 or now < self._trusted_from:
            return 0
        return self._server_time + round(self._lease * 1000) // 2


class PoisonSlot:
    """Lets a worker run one suspect at a time: an entry whose deliveries have failed before.

    A suspect may crash the worker. If several ran at the same time, a crash would count as a failed
    delivery of each of them, and harmless entries would become dead letters.
    """

    def __init__(self) -> None:
        self._lock = ForkSafeLock()
        self._taken = False
        self._suspect: EntryKey | None = None

    def reserve(self) -> bool:
        """Reserve the slot for a suspect that may be claimed, and return whether it was free."""
        with self._lock:
            was_free, self._taken = not self._taken, True
        return was_free

    def assign(self, suspect: StreamEntry | None) -> None:
        """Assign the reserved slot to the suspect that was claimed; free it if there is none."""
        with self._lock:
            self._suspect = None if suspect is None else _key_of(suspect)
            self._taken = suspect is not None

    def free(self, key: EntryKey) -> None:
        """Free the slot, if it belongs to this entry."""
        with self._lock:
            if self._suspect == key:
                self._suspect, self._taken = None, False
