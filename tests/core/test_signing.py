"""Signatures: what is valid, and that nothing can be changed or moved."""

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from taskiq_redis import Signer
from taskiq_redis._core.signing import PREFIX, SIGNATURE_LENGTH, Purpose, Signing
from taskiq_redis.exceptions import InvalidOptionError, SignatureError

OLD, NEW = b"o" * 32, "n" * 32
SIGNER = Signer({"old": OLD})
PURPOSES: list[Purpose] = ["message", "result", "progress", "schedule"]

#: beginnings of values that taskiq's serializers write: JSON, pickle, MessagePack and CBOR
UNSIGNED = [b'{"a":1}', b"\x80\x05\x95", b"\x81\xa1a\x01", b"\xa1aa\x01", b"", b"t", PREFIX[:-1]]


def problem_of(signer: Signer, value: bytes, purpose: Purpose = "message", name: str = "q") -> str:
    with pytest.raises(SignatureError) as caught:
        signer.verify(purpose, name, value)
    assert caught.value.purpose == purpose
    assert caught.value.name == name
    return caught.value.problem


@pytest.mark.parametrize("purpose", PURPOSES)
@pytest.mark.parametrize("payload", [b"", b"{}", bytes(range(256)), PREFIX + b"a:"])
def test_signed_value_is_verified(purpose: Purpose, payload: bytes) -> None:
    signed = SIGNER.sign(purpose, "queue:ü", payload)
    assert signed == SIGNER.sign(purpose, "queue:ü", payload)
    assert signed.startswith(b"taskiq-redis:signed:old:")
    assert signed.endswith(payload)
    assert SIGNER.verify(purpose, "queue:ü", signed) == payload


def test_signature_of_a_known_value_stays_the_same() -> None:
    assert SIGNER.sign("message", "q", b"x")[len(PREFIX) + 4 : -1].hex() == (
        "9a95d98f4d9aecc59c42ac98211d60a3856cf73c8d3a7f0e8272a50e09f2a93c"
    )


@pytest.mark.parametrize("purpose", PURPOSES)
def test_value_can_not_be_moved(purpose: Purpose) -> None:
    signed = SIGNER.sign(purpose, "q", b"x")
    for other in PURPOSES:
        for name in ("q", "Q", "", "q:", "other"):
            if (other, name) != (purpose, "q"):
                assert "its signature is wrong" in problem_of(SIGNER, signed, other, name)


def test_parts_of_what_is_signed_can_not_be_exchanged() -> None:
    signed = SIGNER.sign("message", "ab", b"cd")
    head = signed[: -len(b"cd")]
    for name, payload in [("a", b"bcd"), ("abc", b"d"), ("abcd", b""), ("", b"abcd")]:
        assert "its signature is wrong" in problem_of(SIGNER, head + payload, name=name)


def test_truncated_value_is_refused() -> None:
    signed = SIGNER.sign("message", "q", b"payload")
    for length in range(len(signed)):
        problem_of(SIGNER, signed[:length])
    problem_of(SIGNER, signed + b"\0")


def test_changed_bit_is_noticed() -> None:
    signed = SIGNER.sign("message", "q", b"payload")
    for place in range(len(signed)):
        for bit in range(8):
            changed = bytearray(signed)
            changed[place] ^= 1 << bit
            problem_of(SIGNER, bytes(changed))


@settings(max_examples=50, deadline=None)
@given(st.binary(max_size=200), st.booleans())
def test_other_bytes_are_refused(value: bytes, with_prefix: bool) -> None:
    problem_of(SIGNER, PREFIX * with_prefix + value)
    problem_of(SIGNER, PREFIX + b"old:" * with_prefix + value)


@pytest.mark.parametrize("value", UNSIGNED)
def test_unsigned_value_is_refused_unless_accepted(value: bytes) -> None:
    assert problem_of(SIGNER, value) == "it is not signed, and `accept_unsigned` is off"
    for lenient in (
        Signer({"old": OLD}, accept_unsigned=True),
        Signer({"old": OLD}, verify_only=True),
    ):
        assert lenient.verify("message", "q", value) == value


def test_invalid_signature_is_refused_if_unsigned_values_are_accepted() -> None:
    signer = Signer({"old": OLD}, accept_unsigned=True)
    signed = signer.sign("message", "q", b"x")
    assert SIGNER.verify("message", "q", signed) == b"x"
    assert "its signature is wrong" in problem_of(signer, signed + b"y")
    assert problem_of(signer, PREFIX + b"x") == "its signature is malformed"


