"""Between store and ledger: what is not yet settled, what the ledger asks about it, and keeping what it made of it.

All of it is set-based, and bound by what is new rather than by what is kept: `seq` only grows, so a filter on it lets
DuckDB skip whole row groups, and `trace_parts` says in which commits the earlier records of a trace are.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Any, Final

import duckdb
import msgspec

from tachograph.model import Call, Report, Settlement, Unsettled, Usage
from tachograph.store import sessions
from tachograph.store.relations import given, texts, value
from tachograph.store.schema import TABLES

Con = duckdb.DuckDBPyConnection

WATERMARK: Final = "settled_seq"
# So many spans and events weigh as much as one report when a portion is cut: they are only counted, in SQL.
RECORDS_PER_REPORT: Final = 20
# A portion never looks further than so many commits ahead.
COMMITS_MAX: Final = 20_000

_UNTIL: Final = """
SELECT max(seq) FROM (
    SELECT c.seq, weight, sum(weight) OVER (ORDER BY c.seq) AS running
    FROM (SELECT * FROM commits WHERE seq > $since ORDER BY seq LIMIT $commits) AS c
    LEFT JOIN (SELECT seq, count(*) AS reports FROM reports WHERE seq > $since GROUP BY seq) AS r USING (seq)
    CROSS JOIN LATERAL (SELECT coalesce(r.reports, 0) + (c.spans + c.events) / $share AS weight)
) WHERE running - weight < $limit
"""

# Sessions that the new records name for traces: of the earliest record, ties by session id. `before` is what the trace
# was bound to. A trace without any, but with a call or an agent at work, is a session of its own.
_BINDINGS: Final = """
CREATE OR REPLACE TEMP TABLE new_bindings AS
WITH named AS (
    SELECT trace_id, own_session_id AS session_id, min(coalesce(at_ns, 9223372036854775807)) AS at_ns
    FROM new_records WHERE trace_id <> '' AND own_session_id <> '' GROUP BY trace_id, own_session_id
), firsts AS (
    SELECT trace_id, min(struct_pack(at_ns := at_ns, session_id := session_id)) AS first FROM named GROUP BY trace_id
), alone AS (
    SELECT DISTINCT trace_id FROM new_records
    WHERE trace_id <> '' AND (is_call OR (origin = 'span' AND role IN ('agent', 'turn')))
)
SELECT trace_id, first.session_id AS session_id, first.at_ns AS time_ns, bound.session_id AS before
FROM firsts LEFT JOIN bound USING (trace_id)
WHERE bound.time_ns IS NULL
   OR first < struct_pack(at_ns := bound.time_ns, session_id := bound.session_id)
