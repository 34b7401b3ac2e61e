"""Write the blocking twins, taskiq_redis/_sync and tests/_sync, file by file.

    python scripts/unasync.py            write what is stale, remove what is too many
    python scripts/unasync.py --check    change nothing, exit 1 if anything would change

`ast` and `tokenize` say what there is and where; the edits go into the original text, so that its
formatting and comments survive; ruff sorts the imports and formats the result. What the rules don't
cover is an error at a line of the source (exit 2, nothing is written), never silent output.
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
from typing import NamedTuple

CHECKOUT = Path(__file__).resolve().parent.parent

# ----------------------------------------------------------------------------------- the rules

# Where the sources are, and where their twins go.
TREES = {
    "taskiq_redis/_async": "taskiq_redis/_sync",
    "tests/_async": "tests/_sync",
}

# The first line of a twin, for whoever is about to edit it.
HEADER = "# Generated from {source} by scripts/unasync.py; edit that.\n"

# What may lie in a source tree without having a twin.
NOT_SOURCES = ("py.typed",)

# The hand-written pairs: what a source takes from the left one must exist in the right one.
RUNTIMES = {
    "taskiq_redis._runtime.aio": "taskiq_redis._runtime.blocking",
    "tests._aio": "tests._threads",
}

# Modules with a blocking counterpart of the same content; their submodules follow.
MODULES = RUNTIMES | {
    "redis.asyncio": "redis",
    "taskiq_redis._async": "taskiq_redis._sync",
    "tests._async": "tests._sync",
}

# Single names whose counterpart has another name or place: taskiq has no blocking abstractions.
IMPORTS = {
    "taskiq.ScheduleSource": "taskiq_redis._taskiq.schedule_source.SyncScheduleSource",
    "taskiq.abc.result_backend.AsyncResultBackend": (
        "taskiq_redis._taskiq.result_backend.SyncResultBackend"
    ),
    "taskiq_redis._taskiq.async_broker.TaskBroker": "taskiq_redis._taskiq.broker.SyncBroker",
}

# Public classes: both twins are imported from one package, so the blocking ones are called Sync...
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

# What docstrings and comments say. The longest match wins, a capital first letter is kept, "a" and
# "an" before it are put right, and a line break may stand for a space. None drops the whole line.
PHRASES = {
    "event loop": "process",
}

# The language and its library: these renames may go unused.
LANGUAGE = {
    "AbstractAsyncContextManager": "AbstractContextManager",
    "AsyncContextManager": "ContextManager",
    "AsyncExitStack": "ExitStack",
    "AsyncGenerator": "Generator",
    "AsyncIterable": "Iterable",
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
    "enter_async_context": "enter_context",
    "push_async_callback": "callback",
    "push_async_exit": "push",
}

# Types of what is awaited, with their number of arguments; the last is what a plain call returns.
AWAITED = {"Awaitable": 1, "Coroutine": 3, "CoroutineType": 3}

# The marker, and the fixture, that only tests of coroutines need.
TEST_MARK = "pytest.mark.anyio"
TEST_FIXTURE = "anyio_backend"

# Concurrency has no mechanical twin: sources take it from the left half of RUNTIMES only.
FORBIDDEN_MODULES = {
    "__future__": "annotations must be real objects",
    "anyio": "take it from the runtime module",
    "asyncio": "take it from the runtime module",
    "concurrent": "take it from the runtime module",
    "inspect": "a twin can't ask what is a coroutine",
    "queue": "take it from the runtime module",
    "sniffio": "take it from the runtime module",
    "threading": "take it from the runtime module",
    "trio": "take it from the runtime module",
    "uvloop": "take it from the runtime module",
}
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

# No word with one of these may be left in a twin, be it code, text or comment.
LEFTOVERS = r"\w*(?:async|await|anyio|coroutine)\w*|(?<![a-z])aio\w*|\bevent{gap}loop"


# Between two words of a text: space, or a line break with what begins the next line.
LINE_BREAK = r"[ \t]*\n[ \t]*(?:#:?[ \t]*)?"
GAP = rf"(?:{LINE_BREAK}|[ \t]+)"


@dataclass(frozen=True)
class Rules:
    """The tables of above; each entry has to be used, so that none outlives its reason."""

    modules: Mapping[str, str]
    imports: Mapping[str, str]
    classes: tuple[str, ...]
    phrases: Mapping[str, str | None]

    def __iter__(self) -> Iterator[str]:
        for table in (self.modules, self.imports, self.classes, self.phrases):
            yield from table

    @cached_property
    def names(self) -> dict[str, str]:
        """Every identifier that changes."""
        imported = {last_name(old): last_name(new) for old, new in self.imports.items()}
        public = {name: f"Sync{name}" for name in self.classes}
        return {old: new for old, new in (LANGUAGE | imported | public).items() if old != new}

    @cached_property
    def prose(self) -> dict[str, str | None]:
        """Everything that changes in docstrings and comments."""
        return {**self.modules, **self.names, **self.phrases}

    @cached_property
    def prose_pattern(self) -> re.Pattern[str]:
        longest_first = sorted(self.prose, key=len, reverse=True)
        keys = "|".join(phrase_pattern(key, key in self.phrases) for key in longest_first)
        article = rf"(?:\b(?P<article>[Aa]n?)(?P<between>{GAP}[^\w\s]*))"
        return re.compile(rf"{article}??(?P<key>{keys})")

    @cached_property
    def leftover_pattern(self) -> re.Pattern[str]:
        names = "|".join(re.escape(name) for name in self.names)
        words = LEFTOVERS.replace("{gap}", GAP)
        return re.compile(rf"(?i:{words})|\b(?:{names})\b")

    @cached_property
    def allowed(self) -> set[str]:
        """Blocking classes that 1.2.4's names make look like leftovers."""
        return {self.names[name] for name in self.classes}

    def module(self, name: str) -> str | None:
        """The key in `modules` of a module or of one of its parents."""
        return next((old for old in self.modules if f"{name}.".startswith(f"{old}.")), None)