def test_signer_that_only_verifies_reads_signed_values_and_writes_unsigned_ones() -> None:
    signer = Signer({"old": OLD}, verify_only=True)
    assert signer.sign("message", "q", b"x") == b"x"
    assert signer.verify("message", "q", SIGNER.sign("message", "q", b"x")) == b"x"
    assert "its signature is wrong" in problem_of(signer, SIGNER.sign("message", "other", b"x"))


def test_keys_are_rotated_without_a_gap() -> None:
    stages = [
        Signer({"old": OLD}),
        Signer({"old": OLD, "new": NEW}),
        Signer({"new": NEW, "old": OLD}),
        Signer({"new": NEW}),
    ]
    for before, after in pairwise(stages):
        for writer, reader in ((before, after), (after, before)):
            value = writer.sign("result", "key", b"x")
            assert reader.verify("result", "key", value) == b"x"
    signed = stages[0].sign("result", "key", b"x")
    assert problem_of(stages[-1], signed, "result", "key") == (
        "it is signed with the key 'old', which is unknown here"
    )


def test_same_key_under_another_id_and_another_key_under_the_same_id_are_refused() -> None:
    signed = SIGNER.sign("message", "q", b"x")
    renamed = signed.replace(b":old:", b":new:")
    assert "its signature is wrong" in problem_of(Signer({"new": OLD}), renamed)
    assert "another key of the ID 'old'" in problem_of(Signer({"old": NEW}), signed)


def test_key_given_as_text_is_its_utf_8() -> None:
    text = "ü" * 16
    signed = Signer({"k": text}).sign("message", "q", b"x")
    assert Signer({"k": text.encode()}).verify("message", "q", signed) == b"x"


def test_keys_are_not_shown() -> None:
    signer = Signer({"a": "hunter" * 9, "b": b"hunter" * 9})
    assert repr(signer) == "<Signer keys 'a', 'b' accept_unsigned=False verify_only=False>"
    assert not hasattr(signer, "__dict__")


@pytest.mark.parametrize(
    ("keys", "text"),
    [
        ({}, "there is no key"),
        (None, "there is no key"),
        (b"hunter" * 9, "there is no key"),
        ({"k": b"hunter" * 5}, "the key 'k' is shorter than 32 bytes"),
        ({"a": b"hunter" * 9, "k": "hunter"}, "the key 'k' is shorter than 32 bytes"),
        ({"k": None}, "the key 'k' is shorter than 32 bytes, or not bytes"),
        ({"k": 10**40}, "the key 'k' is shorter than 32 bytes, or not bytes"),
        ({"": b"hunter" * 9}, "the ID of a key is too long, or has other characters"),
        ({"a:b": b"hunter" * 9}, "the ID of a key is too long, or has other characters"),
        ({"a\n": b"hunter" * 9}, "the ID of a key is too long, or has other characters"),
        ({"ü": b"hunter" * 9}, "the ID of a key is too long, or has other characters"),
        ({"k" * 65: b"hunter" * 9}, "the ID of a key is too long, or has other characters"),
        ({5: b"hunter" * 9}, "the ID of a key is too long, or has other characters"),
    ],
)
def test_invalid_keys_are_refused_without_showing_them(keys: Any, text: str) -> None:
    with pytest.raises(InvalidOptionError, match=text) as caught:
        Signer(keys)
    assert "hunter" not in str(caught.value)


def test_longest_key_id_is_read_again() -> None:
    signer = Signer({"k._-" * 16: OLD})
    assert signer.verify("message", "q", signer.sign("message", "q", b"x")) == b"x"


class Thing(Signing):
    pass


def test_object_without_a_signer_refuses_signed_values_only() -> None:
    thing = Thing()
    assert thing._sign_value("message", "q", b"x") == b"x"
    for value in UNSIGNED:
        assert thing._verify_value("message", "q", value) == value
    with pytest.raises(SignatureError, match=r"it is signed, and .* call `with_signer\(\)`"):
        thing._verify_value("message", "q", SIGNER.sign("message", "q", b"x"))


def test_object_with_a_signer_signs_and_verifies() -> None:
    thing = Thing()
    assert thing.with_signer(SIGNER) is thing
    signed = thing._sign_value("message", "q", b"x")
    assert signed[: -1 - SIGNATURE_LENGTH] == PREFIX + b"old:"
    assert thing._verify_value("message", "q", signed) == b"x"
    with pytest.raises(SignatureError):
        thing._verify_value("message", "q", b"x")


@pytest.mark.parametrize("signer", [None, {"k": b"hunter" * 9}, Signer])
def test_with_signer_refuses_other_objects(signer: Any) -> None:
    with pytest.raises(InvalidOptionError, match=r"Give a `taskiq_redis\.Signer`") as caught:
        Thing().with_signer(signer)
    assert "hunter" not in str(caught.value)
