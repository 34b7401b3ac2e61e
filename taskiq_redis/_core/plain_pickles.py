"""Read the pickles that taskiq-redis writes, and no others, in bounded time and memory."""

import pickle
import re
from io import BytesIO
from itertools import chain
from typing import Any

from taskiq.serializers import PickleSerializer

from taskiq_redis.exceptions import UnexpectedPickleError, UnsafeBytesError

#: bytes; default limit of a stored value
MAX_SIZE = 100_000_000
#: bytes of that limit which allow for one operation of a pickle. An operation makes one value, and
#: one byte can make a container, which takes 64 bytes of memory.
BYTES_PER_OPERATION = 25
#: operations that are allowed whatever the limit is
MIN_OPERATIONS = 100_000
#: maximum number of containers in each other; pydantic writes fewer
MAX_DEPTH = 300
#: maximum number of integers with the same hash; a dict with many such keys takes very long
MAX_COLLISIONS = 100
#: maximum length of a name that an error quotes
NAME_WIDTH = 80

_PROTOCOLS = (4, 5)
#: maximum number of operations that one match of `_OPERATIONS` finds
_RUN = 1000


def _texts(longest: int) -> bytes:
    """Return a pattern of texts, up to a length in bytes: SHORT_BINUNICODE and MEMOIZE."""
    sizes = (re.escape(bytes([size])) + b".{%d}" % size for size in range(longest + 1))
    return rb"\x8c(?:" + b"|".join(sizes) + rb")\x94?"


#: the operations with which the pickler of CPython writes trees of plain values
_OPERATIONS = re.compile(
    b"(?:%s){1,%d}"
    % (
        b"|".join(
            [
                _texts(255),
                rb"[}\]]\x94?\(?",  # EMPTY_DICT or EMPTY_LIST, MEMOIZE, MARK
                rb"[uesa(\x94]",  # SETITEMS, APPENDS, SETITEM, APPEND, MARK, MEMOIZE
                rb"[N\x88\x89]",  # NONE, NEWTRUE, NEWFALSE
                rb"h.",  # BINGET
                rb"K.",  # BININT1
                rb"M..",  # BININT2
                rb"J.{4}",  # BININT
                rb"G.{8}",  # BINFLOAT
                rb"j.{4}",  # LONG_BINGET
            ]
        ),
        _RUN,
    ),
    re.DOTALL,
)
_TEXT = _texts(63)
#: a text, or BINGET of one before; a container from there is no key, and a number isn't there
_KEY = rb"(?:%s|h.)" % _TEXT
_SCALAR = b"|".join([rb"[N\x88\x89]", rb"K.", rb"M..", rb"J.{4}", rb"G.{8}", _TEXT])


def _containers(values: bytes) -> bytes:
    """Return a pattern of scalars, and of dicts and lists of values; SETITEMS has up to 1000."""
    dicts = rb"}\x94?(?:(?:\((?:%s(?:%s))+u)+|%s(?:%s)s)?" % (_KEY, values, _KEY, values)
    lists = rb"]\x94?(?:(?:\((?:%s)+e)+|(?:%s)a)?" % (values, values)
    return b"|".join([_SCALAR, dicts, lists])


