"""Generate the blocking twins: taskiq_redis/_sync and tests/_sync, one file per source file.

    python scripts/unasync.py            write the twins that differ, delete those without a source
    python scripts/unasync.py --check    change nothing; exit 1 if a twin differs

A source is parsed with `ast` and `tokenize`, and edited as text, which keeps its comments and
formatting. Ruff then sorts the imports and formats the twin. Code that no rule covers is an error
with file and line (exit 2; nothing is written).
"""

import argparse
import ast
import difflib
import importlib.util
import io
import keyword
import re
import subprocess
import symtable
import sys
import tempfile
import tokenize
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, pairwise
from operator import itemgetter
from pathlib import Path
from typing import NamedTuple, TypeGuard

CHECKOUT = Path(__file__).resolve().parent.parent

# --- Rules

# Source trees and their twins.
TREES = {
    "taskiq_redis/_async": "taskiq_redis/_sync",
    "tests/_async": "tests/_sync",
}

HEADER = "# Generated from {source} by scripts/unasync.py; edit that.\n"

# Pairs of modules written by hand, for what can't be generated: concurrency, and where redis-py's
# two clients differ. Every name imported from the async module must exist in the blocking one.
PAIRS = {
    "taskiq_redis._runtime.aio": "taskiq_redis._runtime.blocking",
    "taskiq_redis._drivers.aio": "taskiq_redis._drivers.blocking",
    "tests._aio": "tests._threads",
}

# Packages whose modules have the same names in their blocking counterpart.
MODULES = {
    "redis.asyncio": "redis",
    "taskiq_redis._async": "taskiq_redis._sync",
    "tests._async": "tests._sync",
}

# Names with a blocking counterpart of another name, or in another module.
IMPORTS = {
    "taskiq.ScheduleSource": "taskiq_redis._taskiq.schedule_source.SyncScheduleSource",
    "taskiq.abc.result_backend.AsyncResultBackend": (
        "taskiq_redis._taskiq.result_backend.SyncResultBackend"
    ),
    "taskiq_redis._taskiq.async_broker.TaskBroker": "taskiq_redis._taskiq.broker.SyncBroker",
}

# Public classes: their blocking twins are called Sync...
CLASSES = (
    "ListQueueBroker",
    "ListQueueClusterBroker",
    "ListQueueSentinelBroker",
    "ListRedisClusterScheduleSource",
    "ListRedisScheduleSource",
    "ListRedisSentinelScheduleSource",
    "PubSubBroker",
    "PubSubClusterBroker",
    "PubSubSentinelBroker",
    "RedisAsyncClusterResultBackend",
    "RedisAsyncResultBackend",
    "RedisAsyncSentinelResultBackend",
    "RedisClusterScheduleSource",
    "RedisScheduleSource",
    "RedisSentinelScheduleSource",
    "RedisStreamBroker",
    "RedisStreamClusterBroker",
    "RedisStreamSentinelBroker",
)

# Words that change in docstrings and comments, where they stand on one line.
PHRASES = {
    "event loop": "process",
}

# Names of the language and its standard library. The only table whose entries may be unused: some
# of these names don't say that they are async, so the check for leftovers wouldn't find them.
LANGUAGE = {
    "AsyncGenerator": "Generator",
    "AsyncIterator": "Iterator",
    "StopAsyncIteration": "StopIteration",
    "__aenter__": "__enter__",
    "__aexit__": "__exit__",
    "__aiter__": "__iter__",
    "__anext__": "__next__",
    "aclose": "close",
    "aclosing": "closing",
    "aiter": "iter",
    "anext": "next",
    "asend": "send",
    "asynccontextmanager": "contextmanager",
    "athrow": "throw",
}

# Set as `pytestmark` in test modules with coroutines; removed from their twins.
TEST_MARK = "pytest.mark.anyio"

