"""Documents are held to the code: every command, flag, setting, table, dialect, path and example in them is real.

Where a document repeats the code (flags, settings, tables), that part stands between two marks and is compared with
what the code says; `make golden` writes it anew.
"""

from __future__ import annotations

import argparse
import ast
import os
import re
import shlex
import sys
import tomllib
from collections.abc import Iterable, Iterator
from contextlib import closing
from functools import cache
from importlib import import_module
from pathlib import Path

import pytest

from tachograph.cli import COMMANDS, build_parser
from tachograph.config import SETTINGS, load
from tachograph.connections import ANY_SDK
from tachograph.destinations import COMMON, Option
from tachograph.destinations import read as read_destinations
from tachograph.dialects.genai import IDENTITY
from tachograph.errors import TachographError
from tachograph.pricing import Prices
from tachograph.questions.arrivals import RULES
from tachograph.questions.counting import usage
from tachograph.questions.filters import FIELDS
from tachograph.registry import CONNECTIONS, DIALECTS, FORWARDERS, TRANSCRIPTS
from tachograph.store.duckdb import open_store
from tachograph.store.schema import TABLES

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = [ROOT / name for name in ("README.md", "ARCHITECTURE.md", "CHANGELOG.md")] + sorted(DOCS.rglob("*.md"))
BEGIN = "<!-- what the code says: `make golden` writes it anew -->\n"
END = "<!-- end -->\n"


def name_of(page: Path) -> str:
    """Where a page is, from the root."""
    return page.relative_to(ROOT).as_posix()


each_page = pytest.mark.parametrize("page", PAGES, ids=name_of)
each_command = pytest.mark.parametrize("command", COMMANDS)


@cache
def text_of(page: Path) -> str:
    """What stands on a page."""
    return page.read_text("utf-8")


def fences(page: Path, language: str) -> Iterator[str]:
    """The blocks of code on a page in one language."""
    yield from re.findall(rf"^ *```{language}\n(.*?)^ *```$", text_of(page), re.MULTILINE | re.DOTALL)


def check_generated(page: Path, says: str, head: str = "") -> None:
    """The part of the page between the marks is what the code says."""
    is_writing = os.environ.get("TACHOGRAPH_GOLDEN") == "write"
    if is_writing and not page.exists():
        page.parent.mkdir(parents=True, exist_ok=True)
        page.write_text(f"{head}\n{BEGIN}{END}", "utf-8")
    before, _, rest = page.read_text("utf-8").partition(BEGIN)
    written, _, after = rest.partition(END)
    assert rest, f"{name_of(page)} has no part that begins with {BEGIN}"
    if is_writing and written != says:
        page.write_text(before + BEGIN + says + END + after, "utf-8")
    else:
        assert written == says, f"{name_of(page)} is out of date: make golden writes it anew"


def cell(text: str) -> str:
    """A text as it may stand in a cell of a table."""
    return " ".join(text.split()).replace("|", "\\|")


# --- commands -------------------------------------------------------------------------------------------------------


@cache
def parser_of(command: str) -> argparse.ArgumentParser:
    """The parser of one command."""
    action = next(a for a in build_parser()._actions if isinstance(a, argparse._SubParsersAction))
    parser = action.choices[command]
    assert isinstance(parser, argparse.ArgumentParser)
    return parser


def parsed(line: str) -> argparse.Namespace:
    """A command line as the shell and our parser read it; what follows a pipe or redirection is not ours."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars="|>;&")
    lexer.whitespace_split = True
    lexer.commenters = "#"
    words = list(lexer)
    stop = next((n for n, word in enumerate(words) if word and word[0] in "|>;&"), len(words))
    return build_parser().parse_args(words[1:stop])


def flags_of(command: str) -> str:
    """The page's part about a command: what it does, its flags, its two examples."""
    parser = parser_of(command)
    rows = []
    for action in parser._actions:
        if isinstance(action, argparse._HelpAction):
            continue
        names = ", ".join(action.option_strings) or (action.metavar or action.dest)
        value = "" if not action.option_strings or action.nargs == 0 else f" {action.metavar or action.dest.upper()}"
        if action.choices and not action.metavar:
            value = " " + "\\|".join(map(str, action.choices))
        rows.append(f"| `{names}{value}` | {cell((action.help or '') % vars(action))} |")
    examples = "\n".join(import_module(f"tachograph.cli.{command}").EXAMPLES)
    return f"{parser.description}\n\n| | |\n|---|---|\n" + "\n".join(rows) + f"\n\n```sh\n{examples}\n```\n"


