"""The rules of the house, read from the source itself: where a module may look, how long it may be, what it may touch.

Each rule is a function from a module to complaints. Each is tested twice: the package has no complaint, and a small bad
sample has one (a rule that cannot fail says nothing).
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = "tachograph"

# Lowest first. A piece is a module or folder directly in the package; it may import lower rungs and itself.
LADDER: tuple[frozenset[str], ...] = (
    frozenset({"", "errors", "model", "scan"}),  # "" is the package itself: its version
    frozenset({"config", "telemetry", "vocabulary", "footprint"}),
    frozenset({"lines", "otlp_messages", "destinations"}),
    frozenset(
        {
            *("receivers", "hooks", "transcripts", "dialects", "languages", "detectors", "forwarders"),
            *("connections", "instrumentation"),
            *("pricing", "redaction", "ledger", "store", "questions", "tree"),
        }
    ),
    frozenset({"registry"}),
    frozenset({"pipeline", "web"}),
    frozenset({"server"}),
    frozenset({"cli"}),
    frozenset({"__main__"}),  # python -m tachograph
)
SHELVES = frozenset({"hooks", "transcripts", "dialects", "connections", "languages", "detectors", "forwarders"})
WITH_EVENT_LOOP = frozenset({"server", "web", "receivers", "forwarders"})
WITH_CLOCK = frozenset({"server", "cli"})
# Runs inside other programs, where there is no config.py and nobody to hand in a clock.
GUEST = "tachograph.instrumentation.injected."

MODULE_LINES_MAX = 600
FUNCTION_LINES_MAX = 60
LINE_CHARACTERS_MAX = 120


@dataclass(frozen=True)
class Module:
    """One source file: where it is (from the root), its text and its syntax tree."""

    path: str
    text: str

    @property
    def tree(self) -> ast.Module:
        """The parsed text."""
        return ast.parse(self.text)

    @property
    def name(self) -> str:
        """Dotted name: src/tachograph/store/rows.py is tachograph.store.rows, a folder's __init__ is the folder."""
        parts = Path(self.path).with_suffix("").parts
        parts = parts[1:] if parts[0] == "src" else parts
        return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)

    @property
    def piece(self) -> str:
        """The module or folder directly in the package that this belongs to."""
        return piece(self.name)


def piece(dotted: str) -> str:
    """tachograph.store.rows -> store."""
    return dotted.split(".")[1] if "." in dotted else ""


def rung(name: str) -> int | None:
    """Where a piece stands on the ladder; None if nobody gave it a place."""
    return next((height for height, names in enumerate(LADDER) if name in names), None)


def modules(*folders: str) -> list[Module]:
    """The Python files under the folders, test data left out."""
    paths = (path for folder in folders for path in sorted((ROOT / folder).rglob("*.py")))
    kept = (path for path in paths if path.relative_to(ROOT).parts[:2] != ("tests", "data"))
    return [Module(path.relative_to(ROOT).as_posix(), path.read_text("utf-8")) for path in kept]


SOURCE = modules("src")
TESTS = modules("tests")
NAMES = {module.name for module in SOURCE}


def resolve(module: Module, node: ast.ImportFrom) -> str:
    """The absolute dotted name that `from ... import` starts at, relative ones included."""
    if not node.level:
        return node.module or ""
    is_package = module.path.endswith("__init__.py")
    base = module.name.split(".")[: None if is_package and node.level == 1 else (1 if is_package else 0) - node.level]
    return ".".join([*base, *(node.module or "").split(".")]).rstrip(".")


@cache
def imports(module: Module) -> tuple[tuple[int, str], ...]:
    """Line and dotted name of everything imported, at the top, inside functions and by name."""
    return tuple(_imports(module))


def _imports(module: Module) -> Iterator[tuple[int, str]]:
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = resolve(module, node)
            yield from ((node.lineno, base if base not in NAMES else f"{base}.{alias.name}") for alias in node.names)
        elif (
            isinstance(node, ast.Constant)
            and isinstance(node.value, str)
            and re.fullmatch(r"tachograph(\.\w+)+", node.value)
        ):
            yield node.lineno, node.value  # the argument of import_module, or a table of lazy plugs


