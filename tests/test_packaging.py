"""The metadata of the package, and its README on PyPI."""

import re
from importlib.metadata import version
from pathlib import Path

import taskiq_redis

ROOT = Path(__file__).parent.parent


def test_version_equals_version_of_distribution() -> None:
    assert taskiq_redis.__version__ == version("taskiq-redis")


def test_links_of_readme_are_absolute_and_exist() -> None:
    targets = re.findall(r"\]\(([^)]+)\)", (ROOT / "README.md").read_text(encoding="utf-8"))
    assert targets
    assert [target for target in targets if not target.startswith("https://")] == []
    # Links into this repository name files that exist.
    paths = [m[1] for target in targets if (m := re.search(r"/(?:blob|tree)/HEAD/([^#]+)", target))]
    assert paths
    assert [path for path in paths if not (ROOT / path).exists()] == []
