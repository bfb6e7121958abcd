"""Keeps the calls that the ledger made, and the identities by which it finds their reports again."""

from __future__ import annotations

from collections.abc import Set
from operator import attrgetter
from typing import Any, Final

import duckdb
import msgspec

from tachograph.model import Call, Settlement, Usage
from tachograph.store.relations import given, key, texts, value
from tachograph.store.schema import TABLES

Con = duckdb.DuckDBPyConnection

# `seq` of a report says where it is kept: of a new one its commit, of an older one what its identities said so far.
_WANTED_KEYS: Final = """
CREATE OR REPLACE TEMP TABLE wanted_keys AS
SELECT g.key, w.* FROM given_keys AS g JOIN (
    SELECT i.report_id, i.report_key, coalesce(r.seq, k.seq, 0) AS seq FROM worked AS i
    LEFT JOIN (SELECT report_id, max(seq) AS seq FROM reports WHERE seq > $since GROUP BY report_id) AS r
    USING (report_id)
    LEFT JOIN (SELECT report_key, max(seq) AS seq FROM kept_keys GROUP BY report_key) AS k USING (report_key)
) AS w USING (report_id)
"""


def replace_keys(con: Con, settlement: Settlement, since: int) -> None:
    """Replace the identities of the settlement's reports; those that stay as they are are not written again."""
    pairs = [(identity, report) for report, keys in settlement.keys.items() for identity in dict.fromkeys(keys)]
    identities, owners = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    with (
        given(con, "given_ids", {"report_id": texts(settlement.keys)}),
        given(con, "given_keys", {"key": ("int", identities), "report_id": ("text", owners)}),
    ):
        con.execute(
            f"CREATE OR REPLACE TEMP TABLE worked AS SELECT report_id, {key('report_id')} AS report_key FROM given_ids"
        )
        con.execute(
            "CREATE OR REPLACE TEMP TABLE kept_keys AS SELECT rowid AS r, key, report_key, seq FROM report_keys"
            " WHERE report_key IN (SELECT report_key FROM worked)"
        )
        con.execute(_WANTED_KEYS, {"since": since})
    stale = "SELECT r FROM kept_keys ANTI JOIN wanted_keys USING (key, report_key, seq)"
    if value(con, f"SELECT count(*) FROM ({stale})"):
        con.execute(f"DELETE FROM report_keys WHERE rowid IN ({stale})")
    con.execute(
        "INSERT INTO report_keys BY NAME SELECT * FROM wanted_keys ANTI JOIN kept_keys USING (key, report_key, seq)"
    )


def replace(con: Con, settlement: Settlement, since: int, until: int) -> dict[str, int]:
    """Remove the stored calls that the settlement's reports were in, and keep its calls.

    Returns the sessions of both, and from which `seq` on these have calls. A call has the `seq` of its newest report,
    and is forgotten with it, however often it is worked over; where it becomes another one without a report after
    `since`, `changed_seq` says so. A report that is in no call any more (a roll-up, now that its children are known)
    takes its old call along, which is why `keys` counts here too.
    """
    known = dict(con.execute("SELECT report_id, max(seq) FROM wanted_keys GROUP BY 1").fetchall())
    seqs = [max((known.get(report, until) for report in call.reports), default=until) for call in settlement.calls]
    rows = [
        (report, call.call_id, seq)
        for call, seq in zip(settlement.calls, seqs, strict=True)
        for report in call.reports or [call.call_id]
    ]
    reports, calls = [row[0] for row in rows], [row[1] for row in rows]
    ids = dict.fromkeys([*reports, *settlement.keys])
    with given(con, "given_ids", {"report_id": ("text", list(ids))}):
        con.execute(
            "CREATE OR REPLACE TEMP TABLE replaced AS SELECT call_id, seq FROM call_reports WHERE rowid IN"
            f" (SELECT rowid FROM call_reports WHERE report_key IN (SELECT {key('report_id')} FROM given_ids))"
        )
    is_worked_over = any(seq <= since for seq in seqs)
    touched = dict.fromkeys(_remove(con, ids.keys() | set(calls), keeps_gone=is_worked_over), until)
    columns: dict[str, tuple[str, list[Any]]] = {
        "report_id": ("text", reports),
        "call_id": ("text", calls),
        "seq": ("int", [row[2] for row in rows]),
    }
    with given(con, "given_reports", columns):
        con.execute(
            f"INSERT INTO call_reports BY NAME SELECT {key('report_id')} AS report_key, call_id, seq FROM given_reports"
        )
    if settlement.calls:
        with given(con, "given_calls", _columns(settlement.calls, seqs)):
            _insert(con, since, _news_seq(con, since, until) if is_worked_over else None)
    for call, seq in zip(settlement.calls, seqs, strict=True):
        if session := call.meaning.session_id:
            touched[session] = min(touched.get(session, seq), seq)
    return touched