# --- the rules: module -> (line, complaint) -------------------------------------------------------------------------


def ladder(module: Module) -> Iterator[tuple[int, str]]:
    """A module imports from lower rungs and from its own piece; pieces on one rung do not know each other."""
    here = rung(module.piece)
    if here is None:
        yield 1, f"{module.piece!r} stands on no rung: give it a place in LADDER (tests/test_tidy.py)"
        return
    for line, name in imports(module):
        if not name.startswith(PACKAGE + ".") or piece(name) == module.piece:
            continue
        target = piece(name) if rung(piece(name)) is not None or f"{PACKAGE}.{piece(name)}" in NAMES else ""
        there = rung(target)
        if there is None or (there >= here and target):
            yield (
                line,
                f"{module.piece or PACKAGE} (rung {here}) imports {name} (rung {there}): only lower rungs and its own",
            )


def module_length(module: Module) -> Iterator[tuple[int, str]]:
    """A module fits in one head."""
    lines = module.text.count("\n")
    if lines > MODULE_LINES_MAX:
        yield lines, f"{lines} lines; at most {MODULE_LINES_MAX} (aim for 100 to 250)"


def function_length(module: Module) -> Iterator[tuple[int, str]]:
    """A function fits on one screen."""
    for node in ast.walk(module.tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            if lines > FUNCTION_LINES_MAX:
                yield node.lineno, f"{node.name} has {lines} lines; at most {FUNCTION_LINES_MAX} (aim for under 15)"


def line_length(module: Module) -> Iterator[tuple[int, str]]:
    """A line fits beside another file."""
    for number, line in enumerate(module.text.splitlines(), 1):
        if len(line) > LINE_CHARACTERS_MAX:
            yield number, f"{len(line)} characters; at most {LINE_CHARACTERS_MAX}"


def module_sentence(module: Module) -> Iterator[tuple[int, str]]:
    """Every module opens with one sentence on what it is for."""
    first = (ast.get_docstring(module.tree) or "").split("\n\n")[0]
    if not first:
        yield 1, "no docstring; expected one sentence that says what the module is for"
    elif first[-1] not in ".?" or re.search(r"[.?!]\s+[A-Z]", first):
        yield 1, f"opens with {first!r}; expected one sentence that ends with a full stop, then an empty line"


def public_docstrings(module: Module) -> Iterator[tuple[int, str]]:
    """Every public function, and every public class that does something, says in a sentence what it does."""
    for node in module.tree.body:
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) or node.name.startswith("_"):
            continue
        is_data = isinstance(node, ast.ClassDef) and not any(isinstance(part, ast.FunctionDef) for part in node.body)
        if not is_data and not ast.get_docstring(node):
            yield node.lineno, f"{node.name} is public and has no docstring"


EMPTY_NAMES = {"util", "utils", "helper", "helpers", "common", "misc"}
EMPTY_CLASS_NAMES = {"Util", "Utils", "Helper", "Helpers", "Manager", "Handler", "Service"}


def speaking_names(module: Module) -> Iterator[tuple[int, str]]:
    """No name that could stand for anything."""
    empty = EMPTY_NAMES & {word for part in module.name.split(".") for word in part.split("_")}
    if empty:
        yield 1, f"a module named {min(empty)!r} can hold anything: name what is in it"
    for node in ast.walk(module.tree):
        if isinstance(node, ast.ClassDef) and EMPTY_CLASS_NAMES & set(re.findall(r"[A-Z][a-z]*", node.name)):
            yield node.lineno, f"class {node.name}: a Manager, Handler, Service, Util or Helper does not say what it is"


def no_base_classes(module: Module) -> Iterator[tuple[int, str]]:
    """Plugs meet a protocol; none inherits from a base class made for them."""
    for line, name in imports(module):
        if name.split(".")[0] == "abc":
            yield line, "abstract base class; expected a typing.Protocol or a table"


def _is_blind(node: ast.expr | None) -> bool:
    names = node.elts if isinstance(node, ast.Tuple) else [node]
    return any(
        name is None or (isinstance(name, ast.Name) and name.id in ("Exception", "BaseException")) for name in names
    )


