"""Pickles that must not be read: those that run code, and those that take long or much memory."""

import os
import pickle
from datetime import datetime, timezone
from decimal import Decimal
from typing import Any

import pytest
from typing_extensions import Self


def detonate(*args: Any) -> Any:
    """Fail the test: decoding ran code."""
    pytest.fail("code from Redis was run")


class Exploding:
    """Runs code when it is unpickled.

    Args:
        reduction: value of `__reduce_ex__`, which decides the opcodes.
    """

    def __init__(self, *reduction: Any) -> None:
        self._reduction = reduction

    def __reduce_ex__(self, protocol: Any) -> Any:
        return self._reduction


class Plain:
    """A harmless class, which unpickling would import."""

    def __init__(self) -> None:
        self.value = 1


class WithState:
    def __init__(self) -> None:
        self.value = 1

    def __setstate__(self, state: Any) -> None:
        detonate()


class WithNew:
    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        if args or kwargs:
            detonate()
        return super().__new__(cls)

    def __getnewargs_ex__(self) -> Any:
        return (1,), {"more": 2}


def text(value: str) -> bytes:
    """Return the opcode of a short string."""
    return b"\x8c" + bytes([len(value)]) + value.encode()


ATTACKS: dict[str, bytes] = {
    "GLOBAL and REDUCE": b"cos\nsystem\n(S'exit 1'\ntR.",
    "STACK_GLOBAL": b"\x80\x04" + text("os") + text("system") + b"\x93" + text("x") + b"\x85R.",
    "a global alone": b"cos\nsystem\n.",
    "a builtin": b"cbuiltins\neval\n(S'1'\ntR.",
    "a builtin of Python 2": b"\x80\x02c__builtin__\neval\n(S'1'\ntR.",
    "a dotted name": b"\x80\x04" + text("os") + text("path.join") + b"\x93.",
    "a missing module": b"cno.such.module\nname\n.",
    "INST": b"(S'exit 1'\nios\nsystem\n.",
    "OBJ": b"(cos\nsystem\nS'exit 1'\no.",
    "NEWOBJ": pickle.dumps(Plain(), 2),
    "NEWOBJ_EX": pickle.dumps(WithNew(), 4),
    "BUILD": pickle.dumps(WithState(), 4),
    "BUILD on a global": b"cos\nsystem\n}b.",
    "copyreg": pickle.dumps(Plain(), 0),
    "inside of a list": pickle.dumps([1, Exploding(detonate, ())], 4),
    "inside of a dict": pickle.dumps({"is_err": Exploding(os.system, ("exit 1",))}, 4),
    "list items by a reducer": pickle.dumps(Exploding(list, (), None, iter([1])), 2),
    "dict items by a reducer": pickle.dumps(Exploding(dict, (), None, None, iter([(1, 2)])), 2),
    "a set by protocol 2": pickle.dumps({1}, 2),
    "a complex number": pickle.dumps(1j, 4),
    "a decimal": pickle.dumps(Decimal(1), 4),
    "a time": pickle.dumps(datetime(2030, 1, 1, tzinfo=timezone.utc), 4),
    "an exception": pickle.dumps(ValueError("x"), 4),
    "a function": pickle.dumps(detonate, 4),
}

#: refused by the unpickler itself
REFUSED: dict[str, bytes] = {
    "a persistent id": b"Pid\n.",
    "a binary persistent id": b"\x80\x04" + text("id") + b"Q.",
    "an unknown extension": b"\x80\x02\x82\xf0.",
    "an unknown long extension": b"\x80\x02\x84\xf0\x00\x00\x7f.",
    "an extension of code 0": b"\x80\x02\x82\x00.",
    "a buffer from outside": b"\x80\x05\x97.",
    "a read-only buffer from outside": b"\x80\x05\x97\x98.",
    "REDUCE on text": b"\x80\x04" + text("x") + b")R.",
    "NEWOBJ on text": b"\x80\x04" + text("x") + b")\x81.",
    "BUILD on a dict": b"}}S'x'\nS'y'\nsb.",
}

DEEP = 200_000


def pickled(body: bytes) -> bytes:
    """Return a pickle of protocol 4.

    Args:
        body: its operations.
    """
    return b"\x80\x04" + body + b"."


def long(number: int) -> bytes:
    """Return the operation of an integer of any length."""
    size = number.bit_length() // 8 + 1
    return b"\x8a" + bytes([size]) + number.to_bytes(size, "little", signed=True)


def shared_lists(levels: int) -> bytes:
    """Return a small pickle of a list in which each list is twice in another one."""
    both = b"".join(
        b"]\x94(h" + bytes([level]) + b"h" + bytes([level]) + b"e" for level in range(levels)
    )
    return pickled(b"]\x94" + both)


#: hash of integers in CPython is modulo this number
MODULUS = 2**61 - 1

#: pickles that are small, but take long or much memory, or end the process
BOMBS: dict[str, bytes] = {
    "nested lists": pickled(b"]" * DEEP + b"a" * (DEEP - 1)),
    "nested tuples": pickled(b")" + b"\x85" * DEEP),
    "nested tuples as a key": pickled(b"})" + b"\x85" * DEEP + b"Ns"),
    "nested dicts": pickled((b"}" + text("k")) * DEEP + b"N" + b"s" * DEEP),
    "a list in itself": pickled(b"]\x94h\x00a"),
    "shared lists": shared_lists(30),
    "a list that is in another one many times": pickled(
        b"](]\x94(" + b"N" * 50_000 + b"e" + b"h\x00" * 50_000 + b"e"
    ),
    "a large index of the memo": b"\x80\x02Nr\xff\xff\xff\x7f.",
    "a large index of the memo as text": b"Np2147483647\n.",
    "integers with the same hash as keys": pickled(
        b"}(" + b"".join(long(number * MODULUS) + b"N" for number in range(1, 15_000)) + b"u"
    ),
    "large integers with the same hash": pickled(
        b"](" + b"".join(long((1 << 100 * 8) + number * MODULUS) for number in range(200)) + b"e"
    ),
    "more bytes than there are": b"\x80\x05\x96" + (2**62).to_bytes(8, "little"),
    "more text than there is": pickled(b"\x8d" + (2**40).to_bytes(8, "little") + b"x"),
    "a longer integer than there is": pickled(b"\x8b\xff\xff\xff\x7fx"),
}