UNION ALL
SELECT trace_id, 'trace:' || trace_id, NULL, NULL
FROM alone ANTI JOIN bound USING (trace_id) ANTI JOIN firsts USING (trace_id)
"""


def watermark(con: Con) -> int:
    """The newest commit that is settled, 0 for none."""
    return int(value(con, "SELECT value FROM meta WHERE key = ?", [WATERMARK]) or 0)


@contextmanager
def transaction(con: Con) -> Iterator[None]:
    """All of the block or nothing of it, seen from one snapshot."""
    con.execute("BEGIN")
    try:
        yield
    except BaseException:
        con.execute("ROLLBACK")
        raise
    con.execute("COMMIT")


def unsettled(con: Con, limit: int) -> Unsettled:
    """Store.unsettled: nothing is written, so that a portion that is never settled comes again as it was."""
    with transaction(con):
        since = watermark(con)
        until = _until(con, since, limit)
        if until == since:
            return Unsettled(since=since, until=since)
        collect(con, since, until)
        rows = con.execute(
            """
            SELECT report_id, arg_max(report, seq), bool_or(is_demo), any_value(trace_id) FROM (
                SELECT * FROM reports WHERE seq > $since AND seq <= $until
                UNION ALL
                SELECT r.* FROM reports AS r
                JOIN new_bindings AS b ON b.trace_id = r.trace_id AND b.session_id IS DISTINCT FROM b.before
                WHERE b.time_ns IS NOT NULL AND r.session_id = '' AND r.seq <= $since
                  AND r.seq >= (SELECT coalesce(min(first_seq), $until) FROM late_traces)
            ) GROUP BY report_id ORDER BY min(seq), report_id
            """,
            {"since": since, "until": until},
        ).fetchall()
        named = con.execute(
            """
            SELECT trace_id, session_id FROM new_bindings WHERE time_ns IS NOT NULL
            UNION ALL
            SELECT trace_id, session_id FROM bound ANTI JOIN new_bindings USING (trace_id) WHERE time_ns IS NOT NULL
            """
        ).fetchall()
    decode = msgspec.json.Decoder(Report).decode
    traces = {row[3] for row in rows}
    return Unsettled(
        since=since,
        until=until,
        reports=[decode(row[1]) for row in rows],
        sessions={trace: session for trace, session in named if trace in traces},
        demo={row[0] for row in rows if row[2]},
    )


def _until(con: Con, since: int, limit: int) -> int:
    """The last commit of a portion of about `limit` reports; `since` where nothing is new."""
    parameters = {"since": since, "limit": limit, "share": RECORDS_PER_REPORT, "commits": COMMITS_MAX}
    return value(con, _UNTIL, parameters) or since


def collect(con: Con, since: int, until: int) -> None:
    """Make the temporary tables that describe the commits after `since` up to `until`.

    `new_records`: their spans and events. `new_traces`: the traces these lie in. `bound`: what those are bound to so
    far. `new_bindings`: what changes about that. `late_traces`: traces that get another session now and have older
    records; the commits of these.
    """
    selects = " UNION ALL ".join(
        sessions.records(table) + " WHERE seq > $since AND seq <= $until" for table in ("spans_hot", "events_hot")
    )
    con.execute(f"CREATE OR REPLACE TEMP TABLE new_records AS {selects}", {"since": since, "until": until})
    con.execute(
        "CREATE OR REPLACE TEMP TABLE new_traces AS SELECT trace_id, min(seq) AS first_seq, max(seq) AS last_seq"
        " FROM new_records WHERE trace_id <> '' GROUP BY trace_id"
    )
    con.execute(
        "CREATE OR REPLACE TEMP TABLE bound AS SELECT * FROM trace_sessions SEMI JOIN new_traces USING (trace_id)"
    )
    con.execute(_BINDINGS)
    con.execute(
        "CREATE OR REPLACE TEMP TABLE earlier_parts AS"
        " SELECT p.* FROM trace_parts AS p SEMI JOIN new_traces USING (trace_id) WHERE p.last_seq <= ?",
        [since],
    )
    con.execute(
        "CREATE OR REPLACE TEMP TABLE late_traces AS"
        " SELECT trace_id, any_value(b.session_id) AS session_id,"
        " min(first_seq) AS first_seq, max(last_seq) AS last_seq"
        " FROM new_bindings AS b JOIN earlier_parts USING (trace_id)"
        " WHERE b.session_id IS DISTINCT FROM b.before GROUP BY trace_id"
    )


def reports(con: Con, keys: Collection[int], traces: Collection[str], ids: Collection[str]) -> list[Report]:
    """Store.reports."""
    wanted: list[str] = []
    if keys:
        with given(con, "given_keys", {"key": ("int", list(set(keys)))}):
            found = con.execute(
                "SELECT DISTINCT report_id FROM report_keys SEMI JOIN given_keys USING (key)"
            ).fetchall()
        wanted = [row[0] for row in found]
    parts: list[str] = []
    if wanted or ids:
        parts.append("SELECT * FROM reports SEMI JOIN given_ids USING (report_id)")
    if traces:
        parts.append("SELECT * FROM reports SEMI JOIN given_traces USING (trace_id)")
    if not parts:
        return []
    with (
        given(con, "given_ids", {"report_id": texts([*wanted, *ids])}),
        given(con, "given_traces", {"trace_id": texts(trace for trace in traces if trace)}),
    ):
        rows = con.execute(
            f"SELECT arg_max(report, seq) FROM ({' UNION ALL '.join(parts)}) GROUP BY report_id ORDER BY report_id"
        ).fetchall()
    decode = msgspec.json.Decoder(Report).decode
    return [decode(row[0]) for row in rows]


def parents(con: Con, traces: Collection[str]) -> dict[str, dict[str, str]]:
    """Store.parents. Commits after the last settlement are looked through too: their traces have no parts yet."""
    found: dict[str, dict[str, str]] = {trace: {} for trace in traces}
    if not found:
        return found
    with given(con, "given_traces", {"trace_id": texts(found)}):
        kept = value(con, "SELECT min(first_seq) FROM trace_parts SEMI JOIN given_traces USING (trace_id)")
        first = watermark(con) + 1 if kept is None else kept
        rows = con.execute(
            f"SELECT trace_id, span_id, parent_id FROM {sessions.source(con, 'spans', first)}"
            " SEMI JOIN given_traces USING (trace_id) WHERE seq >= ? ORDER BY seq",
            [first],
        ).fetchall()
    for trace, span, parent in rows:
        found[trace][span] = parent
    return found


def settle(con: Con, settlement: Settlement) -> None:
    """Store.settle."""
    with transaction(con):
        since = watermark(con)
        until = max(since, settlement.until)
        collect(con, since, until)
        drop_resent(con, since)
        changed = sessions.Changed()
        _bind(con, changed)
        _replace_keys(con, settlement, until)
        _replace_calls(con, settlement, until, changed)
        sessions.refresh(con, since, until, changed)
        con.execute("INSERT INTO trace_parts SELECT * FROM new_traces")
        con.execute("DELETE FROM meta WHERE key = ?", [WATERMARK])
        con.execute("INSERT INTO meta VALUES (?, ?)", [WATERMARK, str(until)])


def drop_resent(con: Con, since: int) -> None:
    """Of spans with the same ids, and of events that are the same record, keep what came last.

    Only the new ones are checked. An earlier span with the same ids lies in an earlier part of its trace; an earlier
    event that is the same record has the same time: both confine the search to few row groups. Leaves
    `resent_records` (earlier ones, already counted in their sessions) and takes the others out of `new_records`.
    """
    con.execute(_RESENT_AT_ONCE)
    first = value(con, "SELECT min(first_seq) FROM earlier_parts")
    spans = (
        sessions.records("spans_hot") + " SEMI JOIN suspects USING (trace_id, span_id) WHERE seq BETWEEN $from AND $to"
    )
    times = con.execute("SELECT min(time_ns), max(time_ns) FROM events_hot WHERE seq > ?", [since]).fetchall()[0]
    events = (
        sessions.records("events_hot")
        + " SEMI JOIN suspects ON suspects.span_id = r.event_id WHERE seq <= $to AND time_ns BETWEEN $first AND $last"
    )
    con.execute(
        "CREATE OR REPLACE TEMP TABLE suspects AS"
        " SELECT trace_id, id AS span_id FROM new_records SEMI JOIN earlier_parts USING (trace_id)"
        " WHERE origin = 'span'"
        " UNION ALL SELECT trace_id, id FROM new_records WHERE origin <> 'span'"
    )
    con.execute(
        f"CREATE OR REPLACE TEMP TABLE resent_records AS {spans} UNION ALL {events}",
        {"from": since + 1 if first is None else first, "to": since, "first": times[0] or 0, "last": times[1] or 0},
    )
    for table, test in (("spans_hot", "="), ("events_hot", "<>")):
        for records in ("resent_records", "resent_at_once"):
            rows = f"SELECT r FROM {records} WHERE origin {test} 'span'"
            if oldest := value(con, f"SELECT min(seq) FROM {records} WHERE origin {test} 'span'"):
                con.execute(f"DELETE FROM {table} WHERE seq >= ? AND rowid IN ({rows})", [oldest])
    if value(con, "SELECT count(*) FROM resent_at_once"):
        con.execute(
            "DELETE FROM new_records WHERE (origin = 'span', r) IN (SELECT (origin = 'span', r) FROM resent_at_once)"
        )


# The same within the new records: all but the last of those with one identity.
_RESENT_AT_ONCE: Final = """
CREATE OR REPLACE TEMP TABLE resent_at_once AS
SELECT origin, r, seq FROM new_records
SEMI JOIN (
    SELECT trace_id, id, origin FROM new_records WHERE id <> '' GROUP BY ALL HAVING count(*) > 1
) AS several USING (trace_id, id, origin)
QUALIFY row_number() OVER (PARTITION BY trace_id, id, origin ORDER BY seq DESC, r DESC) > 1
"""


def _bind(con: Con, changed: sessions.Changed) -> None:
    """Keep the new bindings, and note the sessions that lose a trace by them."""
    rows = con.execute(
        "SELECT trace_id, session_id, before FROM new_bindings WHERE before IS NOT NULL AND before <> session_id"
    ).fetchall()
    for trace, session, before in rows:
        if before == f"trace:{trace}":
            changed.dissolved.add(before)
        else:
            changed.recounted.update((before, session))
    con.execute(
        "DELETE FROM trace_sessions"
        " WHERE trace_id IN (SELECT trace_id FROM new_bindings SEMI JOIN bound USING (trace_id))"
    )
    con.execute("INSERT INTO trace_sessions SELECT trace_id, session_id, time_ns FROM new_bindings")


def _replace_keys(con: Con, settlement: Settlement, until: int) -> None:
    """Replace the identities of the settlement's reports."""
    if not settlement.keys:
        return
    with given(con, "given_ids", {"report_id": texts(settlement.keys)}):
        con.execute("DELETE FROM report_keys WHERE report_id IN (SELECT report_id FROM given_ids)")
    pairs = [(key, report) for report, keys in settlement.keys.items() for key in keys]
    keys, owners = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    with given(con, "given_keys", {"key": ("int", keys), "report_id": ("text", owners)}):
        con.execute("INSERT INTO report_keys (key, report_id, seq) SELECT key, report_id, ? FROM given_keys", [until])


