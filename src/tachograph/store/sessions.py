"""Keeps the row of each session up to date by what a settlement changes, without reading the session again.

What cannot be taken from the calls is counted in a State beside the row. Prompts are told of by several origins: the
origin that tells of most of them is believed (`session_facts` knows the ids seen). Tool runs are counted in their
table.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from dataclasses import field as dataclass_field
from typing import Any, Final

import duckdb
import msgspec
from msgspec import Struct, field

from tachograph.model import SUBAGENT
from tachograph.store import titles, tool_runs
from tachograph.store.relations import given, texts, value
from tachograph.store.schema import TABLES

Con = duckdb.DuckDBPyConnection

IDENTITY: Final = ("agent", "user", "team", "project", "channel", "repository", "branch", "host", "environment")
LINEAGE: Final = ("parent_session_id", "lineage", "parent_tool_call_id")  # told by records, not by calls
_IDENTITY_SQL: Final = ", ".join(f'"{name}"' for name in IDENTITY)
_TOLD_SQL: Final = f"{_IDENTITY_SQL}, {', '.join(LINEAGE)}"
# A session has one user and one host, seldom a few; a source that puts an id there must not let the state grow.
VALUES_MAX: Final = 16

_PLACES: Final = {
    "spans": """rowid AS r, seq, 'span' AS origin, trace_id, span_id AS id, session_id AS own_session_id,
    nullif(start_ns, 0) AS at_ns""",
    "events": """rowid AS r, seq, origin, trace_id, event_id AS id, session_id AS own_session_id,
    coalesce(nullif(time_ns, 0), nullif(observed_ns, 0)) AS at_ns""",
}
_TOLD: Final = f"""role, prompt_id, tool_call_id, coalesce(is_error, false) AS is_error,
    CASE
        WHEN role = 'prompt' AND contains(contents, '"slot":"prompt"') THEN 'prompt'
        WHEN is_call AND contains(contents, '"slot":"input"') THEN 'input'
        WHEN role = 'session' AND contains(contents, '"slot":"title"') THEN 'title'
        ELSE '' END AS title_slot, {_IDENTITY_SQL}, parent_session_id, lineage,
    if(lineage = '{SUBAGENT}', parent_tool_call_id, '') AS parent_tool_call_id, {tool_runs.TOLD}"""


class State(Struct, omit_defaults=True):
    """The counts that a row of `sessions` is made of; `origins` by kind (prompt), where each origin tells of all."""

    first_seq: int = 0
    last_seq: int = 0
    start_ns: int | None = None
    end_ns: int | None = None
    spans: int = 0
    events: int = 0
    traces: int = 0
    values: dict[str, dict[str, int]] = field(default_factory=dict)
    origins: dict[str, dict[str, int]] = field(default_factory=dict)
    tool_runs: int = 0
    tool_errors: int = 0
    title: str = ""
    title_ns: int = 0
    title_slot: str = ""
    is_demo: bool = False

    def count(self, kind: str) -> int:
        """How many there were, told of by however many origins; a prompt has another id in each."""
        return max(*self.origins.get(kind, {}).values(), 0, 0)

    def most_frequent(self, name: str) -> str:
        """The value of an identity column; ties by the value, so that any order of arrival gives the same."""
        values = self.values.get(name)
        return min(values, key=lambda value: (-values[value], value)) if values else ""


@dataclass(slots=True)
class Changed:
    """Sessions that a settlement changes besides those that its records are of."""

    touched: dict[str, int] = dataclass_field(default_factory=dict)  # their calls changed; since when they have any
    recounted: set[str] = dataclass_field(default_factory=set)  # they lost or won a trace of another session
    dissolved: set[str] = dataclass_field(default_factory=set)  # trace:<id>, now that the trace has a session


def _columns(table: str) -> str:
    """Where a record of the table (or view, which has no row ids) is: the first columns of both shapes."""
    name, _, hot = table.partition("_")
    return _PLACES[name] if hot else _PLACES[name].replace("rowid", "NULL::BIGINT", 1)


def places(table: str) -> str:
    """SELECT of the records of a table in the shape of `new_records`: where they are and what binds their trace."""
    return f"SELECT {_columns(table)}, role, coalesce(is_call, false) AS is_call FROM {table} AS r"


def records(table: str) -> str:
    """SELECT of the records of a table with all that counts for a session."""
    end = "nullif(end_ns, 0)" if table.startswith("spans") else "NULL::BIGINT"
    return f"SELECT {_columns(table)}, {end} AS end_ns, {_TOLD} FROM {table} AS r"


def source(con: Con, name: str, first_seq: int) -> str:
    """The table to read where nothing before `first_seq` is wanted: sealed days are left alone if they are older."""
    sealed_seq = value(con, "SELECT max(last_seq) FROM sealed WHERE name = ?", [name])
    return f"{name}_hot" if sealed_seq is None or sealed_seq < first_seq else name


def refresh(con: Con, since: int, until: int, changed: Changed) -> None:
    """Bring up to date the sessions of the new records (temporary tables of settling.collect) and of `changed`."""
    before = _states(con, changed.recounted)
    _gather(con, since, until, changed, before)
    remove(con, changed.dissolved | changed.recounted)
    touched = {row[0] for row in con.execute("SELECT DISTINCT session_id FROM fresh").fetchall()}
    touched |= changed.touched.keys() | changed.recounted
    touched -= changed.dissolved
    if not touched:
        return
    states = _states(con, touched)
    _fold_records(con, states)
    for session, state in states.items():
        # Not before the first record alone: a call may be of a session that no record names.
        known = (state.first_seq, changed.touched.get(session, 0), session in before and before[session].first_seq)
        state.first_seq = min((seq for seq in known if seq), default=until)
    _fold_traces(con, states, changed)
    _fold_facts(con, states)
    titles.fold(con, states)
    first = min(state.first_seq for state in states.values())
    folded = tool_runs.fold(con, first)
    for session, (runs, errors) in (folded.counts if folded else {}).items():
        states[session].tool_runs += runs
        states[session].tool_errors += errors
    _write(con, states, folded, first)


def recount(con: Con, wanted: Iterable[str]) -> None:
    """Count the sessions anew from all that is kept of them; a session that nothing is kept of goes."""
    changed = Changed(recounted=set(wanted))
    for name, of in (("resent_records", records("spans_hot")), ("new_records", places("spans_hot"))):
        con.execute(f"CREATE OR REPLACE TEMP TABLE {name} AS {of} WHERE false")
    for name in ("bound", "new_bindings", "late_traces"):
        con.execute(
            f"CREATE OR REPLACE TEMP TABLE {name} AS SELECT *, session_id AS before, 0 AS first_seq, 0 AS last_seq"
            " FROM trace_sessions WHERE false"
        )
    refresh(con, 0, 0, changed)


# Of a record the columns that are counted; where it lies is only needed of tool runs and what may become the title.
_COUNTED: Final = """r.* EXCLUDE (r, own_session_id) REPLACE (
    if(role = 'tool_run', r.trace_id, '') AS trace_id, if(title_slot = '' AND role <> 'tool_run', '', id) AS id)"""
# `n` is 1 for a record that is to be counted and -1 for one that was and is dropped now.
_FRESH: Final = f"""
CREATE OR REPLACE TEMP TABLE fresh AS
SELECT * FROM (
    SELECT 1 AS n, coalesce(nullif(own_session_id, ''), b.session_id) AS session_id, {_COUNTED}
    FROM ({records("spans_hot")} UNION ALL {records("events_hot")}) AS r
    LEFT JOIN (
        SELECT trace_id, session_id FROM new_bindings
        UNION ALL SELECT trace_id, session_id FROM bound ANTI JOIN new_bindings USING (trace_id)
    ) AS b USING (trace_id)
    WHERE r.seq > $since AND r.seq <= $until
    UNION ALL
    SELECT -1, coalesce(nullif(own_session_id, ''), b.session_id), {_COUNTED}
    FROM resent_records AS r LEFT JOIN bound AS b USING (trace_id)
)
WHERE session_id IS NOT NULL AND session_id NOT IN (SELECT session_id FROM given_sessions)
"""


def _gather(con: Con, since: int, until: int, changed: Changed, before: dict[str, State]) -> None:
    """Make `fresh`: every record that changes the count of a session, with that session."""
    with given(con, "given_sessions", {"session_id": texts(changed.dissolved | changed.recounted)}):
        con.execute(_FRESH, {"since": since, "until": until})
    first, last = con.execute("SELECT min(first_seq), max(last_seq) FROM late_traces").fetchall()[0]
    if first is not None:
        with given(con, "given_sessions", {"session_id": texts(changed.recounted)}):
            for name in ("spans", "events"):
                con.execute(
                    f"INSERT INTO fresh SELECT 1, l.session_id, {_COUNTED} FROM ({records(source(con, name, first))}"
                    " WHERE session_id = '' AND seq BETWEEN $first AND $last) AS r"
                    " JOIN late_traces AS l USING (trace_id)"
                    " WHERE l.session_id NOT IN (SELECT session_id FROM given_sessions)",
                    {"first": first, "last": min(since, last)},
                )
    if before:
        # A trace that they win just now may have records from before their own first one.
        starts = [state.first_seq for state in before.values()]
        _gather_all(con, before, min(starts if first is None else [*starts, first]))


def _gather_all(con: Con, before: dict[str, State], first: int) -> None:
    """Add every settled or just settling record of the sessions, from commit `first` on, to `fresh`."""
    settled = value(con, "SELECT max(value::BIGINT) FROM meta WHERE key = 'settled_seq'") or 0
    last = max(settled, value(con, "SELECT max(seq) FROM new_records") or 0)
    with given(con, "given_sessions", {"session_id": texts(before)}):
        con.execute(
            "CREATE OR REPLACE TEMP TABLE given_traces AS"
            " SELECT trace_id, session_id FROM trace_sessions SEMI JOIN given_sessions USING (session_id)"
        )
        for name in ("spans", "events"):
            rows = f"({records(source(con, name, first))} WHERE seq BETWEEN $first AND $last) AS r"
            con.execute(
                f"INSERT INTO fresh SELECT 1, own_session_id, {_COUNTED} FROM {rows}"
                " SEMI JOIN given_sessions ON given_sessions.session_id = r.own_session_id"
                f" UNION ALL SELECT 1, t.session_id, {_COUNTED} FROM {rows} JOIN given_traces AS t USING (trace_id)"
                " WHERE own_session_id = ''",
                {"first": first, "last": last},
            )


def remove(con: Con, gone: set[str]) -> None:
    """Remove all that is kept of the counts of these sessions."""
    if not gone:
        return
    with given(con, "given_sessions", {"session_id": texts(gone)}):
        for table in ("sessions", "session_states", "session_facts", "tool_tellings", "tool_runs"):
            con.execute(f"DELETE FROM {table} WHERE session_id IN (SELECT session_id FROM given_sessions)")


def _states(con: Con, wanted: set[str]) -> dict[str, State]:
    """The states of the sessions, new ones where none is kept."""
    with given(con, "given_sessions", {"session_id": texts(wanted)}):
        rows = con.execute("SELECT session_id, state FROM session_states SEMI JOIN given_sessions USING (session_id)")
        decode = msgspec.json.Decoder(State).decode
        states = {session: decode(state) for session, state in rows.fetchall()}
    return {session: states.get(session) or State() for session in wanted}


def _fold_records(con: Con, states: dict[str, State]) -> None:
    """Add what can be added: numbers, times, identity, and prompts without an id."""
    rows = con.execute(
        f"""
        SELECT session_id, origin, sum(n)::BIGINT, min(seq), max(seq), min(at_ns), max(coalesce(end_ns, at_ns)),
            coalesce(sum(n) FILTER (role = 'prompt' AND prompt_id = ''), 0)::BIGINT,
            bool_or(seq IN (SELECT seq FROM commits WHERE is_demo)), {_TOLD_SQL}
        FROM fresh GROUP BY session_id, origin, {_TOLD_SQL}
        """
    ).fetchall()
    for session, origin, n, first, last, start, end, prompts, is_demo, *identity in rows:
        state = states[session]
        state.first_seq = min(state.first_seq or first, first)
        state.last_seq = max(state.last_seq, last)
        state.start_ns, state.end_ns = _earlier(state.start_ns, start), _later(state.end_ns, end)
        state.is_demo = state.is_demo or bool(is_demo)
        if origin == "span":
            state.spans += n
        else:
            state.events += n
        _add(state.origins.setdefault("prompt", {}), origin, prompts)
        for name, text in zip((*IDENTITY, *LINEAGE), identity, strict=True):
            if text:
                known = state.values.setdefault(name, {})
                if text in known or len(known) < VALUES_MAX:
                    _add(known, text, n)


def _add(counts: dict[str, int], name: str, number: int) -> None:
    counts[name] = counts.get(name, 0) + number
    if counts[name] <= 0:
        del counts[name]


def _earlier(one: int | None, other: int | None) -> int | None:
    return min((ns for ns in (one, other) if ns is not None), default=None)


def _later(one: int | None, other: int | None) -> int | None:
    return max((ns for ns in (one, other) if ns is not None), default=None)


def _fold_traces(con: Con, states: dict[str, State], changed: Changed) -> None:
    """Count the traces that were bound to the sessions now."""
    rows = con.execute(
        "SELECT session_id, count(*) FROM new_bindings WHERE session_id IS DISTINCT FROM before GROUP BY session_id"
    ).fetchall()
    for session, traces in rows:
        if session in states and session not in changed.recounted:
            states[session].traces += traces
    if changed.recounted:
        with given(con, "given_sessions", {"session_id": texts(changed.recounted)}):
            rows = con.execute(
                "SELECT session_id, count(*) FROM trace_sessions SEMI JOIN given_sessions USING (session_id) GROUP BY 1"
            ).fetchall()
        for session, traces in rows:
            states[session].traces = traces


_FACTS: Final = """
CREATE OR REPLACE TEMP TABLE new_facts AS
SELECT DISTINCT session_id, origin, kind,
    (md5_number_lower(session_id || chr(0) || kind || chr(0) || id) & 9223372036854775807)::BIGINT AS fact