# Modules that a source must not import, and what to do instead.
USE_A_PAIR = f"import it from a hand-written module instead ({', '.join(PAIRS)})"
FORBIDDEN_MODULES = {
    "__future__": "annotations must be real objects; write them without it",
    "anyio": USE_A_PAIR,
    "asyncio": USE_A_PAIR,
    "concurrent": USE_A_PAIR,
    "inspect": "a twin has no coroutines to detect; do that in a hand-written module",
    "queue": USE_A_PAIR,
    "sniffio": USE_A_PAIR,
    "threading": USE_A_PAIR,
    "trio": USE_A_PAIR,
    "uvloop": USE_A_PAIR,
}

# Names that a source may only import from a hand-written module.
FORBIDDEN_NAMES = {
    "create_task",
    "ensure_future",
    "gather",
    "isawaitable",
    "iscoroutinefunction",
    "run_coroutine_threadsafe",
    "shield",
    "wait_for",
}
FORBIDDEN_COMMENT = re.compile(r"#.*\b(?:type|pyright|mypy): ?ignore")

REWORD = "reword it (in prose, what a rule replaces must be on one line), or add a rule"

# Words that must not be left in a twin, in code, strings, docstrings or comments.
LEFTOVERS = r"(?i:\w*(?:async|await|anyio|coroutine)\w*|(?<![a-z])aio\w*|\bevent[\s#]+loop)"


@dataclass(frozen=True)
class Rules:
    """The tables above."""

    pairs: Mapping[str, str]
    modules: Mapping[str, str]
    imports: Mapping[str, str]
    classes: tuple[str, ...]
    phrases: Mapping[str, str]

    def must_be_used(self) -> Iterator[str]:
        """Yield the entries that are errors if no source needs them."""
        for table in (self.modules, self.imports, self.classes, self.phrases):
            yield from table

    @cached_property
    def all_modules(self) -> dict[str, str]:
        return {**self.pairs, **self.modules}

    @cached_property
    def names(self) -> dict[str, str]:
        """All identifiers that change."""
        imported = {last_name(old): last_name(new) for old, new in self.imports.items()}
        public = {name: f"Sync{name}" for name in self.classes}
        return {old: new for old, new in (LANGUAGE | imported | public).items() if old != new}

    @cached_property
    def prose(self) -> dict[str, str]:
        """All words that change in docstrings and comments."""
        return {**self.all_modules, **self.names, **self.phrases}

    @cached_property
    def prose_pattern(self) -> re.Pattern[str]:
        longest_first = sorted(self.prose, key=len, reverse=True)
        words = "|".join(re.escape(words) for words in longest_first)
        return re.compile(rf"(?:\b(?P<article>[Aa]n?)\b\W+)??(?<!\w)(?P<words>{words})(?!\w)")

    @cached_property
    def leftover_pattern(self) -> re.Pattern[str]:
        names = "|".join(re.escape(name) for name in self.names)
        return re.compile(rf"{LEFTOVERS}|\b(?:{names})\b")

    @cached_property
    def allowed(self) -> set[str]:
        """Names of blocking classes that `leftover_pattern` matches."""
        return {self.names[name] for name in self.classes}

    def module(self, name: str) -> str | None:
        """Return the key in `all_modules` of a module or of one of its parents."""
        return next((old for old in self.all_modules if f"{name}.".startswith(f"{old}.")), None)


RULES = Rules(PAIRS, MODULES, IMPORTS, CLASSES, PHRASES)


def last_name(dotted: str) -> str:
    return dotted.rpartition(".")[2]


# --- Source files and edits


class Problem(NamedTuple):
    """What can't be converted, and where."""

    path: str
    line: int
    message: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.message}"