RULES = Rules(MODULES, IMPORTS, CLASSES, PHRASES)


def phrase_pattern(key: str, is_phrase: bool) -> str:
    """A pattern of whole words; a phrase may begin a sentence, a name can't change its case."""
    pattern = GAP.join(re.escape(word) for word in key.split(" "))
    if is_phrase and key[0].islower():
        pattern = f"[{key[0].lower()}{key[0].upper()}]{pattern[1:]}"
    before = r"(?<!\w)" if key[0].isidentifier() else ""
    after = r"(?!\w)" if key[-1].isidentifier() else ""
    return before + pattern + after


def last_name(dotted: str) -> str:
    return dotted.rpartition(".")[2]


# ------------------------------------------------------------------------- a source and its edits


class Problem(NamedTuple):
    """Why there is no twin, and where."""

    path: str
    line: int
    message: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.message}"


class SourceError(Exception):
    """The sources can't be made blocking."""

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
    """A source file, addressed in characters; `ast` counts UTF-8 bytes, `tokenize` lines."""

    def __init__(self, path: str, text: str) -> None:
        self.path = path
        self.text = text if text.endswith("\n") or not text else f"{text}\n"
        self._lines = self.text.split("\n")
        self._starts = [0, *accumulate(len(line) + 1 for line in self._lines)]
        try:
            self.tree = ast.parse(self.text)
        except (SyntaxError, ValueError) as error:
            line = getattr(error, "lineno", None) or 1
            raise SourceError([Problem(path, line, f"not valid Python: {error}")]) from None
        everything = list(self._read_tokens())
        self.comments = [token for token in everything if token.kind == tokenize.COMMENT]
        self.tokens = [token for token in everything if token.kind != tokenize.COMMENT]
        self._token_starts = [token.start for token in self.tokens]

    def _read_tokens(self) -> Iterator[Token]:
        """Yield what isn't layout; an f-string is one token, as it was before Python 3.12."""
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
        """Where a statement, expression, argument or alias begins and ends."""
        first, last = getattr(node, "lineno", 1), getattr(node, "end_lineno", 1)
        return (
            self._starts[first - 1] + self._column(first, getattr(node, "col_offset", 0)),
            self._starts[last - 1] + self._column(last, getattr(node, "end_col_offset", 0)),
        )

    def _column(self, line: int, utf8_column: int) -> int:
        return len(self._lines[line - 1].encode()[:utf8_column].decode())

    def lines(self, first: int, last: int) -> tuple[int, int]:
        return self._starts[first - 1], self._starts[last]

    def line(self, offset: int) -> int:
        return bisect_right(self._starts, offset)

    def index(self, offset: int) -> int:
        """The index of the first token at or after an offset."""
        return bisect_right(self._token_starts, offset - 1)

    def prose(self) -> Iterator[tuple[int, int]]:
        """Yield where docstrings, and runs of comments, are."""
        for node in ast.walk(self.tree):
            if (
                isinstance(node, ast.Expr)
                and isinstance(node.value, ast.Constant)
                and isinstance(node.value.value, str)
            ):
                yield self.span(node)
        start = end = -1
        for comment in self.comments:
            if end < 0 or self.text[end : comment.start].strip():
                yield max(start, 0), max(end, 0)
                start = comment.start
            end = comment.end
        yield max(start, 0), max(end, 0)