FROM (
    SELECT session_id, origin, 'prompt' AS kind, prompt_id AS id FROM fresh WHERE n = 1 AND role = 'prompt'
) WHERE id <> ''
"""


def _fold_facts(con: Con, states: dict[str, State]) -> None:
    """Count the prompts that have an id and were not known yet of this origin."""
    if not value(con, _FACTS):
        return
    first = min((state.first_seq for state in states.values() if state.first_seq), default=0)
    con.execute(
        "CREATE OR REPLACE TEMP TABLE known_facts AS"
        " SELECT fact, origin FROM session_facts SEMI JOIN new_facts USING (fact) WHERE seq >= ?",
        [first],
    )
    rows = con.execute(
        "SELECT session_id, kind, origin, count(*) FROM new_facts"
        " ANTI JOIN known_facts USING (fact, origin) GROUP BY ALL"
    ).fetchall()
    for session, kind, origin, number in rows:
        _add(states[session].origins.setdefault(kind, {}), origin, number)
    con.execute(
        "INSERT INTO session_facts (seq, session_id, origin, fact)"
        " SELECT (SELECT max(seq) FROM fresh), session_id, origin, fact"
        " FROM new_facts ANTI JOIN known_facts USING (fact, origin)"
    )


# Unpriced is a call whose tokens cost something that nobody could say; a failed one without usage is not.
_CALLS: Final = f"""
SELECT session_id, count(*) FILTER (status = 'ok'), count(*) FILTER (status <> 'ok'),
    count(*) FILTER (status = 'ok' AND (usage_status <> 'reported' OR is_cut_short)),
    count(*) FILTER (cost_nanousd IS NULL AND (status = 'ok' OR usage_status = 'reported')),
    sum(input_tokens)::BIGINT, sum(cache_read_tokens)::BIGINT, sum(cache_write_tokens)::BIGINT,
    sum(output_tokens)::BIGINT, sum(reasoning_tokens)::BIGINT, sum(cost_nanousd)::BIGINT,
    list_sort(list(DISTINCT model) FILTER (model <> '')), min(nullif(start_ns, 0)), max(nullif(end_ns, 0)),
    bool_or(is_demo), {", ".join(f"max({name})" for name in _IDENTITY_SQL.split(", "))}