def _does_nothing(body: list[ast.stmt]) -> bool:
    return all(
        isinstance(node, ast.Pass | ast.Continue)
        or (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant))
        for node in body
    )


def no_swallowed_errors(module: Module) -> Iterator[tuple[int, str]]:
    """Nothing is caught unseen; what is caught blindly says why."""
    lines = module.text.splitlines()
    for node in ast.walk(module.tree):
        if isinstance(node, ast.ExceptHandler) and _is_blind(node.type):
            beside = " ".join(line.partition("#")[2] for line in lines[node.lineno - 2 : node.lineno + 1])
            reason = beside.replace("noqa: BLE001", "").strip(" -:#")
            if node.type is None or _does_nothing(node.body):
                yield node.lineno, "every error is swallowed here: catch what can happen and act on it"
            elif not reason and not isinstance(node.body[-1], ast.Raise):
                yield node.lineno, "a blind except without its reason beside it"
        if (
            isinstance(node, ast.Call)
            and ast.unparse(node.func).endswith("suppress")
            and any(map(_is_blind, node.args))
        ):
            yield node.lineno, "suppress(Exception) swallows every error"


def environment_in_config(module: Module) -> Iterator[tuple[int, str]]:
    """Only config.py reads the environment: every setting is on one page."""
    if module.piece == "config" or module.name.startswith(GUEST):
        return
    names = ("environ", "environb", "getenv", "getenvb", "expandvars")
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Attribute) and node.attr in names:
            yield node.lineno, f"{ast.unparse(node)}: settings come from config.Settings, passed in"
        if isinstance(node, ast.ImportFrom) and node.module == "os" and {a.name for a in node.names} & set(names):
            yield node.lineno, "imports the environment: settings come from config.Settings, passed in"


CLOCKS: dict[str, set[str]] = {
    "time": {"time", "time_ns", "monotonic", "monotonic_ns", "perf_counter", "perf_counter_ns", "localtime", "gmtime"},
    "datetime": {"now", "utcnow", "today"},
    "date": {"today"},
}


def clock_at_the_door(module: Module) -> Iterator[tuple[int, str]]:
    """Only the server and the commands have a clock; elsewhere time comes in as an argument."""
    if module.piece in WITH_CLOCK or module.name.startswith(GUEST):
        return
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Attribute):
            owner = ast.unparse(node.value).split(".")[-1]
            if node.attr in CLOCKS.get(owner, ()):
                yield node.lineno, f"{ast.unparse(node)}: take a clock as an argument (`clock: Callable[[], int]`)"
        elif (
            isinstance(node, ast.ImportFrom) and node.module == "time" and {a.name for a in node.names} & CLOCKS["time"]
        ):
            yield node.lineno, "imports a clock: take one as an argument (`clock: Callable[[], int]`)"


def async_at_the_door(module: Module) -> Iterator[tuple[int, str]]:
    """Only the doors know an event loop."""
    if module.piece in WITH_EVENT_LOOP:
        return
    for node in ast.walk(module.tree):
        if isinstance(node, ast.AsyncFunctionDef | ast.Await | ast.AsyncFor | ast.AsyncWith):
            yield node.lineno, f"async in {module.piece or PACKAGE}: only {', '.join(sorted(WITH_EVENT_LOOP))} may"
    for line, name in imports(module):
        if name.split(".")[0] in ("asyncio", "anyio", "uvloop"):
            yield line, f"imports {name}: only {', '.join(sorted(WITH_EVENT_LOOP))} know an event loop"


def on_the_registry(module: Module) -> Iterator[tuple[int, str]]:
    """Every plug is on registry.py's list; what is not a plug is used by its shelf."""
    if module.piece not in SHELVES or module.name == f"{PACKAGE}.{module.piece}":
        return
    readers = [m for m in SOURCE if m is not module and (m.piece == module.piece or m.name == f"{PACKAGE}.registry")]
    used = {name for reader in readers for _, name in imports(reader)}
    if not any(name == module.name or name.startswith(module.name + ".") for name in used):
        yield 1, f"{module.name} is on no list: add its line to registry.py"