def apply(edits: Iterable[Edit], text: str) -> tuple[str, list[tuple[int, int]]]:
    """Return the edited text, and pairs of offsets: of each piece of it, and of where it's from."""
    pieces: list[str] = []
    origins: list[tuple[int, int]] = []
    length = position = 0
    for start, end, new in sorted(set(edits), key=lambda edit: (edit.start, -edit.end)):
        if start < position:
            if end <= position:
                continue  # inside of what another edit replaced
            message = f"edits overlap at {text[start:end]!r}"
            raise AssertionError(message)
        origins += [(length, position), (length + start - position, start)]
        pieces += [text[position:start], new]
        length += start - position + len(new)
        position = end
    origins.append((length, position))
    return "".join([*pieces, text[position:]]), origins


# ----------------------------------------------------------------------------- one file's twin


class Converter(ast.NodeVisitor):
    """Turns one source into its twin, and notes the rules that it used."""

    def __init__(self, source: Source, rules: Rules, root: Path) -> None:
        self.source = source
        self.rules = rules
        self.root = root
        self.used: set[str] = set()
        self.problems: list[Problem] = []
        self._edits: list[Edit] = []
        self._imports: list[tuple[int, int]] = []
        self._from_runtime: set[str] = set()

    def convert(self) -> str:
        """Return the blocking text, not yet formatted."""
        self.visit(self.source.tree)
        self._convert_tokens()
        for start, end in self.source.prose():
            self._convert_prose(start, end)
        for comment in self.source.comments:
            if FORBIDDEN_COMMENT.search(comment.text):
                self.fail(comment.start, "ignores differ between twins; write a typed helper")
        text, origins = apply(self._edits, self.source.text)
        self._check_result(text, origins)
        return text

    def fail(self, where: ast.AST | int, message: str) -> None:
        offset = where if isinstance(where, int) else self.source.span(where)[0]
        self.problems.append(Problem(self.source.path, self.source.line(offset), message))

    def replace(self, start: int, end: int, new: str = "") -> None:
        """Replace code, in which there must be no comment to lose."""
        if any(start <= comment.start < end for comment in self.source.comments):
            self.fail(start, "a comment in here would be lost; put it before the statement")
        self._edits.append(Edit(start, end, new))

    def drop_lines(self, first: int, last: int | None) -> None:
        start, end = self.source.lines(first, last or first)
        tokens = self.source.tokens[self.source.index(start) : self.source.index(end)]
        if any(token.text == ";" for token in tokens):
            self.fail(start, "a statement in this line would be lost; give it a line of its own")
        self._edits.append(Edit(start, end, ""))

    def drop_item(self, node: ast.AST) -> None:
        """Drop a parameter or an element, and one comma."""
        start, end = self.source.span(node)
        index = self.source.index(end)
        before, after = self.source.tokens[self.source.index(start) - 1], self.source.tokens[index]
        if after.text == ",":
            self.replace(start, self.source.tokens[index + 1].start)
        else:
            self.replace(before.start if before.text == "," else start, end)

    def rename(self, name: str) -> str:
        if name in self.rules.classes:
            self.used.add(name)
        return self.rules.names.get(name, name)

    # Keywords and names, wherever they are.

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
            key = re.sub(GAP, " ", match["key"])
            known = key if key in self.rules.prose else key[0].lower() + key[1:]
            self.used.add(known)
            new = self.rules.prose[known]
            if new is None:
                self._drop_prose_line(match)
                continue
            if known != key:
                new = new[:1].upper() + new[1:]
            article = match["article"] or ""
            if article and new:
                article = article[0] + ("n" if new[0].lower() in "aeiou" else "")
            line_break = re.search(LINE_BREAK, match["key"])
            new = article + (match["between"] or "") + (line_break[0] if line_break else "") + new
            self._edits.append(Edit(*match.span(), new))

    def _drop_prose_line(self, match: re.Match[str]) -> None:
        line = self.source.line(match.start())
        start, end = self.source.lines(line, line)
        if self.source.text[start:end].strip(" #\n") != match["key"]:
            self.fail(match.start(), f"{match['key']!r} must stand on a line of its own")
        if self.source.text[:start].endswith("\n\n") and self.source.text.startswith("\n", end):
            end += 1  # one blank line is enough where there were two
        self._edits.append(Edit(start, end, ""))

    # Imports.

    def visit_Import(self, node: ast.Import) -> None:
        self._imports.append(self.source.span(node))
        for alias in node.names:
            self._check_module(node, alias.name)
            if self.rules.module(alias.name):
                self.fail(node, f"import names from {alias.name}, not the module")

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        self._imports.append(self.source.span(node))
        if node.level or node.module is None:
            self.fail(node, "write an absolute import")
            return
        self._check_module(node, node.module)
        statements: dict[str, list[str]] = {}
        for alias in node.names:
            self._check_import(node, node.module, alias.name)
            if alias.name in AWAITED:
                if alias.asname:
                    self.fail(node, f"import {alias.name} under its own name")
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
            module = self.rules.modules[old] + module[len(old) :]
        return module, self.rename(name)

    def _check_module(self, node: ast.stmt, module: str) -> None:
        if reason := FORBIDDEN_MODULES.get(module.partition(".")[0]):
            self.fail(node, f"don't import {module}: {reason}")

    def _check_import(self, node: ast.ImportFrom, module: str, name: str) -> None:
        if name == "*":
            self.fail(node, "import names, not *")
        if self.rules.module(f"{module}.{name}") == f"{module}.{name}":
            self.fail(node, f"import names from {module}.{name}, not the module")
        if module in RUNTIMES:
            self._from_runtime.add(name)
            names = top_level_names(self.root / f"{RUNTIMES[module].replace('.', '/')}.py")
            if names is not None and name not in names:
                self.fail(node, f"{RUNTIMES[module]} has no {name}")
        elif name in FORBIDDEN_NAMES:
            self.fail(node, f"{name} has no twin")

    # Syntax.

    def visit_Await(self, node: ast.Await) -> None:
        """Drop parentheses that only `await` needed; the keyword itself is dropped as a token."""
        if not isinstance(node.value, ast.Call):
            # It was called before, perhaps for another branch, and a blocking call is run at once.
            self.fail(node, "await a call where it is made; else a twin would run it too early")
        tokens = self.source.tokens
        start, end = self.source.span(node)
        opening = self.source.index(start) - 1
        closing = self.source.index(end)
        if tokens[opening].text == "(" and tokens[closing].text == ")":
            before = tokens[opening - 1] if opening else Token(tokenize.OP, "", 0, 0)
            if not can_be_called(before) and not self._breaks_lines(node):
                self.replace(tokens[opening].start, start, " " * self._touches_word(opening, -1))
                self.replace(end, tokens[closing].end, " " * self._touches_word(closing, 1))
        self.generic_visit(node)

    def _touches_word(self, index: int, step: int) -> bool:
        """Tell whether a word is right beside a token, as in `return(await x())`."""
        first, second = sorted((index, index + step))
        tokens = self.source.tokens[first : second + 1]
        return tokens[0].end == tokens[-1].start and self.source.tokens[index + step].text.isalnum()

    def _breaks_lines(self, node: ast.Await) -> bool:
        """Tell whether an expression needs parentheses around it to go on in another line."""
        depth = 0
        start, end = self.source.span(node)
        tokens = self.source.tokens[self.source.index(start) : self.source.index(end)]
        for token, following in pairwise(tokens):
            depth += (token.text in "([{") - (token.text in ")]}")
            if not depth and "\n" in self.source.text[token.end : following.start]:
                return True
        return False

    def visit_JoinedStr(self, node: ast.JoinedStr) -> None:
        """Leave f-strings alone: positions in them are wrong before Python 3.12."""

    # Types.

    def visit_Subscript(self, node: ast.Subscript) -> None:
        name = identifier(node.value)
        if name in AWAITED:
            result = self._awaited(node)
            start, end = self.source.span(node)
            result_start, result_end = self.source.span(result)
            self.replace(start, result_start)
            self.replace(result_end, end)
            self.visit(result)
            return
        if name == "AsyncGenerator":
            self._complete_generator(node)
        self.generic_visit(node)

    def _awaited(self, node: ast.Subscript) -> ast.expr:
        """The T of Awaitable[T] or Coroutine[A, B, T]."""
        arguments = type_arguments(node)
        if len(arguments) != AWAITED[identifier(node.value)]:
            self.fail(node, f"wrong number of type arguments: {ast.unparse(node)}")
        return arguments[-1]

    def _complete_generator(self, node: ast.Subscript) -> None:
        """Generator[Y, S, R] needs its R, and its S before Python 3.13."""
        missing = 3 - len(type_arguments(node))
        if missing not in (1, 2):
            self.fail(node, "AsyncGenerator takes one or two arguments")
        closing = self.source.index(self.source.span(node)[1]) - 1
        before = self.source.tokens[closing - 1]
        text = ", None" * missing
        self.replace(before.end, before.end, text[1:] if before.text == "," else text)

    def visit_BinOp(self, node: ast.BinOp) -> None:
        """Collapse unions such as `Awaitable[T] | T`."""
        operands = list(union_members(node))
        awaited = [o for o in operands if isinstance(o, ast.Subscript) and is_awaited(o)]
        if not awaited:
            self.generic_visit(node)
            return
        seen: set[str] = set()
        previous_end = 0
        for operand in operands:
            result = self._awaited(operand) if operand in awaited else operand
            end = self.source.span(operand)[1]
            if (dump := ast.dump(result)) in seen:
                self.replace(previous_end, end)
            seen.add(dump)
            previous_end = end
            self.visit(operand)

    def visit_Name(self, node: ast.Name) -> None:
        self._check_name(node, node.id)

    def visit_Attribute(self, node: ast.Attribute) -> None:
        self._check_name(node, node.attr)
        self.generic_visit(node)

    def _check_name(self, node: ast.expr, name: str) -> None:
        if name in FORBIDDEN_NAMES and name not in self._from_runtime:
            self.fail(node, f"{name} has no twin")
        if name in AWAITED:
            self.fail(node, f"{name} needs type arguments, and can't be used as a class")

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
            self.fail(node, "a type in a string can't be rewritten; write it without quotes")
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
            if is_awaited(base):
                self.fail(base, f"{ast.unparse(base)} can't be a base class")
        self.generic_visit(node)

    def _check_collisions(self, body: list[ast.stmt]) -> None:
        """A rename must not make two methods, or a method and an attribute, into one."""
        owners: dict[str, str] = {}
        for node in body:
            for old in defined_names(node):
                name = self.rules.names.get(old, old)
                if owners.setdefault(name, old) != old:
                    self.fail(node, f"{owners[name]} and {old} would both be called {name}")

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        if node.name == TEST_FIXTURE:
            first = min([node.lineno, *(item.lineno for item in node.decorator_list)])
            self.drop_lines(first, node.end_lineno)
            return
        for decorator in node.decorator_list:
            if is_test_mark(decorator):
                self.drop_lines(decorator.lineno, decorator.end_lineno)
        for argument in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs):
            if argument.arg == TEST_FIXTURE:
                self.drop_item(argument)
        self._check_annotation(node.returns)
        self.generic_visit(node)

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> None:
        self.visit_FunctionDef(node)

    def visit_Assign(self, node: ast.Assign) -> None:
        names = {target.id for target in node.targets if isinstance(target, ast.Name)}
        if "__all__" in names:
            self._convert_all(node.value)
        if "pytestmark" in names:
            self._convert_marks(node)
        self.generic_visit(node)

    def _convert_all(self, value: ast.expr) -> None:
        for node in ast.walk(value):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                new = self.rename(node.value)
                if new != node.value:
                    self.replace(*self.source.span(node), f'"{new}"')

    def _convert_marks(self, node: ast.Assign) -> None:
        marks = node.value.elts if isinstance(node.value, (ast.List, ast.Tuple)) else [node.value]
        kept = [mark for mark in marks if not is_test_mark(mark)]
        if marks and not kept:
            self.drop_lines(node.lineno, node.end_lineno)
            return
        for mark in marks:
            if mark not in kept:
                self.drop_item(mark)

    # The result.

    def _check_result(self, text: str, origins: list[tuple[int, int]]) -> None:
        def origin(offset: int) -> int:
            start, source_start = origins[bisect_right(origins, offset, key=itemgetter(0)) - 1]
            return source_start + offset - start

        for match in self.rules.leftover_pattern.finditer(text):
            if match[0] not in self.rules.allowed:
                where = min(origin(match.start()), len(self.source.text))
                self.fail(where, f"{match[0]!r} would be left in the blocking twin")
        try:
            # More than parsing: names that are the same by now may not be two parameters.
            compile(text, self.source.path, "exec", dont_inherit=True)
        except SyntaxError as error:
            start = sum(len(line) + 1 for line in text.split("\n")[: (error.lineno or 1) - 1])
            self.fail(min(origin(start), len(self.source.text)), f"no valid twin: {error.msg}")


