"""The runner of documentation examples runs code blocks in order, and reports errors by line."""

import re
import sys
from pathlib import Path
from typing import Any

import pytest

from scripts.docs_examples import Failure, Page, blocks_of

ROOT = Path(__file__).parent.parent

needs_sh = pytest.mark.skipif(sys.platform == "win32", reason="there is no sh here")


class Pages:
    """Run pages in an empty folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / "page.md"

    def run(self, text: str) -> int:
        """Run a page, in which `~~~` stands for a fence."""
        self.path.write_text(text.replace("~~~", "```"))
        (self.folder / "run").mkdir()
        return Page(self.path, self.folder / "run").run()

    def fails(self, text: str, line: int, message: str) -> None:
        """Check that a page fails at a line, with a message."""
        with pytest.raises(Failure, match=message) as caught:
            self.run(text)
        assert str(caught.value).startswith(f"{self.path}:{line}: ")

    def file(self, name: str) -> str:
        """Return the contents of a file that the page created."""
        return (self.folder / "run" / "page" / name).read_text()


@pytest.fixture
def pages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Run pages in the test's temporary folder."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    return Pages(tmp_path)


PAGE = """\
A page. `code` inside a line is ignored.

~~~python
# shop/names.py
NAME = "Ann"
~~~

~~~python
# shop/names.py, at the end
AGE = 42
~~~

~~~python
from shop import names
~~~

~~~python
print(names.NAME, "is", names.AGE)
print("bye")
~~~

~~~text
Ann is ...
bye
~~~

~~~sh
name=Ben
printf %s "$name"
~~~
~~~text
Ben
~~~

~~~sh
echo "$name again" | tee ben.txt
~~~

Text that doesn't follow a block:

~~~text
not what was printed
~~~

<!-- not run: it would be no use -->
~~~sh
exit 1
~~~

~~~toml
no = "code"
~~~
"""


@needs_sh
def test_blocks_run_in_order(pages: Pages) -> None:
    assert pages.run(PAGE) == 6
    assert pages.file("shop/names.py") == '# shop/names.py\nNAME = "Ann"\nAGE = 42\n'
    assert pages.file("ben.txt") == "Ben again\n"


def test_blocks_have_line_numbers() -> None:
    blocks = list(blocks_of(PAGE.replace("~~~", "```")))
    lines = PAGE.splitlines()
    assert [lines[block.line - 1] for block in blocks] == [f"~~~{block.kind}" for block in blocks]
    assert [block.kind for block in blocks if block.skipped] == ["sh"]


@pytest.mark.parametrize(
    ("page", "line", "message"),
    [
        ("~~~python\nok = 1\n~~~\n\n~~~python\n\nprint(1 / 0)\n~~~\n", 5, "ZeroDivisionError"),
        ("~~~python\nprint(1)\n~~~\n~~~text\n2\n~~~\n", 4, r"printed this instead:\n1"),
        ("~~~sh\ntrue\nfalse\ntrue\n~~~\n", 1, "it failed"),
        ("~~~sh\nno-such-program --at-all\n~~~\n", 1, "not found"),
        ("\n~~~bash\necho\n~~~\n", 2, "write `sh`"),
        ("~~~sh\ngunicorn --no-such-option\n~~~\n", 1, "ended with"),
    ],
)
@needs_sh
def test_failure_is_reported_with_line_and_reason(
    pages: Pages, page: str, line: int, message: str
) -> None:
    pages.fails(page, line, message)


def test_traceback_has_line_numbers_of_page(pages: Pages) -> None:
    with pytest.raises(Failure, match=re.escape(f'File "{pages.path}", line 4, in later')):
        pages.run("~~~python\ndef later():\n    pass\n    1 / 0\n\nlater()\n~~~\n")


@needs_sh
def test_programs_run_until_page_ends_and_must_exit_cleanly(pages: Pages) -> None:
    tasks = "~~~python\n# tasks.py\nfrom taskiq_redis import ListQueueBroker\n"
    tasks += 'broker = ListQueueBroker("redis://localhost:6379")\n\n'
    tasks += "@broker.task\nasync def run() -> None:\n    open('ran', 'w').close()\n~~~\n"
    worker = "~~~sh\ntaskiq worker tasks:broker --workers 1\n~~~\n"
    send = "~~~python\nimport tasks\nfrom taskiq_redis import to_sync\n"
    send += "with to_sync(tasks.broker) as broker:\n    broker.kicker(tasks.run).kiq()\n~~~\n"
    wait = "~~~sh\nuntil [ -e ran ]; do sleep 0.1; done\n~~~\n"
    assert pages.run(tasks + worker + send + wait) == 4
    assert "localhost:6379" not in pages.file("tasks.py")
