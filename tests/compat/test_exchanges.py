"""What one version or twin writes, every other one reads: messages, results, schedules."""

from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from tests.compat.members import TWINS, Peers, where
from tests.servers import Topology, client_of, keys_of

EVERYBODY = tuple(TWINS)
OURS = ("async", "sync")
#: what is written by default, and every serializer that taskiq has
FORMS = ("default", "json", "orjson", "msgpack", "cbor", "pickle")

each_form = pytest.mark.parametrize("form", FORMS)
on_one_server = pytest.mark.parametrize("topology", ["single"], indirect=True)


def pairs() -> list[tuple[str, str]]:
    """Return who writes and who reads, where one of the two is old."""
    return [("old", "old"), *(("old", ours) for ours in OURS), *((ours, "old") for ours in OURS)]


@on_one_server
@each_form
@pytest.mark.parametrize("mechanism", ["list", "stream"])
def test_messages(topology: Topology, name: str, peers: Peers, mechanism: str, form: str) -> None:
    received: dict[tuple[str, str], Any] = {}
    for sender, receiver in pairs():
        queue = f"{name}:{sender}:{receiver}"
        common = {"where": where(topology), "mechanism": mechanism, "name": queue}
        if mechanism == "stream":
            peers["old"].call("declare", **common)
        peers[sender].call("send", **common, form=form)
        received[sender, receiver] = peers[receiver].call("receive", **common, form=form)
    assert received["old", "old"]["task"] == ["id", "task"]
    assert received == dict.fromkeys(pairs(), received["old", "old"])


def results_of(
    topology: Topology, name: str, peers: Peers, form: str, **options: Any
) -> dict[tuple[str, str], Any]:
    """Let everybody write results and everybody read them; return what each made of each."""
    read: dict[tuple[str, str], Any] = {}
    for writer in EVERYBODY:
        common = {"where": where(topology), "form": form, "name": f"{name}:{writer}"}
        errors = peers[writer].call("store_results", **common, **options)
        for reader in EVERYBODY:
            read[writer, reader] = peers[reader].call("read_results", **common)
        check_failures(writer, errors, read)
    return read


def check_failures(writer: str, errors: dict[str, str | None], read: dict[Any, Any]) -> None:
    """Look at what can't be serialized: where 1.2.4 raised, there is an error result now."""
    for case, error in errors.items():
        if writer == "old" and error is not None:
            assert case not in read["old", "old"]
        elif case not in read["old", "old"]:
            assert error is None
            for reader in EVERYBODY:
                is_error, value, shown, *_ = read[writer, reader].pop(case)
                assert (is_error, value) == ("True", "None")
                assert "can't be serialized" in shown


@on_one_server
@each_form
def test_results_and_progress(topology: Topology, name: str, peers: Peers, form: str) -> None:
    read = results_of(topology, name, peers, form)
    expected = read["old", "old"]
    assert len(expected) >= 10
    assert read == dict.fromkeys(read, expected)


@pytest.mark.parametrize("topology", ["cluster", "sentinel"], indirect=True)
def test_results_and_progress_elsewhere(topology: Topology, name: str, peers: Peers) -> None:
    read = results_of(topology, name, peers, "default", result_px_time=60_000)
    assert read == dict.fromkeys(read, read["old", "old"])


@pytest.mark.parametrize(("writer", "reader"), [("old", "async"), ("old", "sync"), ("sync", "old")])
def test_results_that_are_not_kept(
    topology: Topology, name: str, peers: Peers, writer: str, reader: str
) -> None:
    common = {"where": where(topology), "form": "default", "name": name}
    peers[writer].call("store_results", **common)
    read = peers[reader].call("read_results", **common, keep_results=False)
    assert len(read) >= 10
    # 1.2.4 leaves the progress where it is.
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
def test_schedules(topology: Topology, name: str, peers: Peers, source: str, form: str) -> None:
    past = (datetime.now(timezone.utc) - timedelta(hours=3)).isoformat()
    listed: dict[tuple[str, str], Any] = {}
    for writer, reader in pairs():
        prefix = f"{name}-{writer}-{reader}"
        common = {"where": where(topology), "mechanism": source, "name": prefix, "form": form}
        peers[writer].call("add_schedules", **common, past=past)
        listed[writer, reader] = peers[reader].call("list_schedules", **common)
        assert peers[writer].call("list_schedules", **common) == listed[writer, reader]
        ids = list(listed[writer, reader])
        peers[reader].call("delete_schedules", **common, schedule_ids=ids)
        for member in EVERYBODY:
            assert peers[member].call("list_schedules", **common) == {}
        assert keys_of(topology, f"*{prefix}*") == []
    assert len(listed["old", "old"]) == 8
    assert listed == dict.fromkeys(pairs(), listed["old", "old"])


@on_one_server
def test_a_schedule_is_replaced_by_the_other_version(
    topology: Topology, name: str, peers: Peers
) -> None:
    past = (datetime.now(timezone.utc) - timedelta(hours=3)).isoformat()
    common = {"where": where(topology), "mechanism": "indexed", "name": name}
    listing = {**common, "form": "default"}
    peers["old"].call("add_schedule", **common, number=1, when={"cron": "* * * * *"})
    peers["async"].call("add_schedule", **common, number=1, when={"time": past})
    for member in EVERYBODY:
        (task,) = peers[member].call("list_schedules", **listing).values()
        assert (task["cron"], task["time"] is None) == (None, False)
    # 1.2.4 leaves the id where it was. It isn't listed twice for that.
    peers["old"].call("add_schedule", **common, number=1, when={"interval": 5})
    for member in OURS:
        (task,) = peers[member].call("list_schedules", **listing).values()
        assert (task["interval"], task["time"]) == (5, None)
    peers["sync"].call("delete_schedules", **listing, schedule_ids=["1"])
    for member in EVERYBODY:
        assert peers[member].call("list_schedules", **listing) == {}
    assert client_of(topology).exists(f"{name}:data:1", f"{name}:interval", f"{name}:cron") == 0