# How a call came about, not what it is: it is no other call when these change.
_NO_NEWS: Final = ("seq", "changed_seq", "reports", "provenance", "price_note")
_WHAT: Final = "hash({})".format(", ".join(f'"{c.name}"' for c in TABLES["calls"] if c.name not in _NO_NEWS))
# The rows of a table that are of the given calls.
_THEIRS: Final = """FROM {table} AS t SEMI JOIN given_calls USING (call_id, seq)
WHERE t.rowid IN (SELECT rowid FROM {table} WHERE seq IN (SELECT seq FROM given_calls))"""


def _remove(con: Con, ids: Set[str], *, keeps_gone: bool) -> set[str]:
    """Remove the calls in `replaced` that really have one of the ids (hashes may meet); returns their sessions.

    `keeps_gone`: leaves in `gone_calls` what they were.
    """
    if keeps_gone:
        con.execute("CREATE OR REPLACE TEMP TABLE gone_calls (call_id VARCHAR, changed_seq BIGINT, what UBIGINT)")
    if not value(con, "SELECT count(*) FROM replaced"):
        return set()
    rows = con.execute(
        "SELECT call_id, seq, session_id, reports FROM calls SEMI JOIN replaced USING (call_id, seq)"
        " WHERE rowid IN (SELECT rowid FROM calls WHERE seq IN (SELECT seq FROM replaced))"
    ).fetchall()
    gone = [row for row in rows if row[0] in ids or not ids.isdisjoint(msgspec.json.decode(row[3], type=list[str]))]
    columns = {"call_id": ("text", [row[0] for row in gone]), "seq": ("int", [row[1] for row in gone])}
    with given(con, "given_calls", columns):
        if keeps_gone:
            con.execute(f"INSERT INTO gone_calls SELECT call_id, changed_seq, {_WHAT} {_THEIRS.format(table='calls')}")
        for table in ("calls", "call_reports"):
            con.execute(f"DELETE FROM {table} WHERE rowid IN (SELECT t.rowid {_THEIRS.format(table=table)})")
    return {row[2] for row in gone if row[2]}


# Columns of calls that carry the name of the Call's or its Meaning's own field.
_OF_CALL: Final = (
    "call_id", "trace_id", "span_id", "start_ns", "end_ns", "usage_status", "status", "retry_of",
    "cost_nanousd", "cost_kind", "is_notional", "price_source", "price_note", "is_demo",
)  # fmt: skip
_OF_MEANING: Final = (
    "session_id", "prompt_id", "agent", "subagent", "user", "team", "project", "channel", "repository", "branch",
    "host", "tenant", "environment", "operation", "provider", "request_model", "response_model", "response_id",
    "request_id", "http_status", "error_type", "error_message", "finish_reason", "is_streaming", "ttft_ns", "attempt",
    "is_cut_short",
)  # fmt: skip
_CHANGED: Final = f"""
INSERT INTO calls BY NAME
SELECT g.* EXCLUDE (g_what) REPLACE (CASE
    WHEN g.seq > $since THEN NULL WHEN o.what IS DISTINCT FROM g_what THEN $news ELSE o.changed_seq END AS changed_seq)
FROM (SELECT *, {_WHAT} AS g_what FROM given_calls) AS g
LEFT JOIN (SELECT DISTINCT ON (call_id) * FROM gone_calls) AS o USING (call_id)
"""


def _news_seq(con: Con, since: int, until: int) -> int:
    """The commit that is said to have changed calls: the last one of the settlement that is no demo."""
    real = "SELECT max(seq) FROM commits WHERE seq > ? AND seq <= ? AND is_demo IS NOT TRUE"
    return int(value(con, real, [since, until]) or until)


def _insert(con: Con, since: int, news_seq: int | None) -> None:
    """Keep `given_calls`; `news_seq`: some were worked over without a new report, changed by this commit."""
    if news_seq is None:
        con.execute("INSERT INTO calls BY NAME SELECT * FROM given_calls")
    else:
        con.execute(_CHANGED, {"since": since, "news": news_seq})


def _columns(calls: list[Call], seqs: list[int]) -> dict[str, tuple[str, list[Any]]]:
    meanings = [call.meaning for call in calls]
    usages = [meaning.usage or _NO_USAGE for meaning in meanings]
    encode = msgspec.json.Encoder().encode
    values: dict[str, list[Any]] = {name: list(map(attrgetter(name), calls)) for name in _OF_CALL}
    values |= {name: list(map(attrgetter(name), meanings)) for name in _OF_MEANING}
    values |= {
        "seq": seqs,
        "changed_seq": [None] * len(calls),
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
    return {c.name: (c.type, values[c.name]) for c in TABLES["calls"]}


_NO_USAGE: Final = Usage()


def _duration_ns(call: Call) -> int | None:
    """As the source says it, else from start to end where a source told of both; None = unknown."""
    if call.meaning.duration_ns is not None:
        return call.meaning.duration_ns
    return call.end_ns - call.start_ns if 0 < call.start_ns < call.end_ns else None
