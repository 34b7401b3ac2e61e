"""Rules of the generator must be used, and only once."""

from pathlib import Path

import pytest

from tests.unasync.support import SOURCE, unasync, write_tree


def test_unused_rules_except_pairs_are_errors(tmp_path: Path) -> None:
    rules = unasync.Rules(
        pairs={"taskiq_redis._drivers.aio": "taskiq_redis._drivers.blocking"},
        modules={"redis.asyncio": "redis", "other.asyncio": "other"},
        imports={"a.B": "c.D", "a.C": "c.C"},
        classes=("Used", "Unused"),
        phrases={"event loop": "thread", "coroutine": "call"},
    )
    source = """\
    from a import B
    from redis.asyncio import Redis

    Used(Redis)  # event loop
    """
    write_tree(tmp_path, {SOURCE: source})

    with pytest.raises(unasync.SourceError) as caught:
        unasync.generate(tmp_path, rules)

    messages = [problem.message for problem in caught.value.problems]
    unused = ["other.asyncio", "a.C", "Unused", "coroutine"]
    assert sorted(messages) == sorted(
        f"no source needs the rule {rule!r}; delete it" for rule in unused
    )


def test_rules_of_package_have_no_duplicates() -> None:
    rules = unasync.RULES
    entries = [*rules.pairs, *rules.must_be_used()]

    assert len(entries) == len(set(entries))
