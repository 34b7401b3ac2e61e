"""Imports between the layers of the package go one way, down to code without I/O."""

import ast
import graphlib
from collections.abc import Iterator
from pathlib import Path

import pytest

import taskiq_redis

PACKAGE = Path(taskiq_redis.__file__).parent
SOURCES = sorted(PACKAGE.rglob("*.py"))
LAYERS = {"_core", "_runtime", "_drivers", "_taskiq", "_async", "_sync", "exceptions", "testing"}

#: layers that each layer may import
ALLOWED = {
    # Not what is private about brokers on Redis.
    "testing": {"testing", "_taskiq", "_core", "exceptions", *taskiq_redis.__all__},
    "public": LAYERS - {"testing"} | {"_twins"},
    "_async": {"_async", "_drivers", "_runtime", "_taskiq", "_core", "exceptions"},
    "_sync": {"_sync", "_drivers", "_runtime", "_taskiq", "_core", "exceptions"},
    "_drivers": {"_drivers", "_runtime", "_core", "exceptions"},
    "_runtime": {"_runtime", "_core", "exceptions"},
    "_taskiq": {"_taskiq", "_core", "exceptions"},
    "_core": {"_core", "exceptions"},
    "exceptions": {"exceptions"},
}

#: modules of redis-py without clients
NO_CLIENTS = {"redis.exceptions", "redis.crc"}


def layer_of(source: Path) -> str:
    first = source.relative_to(PACKAGE).parts[0].removesuffix(".py")
    return first if first in LAYERS else "public"


def modules(source: Path) -> Iterator[str]:
    """Return the names of all modules that a file imports, also inside functions."""
    for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{source}: a relative import"
            assert node.module is not None
            # `from redis import exceptions` imports a module, too.
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def relative_name(source: Path) -> str:
    return str(source.relative_to(PACKAGE))


def is_within(name: str, module: str) -> bool:
    return name == module or name.startswith(f"{module}.")


each_source = pytest.mark.parametrize("source", SOURCES, ids=map(relative_name, SOURCES))


def sources_of(*layers: str) -> pytest.MarkDecorator:
    chosen = [source for source in SOURCES if layer_of(source) in layers]
    assert chosen
    return pytest.mark.parametrize("source", chosen, ids=map(relative_name, chosen))


def test_all_layers_exist() -> None:
    assert {layer_of(source) for source in SOURCES} == LAYERS | {"public"}
    public = [relative_name(source) for source in SOURCES if layer_of(source) == "public"]
    assert {"__init__.py", "_twins.py", "redis_broker.py"} <= set(public)
    assert all("/" not in name for name in public)


@each_source
def test_layer_imports_only_allowed_layers(source: Path) -> None:
    for name in modules(source):
        if is_within(name, "taskiq_redis"):
            layer = name.split(".")[1]
            assert layer in ALLOWED[layer_of(source)], name


def module_name(source: Path) -> str:
    parts = ("taskiq_redis", *source.relative_to(PACKAGE).with_suffix("").parts)
    return ".".join(parts).removesuffix(".__init__")


def test_modules_have_no_circular_imports() -> None:
    known = {module_name(source): source for source in SOURCES}
    graph: dict[str, set[str]] = {}
    for name, source in known.items():
        # Imports for type checkers count, too.
        imported = {each if each in known else each.rpartition(".")[0] for each in modules(source)}
        graph[name] = imported & known.keys() - {name}
    assert "taskiq_redis._taskiq.decorated_task" in graph["taskiq_redis._taskiq.broker"]
    graphlib.TopologicalSorter(graph).prepare()  # raises CycleError with the names


@sources_of("_core", "exceptions")
def test_core_imports_no_clients_and_no_brokers(source: Path) -> None:
    for name in modules(source):
        if is_within(name, "redis"):
            assert any(is_within(name, module) for module in NO_CLIENTS), name
        assert not name.startswith(("taskiq.brokers", "taskiq.abc.broker")), name
        assert name.rpartition(".")[2] not in {"AsyncBroker", "InMemoryBroker"}, name
        assert name.split(".")[0] not in {"asyncio", "anyio", "trio", "socket"}, name


@pytest.mark.smoke
@sources_of("_async")
def test_async_layer_imports_concurrency_only_from_runtime(source: Path) -> None:
    for name in modules(source):
        assert name.split(".")[0] not in {"asyncio", "anyio", "trio", "threading", "concurrent"}
        assert name != "time.sleep"
        assert not is_within(name, "taskiq_redis._runtime.blocking")
        assert not is_within(name, "taskiq_redis._drivers.blocking")
        if is_within(name, "redis"):
            # Only modules that both clients share.
            shared = {"redis.exceptions", "redis.crc", "redis.backoff", "redis.commands.core"}
            assert any(is_within(name, module) for module in {"redis.asyncio", *shared}), name


@sources_of("_sync")
def test_sync_layer_imports_no_asyncio(source: Path) -> None:
    for name in modules(source):
        assert name.split(".")[0] not in {"asyncio", "anyio", "trio"}
        assert not is_within(name, "redis.asyncio"), name
        assert not is_within(name, "taskiq_redis._runtime.aio"), name
        assert not is_within(name, "taskiq_redis._drivers.aio"), name


@sources_of("_runtime")
def test_runtime_imports_no_redis(source: Path) -> None:
    assert not [name for name in modules(source) if is_within(name, "redis")]


@sources_of("_taskiq")
def test_taskiq_layer_imports_no_redis(source: Path) -> None:
    assert not [name for name in modules(source) if is_within(name, "redis")]


def test_old_import_paths_contain_only_imports() -> None:
    for source in SOURCES:
        if layer_of(source) != "public" or source.name == "_twins.py":
            continue
        tree = ast.parse(source.read_text(encoding="utf-8"))
        assert ast.get_docstring(tree)
        for node in tree.body[1:]:
            assigned = ast.unparse(node.targets[0]) if isinstance(node, ast.Assign) else ""
            is_name = assigned in {"__all__", "__version__"}
            assert is_name or isinstance(node, ast.ImportFrom), (
                f"{relative_name(source)}:{node.lineno}"
            )


def test_twins_have_the_same_files() -> None:
    trees = [
        {path.relative_to(PACKAGE / twin) for path in (PACKAGE / twin).rglob("*.py")}
        for twin in ("_async", "_sync")
    ]
    assert trees[0] == trees[1]