OPEN = ("TO" + "DO", "FIX" + "ME", "X" + "XX")  # put together so that this page does not meet them


def nothing_left_open(module: Module) -> Iterator[tuple[int, str]]:
    """What is left to do is an issue or a test, not a comment."""
    for number, line in enumerate(module.text.splitlines(), 1):
        if any(word in line.split("#", 1)[-1].replace(":", " ").split() for word in OPEN):
            yield number, f"left open: {line.strip()}"


MACHINE_PATHS = tuple("/" + name for name in ("work", "tmp", "root", "opt/wheels", "opt/pypi"))
MACHINE_PATH = re.compile(rf"(?<![\w.~-])({'|'.join(MACHINE_PATHS)})(?![\w-])")


def no_machine_paths(module: Module) -> Iterator[tuple[int, str]]:
    """Nothing points at the machine it was written on."""
    for number, line in enumerate(module.text.splitlines(), 1):
        if found := MACHINE_PATH.search(line):
            yield number, f"path of one machine: {found.group()}"


def no_mocks(module: Module) -> Iterator[tuple[int, str]]:
    """Tests run the real code."""
    own: set[str] = set()
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            base = f"{resolve(module, node)}." if isinstance(node, ast.ImportFrom) else ""
            for name in node.names:
                if "mock" in f"{base}{name.name}".split("."):
                    yield node.lineno, "a mock: test the real code"
                if f"{base}{name.name}".startswith(PACKAGE):
                    own.add((name.asname or name.name).split(".")[0])
    for node in ast.walk(module.tree):
        if not isinstance(node, ast.Call) or not re.search(
            r"\.(setattr|delattr|setitem|delitem)$", ast.unparse(node.func)
        ):
            continue
        target = ast.unparse(node.args[0]).strip("'\"").split(".")[0] if node.args else ""
        if target in own or target == PACKAGE:
            yield node.lineno, f"replaces a part of {target}: test the real code, or take the part as an argument"


# --- each rule with a sample that it must refuse --------------------------------------------------------------------

Rule = Callable[[Module], Iterator[tuple[int, str]]]


def sample(text: str, path: str = "src/tachograph/store/sample.py") -> Module:
    """A made-up module at a place of our choosing."""
    return Module(path, text)


