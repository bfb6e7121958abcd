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


def replace(con: Con, settlement: Settlement, until: int) -> dict[str, int]:
    """Remove the stored calls that the settlement's reports were in, and keep its calls.

    Returns the sessions of both, and from which `seq` on these have calls. A call has the `seq` of its newest report,
    and is forgotten with it, however often it is worked over. A report that is in no call any more (a roll-up, now
    that its children are known) takes its old call along, which is why `keys` counts here too.
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
    touched = dict.fromkeys(_remove(con, ids.keys() | set(calls)), until)
    columns: dict[str, tuple[str, list[Any]]] = {
        "report_id": ("text", reports),
        "call_id": ("text", calls),
        "seq": ("int", [row[2] for row in rows]),
    }
    with given(con, "given_reports", columns):
        con.execute(
            f"INSERT INTO call_reports BY NAME SELECT {key('report_id')} AS report_key, call_id, seq FROM given_reports"
        )
    _insert(con, settlement.calls, seqs)
    for call, seq in zip(settlement.calls, seqs, strict=True):
        if session := call.meaning.session_id:
            touched[session] = min(touched.get(session, seq), seq)
    return touched


def _remove(con: Con, ids: Set[str]) -> set[str]:
    """Remove the calls in `replaced` that really have one of the ids (hashes may meet); returns their sessions."""
    if not value(con, "SELECT count(*) FROM replaced"):
        return set()
    rows = con.execute(
        "SELECT call_id, seq, session_id, reports FROM calls SEMI JOIN replaced USING (call_id, seq)"
        " WHERE rowid IN (SELECT rowid FROM calls WHERE seq IN (SELECT seq FROM replaced))"
    ).fetchall()
    gone = [row for row in rows if row[0] in ids or not ids.isdisjoint(msgspec.json.decode(row[3], type=list[str]))]
    columns = {"call_id": ("text", [row[0] for row in gone]), "seq": ("int", [row[1] for row in gone])}
    with given(con, "given_calls", columns):
        for table in ("calls", "call_reports"):
            con.execute(
                f"DELETE FROM {table} WHERE rowid IN (SELECT t.rowid FROM {table} AS t"
                " SEMI JOIN given_calls USING (call_id, seq)"
                f" WHERE t.rowid IN (SELECT rowid FROM {table} WHERE seq IN (SELECT seq FROM given_calls)))"
            )
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


def _insert(con: Con, calls: list[Call], seqs: list[int]) -> None:
    if not calls:
        return
    meanings = [call.meaning for call in calls]
    usages = [meaning.usage or _NO_USAGE for meaning in meanings]
    encode = msgspec.json.Encoder().encode
    values: dict[str, list[Any]] = {name: list(map(attrgetter(name), calls)) for name in _OF_CALL}
    values |= {name: list(map(attrgetter(name), meanings)) for name in _OF_MEANING}
    values |= {
        "seq": seqs,
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
    """As the source says it, else from start to end where a source told of both; None = unknown."""
    if call.meaning.duration_ns is not None:
        return call.meaning.duration_ns
    return call.end_ns - call.start_ns if 0 < call.start_ns < call.end_ns else None