def _replace_calls(con: Con, settlement: Settlement, until: int, changed: sessions.Changed) -> None:
    """Remove the stored calls that the settlement's reports were in, and keep its calls.

    A report that is worked over but in no call any more (a roll-up, now that its children are known) takes its old
    call along, which is why `keys` counts here too.
    """
    pairs = [(report, call.call_id) for call in settlement.calls for report in call.reports]
    ids = {"report_id": texts([*(pair[0] for pair in pairs), *settlement.keys])}
    with (
        given(con, "given_ids", ids),
        given(con, "given_calls", {"call_id": texts(c.call_id for c in settlement.calls)}),
    ):
        con.execute(
            "CREATE OR REPLACE TEMP TABLE replaced AS"
            " SELECT call_id FROM call_reports SEMI JOIN given_ids USING (report_id)"
            " UNION SELECT call_id FROM given_calls"
        )
    rows = con.execute("SELECT session_id, trace_id FROM calls SEMI JOIN replaced USING (call_id)").fetchall()
    if rows:
        con.execute("DELETE FROM calls WHERE call_id IN (SELECT call_id FROM replaced)")
        con.execute("DELETE FROM call_reports WHERE call_id IN (SELECT call_id FROM replaced)")
    places = {(session, trace) for session, trace in rows}
    places.update((call.meaning.session_id, call.trace_id) for call in settlement.calls)
    changed.touched.update(session for session, _ in places if session)
    changed.traces.update(trace for session, trace in places if trace and not session)
    columns = {"report_id": ("text", [pair[0] for pair in pairs]), "call_id": ("text", [pair[1] for pair in pairs])}
    with given(con, "given_reports", columns):
        con.execute(
            "INSERT INTO call_reports (report_id, call_id, seq) SELECT report_id, call_id, ? FROM given_reports",
            [until],
        )
    _insert_calls(con, settlement.calls, until)