@each_command
def test_command_has_its_page(command: str) -> None:
    check_generated(DOCS / "commands" / f"{command}.md", flags_of(command), f"# tachograph {command}\n")


def test_no_page_without_command() -> None:
    pages = {page.stem for page in (DOCS / "commands").glob("*.md")} - {"README"}
    assert pages == set(COMMANDS)


def test_every_command_is_on_the_index() -> None:
    rows = [f"| [`tachograph {name}`]({name}.md) | {cell(summary)} |\n" for name, summary in COMMANDS.items()]
    check_generated(DOCS / "commands" / "README.md", "| | |\n|---|---|\n" + "".join(rows), "# Commands\n")


@each_command
def test_help_ends_with_two_examples_that_parse(command: str) -> None:
    examples = import_module(f"tachograph.cli.{command}").EXAMPLES
    assert len(examples) == 2
    last = [line.strip() for line in parser_of(command).format_help().rstrip().splitlines()[-2:]]
    assert last == list(examples)
    for example in examples:
        assert parsed(example).command == command


@each_page
def test_command_lines_parse(page: Path) -> None:
    for block in fences(page, "(?:sh|bash|console)"):
        for line in block.replace("\\\n", " ").splitlines():
            words = line.strip().removeprefix("$ ")
            if words.startswith("tachograph ") and words.split()[1] not in ("--help", "--version"):
                try:
                    parsed(words)
                except TachographError as error:
                    pytest.fail(f"{name_of(page)}: {words}: {error.what}")


@each_page
def test_commands_and_flags_in_sentences_exist(page: Path) -> None:
    for words in re.findall(r"`tachograph ([^`\n]+)`", text_of(page)):
        command, *rest = words.split()
        if command.startswith("-"):
            assert command in ("--help", "--version"), f"{name_of(page)}: no such flag: {words}"
            continue
        assert command in COMMANDS, f"{name_of(page)}: no such command: {words}"
        known = {flag for action in parser_of(command)._actions for flag in action.option_strings}
        ours = rest[: rest.index("--")] if "--" in rest else rest  # what follows is another program's
        for flag in (word.partition("=")[0].strip("[]") for word in ours if word.lstrip("[").startswith("--")):
            assert flag in known, f"{name_of(page)}: {words}: {command} has no {flag}"


def test_every_count_of_usage_is_documented(tmp_path: Path) -> None:
    page = text_of(DOCS / "commands" / "usage.md")
    documented = {
        name
        for row in re.findall(r"^\| (`.*?) \|", page.partition(END)[2], re.MULTILINE)
        for name in re.findall(r"`(\w+)`", row)
    }
    with closing(open_store(tmp_path / "store", lambda: 1)) as store:
        assert documented - {"totals", "rows"} == set(usage(store, ())["totals"])


# --- settings, tables, sources --------------------------------------------------------------------------------------


def test_every_setting_is_documented() -> None:
    rows = (f"| `{s.name}` | {s.type} | {cell(s.default)} | `{s.env}` | {cell(s.what)} |\n" for s in SETTINGS)
    head = "| setting | takes | default | environment | what it is for |\n|---|---|---|---|---|\n"
    check_generated(DOCS / "settings.md", head + "".join(rows))


def options_of(options: Iterable[Option]) -> str:
    """The page's part about the options of a destination."""
    head = "| setting | takes | default | what it is for |\n|---|---|---|---|\n"
    return head + "".join(
        f"| `{o.name}` | {o.type} | {cell('none' if o.default is None else str(o.default))} | {cell(o.what)} |\n"
        for o in options
    )


def test_what_every_destination_has_is_documented() -> None:
    check_generated(DOCS / "destinations" / "README.md", options_of(COMMON))