def identifier(node: ast.expr) -> str:
    """The last name of `name` or `module.name`."""
    return last_name(ast.unparse(node)) if isinstance(node, (ast.Name, ast.Attribute)) else ""


def defined_names(node: ast.stmt) -> list[str]:
    """The names that a definition or an assignment gives."""
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        return [node.name]
    targets = node.targets if isinstance(node, ast.Assign) else []
    targets = [node.target] if isinstance(node, ast.AnnAssign) else targets
    return [target.id for target in targets if isinstance(target, ast.Name)]


def type_arguments(node: ast.Subscript) -> list[ast.expr]:
    return node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]


def is_awaited(node: ast.expr) -> bool:
    return isinstance(node, ast.Subscript) and identifier(node.value) in AWAITED


def is_test_mark(node: ast.expr) -> bool:
    return ast.unparse(node.func if isinstance(node, ast.Call) else node) == TEST_MARK


def union_members(node: ast.expr) -> Iterator[ast.expr]:
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
        yield from union_members(node.left)
        yield from union_members(node.right)
    else:
        yield node


def can_be_called(token: Token) -> bool:
    """Tell whether a parenthesis after this token would be a call."""
    if token.kind == tokenize.NAME:
        return not keyword.iskeyword(token.text)
    return token.text in (")", "]", "}") or token.kind == tokenize.STRING