# Columns of calls that carry the name of the Call's or its Meaning's own field.
_OF_CALL: Final = (
    "call_id", "trace_id", "span_id", "start_ns", "end_ns", "usage_status", "status", "retry_of",
    "cost_nanousd", "cost_kind", "is_notional", "price_source", "price_note", "is_demo",
)  # fmt: skip
_OF_MEANING: Final = (
    "session_id", "prompt_id", "agent", "subagent", "user", "team", "project", "channel", "repository", "branch",
    "host", "tenant", "environment", "operation", "provider", "request_model", "response_model", "response_id",
    "request_id", "http_status", "error_type", "error_message", "finish_reason", "is_streaming", "ttft_ns", "attempt",
)  # fmt: skip


def _insert_calls(con: Con, calls: list[Call], until: int) -> None:
    if not calls:
        return
    meanings = [call.meaning for call in calls]
    usages = [meaning.usage or _NO_USAGE for meaning in meanings]
    encode = msgspec.json.Encoder().encode
    values: dict[str, list[Any]] = {name: [getattr(call, name) for call in calls] for name in _OF_CALL}
    values |= {name: [getattr(meaning, name) for meaning in meanings] for name in _OF_MEANING}
    values |= {
        "seq": [until] * len(calls),
        "duration_ns": [_duration_ns(call) for call in calls],
        "model": [meaning.response_model or meaning.request_model for meaning in meanings],
        "input_uncached_tokens": [usage.input_uncached for usage in usages],
        "cache_read_tokens": [usage.cache_read for usage in usages],
        "cache_write_tokens": [usage.cache_write for usage in usages],
        "cache_write_1h_tokens": [usage.cache_write_1h for usage in usages],
        "input_tokens": [usage.input_total for usage in usages],
        "output_tokens": [usage.output for usage in usages],
        "reasoning_tokens": [usage.reasoning for usage in usages],
        "reports": [encode(call.reports).decode() for call in calls],
        "provenance": [encode(call.provenance).decode() for call in calls],
    }
    with given(con, "given_calls", {c.name: (c.type, values[c.name]) for c in TABLES["calls"]}):
        con.execute("INSERT INTO calls BY NAME SELECT * FROM given_calls")


_NO_USAGE: Final = Usage()


def _duration_ns(call: Call) -> int | None:
    """As the source says it, else from start to end where both are known."""
    if call.meaning.duration_ns is not None:
        return call.meaning.duration_ns
    return max(0, call.end_ns - call.start_ns) if call.start_ns and call.end_ns else None