@pytest.mark.parametrize("kind", FORWARDERS)
def test_every_destination_is_documented(kind: str) -> None:
    page = DOCS / "destinations" / f"{kind}.md"
    if not page.exists() or BEGIN in page.read_text("utf-8"):
        check_generated(page, options_of(FORWARDERS[kind].options), f"# {kind}\n")
    for option in FORWARDERS[kind].options:
        assert f"`{option.name}`" in page.read_text("utf-8"), f"{name_of(page)} does not tell of {option.name}"
    assert f"]({kind}.md)" in text_of(DOCS / "destinations" / "README.md")


def test_example_destinations_are_taken(home: Path) -> None:
    home.mkdir()
    blocks = [block for page in sorted((DOCS / "destinations").glob("*.md")) for block in fences(page, "toml")]
    assert blocks
    for block in blocks:
        (home / "tachograph.toml").write_text(block, "utf-8")
        read_destinations(load().forwarders, {kind: one.options for kind, one in FORWARDERS.items()})


@each_page
def test_variables_exist(page: Path) -> None:
    known = {setting.env for setting in SETTINGS} | {"TACHOGRAPH_GOLDEN"}
    for source in (ROOT / "integrations").rglob("*/src/*.[jt]s"):  # what plug-ins of agents read and hand down
        known |= set(re.findall(r"process\.env\.(TACHOGRAPH_\w+)", text_of(source)))
    for name in re.findall(r"\bTACHOGRAPH_[A-Z_]+[A-Z]\b", text_of(page)):
        assert name in known, f"{name_of(page)}: no such setting: {name}"


def test_example_settings_are_taken(home: Path) -> None:
    home.mkdir()
    blocks = list(fences(DOCS / "settings.md", "toml"))
    assert blocks
    for block in blocks:
        (home / "tachograph.toml").write_text(block, "utf-8")
        load()


def test_example_prices_are_taken(tmp_path: Path) -> None:
    blocks = list(fences(DOCS / "prices.md", "toml"))
    assert blocks
    for block in blocks:
        path = tmp_path / "prices.toml"
        path.write_text(block, "utf-8")
        Prices(path)


def test_every_table_is_documented() -> None:
    parts = []
    for table, columns in TABLES.items():
        rows = "".join(f"| `{c.name}` | {c.type} | {cell(c.what)} |\n" for c in columns)
        parts.append(f"### {table}\n\n| column | type | |\n|---|---|---|\n{rows}\n")
    check_generated(DOCS / "sql.md", "".join(parts))


def test_example_queries_run(tmp_path: Path) -> None:
    queries = [query for page in PAGES for query in fences(page, "sql")]
    assert queries
    with closing(open_store(tmp_path / "store", lambda: 1)) as store:
        for query in queries:
            store.sql(query)


def test_every_dialect_is_documented() -> None:
    rows = re.findall(r"^\| `([^`]+)` \| .*\]\(([^)]+)\)", text_of(DOCS / "sources" / "README.md"), re.MULTILINE)
    assert {name for name, _ in rows} == {dialect.name for dialect in DIALECTS}
    for name, page in rows:
        assert f"`{name}`" in text_of(DOCS / "sources" / page), f"docs/sources/{page} does not tell of {name}"


def test_identity_is_documented() -> None:
    rows = [
        f"| {name.removesuffix('_id')} | {', '.join(f'`{a}`' for a in names)} |\n" for name, names in IDENTITY.items()
    ]
    check_generated(DOCS / "sources" / "README.md", "| | attributes |\n|---|---|\n" + "".join(rows))


def test_every_field_of_the_filter_language_is_documented() -> None:
    rows = [
        f"| `{name}` | {cell(field.what)} | {'yes' if field.sessions else ''} | {'yes' if field.calls else ''} |\n"
        for name, field in FIELDS.items()
    ]
    check_generated(DOCS / "filters.md", "| field | | sessions | calls |\n|---|---|---|---|\n" + "".join(rows))


def test_every_transcript_is_documented() -> None:
    for transcript in TRANSCRIPTS:
        assert "ranscript" in text_of(DOCS / "sources" / f"{transcript.agent}.md")