def top_level_names(path: Path) -> set[str] | None:
    """What a module defines or imports; None if there is no such file."""
    if not path.is_file():
        return None
    try:
        table = symtable.symtable(path.read_text(encoding="utf-8"), path.name, "exec")
    except SyntaxError as error:
        raise SourceError([Problem(path.name, error.lineno or 1, f"{error.msg}")]) from None
    return {
        name.get_name() for name in table.get_symbols() if name.is_assigned() or name.is_imported()
    }


# ------------------------------------------------------------------------------- the whole trees


def generate(root: Path, rules: Rules = RULES, *, strict_rules: bool = True) -> dict[str, str]:
    """Return the texts of all twins, by their paths; raise `SourceError` if one can't be made."""
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
        problems += [unused_rule(rule) for rule in rules if rule not in used]
    if problems:
        raise SourceError(problems)
    return tidy(twins, {twin: HEADER.format(source=name) for twin, name in sources.items()})


def unused_rule(rule: str) -> Problem:
    """Point at the entry of a table that nothing needs."""
    lines = read(Path(__file__)).splitlines()
    entries = (n for n, line in enumerate(lines, 1) if line.strip().startswith(f'"{rule}"'))
    return Problem("scripts/unasync.py", next(entries, 1), f"unused rule: {rule!r}; delete it")


