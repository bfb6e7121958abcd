"""The filter language of pages and commands: `agent:pi model:opus cost>0.5 tool:bash error:true "exact text"`.

Terms stand beside each other and all of them have to hold. A term is `field:value` (equal, or contained where a field
holds long names), `field=value` (equal), `field~text` (contained), `field>number` (also >=, <, <=), `field!=value`, or
a text, which has to stand in a title, a prompt, an answer, a tool's arguments or its result. `field:a,b` takes either;
a `-` before a term turns it round; quotes hold a value with spaces together. Columns of the table are fields as well.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final, Literal, NamedTuple

from tachograph.errors import QueryError
from tachograph.model import LINEAGES
from tachograph.questions.searching import search
from tachograph.scan import Agg, Any_, Condition, Match, Not_, Op, Reader, Scan

Table = Literal["sessions", "calls", "tool_runs"]

# Texts looked at for the sessions that a text stands in, the newest first: each costs a look at its commit.
_TEXTS_MAX: Final = 200
_TERM: Final = re.compile(
    r"""(?P<not>-)?
    (?:(?P<field>[A-Za-z_][\w.]*)(?P<sign>!=|>=|<=|[:=~<>]))?
    (?P<value>"(?:[^"\\]|\\.)*"|[^\s"]\S*)?""",
    re.VERBOSE,
)


class Term(NamedTuple):
    """One term as it was written: where it stands (characters), and what it says; a text has no field."""

    at: int
    is_not: bool
    field: str
    sign: str
    values: tuple[str, ...]


class Field(NamedTuple):
    """What can be asked for: the kind of its values, its column by table ("" = not asked there), what it is."""

    kind: str  # word | choice | words | dollars | tokens | seconds | count | flag | tool
    sessions: str
    calls: str
    what: str


FIELDS: Final[dict[str, Field]] = {
    "agent": Field("word", "agent", "agent", "the agent or program"),
    "subagent": Field("words", "", "subagent", "a sub-agent's name"),
    "model": Field("words", "models", "model", "a part of a model's name"),
    "provider": Field("word", "", "provider", "who served the model"),
    "project": Field("word", "project", "project", "the project's folder"),
    "repository": Field("words", "repository", "repository", "a part of the repository's name"),
    "branch": Field("word", "branch", "branch", "the branch"),
    "channel": Field("word", "channel", "channel", "where it was asked: slack, telegram, ..."),
    "user": Field("word", "user", "user", "who asked"),
    "team": Field("word", "team", "team", "whose it is"),
    "tenant": Field("word", "", "tenant", "the tenant"),
    "host": Field("word", "host", "host", "the machine"),
    "environment": Field("word", "environment", "environment", "production, staging, ..."),
    "session": Field("start", "session_id", "session_id", "the beginning of a session's id"),
    "lineage": Field("choice", "lineage", "", "subagent, fork or resume"),
    "title": Field("words", "title", "", "a part of the first prompt"),
    "tool": Field("tool", "session_id", "session_id", "a tool that its session ran"),
    "status": Field("choice", "", "status", "ok, failed or aborted"),
    "finish": Field("word", "", "finish_reason", "stop, length, tool_call, ..."),
    "operation": Field("word", "", "operation", "chat, embeddings, ..."),
    "error": Field("flag", "failed_calls,tool_errors", "error_type", "true, false, or a part of what went wrong"),
    "cost": Field("dollars", "cost_nanousd", "cost_nanousd", "US dollars"),
    "input": Field("tokens", "input_tokens", "input_tokens", "input tokens, cache included"),
    "output": Field("tokens", "output_tokens", "output_tokens", "output tokens"),
    "cached": Field("tokens", "cache_read_tokens", "cache_read_tokens", "tokens read from the cache"),
    "calls": Field("count", "calls", "", "model calls that went well"),
    "failed": Field("count", "failed_calls", "", "model calls that failed"),
    "prompts": Field("count", "prompts", "", "prompts"),
    "tools": Field("count", "tool_runs", "", "tool runs"),
    "duration": Field("seconds", "", "duration_ns", "how long a call took: 2s, 300ms, 1m"),
    "ttft": Field("seconds", "", "ttft_ns", "time to the first token"),
}
# What tool runs say themselves; anything else is asked of their sessions and calls.
RUN_FIELDS: Final[dict[str, Field]] = {
    **{name: Field("word", name, "", "") for name in ("agent", "subagent", "project", "channel", "user", "team")},
    "session": Field("start", "session_id", "", ""),
    "tool": Field("word", "tool_name", "", ""),
    "duration": Field("seconds", "duration_ns", "", ""),
}
# Type of a column -> how its values are read.
_KINDS: Final = {"int": "count", "float": "count", "bool": "truth", "json": "words"}
# The word that is being written: what a completion replaces.
_UNFINISHED: Final = re.compile(
    r"""(?:^|(?<=\s))(?P<not>-?)(?:(?P<field>\w+)(?P<sign>!=|[:=]))?(?P<value>"(?:[^"\\]|\\.)*|[^\s"]*)$"""
)
_CHOICES: Final = {"lineage": LINEAGES, "status": ("ok", "failed", "aborted")}
_EXAMPLES: Final = {"dollars": ">0.5", "tokens": ">10k", "seconds": ">30s", "count": ">5"}
_NUMBERS: Final = {"dollars": 1_000_000_000, "tokens": 1, "count": 1, "seconds": 1_000_000_000}
_FACTORS: Final = {
    "seconds": {"": 1.0, "ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0},
    "tokens": {"": 1.0, "k": 1e3, "m": 1e6},
    "count": {"": 1.0, "k": 1e3},
    "dollars": {"": 1.0, "c": 0.01},
}
_AMOUNT: Final = re.compile(r"\$?(\d{1,15}(?:\.\d{1,9})?)([a-z]*)")
_COMPARE: Final[dict[str, Op]] = {":": "=", "=": "=", "!=": "!=", ">": ">", ">=": ">=", "<": "<", "<=": "<="}


def parse(text: str) -> list[Term]:
    """The terms of a filter, in order; raises QueryError with the place where it cannot be read."""
    terms: list[Term] = []
    at = 0
    while at < len(text):
        if text[at].isspace():
            at += 1
            continue
        found = _TERM.match(text, at)
        if found is None or found.end() == at:
            raise QueryError(f'filter: character {at + 1}: got {text[at : at + 20]!r}; expected a closing "', '"text"')
        field, value = found["field"] or "", found["value"] or ""
        if not value:
            rest = text[at : found.end()]
            raise QueryError(f"filter: character {at + 1}: got {rest!r}; expected a value after it", "agent:pi")
        is_quoted = value.startswith('"')
        plain = re.sub(r"\\(.)", r"\1", value[1:-1]) if is_quoted else value
        values = (plain,) if is_quoted or not field else tuple(v for v in plain.split(",") if v)
        terms.append(Term(at, bool(found["not"]), field.lower(), found["sign"] or "", values or (plain,)))
        at = found.end()
    return terms


def conditions(
    reader: Reader, text: str, table: Table, columns: Mapping[str, str] = MappingProxyType({})
) -> tuple[Condition, ...]:
    """What a filter asks of a table, as conditions of a Scan; raises QueryError, with the place of the term.

    The reader is asked for the sessions that a text stands in: among the newest texts only, as many as a page can show.
    `columns` are those of the table with their types, which are fields under their own names.
    """
    return tuple(_negated(term, _condition(reader, term, table, columns)) for term in parse(text))


def _negated(term: Term, condition: Condition) -> Condition:
    return Not_(condition) if term.is_not else condition


def _condition(reader: Reader, term: Term, table: Table, columns: Mapping[str, str]) -> Condition:
    if table == "tool_runs":
        return _of_run(reader, term, columns)
    if not term.field:
        return _text(reader, term.values[0], table)
    field = FIELDS.get(term.field)
    column = getattr(field, table) if field is not None else ""
    if not column and term.field in columns:
        field, column = Field(_KINDS.get(columns[term.field], "word"), "", "", ""), term.field
    if field is None or not column:
        raise _unknown(term, table)
    read = _READERS.get(field.kind, _number)
    parts = tuple(read(term, field, column, value) for value in term.values)
    return parts[0] if len(parts) == 1 else Any_(parts)


def _word(term: Term, field: Field, column: str, value: str) -> Condition:
    ops: dict[str, Op] = {**_COMPARE, "~": "contains"}
    if term.sign not in (":", "=", "!=", "~"):
        raise _bad_sign(term, ":, =, != or ~")
    if value.endswith("*") and term.sign == ":":
        return Match(column, "prefix", value[:-1])
    return Match(column, ops[term.sign], value)


def _choice(term: Term, field: Field, column: str, value: str) -> Condition:
    """One of the few values that there are: what is none of them would find nothing and say nothing."""
    if value.lower() not in (choices := _CHOICES[column]):
        near = difflib.get_close_matches(value.lower(), choices, n=1) or choices
        raise _bad_value(term, value, field.what, f"{column}:{near[0]}")
    return _word(term, field, column, value.lower())


def _words(term: Term, field: Field, column: str, value: str) -> Condition:
    if term.sign == ":":
        return Match(column, "contains", value.strip("*"))
    if column == "models":  # a JSON list of names
        named = Match(column, "contains", f'"{value}"' if term.sign in ("=", "!=") else value)
        return Not_(named) if term.sign == "!=" else named
    return _word(term, field, column, value)


def _start(term: Term, field: Field, column: str, value: str) -> Condition:
    return Match(column, "prefix", value) if term.sign == ":" else _word(term, field, column, value)


def _number(term: Term, field: Field, column: str, value: str) -> Condition:
    found = _AMOUNT.fullmatch(value.lower())
    factors = _FACTORS[field.kind]
    if found is None or found[2] not in factors:
        units = ", ".join(unit for unit in factors if unit)
        expected = f"a number{f', with {units} or nothing after it' if units else ''}"
        raise _bad_value(term, value, expected, term.field + _EXAMPLES[field.kind])
    if term.sign not in _COMPARE:
        raise _bad_sign(term, ":, =, !=, >, >=, < or <=")
    amount = round(float(found[1]) * factors[found[2]] * _NUMBERS[field.kind])
    return Match(column, _COMPARE[term.sign], amount)


def _flag(term: Term, field: Field, column: str, value: str) -> Condition:
    """Whether something failed; a word is a part of what a call's failure was called."""
    if term.sign not in (":", "="):
        raise _bad_sign(term, ":")
    if column == "error_type":
        failed: Condition = Match("status", "!=", "ok")
        said: Condition = _error_says(value)
    else:
        failed = Any_(tuple(Match(name, ">", 0) for name in column.split(",")))
        said = Match("session_id", "in", Scan("calls", {"session_id": "session_id"}, (_error_says(value),)))
    return {"true": failed, "false": Not_(failed)}.get(value.lower(), said)


def _error_says(text: str) -> Condition:
    return Any_((Match("error_type", "contains", text), Match("error_message", "contains", text)))


def _truth(term: Term, field: Field, column: str, value: str) -> Condition:
    if value.lower() not in ("true", "false"):
        raise _bad_value(term, value, "true or false", f"{column}:true")
    return Match(column, "!=" if term.sign == "!=" else "=", value.lower() == "true")


def _tool(term: Term, field: Field, column: str, value: str) -> Condition:
    """Of a session in which a tool of this name ran, whoever told of it."""
    if term.sign not in (":", "=", "~"):
        raise _bad_sign(term, ":, = or ~")
    op: Op = "contains" if term.sign == "~" else "prefix" if value.endswith("*") else "="
    return Match(
        column, "in", Scan("tool_runs", {"session_id": "session_id"}, (Match("tool_name", op, value.rstrip("*")),))
    )


def _of_run(reader: Reader, term: Term, columns: Mapping[str, str]) -> Condition:
    """What a term asks of tool runs: their own columns, else that their session or a call of it fits."""
    if term.field == "error":
        return _either([_run_failed(term, value) for value in term.values])
    own = RUN_FIELDS.get(term.field)
    if own is not None:
        read = _READERS.get(own.kind, _number)
        return _either([read(term, own, own.sessions, value) for value in term.values])
    if not term.field:
        texts = (Match("tool_name", "contains", term.values[0]), Match("error_message", "contains", term.values[0]))
        return Any_((*texts, _text(reader, term.values[0], "calls").matches[0]))
    field = FIELDS.get(term.field)
    if field is None and term.field in columns:
        read = _READERS.get(_KINDS.get(columns[term.field], "word"), _number)
        named = Field(_KINDS.get(columns[term.field], "word"), "", "", "")
        return _either([read(term, named, term.field, value) for value in term.values])
    table: Table = "sessions" if field is not None and field.sessions else "calls"
    found = _condition(reader, term, table, {})
    return Match("session_id", "in", Scan(table, {"session_id": "session_id"}, (found,)))


def _either(parts: list[Condition]) -> Condition:
    return parts[0] if len(parts) == 1 else Any_(tuple(parts))


def _run_failed(term: Term, value: str) -> Condition:
    if term.sign not in (":", "="):
        raise _bad_sign(term, ":")
    failed: Condition = Match("is_error", "=", True)
    return {"true": failed, "false": Not_(failed)}.get(value.lower(), _error_says(value))


def _text(reader: Reader, text: str, table: Table) -> Any_:
    found = {record["session_id"] for hit in search(reader, text, _TEXTS_MAX) for record in hit["records"]}
    where: list[Condition] = [Match("session_id", "in", sorted(found - {""}))]
    if table == "sessions":
        where.append(Match("title", "contains", text))
    else:
        where.append(failed_with(text))
    return Any_(tuple(where))


def failed_with(text: str) -> Match:
    """Calls whose failure says the text; those that went well are not even looked at."""
    failed = (Match("status", "!=", "ok"), Match("error_message", "contains", text))
    return Match("call_id", "in", Scan("calls", {"call_id": "call_id"}, failed))


_READERS: Final[dict[str, Callable[[Term, Field, str, str], Condition]]] = {
    "word": _word,
    "choice": _choice,
    "words": _words,
    "start": _start,
    "flag": _flag,
    "truth": _truth,
    "tool": _tool,
}


def _unknown(term: Term, table: Table) -> QueryError:
    known = [name for name, field in FIELDS.items() if getattr(field, table)]
    near = difflib.get_close_matches(term.field, known, n=1)
    return QueryError(
        f"filter: character {term.at + 1}: got field {term.field!r}; expected one of {', '.join(known)}",
        f"{near[0]}{term.sign}{term.values[0]}" if near else 'quote a text: "a:b"',
    )


def _bad_sign(term: Term, expected: str) -> QueryError:
    got = f"{term.field}{term.sign}"
    return QueryError(f"filter: character {term.at + 1}: got {got}; expected {term.field} with {expected}")


def _bad_value(term: Term, value: str, expected: str, hint: str) -> QueryError:
    where = f"filter: character {term.at + 1}: {term.field}"
    return QueryError(f"{where}: got {value!r}; expected {expected}", hint)


def complete(reader: Reader, text: str, table: Table, limit: int = 12) -> list[str]:
    """What the last word of a filter may become: fields, and values that the store holds, the most frequent first."""
    found = _UNFINISHED.search(text)
    if found is None:  # behind a closed quote
        return []
    before = text[: found.start()] + found["not"]
    if found["field"] is None:
        start = found["value"].lower()
        names = [name for name, field in FIELDS.items() if getattr(field, table) and name.startswith(start)]
        return [f"{before}{name}:" for name in names][:limit]
    field = FIELDS.get(found["field"].lower())
    chosen, comma, start = found["value"].rpartition("," if not found["value"].startswith('"') else "\0")
    start = re.sub(r"\\(.)", r"\1", start.removeprefix('"'))
    values = _values(reader, field, start, limit) if field is not None and getattr(field, table) else []
    head = f"{before}{found['field']}{found['sign']}{chosen}{comma}"
    return [f"{head}{quoted(value)} " for value in values if not (comma and quoted(value) != value)]


def unfinished(text: str) -> int:
    """Where the last word of a filter begins, its end where none is being written."""
    found = _UNFINISHED.search(text)
    return found.start() if found is not None else len(text)


def quoted(value: str) -> str:
    """A value as a term holds it: in quotes where it would end, or be a list, without them."""
    if value and not re.search(r'[\s",]', value):
        return value
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _values(reader: Reader, field: Field, start: str, limit: int) -> list[str]:
    if field.kind == "flag":
        return [value for value in ("true", "false") if value.startswith(start)]
    asked, column = ("calls", field.calls) if field.calls else ("sessions", field.sessions)
    if field.kind == "tool":
        asked, column = "tool_runs", "tool_name"
    if field.kind in (*_NUMBERS, "start") or field is FIELDS["title"]:
        return []
    # A name is asked for by any part of it that begins with what was typed: opus finds claude-opus.
    match = (Match(column, "contains", start),) if start else ()
    select: dict[str, Any] = {"value": column, "n": Agg("count")}
    rows = reader.scan(Scan(asked, select, match, ("value",), (("n", True),), limit)).data["value"]
    return [value for value in rows if value]
