"""Finding sessions, traces and calls, and the rows that pages and commands show of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from tachograph.errors import QueryError
from tachograph.scan import Agg, Any_, Bucket, Condition, Match, Reader, Scan

# Every column of the two tables, so that a page, a command and an API show the same of them.
SESSION_COLUMNS: Final = tuple(
    """
    session_id agent title parent_session_id lineage parent_tool_call_id user team project channel repository branch
    host environment models start_ns end_ns
    calls failed_calls partial_calls unpriced_calls input_tokens cache_read_tokens cache_write_tokens output_tokens
    reasoning_tokens cost_nanousd prompts tool_runs tool_errors traces spans events is_demo
    """.split()  # noqa: SIM905 - a name a line would take a page
)
CALL_COLUMNS: Final = tuple(
    """
    seq call_id session_id trace_id span_id prompt_id start_ns end_ns duration_ns agent subagent user team project
    channel repository branch host tenant environment operation provider model request_model response_model
    response_id request_id input_uncached_tokens cache_read_tokens cache_write_tokens cache_write_1h_tokens
    input_tokens output_tokens reasoning_tokens usage_status is_cut_short status http_status error_type error_message
    finish_reason is_streaming ttft_ns attempt retry_of cost_nanousd cost_kind is_notional price_source price_note
    reports provenance is_demo
    """.split()  # noqa: SIM905 - a name a line would take a page
)
# What the text of a filter is compared with, where it names no column.
_SESSION_TEXTS: Final = ("session_id", "agent", "title", "user", "team", "project", "channel", "repository", "branch")
_TRACE_SESSION: Final = "trace:"
# Enough to say that a prefix is ambiguous and to show what it may mean.
_CANDIDATES: Final = 5
# More than anybody reads one by one.
_DESCENDANTS: Final = 200


def sessions(
    reader: Reader,
    since_ns: int | None = None,
    until_ns: int | None = None,
    where: Sequence[Condition] = (),
    text: str = "",
    order_by: tuple[str, bool] = ("end_ns", True),
    limit: int | None = 50,
    offset: int = 0,
) -> list[dict[str, Any]]:
    """Sessions that were alive in [since, until), newest first: one dict of the `sessions` columns each.

    `text` keeps those where it stands in the id, the title, the agent or another name. Times and money as stored:
    nanoseconds, nano-dollars.
    """
    conditions: list[Condition] = [*where]
    if since_ns is not None:
        conditions.append(Match("end_ns", ">=", since_ns))
    if until_ns is not None:
        conditions.append(Match("start_ns", "<", until_ns))
    if text:
        conditions.append(Any_(tuple(Match(column, "contains", text) for column in _SESSION_TEXTS)))
    scan = Scan(
        "sessions",
        {name: name for name in SESSION_COLUMNS},
        tuple(conditions),
        order_by=(order_by, ("session_id", False)),
        limit=limit,
        offset=offset,
    )
    return reader.scan(scan).rows()


def session(reader: Reader, session_id: str) -> dict[str, Any] | None:
    """One session, None where there is none of that id."""
    found = sessions(reader, where=(Match("session_id", "=", session_id),), limit=1)
    return found[0] if found else None


def descendants(reader: Reader, session_id: str) -> list[dict[str, Any]]:
    """The sessions that come from this one as sub-agents, forks or resumes, in time; rows as of `sessions`."""
    where = (Match("parent_session_id", "=", session_id),)
    return sessions(reader, where=where, order_by=("start_ns", False), limit=_DESCENDANTS)


def calls_of(
    reader: Reader,
    session_id: str = "",
    trace_id: str = "",
    since_ns: int | None = None,
    until_ns: int | None = None,
    where: Sequence[Condition] = (),
    is_newest_first: bool = False,
    limit: int | None = None,
    offset: int = 0,
) -> list[dict[str, Any]]:
    """Calls in order of start, of one session or trace where named: one dict of the `calls` columns each."""
    conditions: list[Condition] = [*where]
    if session_id.startswith(_TRACE_SESSION):
        conditions += [Match("trace_id", "=", session_id.removeprefix(_TRACE_SESSION))]
    elif session_id:
        conditions.append(Match("session_id", "=", session_id))
    if trace_id:
        conditions.append(Match("trace_id", "=", trace_id))
    if since_ns is not None:
        conditions.append(Match("start_ns", ">=", since_ns))
    if until_ns is not None:
        conditions.append(Match("start_ns", "<", until_ns))
    scan = Scan(
        "calls",
        {name: name for name in CALL_COLUMNS},
        tuple(conditions),
        order_by=(("start_ns", is_newest_first), ("call_id", is_newest_first)),
        limit=limit,
        offset=offset,
    )
    return reader.scan(scan).rows()


def call(reader: Reader, call_id: str) -> dict[str, Any] | None:
    """One call, None where there is none of that id."""
    found = calls_of(reader, where=(Match("call_id", "=", call_id),), limit=1)
    return found[0] if found else None


def traces_of(reader: Reader, session_id: str, newest: int | None = None) -> list[dict[str, Any]]:
    """The traces of a session in order of start: trace_id, start_ns, end_ns, spans; all, or so many of the newest."""
    own = Match("trace_id", "=", session_id.removeprefix(_TRACE_SESSION))
    if not session_id.startswith(_TRACE_SESSION):
        where = (Match("session_id", "=", session_id),)
        own = Match("trace_id", "in", Scan("trace_sessions", {"trace_id": "trace_id"}, where))
    select: dict[str, str | Agg | Bucket] = {
        "trace_id": "trace_id",
        "start_ns": Agg("min", "start_ns"),
        "end_ns": Agg("max", "end_ns"),
        "spans": Agg("count"),
    }
    order = (("start_ns", newest is not None),)
    found = reader.scan(Scan("spans", select, (own,), ("trace_id",), order, limit=newest)).rows()
    return found if newest is None else found[::-1]


class Found(NamedTuple):
    """What an id on the command line or in a search box means: `kind` is session, trace or call."""

    kind: str
    id: str


# Kind -> table and column that know its ids, in the order in which an id is looked for.
_KINDS: Final = {
    "session": ("sessions", "session_id"),
    "trace": ("spans", "trace_id"),
    "call": ("calls", "call_id"),
}


def find(reader: Reader, text: str, kinds: Sequence[str] = tuple(_KINDS)) -> Found:
    """The one thing that `text` names: a whole id, the beginning of one, or `last` for what was newest.

    Raises QueryError where nothing or more than one thing is meant.
    """
    text = text.rstrip("…")  # as a narrow terminal shows an id
    if text == "last":
        return _newest(reader, kinds)
    for exact in (True, False):
        found = [Found(kind, id_) for kind in kinds for id_ in _ids(reader, kind, text, exact)]
        # The session made of a single trace is shown as the session, whichever of its two ids was given.
        if len(found) > 1 and exact:
            return found[0]
        if len(found) == 1:
            return found[0]
        if found:
            raise QueryError(
                f'"{text}": got the beginning of several ids ({", ".join(one.id for one in found[:_CANDIDATES])}); '
                "expected that of one",
                "type more of it",
            )
    raise QueryError(
        f'"{text}": got an id that nothing has; expected that of a {" or ".join(kinds)}, or its beginning',
        "tachograph sessions",
    )


def _ids(reader: Reader, kind: str, text: str, exact: bool) -> list[str]:
    if not text:
        return []
    table, column = _KINDS[kind]
    where = (Match(column, "=" if exact else "prefix", text),)
    scan = Scan(table, {"id": column}, where, ("id",), (("id", False),), limit=1 if exact else _CANDIDATES + 1)
    return [str(id_) for id_ in reader.scan(scan).data["id"]]


def _newest(reader: Reader, kinds: Sequence[str]) -> Found:
    kind = kinds[0]
    table, column = _KINDS[kind]
    newest = reader.scan(Scan(table, {"id": column}, order_by=(("start_ns", True),), limit=1)).data["id"]
    if not newest:
        raise QueryError(f'"last": got an empty store; expected at least one {kind}', "tachograph doctor")
    return Found(kind, str(newest[0]))
