"""Messages, results and schedules of each version and twin can be read by all others."""

from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from tests.compat.peers import VARIANTS, Peers, describe
from tests.servers import Topology, client_of, keys_of

ALL_VARIANTS = tuple(VARIANTS)
OURS = ("async", "sync")
#: serializers: the default, and all of taskiq
FORMS = ("default", "json", "orjson", "msgpack", "cbor", "pickle")

each_form = pytest.mark.parametrize("form", FORMS)
on_one_server = pytest.mark.parametrize("topology", ["single"], indirect=True)


def pairs() -> list[tuple[str, str]]:
    """Return pairs of a writer and a reader, one of which is `old`."""
    return [("old", "old"), *(("old", ours) for ours in OURS), *((ours, "old") for ours in OURS)]


@on_one_server
@each_form
@pytest.mark.parametrize("mechanism", ["list", "stream"])
def test_messages_are_read_by_other_version(
    topology: Topology, name: str, peers: Peers, mechanism: str, form: str
) -> None:
    received: dict[tuple[str, str], Any] = {}
    for sender, receiver in pairs():
        queue = f"{name}:{sender}:{receiver}"
        common = {"where": describe(topology), "mechanism": mechanism, "name": queue}
        if mechanism == "stream":
            peers["old"].call("declare", **common)
        peers[sender].call("send", **common, form=form)
        received[sender, receiver] = peers[receiver].call("receive", **common, form=form)
    assert received["old", "old"]["task"] == ["id", "task"]
    assert received == dict.fromkeys(pairs(), received["old", "old"])


def results_of(
    topology: Topology, name: str, peers: Peers, form: str, **options: Any
) -> dict[tuple[str, str], Any]:
    """Let all variants write results and all read them; return what was read, by both variants."""
    read: dict[tuple[str, str], Any] = {}
    for writer in ALL_VARIANTS:
        common = {"where": describe(topology), "form": form, "name": f"{name}:{writer}"}
        errors = peers[writer].call("store_results", **common, **options)
        for reader in ALL_VARIANTS:
            read[writer, reader] = peers[reader].call("read_results", **common)
        check_failures(writer, errors, read)
    return read


def check_failures(writer: str, errors: dict[str, str | None], read: dict[Any, Any]) -> None:
    """Check values that can't be serialized: 1.2.4 raises an error, this version stores it."""
    for case, error in errors.items():
        if writer == "old" and error is not None:
            assert case not in read["old", "old"]
        elif case not in read["old", "old"]:
            assert error is None
            for reader in ALL_VARIANTS:
                is_error, value, shown, *_ = read[writer, reader].pop(case)
                assert (is_error, value) == ("True", "None")
                assert "can't be serialized" in shown


@on_one_server
@each_form
def test_results_and_progress_are_read_by_all_variants(
    topology: Topology, name: str, peers: Peers, form: str
) -> None:
    read = results_of(topology, name, peers, form)
    expected = read["old", "old"]
    assert len(expected) >= 10
    assert read == dict.fromkeys(read, expected)


@pytest.mark.parametrize("topology", ["cluster", "sentinel"], indirect=True)
def test_results_and_progress_are_read_by_all_variants_on_cluster_and_sentinel(
    topology: Topology, name: str, peers: Peers
) -> None:
    read = results_of(topology, name, peers, "default", result_px_time=60_000)
    assert read == dict.fromkeys(read, read["old", "old"])


@pytest.mark.parametrize(("writer", "reader"), [("old", "async"), ("old", "sync"), ("sync", "old")])
def test_results_are_deleted_after_reading_by_other_version(
    topology: Topology, name: str, peers: Peers, writer: str, reader: str
) -> None:
    common = {"where": describe(topology), "form": "default", "name": name}
    peers[writer].call("store_results", **common)
    read = peers[reader].call("read_results", **common, keep_results=False)
    assert len(read) >= 10
    # 1.2.4 doesn't delete progress.
    left = {key for key in keys_of(topology, f"{name}:*") if not key.endswith("__progress")}
    assert left == set()
    assert peers[writer].call("read_results", **common) == {}


@pytest.mark.parametrize(
    ("topology", "source", "form"),
    [
        *(("single", source, form) for source in ("indexed", "keys") for form in FORMS),
        ("cluster", "keys", "default"),
        ("sentinel", "keys", "default"),
    ],
    indirect=["topology"],
)
def test_schedules_are_listed_and_deleted_by_other_version(
    topology: Topology, name: str, peers: Peers, source: str, form: str
) -> None:
    past = (datetime.now(timezone.utc) - timedelta(hours=3)).isoformat()
    listed: dict[tuple[str, str], Any] = {}
    for writer, reader in pairs():
        prefix = f"{name}-{writer}-{reader}"
        common = {"where": describe(topology), "mechanism": source, "name": prefix, "form": form}
        peers[writer].call("add_schedules", **common, past=past)
        listed[writer, reader] = peers[reader].call("list_schedules", **common)
        assert peers[writer].call("list_schedules", **common) == listed[writer, reader]
        ids = list(listed[writer, reader])
        peers[reader].call("delete_schedules", **common, schedule_ids=ids)
        for variant in ALL_VARIANTS:
            assert peers[variant].call("list_schedules", **common) == {}
        assert keys_of(topology, f"*{prefix}*") == []
    assert len(listed["old", "old"]) == 8
    assert listed == dict.fromkeys(pairs(), listed["old", "old"])


@on_one_server
def test_schedule_is_replaced_by_other_version(topology: Topology, name: str, peers: Peers) -> None:
    past = (datetime.now(timezone.utc) - timedelta(hours=3)).isoformat()
    common = {"where": describe(topology), "mechanism": "indexed", "name": name}
    listing = {**common, "form": "default"}
    peers["old"].call("add_schedule", **common, number=1, when={"cron": "* * * * *"})
    peers["async"].call("add_schedule", **common, number=1, when={"time": past})
    for variant in ALL_VARIANTS:
        (task,) = peers[variant].call("list_schedules", **listing).values()
        assert (task["cron"], task["time"] is None) == (None, False)
    # 1.2.4 leaves the old id in its index, which must not list the schedule twice.
    peers["old"].call("add_schedule", **common, number=1, when={"interval": 5})
    for variant in OURS:
        (task,) = peers[variant].call("list_schedules", **listing).values()
        assert (task["interval"], task["time"]) == (5, None)
    peers["sync"].call("delete_schedules", **listing, schedule_ids=["1"])
    for variant in ALL_VARIANTS:
        assert peers[variant].call("list_schedules", **listing) == {}
    assert client_of(topology).exists(f"{name}:data:1", f"{name}:interval", f"{name}:cron") == 0