class SourceError(Exception):
    """Some sources can't be converted."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = sorted(set(problems))
        super().__init__("\n".join(map(str, self.problems)))


class Token(NamedTuple):
    kind: int
    text: str
    start: int
    end: int


class Edit(NamedTuple):
    start: int
    end: int
    new: str


LAYOUT = {tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}


class Source:
    """A source file; all positions are offsets in its text, counted in characters."""

    def __init__(self, path: str, text: str) -> None:
        self.path = path
        self.text = text if text.endswith("\n") or not text else f"{text}\n"
        self._lines = self.text.split("\n")
        self._starts = [0, *accumulate(len(line) + 1 for line in self._lines)]
        try:
            self.tree = ast.parse(self.text)
        except (SyntaxError, ValueError) as error:
            line = getattr(error, "lineno", None) or 1
            raise SourceError([Problem(path, line, f"not valid Python: {error}; fix it")]) from None
        everything = list(self._read_tokens())
        self.comments = [token for token in everything if token.kind == tokenize.COMMENT]
        self.tokens = [token for token in everything if token.kind != tokenize.COMMENT]
        self._token_starts = [token.start for token in self.tokens]

    def _read_tokens(self) -> Iterator[Token]:
        """Yield tokens but for newlines and indents, f-strings whole as before Python 3.12."""
        depth = start = 0
        for token in tokenize.generate_tokens(io.StringIO(self.text).readline):
            name = tokenize.tok_name[token.type]
            if name.endswith("STRING_START"):
                start = start if depth else self.at(token.start)
                depth += 1
            elif name.endswith("STRING_END"):
                depth -= 1
                if not depth:
                    end = self.at(token.end)
                    yield Token(tokenize.STRING, self.text[start:end], start, end)
            elif not depth and token.type not in LAYOUT:
                yield Token(token.type, token.string, self.at(token.start), self.at(token.end))

    def at(self, position: tuple[int, int]) -> int:
        line, column = position
        return self._starts[line - 1] + column

    def span(self, node: ast.AST) -> tuple[int, int]:
        """Return the offsets at which a node begins and ends."""
        first, last = getattr(node, "lineno", 1), getattr(node, "end_lineno", 1)
        return (
            self._starts[first - 1] + self._column(first, getattr(node, "col_offset", 0)),
            self._starts[last - 1] + self._column(last, getattr(node, "end_col_offset", 0)),
        )

    def _column(self, line: int, utf8_column: int) -> int:
        """Convert a column of `ast`, which counts UTF-8 bytes."""
        return len(self._lines[line - 1].encode()[:utf8_column].decode())

    def lines(self, first: int, last: int) -> tuple[int, int]:
        """Return the offsets of whole lines."""
        return self._starts[first - 1], self._starts[last]

    def line(self, offset: int) -> int:
        """Return the line number of an offset."""
        return bisect_right(self._starts, offset)

    def index(self, offset: int) -> int:
        """Return the index of the first token at or after an offset."""
        return bisect_right(self._token_starts, offset - 1)

    def prose(self) -> Iterator[tuple[int, int]]:
        """Yield the offsets of docstrings and comments."""
        for node in ast.walk(self.tree):
            if (
                isinstance(node, ast.Expr)
                and isinstance(node.value, ast.Constant)
                and isinstance(node.value.value, str)
            ):
                yield self.span(node)
        for comment in self.comments:
            yield comment.start, comment.end


def apply(edits: Iterable[Edit], text: str) -> tuple[str, list[tuple[int, int]]]:
    """Return the edited text, and for each of its pieces the offsets in it and in the source."""
    pieces: list[str] = []
    origins: list[tuple[int, int]] = []
    length = position = 0
    for start, end, new in sorted(set(edits), key=lambda edit: (edit.start, -edit.end)):
        if start < position:
            if end <= position:
                continue  # in text that another edit replaced
            message = f"edits overlap at {text[start:end]!r}"
            raise AssertionError(message)
        origins += [(length, position), (length + start - position, start)]
        pieces += [text[position:start], new]
        length += start - position + len(new)
        position = end
    origins.append((length, position))
    return "".join([*pieces, text[position:]]), origins


# --- Converting one file


class Converter(ast.NodeVisitor):
    """Converts one source, and records the rules that it used."""

    def __init__(self, source: Source, rules: Rules, root: Path) -> None:
        self.source = source
        self.rules = rules
        self.root = root
        self.used: set[str] = set()
        self.problems: list[Problem] = []
        self._edits: list[Edit] = []
        self._imports: list[tuple[int, int]] = []
        self._from_pairs: set[str] = set()

    def convert(self) -> str:
        """Return the text of the twin, not yet formatted."""
        self.visit(self.source.tree)
        self._convert_tokens()
        for start, end in self.source.prose():
            self._convert_prose(start, end)
        for comment in self.source.comments:
            if FORBIDDEN_COMMENT.search(comment.text):
                message = "a twin needs other ignores; move this into a typed, hand-written helper"
                self.fail(comment.start, message)
        text, origins = apply(self._edits, self.source.text)
        self._check_result(text, origins)
        return text

    def fail(self, where: ast.AST | int, message: str) -> None:
        offset = where if isinstance(where, int) else self.source.span(where)[0]
        self.problems.append(Problem(self.source.path, self.source.line(offset), message))

    def replace(self, start: int, end: int, new: str = "") -> None:
        """Replace code, which must not contain a comment."""
        if any(start <= comment.start < end for comment in self.source.comments):
            self.fail(start, "this comment would be lost; move it above the statement")
        self._edits.append(Edit(start, end, new))

    def drop_lines(self, first: int, last: int | None) -> None:
        start, end = self.source.lines(first, last or first)
        tokens = self.source.tokens[self.source.index(start) : self.source.index(end)]
        if any(token.text == ";" for token in tokens):
            self.fail(start, "the other statement would be lost; give it its own line")
        self._edits.append(Edit(start, end, ""))

    def rename(self, name: str) -> str:
        """Return the blocking counterpart of a name, by default the same name."""
        if name in self.rules.classes:
            self.used.add(name)
        return self.rules.names.get(name, name)

    # Keywords and names.

    def _convert_tokens(self) -> None:
        tokens = self.source.tokens
        for token, following in pairwise([*tokens, Token(0, "", len(self.source.text), 0)]):
            if token.kind != tokenize.NAME or self._in_import(token):
                continue
            if token.text in ("async", "await"):
                self.replace(token.start, following.start)
            elif (new := self.rename(token.text)) != token.text:
                self.replace(token.start, token.end, new)

    def _in_import(self, token: Token) -> bool:
        return any(start <= token.start < end for start, end in self._imports)

    # Docstrings and comments.

    def _convert_prose(self, start: int, end: int) -> None:
        for match in self.rules.prose_pattern.finditer(self.source.text, start, end):
            old, article = match["words"], match["article"]
            new = self.rules.prose[old]
            self.used.add(old)
            if article and (article[1:] == "n") != (new[0].lower() in "aeiou"):
                message = f"{article!r} doesn't fit {new!r}, which replaces {old!r}; "
                self.fail(match.start(), message + f"reword it, or add '{article} ...' to PHRASES")
            self._edits.append(Edit(*match.span("words"), new))

    # Imports.

    def visit_Import(self, node: ast.Import) -> None:
        self._imports.append(self.source.span(node))
        for alias in node.names:
            self._check_module(node, alias.name)
            if self.rules.module(alias.name):
                self.fail(node, import_names(alias.name))

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        self._imports.append(self.source.span(node))
        if node.level or node.module is None:
            self.fail(node, "relative imports can't be converted; write an absolute import")
            return
        self._check_module(node, node.module)
        statements: dict[str, list[str]] = {}
        for alias in node.names:
            self._check_import(node, node.module, alias.name)
            if alias.name == "Awaitable" and not alias.asname:
                continue
            module, name = self._blocking_import(node.module, alias.name)
            item = f"{name} as {alias.asname}" if alias.asname else name
            names = statements.setdefault(module, [])
            names += [item] if item not in names else []
        if statements != {node.module: [ast.unparse(alias) for alias in node.names]}:
            self._replace_import(node, statements)

    def _replace_import(self, node: ast.ImportFrom, statements: dict[str, list[str]]) -> None:
        lines = [f"from {module} import {', '.join(names)}" for module, names in statements.items()]
        self.replace(*self.source.span(node), f"\n{' ' * node.col_offset}".join(lines))

    def _blocking_import(self, module: str, name: str) -> tuple[str, str]:
        whole = f"{module}.{name}"
        if whole in self.rules.imports:
            self.used.add(whole)
            new_module, _, new_name = self.rules.imports[whole].rpartition(".")
            return new_module, new_name
        if old := self.rules.module(module):
            self.used.add(old)
            module = self.rules.all_modules[old] + module[len(old) :]
        return module, self.rename(name)

    def _check_module(self, node: ast.stmt, module: str) -> None:
        if remedy := FORBIDDEN_MODULES.get(module.partition(".")[0]):
            self.fail(node, f"don't import {module}: {remedy}")

    def _check_import(self, node: ast.ImportFrom, module: str, name: str) -> None:
        if name == "*":
            self.fail(node, "import * can't be converted; import names")
        if (whole := f"{module}.{name}") in self.rules.all_modules:
            self.fail(node, import_names(whole))
        if module in self.rules.pairs:
            self._from_pairs.add(name)
            self._check_counterpart(node, self.rules.pairs[module], name)
        elif name in FORBIDDEN_NAMES:
            self.fail(node, forbidden(name))

    def _check_counterpart(self, node: ast.ImportFrom, module: str, name: str) -> None:
        """Check that a name of a hand-written async module exists in the blocking one."""
        path = f"{module.replace('.', '/')}.py"
        if not (self.root / path).is_file():
            self.fail(node, f"{path} doesn't exist; write it")
        elif name not in top_level_names(self.root / path):
            self.fail(node, f"{module} has no {name}; define it there")

    # Syntax.

    def visit_Await(self, node: ast.Await) -> None:
        """Drop parentheses that only `await` needed; the keyword itself is dropped as a token."""
        if not isinstance(node.value, ast.Call):
            # The call was made before, perhaps only to be awaited on one branch.
            message = "only a call can be awaited: a twin would run an earlier call at once; "
            self.fail(node, message + "call and await in one expression")
        tokens = self.source.tokens
        start, end = self.source.span(node)
        opening = self.source.index(start) - 1
        closing = self.source.index(end)
        if tokens[opening].text == "(" and tokens[closing].text == ")":
            before = tokens[opening - 1] if opening else Token(tokenize.OP, "", 0, 0)
            if not can_be_called(before) and not self._breaks_lines(node):
                touches_word = before.end == tokens[opening].start and before.text.isalpha()
                self.replace(tokens[opening].start, start, " " * touches_word)
                self.replace(end, tokens[closing].end, " ")
        self.generic_visit(node)

    def _breaks_lines(self, node: ast.Await) -> bool:
        """Return whether there is a line break before the arguments of the awaited call."""
        called = node.value.func if isinstance(node.value, ast.Call) else node.value
        arguments = self.source.tokens[self.source.index(self.source.span(called)[1])]
        return "\n" in self.source.text[self.source.span(node)[0] : arguments.end]

    def visit_JoinedStr(self, node: ast.JoinedStr) -> None:
        """Leave f-strings as they are: before Python 3.12, positions in them are wrong."""

    # Types.

    def visit_Subscript(self, node: ast.Subscript) -> None:
        if is_awaitable(node):
            if isinstance(node.slice, ast.Tuple):
                self.fail(node, f"{ast.unparse(node)}: Awaitable takes one type argument")
            start, end = self.source.span(node)
            result_start, result_end = self.source.span(node.slice)
            self.replace(start, result_start)
            self.replace(result_end, end)
            self.visit(node.slice)
            return
        if identifier(node.value) == "AsyncGenerator":
            self._complete_generator(node)
        self.generic_visit(node)

    def _complete_generator(self, node: ast.Subscript) -> None:
        """Add the return type: AsyncGenerator[Y, S] is Generator[Y, S, None]."""
        if not isinstance(node.slice, ast.Tuple) or len(node.slice.elts) != 2:
            self.fail(node, "AsyncGenerator takes two types; write AsyncGenerator[T, None]")
        closing = self.source.index(self.source.span(node)[1]) - 1
        before = self.source.tokens[closing - 1]
        self.replace(before.end, before.end, " None" if before.text == "," else ", None")

    def visit_Name(self, node: ast.Name) -> None:
        self._check_name(node, node.id)

    def visit_Attribute(self, node: ast.Attribute) -> None:
        self._check_name(node, node.attr)
        self.generic_visit(node)

    def _check_name(self, node: ast.expr, name: str) -> None:
        if name in FORBIDDEN_NAMES and name not in self._from_pairs:
            self.fail(node, forbidden(name))

    def visit_arg(self, node: ast.arg) -> None:
        self._check_annotation(node.annotation)
        self.generic_visit(node)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        self._check_annotation(node.annotation)
        self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> None:
        if identifier(node.func) == "cast" and node.args:
            self._check_annotation(node.args[0])
        for argument in node.keywords:
            if identifier(node.func) in ("TypeVar", "ParamSpec") and argument.arg == "bound":
                self._check_annotation(argument.value)
        self.generic_visit(node)

    def _check_annotation(self, node: ast.expr | None) -> None:
        if isinstance(node, ast.Subscript) and identifier(node.value) == "Literal":
            return
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            self.fail(node, "a type in a string can't be converted; write it without quotes")
        for child in ast.iter_child_nodes(node) if node else ():
            if isinstance(child, ast.expr):
                self._check_annotation(child)

    # Definitions.

    def visit_Module(self, node: ast.Module) -> None:
        self._check_collisions(node.body)
        self.generic_visit(node)

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        self._check_collisions(node.body)
        for base in node.bases:
            if is_awaitable(base):
                self.fail(base, f"{ast.unparse(base)} can't be a base class; use another one")
        self.generic_visit(node)

    def _check_collisions(self, body: list[ast.stmt]) -> None:
        """Check that no two definitions get the same name."""
        owners: dict[str, str] = {}
        for node in body:
            for old in defined_names(node):
                name = self.rules.names.get(old, old)
                if owners.setdefault(name, old) != old:
                    self.fail(
                        node, f"{owners[name]} and {old} would both be called {name}; rename one"
                    )

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        self._check_annotation(node.returns)
        self.generic_visit(node)

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> None:
        self.visit_FunctionDef(node)

    def visit_Assign(self, node: ast.Assign) -> None:
        """Drop the mark of coroutines from `pytestmark`."""
        if [ast.unparse(target) for target in node.targets] == ["pytestmark"]:
            if ast.unparse(node.value) == TEST_MARK:
                self.drop_lines(node.lineno, node.end_lineno)
            for mark in node.value.elts if isinstance(node.value, ast.List) else ():
                start, end = self.source.span(mark)
                following = self.source.index(end)
                if ast.unparse(mark) == TEST_MARK and self.source.tokens[following].text == ",":
                    self.replace(start, self.source.tokens[following + 1].start)
        self.generic_visit(node)

    # Checks of the twin.

    def _check_result(self, text: str, origins: list[tuple[int, int]]) -> None:
        def origin(offset: int) -> int:
            start, source_start = origins[bisect_right(origins, offset, key=itemgetter(0)) - 1]
            return source_start + offset - start

        for match in self.rules.leftover_pattern.finditer(text):
            if match[0] not in self.rules.allowed:
                where = min(origin(match.start()), len(self.source.text))
                self.fail(where, f"{match[0]!r} would be left in the twin; {REWORD}")
        try:
            # Compile, not only parse: two parameters may have got the same name.
            compile(text, self.source.path, "exec", dont_inherit=True)
        except SyntaxError as error:
            start = sum(len(line) + 1 for line in text.split("\n")[: (error.lineno or 1) - 1])
            self.fail(
                min(origin(start), len(self.source.text)),
                f"the twin wouldn't be valid Python: {error.msg}; reword the source",
            )


def import_names(module: str) -> str:
    return f"the module {module} can't be imported; write: from {module} import ..."


def forbidden(name: str) -> str:
    return f"{name} has no blocking counterpart; {USE_A_PAIR}"


def identifier(node: ast.expr) -> str:
    """Return the last name of `name` or `module.name`, by default ''."""
    return last_name(ast.unparse(node)) if isinstance(node, (ast.Name, ast.Attribute)) else ""


def defined_names(node: ast.stmt) -> list[str]:
    """Return the names that a statement defines."""
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        return [node.name]
    targets = node.targets if isinstance(node, ast.Assign) else []
    targets = [node.target] if isinstance(node, ast.AnnAssign) else targets
    return [target.id for target in targets if isinstance(target, ast.Name)]


def is_awaitable(node: ast.expr) -> TypeGuard[ast.Subscript]:
    return isinstance(node, ast.Subscript) and identifier(node.value) == "Awaitable"


def can_be_called(token: Token) -> bool:
    """Return whether a parenthesis after this token begins the arguments of a call."""
    if token.kind == tokenize.NAME:
        return not keyword.iskeyword(token.text)
    return token.text in (")", "]", "}") or token.kind == tokenize.STRING


def top_level_names(path: Path) -> set[str]:
    """Return the names that a module defines or imports."""
    try:
        table = symtable.symtable(path.read_text(encoding="utf-8"), path.name, "exec")
    except SyntaxError as error:
        raise SourceError(
            [Problem(path.as_posix(), error.lineno or 1, f"not valid Python: {error.msg}; fix it")]
        ) from None
    return {
        name.get_name() for name in table.get_symbols() if name.is_assigned() or name.is_imported()
    }


# --- All files


def generate(root: Path, rules: Rules = RULES, *, strict_rules: bool = True) -> dict[str, str]:
    """Return the text of each twin by its path, or raise `SourceError`."""
    twins: dict[str, str] = {}
    sources: dict[str, str] = {}
    used: set[str] = set()
    problems: list[Problem] = []
    for source_tree, path in source_files(root):
        name = path.relative_to(root).as_posix()
        twin = TREES[source_tree] + name[len(source_tree) :]
        try:
            converter = Converter(Source(name, read(path)), rules, root)
            twins[twin] = converter.convert()
        except SourceError as error:
            problems += error.problems
        else:
            sources[twin] = name
            used |= converter.used
            problems += converter.problems
    if strict_rules and not problems:
        problems += [unused_rule(rule) for rule in rules.must_be_used() if rule not in used]
    if problems:
        raise SourceError(problems)
    return tidy(twins, {twin: HEADER.format(source=name) for twin, name in sources.items()})


def unused_rule(rule: str) -> Problem:
    """Report an entry of a table that no source needs."""
    lines = read(Path(__file__)).splitlines()
    entries = (n for n, line in enumerate(lines, 1) if line.strip().startswith(f'"{rule}"'))
    return Problem(
        "scripts/unasync.py", next(entries, 1), f"no source needs the rule {rule!r}; delete it"
    )


def source_files(root: Path) -> Iterator[tuple[str, Path]]:
    """Yield the files of the source trees; all must be Python files."""
    trees = [tree for tree in TREES if (root / tree).is_dir()]
    if not trees:
        raise SourceError([Problem(tree, 1, "no such directory; pass --root") for tree in TREES])
    for tree in trees:
        for path in files_in(root / tree):
            if path.suffix == ".py":
                yield tree, path
            else:
                name = path.relative_to(root).as_posix()
                raise SourceError([Problem(name, 1, "not a Python file; move it elsewhere")])


def files_in(tree: Path) -> list[Path]:
    return sorted(
        path
        for path in tree.rglob("*")
        if not path.is_dir() and "__pycache__" not in path.relative_to(tree).parts
    )


def read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise SourceError([Problem(path.as_posix(), 1, f"{error}; save it as UTF-8")]) from None


def tidy(texts: Mapping[str, str], headers: Mapping[str, str]) -> dict[str, str]:
    """Let ruff sort imports, remove unused ones, and format all files."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for path, text in texts.items():
            write_file(folder / path, text)
        ruff(folder, "check", "--fix", "--exit-zero", "--quiet", "--select", "I,F401")
        # After sorting imports, which would move the header along with the first import.
        for path, header in headers.items():
            text = (folder / path).read_text(encoding="utf-8").lstrip("\n")
            write_file(folder / path, f"{header}\n{text}" if text else header)
        ruff(folder, "format", "--quiet")
        return {path: (folder / path).read_text(encoding="utf-8") for path in texts}