_VALUE = _containers(_SCALAR)
#: the whole pickle of most results: a dict of scalars and of containers in one or two levels, each
#: of which is in one place only
_SMALL = re.compile(
    rb"\x80[\x04\x05](?:\x95.{8})?}\x94?\((?:%s(?:%s))+u\." % (_KEY, _containers(_VALUE)),
    re.DOTALL,
)
#: a value in it
_SMALL_VALUE = re.compile(_VALUE, re.DOTALL)
#: bytes; longer pickles aren't matched with them, and have further frames
SMALL_SIZE = 60_000
#: the pickle of a result without labels and error: header, `_BEGIN`, return value, `_TIME` with the
#: 8 bytes of a float, `_END`
_HEADERS, _HEADER_SIZE = (b"\x80\x04\x95", b"\x80\x05\x95"), 11
_BEGIN = b"}\x94(\x8c\x06is_err\x94\x89\x8c\x03log\x94N\x8c\x0creturn_value\x94"
_TIME = b"\x8c\x0eexecution_time\x94G"
_END = b"\x8c\x06labels\x94}\x94\x8c\x05error\x94Nu."
#: bytes; length of a value by its operation: NONE, NEWTRUE, NEWFALSE, BININT1, BININT2, BININT,
#: BINFLOAT
_SCALAR_SIZES = {0x4E: 1, 0x88: 1, 0x89: 1, 0x4B: 2, 0x4D: 3, 0x4A: 5, 0x47: 9}
_SHORT_TEXT, _MEMOIZE = 0x8C, 0x94
#: bytes; by operation of variable length, the width of the length that follows it: BINUNICODE,
#: BINUNICODE8, LONG1, LONG4
_LENGTHS = {0x58: 4, 0x8D: 8, 0x8A: 1, 0x8B: 4}
_LONGS = (0x8A, 0x8B)
#: bytes; a shorter pickle has too few numbers for a dict that takes long with them as keys
KEYS_SIZE = 100_000
#: operations that push a number, None or a boolean, perhaps from the memo: their hashes are known
_KNOWN_HASHES = b"KMJG\x8a\x8bhjN\x88\x89"
#: the operation that pushes the empty text, whose hash is known, too
_EMPTY_TEXT = b"\x8c\0"
#: number of those that may be keys, each of which a dict may compare to all others
MAX_NUMBERS = 25_000
#: bytes; in a longer pickle it is less: in one process of 200 or so, the hash of a text is one with
#: which a dict tries the slots of all numbers, each time that the text is a key
NUMBERS_SIZE = 1_000_000
_NUMBER = rb"(?:K.|M..|J.{4}|G.{8})"
#: a number, or the first of many, which stand for all of them: if any of four or more is a key in a
#: dict, so is one of two or three, as keys and values alternate
_FIRST_NUMBERS = rb"(?:(?:%s{2})+(?=%s{2}))?%s" % (_NUMBER, _NUMBER, _NUMBER)
#: other operations, and such a number; one of both may be missing
_BEFORE_NUMBER = re.compile(
    rb"((?:%s|[}\]uesa(\x94N\x88\x89]|h.|j.{4})+)(?:%s)?|%s"
    % (_texts(255), _FIRST_NUMBERS, _FIRST_NUMBERS),
    re.DOTALL,
)
#: NONE and BINPERSID, which push what `persistent_load` returns for None
_STAND_IN = b"NQ"
#: what it returns: no dict takes it as a key, and no pickle can change it for the next ones
_STAND_INS: dict[None, tuple[list[None]]] = {None: ([],)}
_FRAME, _STOP = 0x95, 0x2E
_KEYS: frozenset[type] = frozenset({str})
_CONTAINERS: frozenset[type] = frozenset({dict, list})
#: names of a module and of something in it; STACK_GLOBAL finds them as texts before it
_NAMES = re.compile(rb"([\w.]{1,%d})\n([\w.]{1,%d})\n" % (NAME_WIDTH, NAME_WIDTH))
_STACKED_NAMES = re.compile(
    rb"\x8c.([\w.]{1,%d})\x94?\x8c.([\w.]{1,%d})\x94?\Z" % (NAME_WIDTH, NAME_WIDTH), re.DOTALL
)


class _StandInUnpickler(pickle.Unpickler):
    """Reads a pickle in which a value that no dict takes as a key stands in for each number."""

    # A method in Python would take longer.
    persistent_load = staticmethod(_STAND_INS.__getitem__)  # pyright: ignore[reportAssignmentType]


