"""Every Python generates the same twins."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.unasync.samples import CODE
from tests.unasync.support import FILES, PAIRS, SOURCE, run_lenient, run_script, unasync, write_tree

# The rules of the package don't convert AsyncBroker and AsyncScript.
SAMPLES = {
    f"taskiq_redis/_async/code_{n}.py": pair[0]
    for n, pair in enumerate(CODE.values())
    if "AsyncBroker" not in pair[0] and "AsyncScript" not in pair[0]
}
ODD_SAMPLE = '''\
"""An `AsyncIterator`."""

from taskiq import ScheduleSource, Context


async def f(x: ScheduleSource, y: Context) -> str:
    """Wait in the event loop."""
    z = (await x.ä("ö")).y  # for the event loop
    return f"{z} {y!r:>{10}} {'ü'}" + (await x.é(f"{z}"))
'''


def other_pythons() -> list[str]:
    """Return an interpreter of each other version that pyenv or PATH has."""
    pyenv = Path(os.environ.get("PYENV_ROOT", "~/.pyenv")).expanduser()
    found: list[str | None] = []
    for minor in {10, 11, 12, 13, 14} - {sys.version_info.minor}:
        installed = sorted(pyenv.glob(f"versions/3.{minor}.*/bin/python3.{minor}"))
        found += [str(path) for path in installed[-1:]] or [shutil.which(f"python3.{minor}")]
    return [path for path in found if path]


def test_other_pythons_generate_the_same_twins(tmp_path: Path) -> None:
    write_tree(tmp_path, {**PAIRS, **FILES, **SAMPLES, SOURCE: ODD_SAMPLE})
    code, output = run_lenient(tmp_path)
    assert code == 0, output
    tried = 0
    for number, python in enumerate(other_pythons()):
        environment = tmp_path.parent / f"{tmp_path.name}-python-{number}"
        command = [python, "-m", "venv", "--without-pip", str(environment)]
        if subprocess.run(command, capture_output=True, check=False).returncode:
            continue  # a launcher without its interpreter
        executable = environment / "bin" / "python"
        ruff = executable.with_name("ruff")
        ruff.symlink_to(unasync.find_ruff()[0])

        code, output = run_script(
            tmp_path, "--allow-unused-rules", "--check", python=str(executable)
        )

        assert (code, output) == (0, ""), python
        tried += 1
    if not tried:
        pytest.skip("there is no other Python")