def source_files(root: Path) -> Iterator[tuple[str, Path]]:
    """Yield the Python files of the trees that exist; anything else in them is an error."""
    trees = [tree for tree in TREES if (root / tree).is_dir()]
    if not trees:
        raise SourceError([Problem(tree, 1, "no such directory") for tree in TREES])
    for tree in trees:
        for path in files_in(root / tree):
            if path.suffix == ".py":
                yield tree, path
            elif path.name not in NOT_SOURCES:
                raise SourceError([Problem(path.relative_to(root).as_posix(), 1, "not Python")])


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
        raise SourceError([Problem(path.name, 1, str(error))]) from None


def tidy(texts: Mapping[str, str], headers: Mapping[str, str]) -> dict[str, str]:
    """Let ruff sort imports, drop what the twins don't need, and format: all files at once."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for path, text in texts.items():
            write_file(folder / path, text)
        ruff(folder, "check", "--fix", "--exit-zero", "--quiet", "--select", "I,F401")
        # Only now: import sorting takes a comment above the first import along with it.
        for path, header in headers.items():
            text = (folder / path).read_text(encoding="utf-8").lstrip("\n")
            write_file(folder / path, f"{header}\n{text}" if text else header)
        ruff(folder, "format", "--quiet")
        return {path: (folder / path).read_text(encoding="utf-8") for path in texts}


def ruff(folder: Path, *arguments: str) -> None:
    config = ["--no-cache", "--config", str(CHECKOUT / "pyproject.toml")]
    # Else ruff takes for first-party what it finds on the disk, and here there is only a part.
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
    """The ruff of this environment, whose version is pinned; not any that is on the PATH."""
    for name in ("ruff", "ruff.exe"):
        executable = Path(sys.executable).parent / name
        if executable.is_file():
            return [str(executable)]
    if importlib.util.find_spec("ruff"):
        return [sys.executable, "-m", "ruff"]
    message = f"ruff isn't installed for {sys.executable}; install the group `lint`"
    raise SourceError([Problem("ruff", 1, message)])


def twins_on_disk(root: Path) -> dict[str, Path]:
    """Everything in the twins' trees, be it generated or not."""
    return {
        path.relative_to(root).as_posix(): path
        for tree in TREES.values()
        for path in files_in(root / tree)
    }


