"""Public names and their import paths."""

import importlib
import inspect
import re
import subprocess
import sys
from typing import Any

import pytest

import taskiq_redis
from tests.parity.classes import BASES, CLASSES, MODULES, both

#: the blocking counterparts of taskiq's abstractions
ABSTRACTIONS = {
    "SyncBroker",
    "SyncCreatedSchedule",
    "SyncKicker",
    "SyncResultBackend",
    "SyncScheduleSource",
    "SyncTaskiqDecoratedTask",
    "SyncTaskiqTask",
}
#: what you see of a queue
VALUES = {
    "DeadLetter",
    "GroupStats",
    "QueueStats",
    "QueuedTask",
    "SchedulerStats",
    "TaskState",
    "TaskStatus",
    "WorkerStats",
}
#: for tests without Redis; the async counterparts of the first two are taskiq's
IN_MEMORY = {
    "InMemoryScheduleSource",
    "SyncInMemoryBroker",
    "SyncInMemoryResultBackend",
    "SyncInMemoryScheduleSource",
}


@pytest.mark.smoke
def test_package_exports_each_class_and_its_twin_only() -> None:
    twins = {f"Sync{name}" for name in CLASSES}
    others = {"to_sync", "Signer"}
    expected = {*CLASSES, *twins, *ABSTRACTIONS, *VALUES, *IN_MEMORY, *others}
    assert len(CLASSES) == 18
    assert set(taskiq_redis.__all__) == expected
    assert len(taskiq_redis.__all__) == len(expected)
    assert taskiq_redis.__all__ == sorted(taskiq_redis.__all__)
    public = {name for name in vars(taskiq_redis) if not name.startswith("_")}
    modules = {name for name in public if inspect.ismodule(getattr(taskiq_redis, name))}
    assert public - modules == expected
    # Other tests have imported some.
    assert modules <= {*MODULES, "exceptions", "testing", "cli", "contrib"}


@pytest.mark.parametrize("name", CLASSES)
def test_class_and_twin_have_matching_names_and_modules(name: str) -> None:
    ours, twin = both(name)
    assert (ours.__name__, twin.__name__) == (name, f"Sync{name}")
    assert ours.__module__.startswith("taskiq_redis._async.")
    assert twin.__module__ == ours.__module__.replace("._async.", "._sync.")


@pytest.mark.smoke
@pytest.mark.parametrize("module", MODULES)
def test_old_import_paths_work(module: str) -> None:
    found = importlib.import_module(f"taskiq_redis.{module}")
    assert sorted(found.__all__) == sorted(MODULES[module].split())
    assert found.__all__ == sorted(found.__all__)
    for name in found.__all__:
        if name not in BASES:
            assert getattr(found, name) is getattr(taskiq_redis, name)
    assert re.search(r"taskiq-redis 1\.2\.4", found.__doc__ or "")


def test_each_class_has_one_old_import_path() -> None:
    named = [name for names in MODULES.values() for name in names.split()]
    assert sorted(named) == sorted([*CLASSES, *BASES])


@pytest.mark.parametrize("base", BASES)
def test_old_base_classes_are_still_bases(base: str) -> None:
    modules = [importlib.import_module(f"taskiq_redis.{module}") for module in MODULES]
    (kind,) = {getattr(module, base) for module in modules if hasattr(module, base)}
    for name in BASES[base]:
        assert issubclass(getattr(taskiq_redis, name), kind)


def test_taskiq_cli_finds_class_by_import_path() -> None:
    # `taskiq worker` imports objects in this way.
    from taskiq.cli.utils import import_object

    for module, names in MODULES.items():
        for name in names.split():
            found: Any = import_object(f"taskiq_redis.{module}:{name}", app_dir=".")
            assert found.__name__ == name


def test_import_of_package_emits_no_warnings_and_imports_no_extras() -> None:
    code = (
        "import sys, taskiq_redis, taskiq_redis.contrib\n"
        "assert not {'typer', 'rich', 'prometheus_client'} & set(sys.modules)"
    )
    command = [sys.executable, "-W", "error", "-c", code]
    subprocess.run(command, check=True, timeout=60)


def test_import_of_package_and_its_test_tools_imports_no_pytest() -> None:
    code = (
        "import sys, taskiq_redis; assert 'taskiq_redis.testing' not in sys.modules\n"
        "import taskiq_redis.testing; assert not {'pytest', '_pytest'} & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