FROM calls SEMI JOIN given_sessions USING (session_id) WHERE seq >= $first GROUP BY session_id
"""


def _write(con: Con, states: dict[str, State], folded: tool_runs.Folded | None, first: int) -> None:
    """Write the states, the rows that they and the calls make, and the tool runs."""
    with given(con, "given_sessions", {"session_id": texts(states)}):
        before = {row[0]: row[1:] for row in con.execute(_BEFORE).fetchall()}
        calls = {row[0]: row[1:] for row in con.execute(_CALLS, {"first": first}).fetchall()}
        for table in ("sessions", "session_states"):
            con.execute(f"DELETE FROM {table} WHERE session_id IN (SELECT session_id FROM given_sessions)")
    kept = {session: state for session, state in states.items() if state.spans or state.events or session in calls}
    if not kept:
        return
    encode = msgspec.json.Encoder().encode
    encoded = [encode(state).decode() for state in kept.values()]
    with given(con, "given_states", {"session_id": texts(kept), "state": ("json", encoded)}):
        con.execute("INSERT INTO session_states BY NAME SELECT * FROM given_states")
    rows = [_row(session, state, calls.get(session, _NO_CALLS)) for session, state in kept.items()]
    columns = {c.name: (c.type, [row[c.name] for row in rows]) for c in TABLES["sessions"]}
    with given(con, "given_rows", columns):
        con.execute("INSERT INTO sessions BY NAME SELECT * FROM given_rows")
    other = (row["session_id"] for row in rows if before.get(row["session_id"], ()) != _of_session(row))
    tool_runs.place(con, folded, [session for session in other if session in before], first)


_BEFORE: Final = f"""SELECT session_id, {", ".join(f'"{name}"' for name in tool_runs.OF_SESSION)}
FROM sessions SEMI JOIN given_sessions USING (session_id)"""


def _of_session(row: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(row[name] for name in tool_runs.OF_SESSION)


_TOTALS: Final = (
    "calls", "failed_calls", "partial_calls", "unpriced_calls", "input_tokens", "cache_read_tokens",
    "cache_write_tokens", "output_tokens", "reasoning_tokens", "cost_nanousd",
)  # fmt: skip
_NO_CALLS: Final = (0, 0, 0, 0, None, None, None, None, None, None, None, None, None, False, *([""] * len(IDENTITY)))


def _row(session: str, state: State, calls: tuple[Any, ...]) -> dict[str, Any]:
    models, start, end, is_demo, *identity = calls[len(_TOTALS) :]
    return {
        "session_id": session,
        "title": state.title,
        "models": msgspec.json.encode(models or []).decode(),
        "start_ns": _earlier(state.start_ns, start),
        "end_ns": _later(state.end_ns, end),
        "prompts": state.count("prompt"),
        "tool_runs": state.tool_runs,
        "tool_errors": state.tool_errors,
        "traces": state.traces,
        "spans": state.spans,
        "events": state.events,
        "is_demo": state.is_demo or bool(is_demo),
        **dict(zip(_TOTALS, calls[: len(_TOTALS)], strict=True)),
        **{name: state.most_frequent(name) or other for name, other in zip(IDENTITY, identity, strict=True)},
        **{name: state.most_frequent(name) for name in LINEAGE},
    }