def ruff(folder: Path, *arguments: str) -> None:
    config = ["--no-cache", "--config", str(CHECKOUT / "pyproject.toml")]
    # By default, first-party is what ruff finds on disk; here are only some modules.
    config += ["--config", 'lint.isort.known-first-party = ["taskiq_redis", "tests"]']
    result = subprocess.run(
        [*find_ruff(), arguments[0], *config, *arguments[1:], "."],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    if result.returncode:
        raise SourceError([Problem("ruff", 1, result.stderr.strip() or result.stdout.strip())])


def find_ruff() -> list[str]:
    """Return the command of this environment's ruff, whose version is pinned."""
    for name in ("ruff", "ruff.exe"):
        executable = Path(sys.executable).parent / name
        if executable.is_file():
            return [str(executable)]
    if importlib.util.find_spec("ruff"):
        return [sys.executable, "-m", "ruff"]
    message = f"ruff isn't installed for {sys.executable}; install the group `lint`"
    raise SourceError([Problem("ruff", 1, message)])


def twins_on_disk(root: Path) -> dict[str, Path]:
    """Return all files in the trees of the twins."""
    return {
        path.relative_to(root).as_posix(): path
        for tree in TREES.values()
        for path in files_in(root / tree)
    }


def drift(root: Path, twins: Mapping[str, str]) -> dict[str, str]:
    """Return the state of each file on disk that differs from `twins`."""
    found = twins_on_disk(root)
    wrong = {path: "has no source" for path in found if path not in twins}
    for path, text in twins.items():
        if path not in found:
            wrong[path] = "missing"
        elif found[path].read_bytes() != text.encode():
            wrong[path] = "differs"
    return dict(sorted(wrong.items()))


def write(root: Path, twins: Mapping[str, str]) -> dict[str, str]:
    """Write `twins` to disk, delete other files, and return the states before."""
    wrong = drift(root, twins)
    for path in wrong:
        if path in twins:
            write_file(root / path, twins[path])
        else:
            (root / path).unlink()
            remove_empty(root / path)
    return wrong


def remove_empty(removed: Path) -> None:
    """Remove the folders that are empty without a removed file."""
    for folder in removed.parents:
        if any(folder.iterdir()):
            return
        folder.rmdir()


def write_file(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8", newline="\n")


def diff(path: Path, text: str, limit: int = 20) -> str:
    """Return the first lines of the difference between a file and `text`."""
    old = path.read_bytes().decode(errors="replace").splitlines() if path.is_file() else []
    lines = list(difflib.unified_diff(old, text.splitlines(), "on disk", "generated", lineterm=""))
    return "\n".join([*lines[:limit], *(["..."] if len(lines) > limit else [])])


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Generate the blocking twins.")
    parser.add_argument(
        "--check", action="store_true", help="change nothing; exit 1 if a twin differs"
    )
    parser.add_argument("--root", type=Path, default=CHECKOUT, help="directory of the trees")
    parser.add_argument("--allow-unused-rules", action="store_true", help="for incomplete trees")
    options = parser.parse_args(arguments)
    try:
        twins = generate(options.root, strict_rules=not options.allow_unused_rules)
    except SourceError as error:
        print(error, file=sys.stderr)
        return 2
    if not options.check:
        for path, state in write(options.root, twins).items():
            print(f"{path}: {state}; fixed")
        return 0
    wrong = drift(options.root, twins)
    for path, state in wrong.items():
        print(f"{path}: {state}")
        if state == "differs":
            print(diff(options.root / path, twins[path]))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