LONG_FUNCTION = "def long() -> None:\n" + "    print()\n" * FUNCTION_LINES_MAX
RULES: tuple[tuple[Rule, list[Module], tuple[Module, ...]], ...] = (
    (
        ladder,
        SOURCE,
        (
            sample("from tachograph.pipeline import Road\n"),
            sample("import tachograph.cli.up\n"),
            sample("def late() -> None:\n    from tachograph import web\n"),
            sample("from ..dialects import table\n"),
            sample("from tachograph import ledger\n"),
            sample("from . import model\n", "src/tachograph/scan.py"),
            sample("load = 'tachograph.server'\n"),
            sample("", "src/tachograph/unplaced.py"),
        ),
    ),
    (module_length, SOURCE + TESTS, (sample("\n" * (MODULE_LINES_MAX + 1)),)),
    (function_length, SOURCE + TESTS, (sample(LONG_FUNCTION), sample("async " + LONG_FUNCTION))),
    (line_length, SOURCE + TESTS, (sample("#" * (LINE_CHARACTERS_MAX + 1)),)),
    (
        module_sentence,
        SOURCE + TESTS,
        (sample("x = 1\n"), sample('"""No full stop"""\n'), sample('"""One thing. And another."""\n')),
    ),
    (
        public_docstrings,
        SOURCE,
        (
            sample("def f() -> None: ...\n"),
            sample("class C:\n    def f(self): ...\n"),
            sample("async def f() -> None: ...\n"),
        ),
    ),
    (
        speaking_names,
        SOURCE + TESTS,
        (
            sample("", "src/tachograph/store/row_utils.py"),
            sample("", "src/tachograph/store/misc.py"),
            sample("class SpanManager: ...\n"),
            sample("class _HandlerOfThings: ...\n"),
        ),
    ),
    (no_base_classes, SOURCE, (sample("from abc import ABC\n"), sample("import abc\n"))),
    (
        no_swallowed_errors,
        SOURCE + TESTS,
        (
            sample("try:\n    f()\nexcept:\n    raise\n"),
            sample("try:\n    f()\nexcept Exception:  # it may fail\n    pass\n"),
            sample("try:\n    f()\nexcept (ValueError, BaseException):  # so\n    ...\n"),
            sample("try:\n    f()\nexcept Exception:  # noqa: BLE001\n    g()\n"),
            sample("with contextlib.suppress(Exception):\n    f()\n"),
        ),
    ),
    (
        environment_in_config,
        SOURCE,
        (sample("os.environ['HOME']\n"), sample("os.getenv('HOME')\n"), sample("from os import environ\n")),
    ),
    (
        clock_at_the_door,
        SOURCE,
        (
            sample("time.time_ns()\n"),
            sample("clock = time.monotonic\n"),
            sample("datetime.datetime.now(UTC)\n"),
            sample("from time import perf_counter\n"),
        ),
    ),
    (
        async_at_the_door,
        SOURCE,
        (sample("async def f() -> None: ...\n"), sample("import asyncio.events\n"), sample("from anyio import run\n")),
    ),
    (on_the_registry, SOURCE, (sample("", "src/tachograph/dialects/forgotten.py"),)),
    (nothing_left_open, SOURCE + TESTS, (sample(f"# {OPEN[0]}: later\n"), sample(f"# {OPEN[1]}\n"))),
    (no_machine_paths, SOURCE + TESTS, tuple(sample(f"p = '{path}/x'\n") for path in MACHINE_PATHS[:3])),
    (
        no_mocks,
        TESTS,
        (
            sample("from unittest import mock\n"),
            sample("import unittest.mock\n"),
            sample("from tachograph import ledger\nmonkeypatch.setattr(ledger, 'keys', None)\n"),
            sample("monkeypatch.setattr('tachograph.ledger.keys', None)\n"),
        ),
    ),
)


@pytest.mark.parametrize(("rule", "places"), [pytest.param(r, m, id=r.__name__) for r, m, _ in RULES])
def test_rule_holds(rule: Rule, places: list[Module]) -> None:
    complaints = [f"{module.path}:{line}: {what}" for module in places for line, what in rule(module)]
    assert not complaints, f"\n{rule.__doc__}\n" + "\n".join(complaints)


@pytest.mark.parametrize(
    ("rule", "bad"), [pytest.param(r, bad, id=f"{r.__name__}-{n}") for r, _, s in RULES for n, bad in enumerate(s)]
)
def test_rule_bites(rule: Rule, bad: Module) -> None:
    assert list(rule(bad)), f"{rule.__name__} does not see what is wrong with:\n{bad.path}\n{bad.text}"


GOOD = sample(
    '''"""Shows what is allowed."""

import time

from tachograph.errors import Busy
from tachograph.store import rows
from .rows import x


def f() -> None:
    """Do it."""
    try:
        time.sleep(1)
    except Busy:
        pass
    except Exception:  # a plug of somebody else: counted and told
        count()
'''
)


@pytest.mark.parametrize("rule", [pytest.param(r, id=r.__name__) for r, _, _ in RULES])
def test_rule_lets_good_code_pass(rule: Rule) -> None:
    assert not list(rule(GOOD))


def test_the_ladder_is_that_of_the_architecture_page() -> None:
    page = (ROOT / "ARCHITECTURE.md").read_text("utf-8")
    for names in LADDER:
        for name in sorted(names - {"", "__main__"}):
            assert re.search(rf"\b{name}\b", page), f"ARCHITECTURE.md does not name {name}"


def test_folders_are_packages() -> None:
    folders = {path.parent for path in (ROOT / "src").rglob("*.py")}
    missing = [folder.relative_to(ROOT).as_posix() for folder in folders if not (folder / "__init__.py").exists()]
    assert not missing, f"folders with modules and no __init__.py: {missing}"
