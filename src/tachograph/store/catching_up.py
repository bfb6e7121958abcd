"""Makes what a migration asked for once all records can be read: the tool runs of a store that had no table of them."""

from __future__ import annotations

from typing import Final

import duckdb
import msgspec

from tachograph.store import sessions, tool_runs
from tachograph.store.relations import given, texts, value
from tachograph.store.settling import transaction, watermark

Con = duckdb.DuckDBPyConnection

TOOL_RUNS_DUE: Final = "tool_runs_due"

# Every settled record of a tool run with its session, in the shape of `fresh`.
_RECORDS: Final = """
CREATE OR REPLACE TEMP TABLE fresh AS
SELECT 1 AS n, coalesce(nullif(own_session_id, ''), b.session_id) AS session_id, r.* EXCLUDE (r, own_session_id)
FROM ({records}) AS r LEFT JOIN trace_sessions AS b USING (trace_id)
WHERE role = 'tool_run' AND seq <= $last AND coalesce(nullif(own_session_id, ''), b.session_id) IS NOT NULL
"""


def catch_up(con: Con) -> None:
    """Do what is due, in one transaction, and note that it is done."""
    if value(con, "SELECT count(*) FROM meta WHERE key = ?", [TOOL_RUNS_DUE]):
        with transaction(con):
            _make_tool_runs(con)
            con.execute("DELETE FROM meta WHERE key = ?", [TOOL_RUNS_DUE])


def _make_tool_runs(con: Con) -> None:
    for table in ("tool_runs", "tool_tellings"):
        con.execute(f"DELETE FROM {table}")
    records = f"{sessions.records('spans')} UNION ALL {sessions.records('events')}"
    con.execute(_RECORDS.format(records=records), {"last": watermark(con)})
    folded = tool_runs.fold(con, 0)
    tool_runs.place(con, folded, (), 0)
    counts = folded.counts if folded else {}
    rows = con.execute("SELECT session_id, state FROM session_states").fetchall()
    states = msgspec.json.Decoder(sessions.State).decode
    encode = msgspec.json.Encoder().encode
    told: list[str] = []
    for session, text in rows:
        state = states(text)
        state.tool_runs, state.tool_errors = counts.get(session, (0, 0))
        state.origins = {kind: number for kind, number in state.origins.items() if kind == "prompt"}
        told.append(encode(state).decode())
    con.execute("DELETE FROM session_states")
    with given(con, "given_states", {"session_id": texts(row[0] for row in rows), "state": ("json", told)}):
        con.execute("INSERT INTO session_states BY NAME SELECT * FROM given_states")
    con.execute("UPDATE sessions SET tool_runs = 0, tool_errors = 0")
    con.execute(
        "UPDATE sessions SET tool_runs = t.runs, tool_errors = t.failed FROM ("
        " SELECT session_id, count(*) AS runs, count_if(is_error) AS failed FROM tool_runs GROUP BY session_id"
        ") AS t WHERE sessions.session_id = t.session_id"
    )