class PlainPickleSerializer(PickleSerializer):
    """The default serializer: pickle, but it reads plain values only.

    These are dicts with text as keys, lists, text, numbers, booleans and None, which is all that
    results, progress and schedules are made of.

    Args:
        max_size: bytes; determines how many values are read. None for no limit.
    """

    def __init__(self, max_size: int | None = MAX_SIZE) -> None:
        self._limit = (
            None if max_size is None else max(MIN_OPERATIONS, max_size // BYTES_PER_OPERATION)
        )

    def dumpb(self, value: Any) -> bytes:
        """Return the pickle of a value.

        Raises:
            UnexpectedPickleError: it has too many values to be read again.
        """
        data = super().dumpb(value)
        if self._limit is not None and len(data) > self._limit:
            _check_operations(data, self._limit)
        return data

    def loadb(self, value: bytes) -> Any:
        """Return pickled plain values.

        Args:
            value: the pickle.

        Raises:
            UnsafeBytesError: the pickle would import something.
            UnexpectedPickleError: it has other values, or too many.
            UnpicklingError: the pickle is corrupt.
        """
        # Most results need no further checks, which would take three times as long.
        is_small = len(value) <= SMALL_SIZE and (
            _is_simple_result(value) or _SMALL.fullmatch(value) is not None
        )
        if not is_small:
            if value[:1] != b"\x80" or len(value) < 3 or value[1] not in _PROTOCOLS:
                raise _refusal(value, 0)
            _check_operations(value, len(value) if self._limit is None else self._limit)
        try:
            # The operations import nothing and call nothing.
            root = pickle.loads(value)
        except Exception as error:  # noqa: BLE001 - the unpickler raises many kinds
            raise pickle.UnpicklingError(f"{type(error).__name__}: {error}") from None
        if not is_small:
            _check_tree(root, len(value))
        return root


def _is_simple_result(data: bytes) -> bool:
    """Return whether this is a result with a small return value, without labels and error.

    `_SMALL` finds those, too, but takes several microseconds if it isn't in the cache of the CPU.
    """
    begin, end = _HEADER_SIZE + len(_BEGIN), len(data) - len(_TIME) - 8 - len(_END)
    if not (
        begin < end
        and data.startswith(_BEGIN, _HEADER_SIZE)
        and data.startswith(_TIME, end)
        and data.endswith(_END)
        and data.startswith(_HEADERS)
    ):
        return False
    if data[begin] == _SHORT_TEXT:
        return data[begin + 1] == end - begin - 3 and data[end - 1] == _MEMOIZE
    size = _SCALAR_SIZES.get(data[begin])
    return size == end - begin if size else _SMALL_VALUE.fullmatch(data, begin, end) is not None


def _check_operations(data: bytes, limit: int) -> None:
    """Check that a pickle only has operations of plain values, and how many.

    A loop over all operations would take much longer than reading them. So a regular expression
    finds runs of them, and only those of variable length are looked at one by one.
    """
    size, position, left = len(data), 2, limit
    by_hash: dict[int, set[bytes]] = {}
    numbers = 0
    while position < size:
        run = _OPERATIONS.match(data, position)
        begin = position if run is None else run.end()
        # Each operation takes a byte at least, so a short pickle can't have too many.
        left -= min(_RUN, begin - position) + 1
        if left < 0 and size > limit:
            raise UnexpectedPickleError(problem=f"has more than {limit:,} values")
        if size > KEYS_SIZE:
            # Other texts have these bytes, too, and so the check of keys may be done in vain.
            others = data[position:begin].translate(None, _KNOWN_HASHES)
            numbers += begin - position - len(others) + 1
            numbers += data.count(_EMPTY_TEXT, position, begin)
        position = begin
        operation = data[position] if position < size else None
        if operation == _STOP and position + 1 == size:
            break
        if operation == _FRAME:
            position += 9
        elif operation in _LENGTHS:
            begin, position = _variable(data, position)
            if operation in _LONGS and position - begin > 8:
                _check_collisions(by_hash, data[begin:position])
        elif run is None:
            raise _refusal(data, position)
    else:
        raise pickle.UnpicklingError("the pickle has no end")
    if numbers * max(size, NUMBERS_SIZE) > MAX_NUMBERS * NUMBERS_SIZE:
        _check_keys(data)


def _variable(data: bytes, position: int) -> tuple[int, int]:
    """Return begin and end of the value of an operation of variable length."""
    begin = position + 1 + _LENGTHS[data[position]]
    return begin, begin + int.from_bytes(data[position + 1 : begin], "little")


def _check_keys(data: bytes) -> None:
    """Check that no dict has numbers as keys.

    Numbers can be chosen so that a dict tries most of its slots for each one, also if no two have
    the same hash. The hashes of texts are random. So the pickle is read with stand-ins for numbers,
    which no dict takes as keys.

    Args:
        data: a pickle that `_check_operations` has found to have no others.
    """
    parts = [b"\x80\x04"]
    position = 2
    while position < len(data) - 1:
        begin = position
        if (run := _OPERATIONS.match(data, position)) is not None:
            position = run.end()
            # NONE keeps a number from being the last one, and is removed again.
            others = _BEFORE_NUMBER.findall(data[begin:position] + b"N")
            parts.append(_STAND_IN.join(others)[:-1])
        elif data[position] == _FRAME:
            position += 9
        else:
            _, position = _variable(data, position)
            parts.append(_STAND_IN if data[begin] in _LONGS else data[begin:position])
    try:
        _StandInUnpickler(BytesIO(b"".join((*parts, b".")))).load()
    except TypeError:
        raise UnexpectedPickleError(problem="has keys that are no text") from None
    except Exception as error:  # noqa: BLE001 - the unpickler raises many kinds
        raise pickle.UnpicklingError(f"{type(error).__name__}: {error}") from None


def _check_collisions(by_hash: dict[int, set[bytes]], integer: bytes) -> None:
    """Check that not too many integers have one hash; those of 8 bytes can't.

    They are refused as keys of a dict later, but the dict is made before.
    """
    same = by_hash.setdefault(hash(int.from_bytes(integer, "little", signed=True)), set())
    same.add(integer)
    if len(same) > MAX_COLLISIONS:
        raise UnexpectedPickleError(problem="has many integers with the same hash")


def _check_tree(root: Any, size: int) -> None:
    """Check the keys and the depth of a value, and that no container is in several places.

    Args:
        root: the value.
        size: bytes; length of its pickle, in which each value takes a byte at least. Shared
            containers can make a value of exponential size.
    """
    dicts: list[dict[Any, Any]] = [root] if type(root) is dict else []
    lists: list[list[Any]] = [root] if type(root) is list else []
    depth = 0
    while dicts or lists:
        depth += 1
        if depth > MAX_DEPTH:
            raise UnexpectedPickleError(
                problem=f"has more than {MAX_DEPTH} containers in each other"
            )
        size -= len(dicts) + len(lists) + sum(map(len, dicts)) + sum(map(len, lists))
        if size < 0:
            raise UnexpectedPickleError(problem="has a container in several places")
        if not _KEYS.issuperset(map(type, chain.from_iterable(dicts))):
            raise UnexpectedPickleError(problem="has keys that are not text")
        # All containers of one depth at once, so that functions in C do most of it.
        values = chain(chain.from_iterable(map(dict.values, dicts)), chain.from_iterable(lists))
        inner = [value for value in values if type(value) in _CONTAINERS]
        dicts = [value for value in inner if type(value) is dict]
        lists = [value for value in inner if type(value) is list]


def _refusal(data: bytes, position: int) -> UnsafeBytesError:
    """Return the error for an operation that isn't one of plain values."""
    wrong_protocol = position == 0
    if wrong_protocol and data[:1] == b"\x80":
        position = 2
    operation = data[position : position + 1]
    found = None
    if operation in (b"c", b"i"):  # GLOBAL, INST
        found = _NAMES.match(data, position + 1)
    elif operation == b"\x93":  # STACK_GLOBAL
        found = _STACKED_NAMES.search(data, max(0, position - 3 * NAME_WIDTH), position)
    elif operation in (b"\x82", b"\x83", b"\x84"):  # EXT1, EXT2, EXT4
        return UnexpectedPickleError(problem="would import a copyreg extension")
    if found is not None:
        name = b".".join(found.groups()).decode(errors="backslashreplace")
        return UnsafeBytesError(name=name)
    if wrong_protocol:
        return UnexpectedPickleError(problem="has another protocol than 4 and 5")
    return UnexpectedPickleError(problem=f"uses the operation {operation!r}")