def drift(root: Path, twins: Mapping[str, str]) -> dict[str, str]:
    """Return what is wrong with each file on disk that isn't as it should be."""
    found = twins_on_disk(root)
    wrong = {path: "too many" for path in found if path not in twins}
    for path, text in twins.items():
        if path not in found:
            wrong[path] = "missing"
        elif found[path].read_bytes() != text.encode():
            wrong[path] = "stale"
    return dict(sorted(wrong.items()))


def write(root: Path, twins: Mapping[str, str]) -> dict[str, str]:
    """Make the disk agree with `twins`; return what was wrong."""
    wrong = drift(root, twins)
    for path in wrong:
        if path in twins:
            write_file(root / path, twins[path])
        else:
            (root / path).unlink()
            remove_empty(root / path)
    return wrong


def remove_empty(removed: Path) -> None:
    """Remove the folders that a removed file leaves empty."""
    for folder in removed.parents:
        if any(folder.iterdir()):
            return
        folder.rmdir()


def write_file(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8", newline="\n")


def diff(path: Path, text: str, limit: int = 20) -> str:
    """Return the beginning of the difference between a file and what it should be."""
    old = path.read_bytes().decode(errors="replace").splitlines() if path.is_file() else []
    lines = list(difflib.unified_diff(old, text.splitlines(), "on disk", "generated", lineterm=""))
    return "\n".join([*lines[:limit], *(["..."] if len(lines) > limit else [])])


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Write the blocking twins of the asyncio classes.")
    parser.add_argument("--check", action="store_true", help="change nothing, exit 1 on drift")
    parser.add_argument("--root", type=Path, default=CHECKOUT, help="where the trees are")
    parser.add_argument("--allow-unused-rules", action="store_true", help="for a part of the trees")
    options = parser.parse_args(arguments)
    try:
        twins = generate(options.root, strict_rules=not options.allow_unused_rules)
    except SourceError as error:
        print(error, file=sys.stderr)
        return 2
    if not options.check:
        for path, state in write(options.root, twins).items():
            print(f"{path}: was {state}")
        return 0
    wrong = drift(options.root, twins)
    for path, state in wrong.items():
        print(f"{path}: {state}")
        if state == "stale":
            print(diff(options.root / path, twins[path]))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
