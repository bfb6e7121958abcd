"""One box over everything: ids lead to what they name, fields narrow, texts are found with what stands around them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any, Final, NamedTuple
from urllib.parse import urlencode

from msgspec import Struct, field
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from tachograph.errors import QueryError
from tachograph.questions import search as search_texts
from tachograph.questions import sessions as list_sessions
from tachograph.questions.filters import FIELDS, Table, conditions, failed_with, parse
from tachograph.questions.lookup import Found
from tachograph.questions.naming import named
from tachograph.scan import Agg, Any_, Condition, Match, Reader, Scan
from tachograph.tree import Node, session_tree
from tachograph.web import conversation, messages
from tachograph.web.asking import COLUMNS, Asked, Period
from tachograph.web.pages.sessions import with_costs
from tachograph.web.rendering import Site, path_of, render

_TEXTS_MAX: Final = 200  # looked at for each text, the newest first
_GROUPS_SHOWN: Final = 25
_HITS_SHOWN: Final = 4  # of one session
_SESSIONS_SHOWN: Final = 8
_ERRORS_SHOWN: Final = 5
_READ_BYTES_MAX: Final = 50_000  # of a text that is read as a message for its excerpt; a larger one is shown raw
_AROUND: Final = 110  # characters before and after what was found
_PATHS: Final = {"session": "sessions", "trace": "traces", "call": "calls"}
_SLOTS: Final = {"": "text", "input": "context", "output": "answer"}


class Piece(NamedTuple):
    """A part of an excerpt; `is_hit` where it is what was searched for."""

    text: str
    is_hit: bool


class Hit(Struct):
    """One text that holds what was searched for: what it is, when it came, and where it stands."""

    hash: str
    slot: str
    tool: str
    time_ns: int
    pieces: list[Piece]
    place: str
    trace: str
    bytes: int


class Group(Struct):
    """The hits of one session, the newest first; `row` is its row with costs."""

    row: dict[str, Any]
    hits: list[Hit] = field(default_factory=list)
    more: int = 0


class Wanted(NamedTuple):
    """What was typed: its texts, what its fields ask of sessions, and of calls (None = calls have no such field)."""

    texts: list[str]
    of_sessions: tuple[Condition, ...]
    of_calls: tuple[Condition, ...] | None


def search(site: Site, request: Request) -> Response:
    """The page; an id in `?q=` leads to what it names."""
    sequence = site.reader.sequence()
    asked = Asked(site, request, default_range="all")
    ids = named(site.reader, asked.filter)
    if len(ids) == 1:
        return RedirectResponse(path_of(_PATHS[ids[0].kind], ids[0].id), 303)
    period = asked.period()
    found = _found(asked, period) if asked.filter else {}
    empty: dict[str, Any] = {"groups": [], "rows": [], "sessions": 0, "calls": None, "errors": [], "texts": []}
    return render(
        site, request, "search.html",
        sequence=sequence, look=asked.look, asked=asked, period=period, ids=[_jump(one) for one in ids],
        fields=FIELDS, **(empty | found),
    )  # fmt: skip


def place(site: Site, request: Request) -> Response:
    """Where a text stands in a session: leads to its prompt, to the session where no prompt holds it."""
    session_id, hash_ = (request.query_params.get(name, "") for name in ("session", "hash"))
    address = path_of("sessions", session_id)
    for at, section in enumerate(conversation.sections(session_tree(site.reader, session_id))):
        if _holds([section.node] if section.node is not None else [step.node for step in section.steps], hash_):
            anchor = f"#prompt-{section.number}" if section.number else ""
            return RedirectResponse(f"{address}?{urlencode({'from': at})}{anchor}", 303)
    return RedirectResponse(address, 303)


def _holds(nodes: Sequence[Node], hash_: str) -> bool:
    stack = list(nodes)
    while stack:
        node = stack.pop()
        if any(hash_ in hashes for _, hashes in node.texts):
            return True
        stack.extend(node.children)
    return False


def _jump(found: Found) -> dict[str, str]:
    return {"kind": found.kind, "id": found.id, "href": path_of(_PATHS[found.kind], found.id)}


def _found(asked: Asked, period: Period) -> dict[str, Any]:
    reader = asked.site.reader
    try:
        wanted = _wanted(reader, asked.filter)
    except QueryError as error:
        asked.error = error
        return {}
    hits = {text: search_texts(reader, text, _TEXTS_MAX, period.since_ns) for text in wanted.texts}
    holding = {text: _sessions_of(found) for text, found in hits.items()}
    of_texts = tuple(
        Any_((Match("session_id", "in", sorted(ids)), Match("title", "contains", text)))
        for text, ids in holding.items()
    )
    where = (*wanted.of_sessions, *of_texts, *_during(period, "end_ns"))
    groups = _groups(reader, hits, where, wanted.texts)
    rows = [] if groups else with_costs(reader, list_sessions(reader, where=where, limit=_SESSIONS_SHOWN))
    return {
        "groups": groups,
        "rows": rows,
        "sessions": reader.scan(Scan("sessions", {"n": Agg("count")}, where)).data["n"][0],
        "texts": wanted.texts,
        **_calls(reader, wanted, holding, period),
    }


def _wanted(reader: Reader, text: str) -> Wanted:
    terms = parse(text)
    ends = [term.at for term in terms[1:]] + [len(text)]
    pieces = [text[term.at : end].strip() for term, end in zip(terms, ends, strict=True)]
    texts = [term.values[0] for term in terms if not term.field and not term.is_not]
    narrowing = [piece for term, piece in zip(terms, pieces, strict=True) if term.field or term.is_not]
    of_sessions: list[Condition] = []
    of_calls: list[Condition] | None = []
    for piece in narrowing:
        calls = _conditions(reader, piece, "calls")
        try:
            of_sessions += conditions(reader, piece, "sessions", COLUMNS["sessions"])
        except QueryError:
            if calls is None:
                raise
            of_sessions.append(Match("session_id", "in", Scan("calls", {"id": "session_id"}, calls)))
        of_calls = [*of_calls, *calls] if of_calls is not None and calls is not None else None
    return Wanted(list(dict.fromkeys(texts)), tuple(of_sessions), None if of_calls is None else tuple(of_calls))


def _conditions(reader: Reader, piece: str, table: Table) -> tuple[Condition, ...] | None:
    try:
        return conditions(reader, piece, table, COLUMNS[table])
    except QueryError:
        return None


def _during(period: Period, last: str) -> tuple[Condition, ...]:
    since = (Match(last, ">=", period.since_ns),) if period.since_ns is not None else ()
    return (*since, Match("start_ns", "<", period.until_ns)) if period.until_ns is not None else since


def _sessions_of(hits: Iterable[dict[str, Any]]) -> set[str]:
    return {record["session_id"] for hit in hits for record in hit["records"]} - {""}


def _groups(
    reader: Reader, hits: dict[str, list[dict[str, Any]]], where: tuple[Condition, ...], texts: Sequence[str]
) -> list[Group]:
    """The hits by session, those of sessions that do not fit left out; who was active last comes first."""
    chosen = {id_ for found in hits.values() for id_ in _sessions_of(found)}
    if not chosen:
        return []
    own = (*where, Match("session_id", "in", sorted(chosen)))
    fitting = list_sessions(reader, where=own, limit=_GROUPS_SHOWN)
    groups = {row["session_id"]: Group(row) for row in with_costs(reader, fitting)}
    shown: list[tuple[Group, dict[str, Any], dict[str, Any]]] = []
    seen: set[tuple[str, str]] = set()
    for hit in (hit for found in hits.values() for hit in found):
        for record in hit["records"]:
            group = groups.get(record["session_id"])
            if group is None or (record["session_id"], hit["hash"]) in seen:
                continue
            seen.add((record["session_id"], hit["hash"]))
            group.more += 1
            if group.more <= _HITS_SHOWN:
                shown.append((group, hit, record))
    _excerpts(reader, shown, texts)
    return [group for group in groups.values() if group.hits]


def _excerpts(
    reader: Reader, shown: Sequence[tuple[Group, dict[str, Any], dict[str, Any]]], texts: Sequence[str]
) -> None:
    """Give each group the hits that are shown of it, as people read them where the text is a message."""
    pattern = re.compile("(" + "|".join(re.escape(text) for text in texts) + ")", re.IGNORECASE)
    small = {hit["hash"] for _, hit, _ in shown if hit["bytes"] <= _READ_BYTES_MAX}
    kept = reader.texts(sorted(small)) if small else {}
    for group, hit, record in shown:
        excerpt = _said(kept.get(hit["hash"], ""), pattern) or hit["excerpt"]
        group.hits.append(_hit(hit, record, pieces(excerpt, pattern)))
        group.more -= 1


def _said(text: str, pattern: re.Pattern[str]) -> str:
    """What stands around the text in the message that holds it; "" where it stands in none of its blocks."""
    for block in messages.read(text).blocks if text else ():
        at = pattern.search(block.text)
        if at is not None:
            start, end = max(0, at.start() - _AROUND), at.end() + _AROUND
            return ("…" if start else "") + block.text[start:end] + ("…" if end < len(block.text) else "")
    return ""


def _hit(hit: dict[str, Any], record: dict[str, Any], excerpt: list[Piece]) -> Hit:
    trace_id, span_id = record["trace_id"], record["span_id"]
    node = {"node": f"{trace_id}:{span_id}"}
    slot = str(record["slot"])
    return Hit(
        hash=hit["hash"],
        slot=_SLOTS.get(slot, slot),
        tool=record["tool_name"],
        time_ns=record["time_ns"],
        pieces=excerpt,
        place="/search/place?" + urlencode({"session": record["session_id"], "hash": hit["hash"]}),
        trace=f"{path_of('traces', trace_id)}?{urlencode(node)}#panel" if trace_id and span_id else "",
        bytes=hit["bytes"],
    )


def pieces(excerpt: str, pattern: re.Pattern[str]) -> list[Piece]:
    """An excerpt in parts, hits and what stands between; what JSON escapes is shown as it reads."""
    parts = pattern.split(excerpt)
    return [
        Piece(part if at % 2 else re.sub(r"\\[nrt]", " ", part).replace('\\"', '"'), bool(at % 2))
        for at, part in enumerate(parts)
        if part
    ]


def _calls(reader: Reader, wanted: Wanted, holding: dict[str, set[str]], period: Period) -> dict[str, Any]:
    """How many calls fit, and those of them whose failure says the text."""
    if wanted.of_calls is None:
        return {"calls": None}
    during = (*wanted.of_calls, *_during(period, "start_ns"))
    said = {text: failed_with(text) for text in wanted.texts}
    where = tuple(Any_((Match("session_id", "in", sorted(holding[text])), match)) for text, match in said.items())
    count = reader.scan(Scan("calls", {"n": Agg("count")}, (*during, *where))).data["n"][0]
    if not said:
        return {"calls": count}
    names = ("call_id", "model", "agent", "session_id", "error_type", "error_message", "start_ns")
    columns: dict[str, Any] = {name: name for name in names}
    failed = Scan("calls", columns, (*during, *said.values()), order_by=(("start_ns", True),), limit=_ERRORS_SHOWN)
    return {"calls": count, "errors": reader.scan(failed).rows()}