def test_documents_say_what_doctor_says() -> None:
    """The lines that connect an agent are the same words in the documents and in the program."""
    pages = "\n".join(text_of(page) for page in (DOCS / "sources").glob("*.md"))
    words = set(re.sub(r"[,{}]", " ", pages.replace("`", " ")).split())
    lines = [f"tachograph connect {connection.name}" for connection in CONNECTIONS]
    lines += [ANY_SDK, *(line for rule in RULES for line in rule.lines)]
    for line in lines:
        missing = [word for word in re.sub(r"[,{}]", " ", line).split() if word not in words]
        assert not missing, f"docs/sources does not have {missing} of: {line}"


# --- links, paths, packages -----------------------------------------------------------------------------------------


def anchors(page: Path) -> set[str]:
    """The anchors that headings of a page get."""
    headings = re.findall(r"^#+ (.+)$", text_of(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@each_page
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", re.sub(r"```.*?```", "", text_of(page), flags=re.DOTALL)):
        if "://" in target or target.startswith("mailto:"):
            continue
        path, _, anchor = target.partition("#")
        there = (page.parent / path).resolve() if path else page
        assert there.exists(), f"{name_of(page)}: {target} does not exist"
        if anchor:
            assert anchor in anchors(there), f"{name_of(page)}: {target}: no such heading"


@each_page
def test_paths_exist(page: Path) -> None:
    for path in re.findall(r"`((?:src|tests|docs|bench|integrations|examples|\.ci)/[\w./-]*)`", text_of(page)):
        assert (ROOT / path).exists(), f"{name_of(page)}: {path} does not exist"


@each_page
def test_make_targets_exist(page: Path) -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    for block in fences(page, "sh") if page.name != "CHANGELOG.md" else ():
        for target in re.findall(r"^make ([a-z]+)", block, re.MULTILINE):
            assert target in targets, f"{name_of(page)}: no such target: make {target}"
    for target in re.findall(r"`make ([a-z]+)`", text_of(page)):
        assert target in targets, f"{name_of(page)}: no such target: make {target}"


@each_page
def test_page_can_be_found(page: Path) -> None:
    """Every page is linked from another one."""
    if page.parent == ROOT:
        return
    linked = {
        (other.parent / target.partition("#")[0]).resolve()
        for other in PAGES
        if other != page
        for target in re.findall(r"\]\(([^)\s]+)\)", text_of(other))
    }
    assert page in linked or page.parent in linked, f"nothing links to {name_of(page)}"


# What is imported under another name than the package it comes in.
IMPORTS = {
    "arro3": "arro3-core",
    "genai_prices": "genai-prices",
    "google.protobuf": "protobuf",
    "google.rpc": "googleapis-common-protos",
    "grpc": "grpcio",
    "markdown_it": "markdown-it-py",
    "opentelemetry.proto": "opentelemetry-proto",
    "pydantic_core": "pydantic-core",
}
# Used without an import of ours: chosen by uvicorn, or data.
UNSEEN = {"httptools", "uvloop", "tzdata"}


def declared() -> set[str]:
    """The packages that pyproject.toml asks for."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    return {re.split(r"[\s<>=;\[]", dependency)[0] for dependency in project["dependencies"]}


def imported() -> Iterator[str]:
    """Dotted names of all that the package imports; what runs inside other programs uses what these have."""
    guest = ROOT / "src/tachograph/instrumentation/injected"
    for path in (path for path in (ROOT / "src").rglob("*.py") if guest not in path.parents):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Import):
                yield from (alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and not node.level:
                yield from (f"{node.module}.{alias.name}" for alias in node.names)


def test_dependencies_are_those_that_are_used() -> None:
    used = set()
    for name in imported():
        top = name.split(".")[0]
        if top not in sys.stdlib_module_names and top != "tachograph":
            used.add(next((IMPORTS[prefix] for prefix in IMPORTS if f"{name}.".startswith(f"{prefix}.")), top))
    assert used - declared() == set(), "imported and not declared in pyproject.toml"
    assert declared() - used - UNSEEN == set(), "declared in pyproject.toml and never imported"


def test_dependencies_have_their_reason() -> None:
    page = text_of(DOCS / "decisions" / "0001-dependencies.md")
    assert set(re.findall(r"^\| `([\w-]+)` \|", page, re.MULTILINE)) == declared()
