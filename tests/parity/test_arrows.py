"""Dependencies point one way, from the public modules to the rules that need no Redis."""

import ast
import graphlib
from collections.abc import Iterator
from pathlib import Path

import pytest

import taskiq_redis

PACKAGE = Path(taskiq_redis.__file__).parent
SOURCES = sorted(PACKAGE.rglob("*.py"))
PARTS = {"_core", "_runtime", "_drivers", "_taskiq", "_async", "_sync", "exceptions"}

#: which part may import which others of this package
ARROWS = {
    "public": PARTS | {"_twins"},
    "_async": {"_async", "_drivers", "_runtime", "_taskiq", "_core", "exceptions"},
    "_sync": {"_sync", "_drivers", "_runtime", "_taskiq", "_core", "exceptions"},
    "_drivers": {"_drivers", "_runtime", "_core", "exceptions"},
    "_runtime": {"_runtime", "_core", "exceptions"},
    "_taskiq": {"_taskiq", "_core", "exceptions"},
    "_core": {"_core", "exceptions"},
    "exceptions": {"exceptions"},
}

#: what of redis-py is no client
NO_CLIENTS = {"redis.exceptions", "redis.crc"}


def part_of(source: Path) -> str:
    first = source.relative_to(PACKAGE).parts[0].removesuffix(".py")
    return first if first in PARTS else "public"


def modules(source: Path) -> Iterator[str]:
    """Return the names of all modules that a file imports, anywhere in it."""
    for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{source}: a relative import"
            assert node.module is not None
            # `from redis import exceptions` imports a module, too.
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def named(source: Path) -> str:
    return str(source.relative_to(PACKAGE))


def is_within(name: str, module: str) -> bool:
    return name == module or name.startswith(f"{module}.")


EACH = pytest.mark.parametrize("source", SOURCES, ids=map(named, SOURCES))


def of(*parts: str) -> pytest.MarkDecorator:
    chosen = [source for source in SOURCES if part_of(source) in parts]
    assert chosen
    return pytest.mark.parametrize("source", chosen, ids=map(named, chosen))


def test_all_parts_are_there() -> None:
    assert {part_of(source) for source in SOURCES} == PARTS | {"public"}
    public = [named(source) for source in SOURCES if part_of(source) == "public"]
    assert {"__init__.py", "_twins.py", "redis_broker.py"} <= set(public)
    assert all("/" not in name for name in public)


@EACH
def test_imports_follow_the_arrows(source: Path) -> None:
    for name in modules(source):
        if is_within(name, "taskiq_redis"):
            part = name.split(".")[1]
            assert part in ARROWS[part_of(source)], name


def name_of(source: Path) -> str:
    parts = ("taskiq_redis", *source.relative_to(PACKAGE).with_suffix("").parts)
    return ".".join(parts).removesuffix(".__init__")


def test_no_modules_import_each_other() -> None:
    known = {name_of(source): source for source in SOURCES}
    graph: dict[str, set[str]] = {}
    for name, source in known.items():
        # Imports for type checkers count: a circle of annotations is a circle of concepts, too.
        imported = {each if each in known else each.rpartition(".")[0] for each in modules(source)}
        graph[name] = imported & known.keys() - {name}
    assert "taskiq_redis._taskiq.decorated_task" in graph["taskiq_redis._taskiq.broker"]
    graphlib.TopologicalSorter(graph).prepare()  # raises CycleError with the names


@of("_core", "exceptions")
def test_the_core_knows_no_clients_and_no_brokers(source: Path) -> None:
    for name in modules(source):
        if is_within(name, "redis"):
            assert any(is_within(name, module) for module in NO_CLIENTS), name
        assert not name.startswith(("taskiq.brokers", "taskiq.abc.broker")), name
        assert name.rpartition(".")[2] not in {"AsyncBroker", "InMemoryBroker"}, name
        assert name.split(".")[0] not in {"asyncio", "anyio", "trio", "socket"}, name


@pytest.mark.smoke
@of("_async")
def test_all_that_is_concurrent_comes_from_the_runtime(source: Path) -> None:
    for name in modules(source):
        assert name.split(".")[0] not in {"asyncio", "anyio", "trio", "threading", "concurrent"}
        assert name != "time.sleep"
        assert not is_within(name, "taskiq_redis._runtime.blocking")
        assert not is_within(name, "taskiq_redis._drivers.blocking")
        if is_within(name, "redis"):
            # Of the blocking client, only what both share.
            shared = {"redis.exceptions", "redis.crc", "redis.backoff", "redis.commands.core"}
            assert any(is_within(name, module) for module in {"redis.asyncio", *shared}), name


@of("_sync")
def test_nothing_of_the_blocking_twin_is_of_asyncio(source: Path) -> None:
    for name in modules(source):
        assert name.split(".")[0] not in {"asyncio", "anyio", "trio"}
        assert not is_within(name, "redis.asyncio"), name
        assert not is_within(name, "taskiq_redis._runtime.aio"), name
        assert not is_within(name, "taskiq_redis._drivers.aio"), name


@of("_runtime")
def test_the_runtime_knows_no_redis(source: Path) -> None:
    assert not [name for name in modules(source) if is_within(name, "redis")]


@of("_taskiq")
def test_additions_to_taskiq_know_no_redis(source: Path) -> None:
    assert not [name for name in modules(source) if is_within(name, "redis")]


def test_old_import_paths_hold_nothing_but_imports() -> None:
    for source in SOURCES:
        if part_of(source) != "public" or source.name == "_twins.py":
            continue
        tree = ast.parse(source.read_text(encoding="utf-8"))
        assert ast.get_docstring(tree)
        for node in tree.body[1:]:
            assigned = ast.unparse(node.targets[0]) if isinstance(node, ast.Assign) else ""
            is_name = assigned in {"__all__", "__version__"}
            assert is_name or isinstance(node, ast.ImportFrom), f"{named(source)}:{node.lineno}"


def test_the_twins_have_the_same_files() -> None:
    trees = [
        {path.relative_to(PACKAGE / twin) for path in (PACKAGE / twin).rglob("*.py")}
        for twin in ("_async", "_sync")
    ]
    assert trees[0] == trees[1]
