"""Makes one row of each tool run, however many origins tell of it, in whatever order and how often.

Every record of a run is kept as a telling. Tellings with an id of the run in one session are one run. A telling without
an id belongs to a run of the same tool that another origin told of and that ended within MATCH_NS; else it is a run of
its own. So what a run is depends on its tellings alone, not on when they came: a settlement works over the runs of the
new tellings, and of those without an id all that lie so near that they could be meant.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

import duckdb

from tachograph.store.relations import given, key, value
from tachograph.store.schema import TABLES

Con = duckdb.DuckDBPyConnection

MATCH_NS: Final = 5_000_000_000
# Whom to believe, best first: a log tells the run alone, a span may hold the wait for a permission as well, and a
# transcript knows only when its lines were written.
RANKS: Final = {"log": 0, "hook": 1, "span": 2, "transcript": 3}
OF_SESSION: Final = ("project", "channel", "user", "team")
# What a telling says of its run, as columns of spans and events.
TOLD: Final = """subagent, tool_name, duration_ns, if(role = 'tool_run', error_type, '') AS error_type,
    if(role = 'tool_run', error_message, '') AS error_message, arguments_bytes, result_bytes"""

_SAID: Final = """session_id, origin, trace_id, span_id, agent, subagent, tool_name, tool_call_id, start_ns, end_ns,
    duration_ns, is_error, error_type, error_message, arguments_bytes, result_bytes, is_demo"""
_TELLING: Final = key("session_id || chr(0) || origin || chr(0) || trace_id || chr(0) || id")
_PAIR: Final = key("session_id || chr(0) || lower(tool_name)")
_RUN: Final = key("session_id || chr(0) || tool_call_id")
# A span has both ends; an event comes at the end of the run. A loose telling is a run of its own until it is matched.
_NEW: Final = f"""
CREATE OR REPLACE TEMP TABLE new_tellings AS
SELECT seq, {_TELLING} AS telling, if(tool_call_id = '', {_TELLING}, {_RUN}) AS run_key, {_PAIR} AS pair, session_id,
    origin, trace_id, if(origin = 'span', id, '') AS span_id, agent, subagent, tool_name, tool_call_id,
    if(origin = 'span', at_ns, at_ns - duration_ns) AS start_ns, if(origin = 'span', end_ns, at_ns) AS end_ns,
    duration_ns, is_error, error_type, error_message, arguments_bytes, result_bytes,
    seq IN (SELECT seq FROM commits WHERE is_demo) AS is_demo, n
FROM fresh WHERE role = 'tool_run'
"""
_TOUCHED: Final = """
CREATE OR REPLACE TEMP TABLE kept_tellings AS
SELECT rowid AS r, * FROM tool_tellings WHERE rowid IN (
    SELECT rowid FROM tool_tellings WHERE seq >= $first AND run_key IN (SELECT run_key FROM new_tellings)
)
"""
_LOOSE_PAIRS: Final = """
CREATE OR REPLACE TEMP TABLE loose_pairs AS
SELECT pair FROM new_tellings WHERE tool_call_id = ''
UNION SELECT pair FROM kept_tellings WHERE tool_call_id = ''
UNION SELECT pair FROM tool_tellings
WHERE seq >= $first AND tool_call_id = ''
    AND pair IN (SELECT pair FROM new_tellings UNION SELECT pair FROM kept_tellings)
"""
# Tellings of a tool in one session that lie in one cluster: each ended at most MATCH_NS after the one before it.
_NEAR: Final = f"""
CREATE OR REPLACE TEMP TABLE near_tellings AS
WITH points AS (
    SELECT pair, end_ns, rowid AS r FROM tool_tellings WHERE seq >= $first AND pair IN (SELECT pair FROM loose_pairs)
    UNION ALL SELECT pair, end_ns, NULL FROM new_tellings SEMI JOIN loose_pairs USING (pair)
    UNION ALL SELECT pair, end_ns, NULL FROM kept_tellings SEMI JOIN loose_pairs USING (pair)
), numbered AS (
    SELECT pair, r, sum(step) OVER (PARTITION BY pair ORDER BY end_ns ROWS UNBOUNDED PRECEDING) AS cluster FROM (
        SELECT *, if(end_ns - lag(end_ns) OVER (PARTITION BY pair ORDER BY end_ns) <= {MATCH_NS}, 0, 1) AS step
        FROM points WHERE end_ns IS NOT NULL
    )
)
SELECT rowid AS r, t.* FROM tool_tellings AS t WHERE rowid IN (
    SELECT r FROM numbered SEMI JOIN (SELECT pair, cluster FROM numbered WHERE r IS NULL) USING (pair, cluster)
)
"""
# Everything that is told of the runs with an id among those near, wherever it lies: a run has each origin once.
_AROUND: Final = """
CREATE OR REPLACE TEMP TABLE around_tellings AS
SELECT DISTINCT ON (telling) * EXCLUDE (n) FROM (
    SELECT * EXCLUDE (r), 1 AS n FROM near_tellings
    UNION ALL BY NAME SELECT * EXCLUDE (r), 1 AS n FROM kept_tellings
    UNION ALL BY NAME SELECT *, 1 AS n FROM tool_tellings WHERE seq >= $first
        AND run_key IN (SELECT run_key FROM near_tellings WHERE tool_call_id <> '')
    UNION ALL BY NAME SELECT * REPLACE (0 AS n) FROM new_tellings WHERE n > 0
)
WHERE telling NOT IN (SELECT telling FROM gone_tellings) OR n = 0
ORDER BY telling, n
"""


class Telling(NamedTuple):
    """What matching looks at: `run_key` is fixed where the run has an id."""

    telling: int
    pair: int
    run_key: int
    origin: str
    has_id: bool
    end_ns: int | None


def fold(con: Con, first: int) -> dict[str, tuple[int, int]]:
    """Work the records of `fresh` into the tellings and runs; session -> runs and failed runs more than before.

    Nothing that is told of their sessions lies before commit `first`. Leaves `made_runs` for `place`.
    """
    con.execute(_NEW)
    if not value(con, "SELECT count(*) FROM new_tellings"):
        con.execute("CREATE OR REPLACE TEMP TABLE made_runs AS SELECT * FROM tool_runs WHERE false")
        return {}
    _keep(con, first)
    _match(con, first)
    before = _counts(con, "tool_runs", "WHERE seq >= ? AND run_key IN (SELECT run_key FROM changed_runs)", [first])
    con.execute("DELETE FROM tool_runs WHERE seq >= ? AND run_key IN (SELECT run_key FROM changed_runs)", [first])
    con.execute(_MADE, [first])
    after = _counts(con, "made_runs")
    return {
        session: (
            after.get(session, _NONE)[0] - before.get(session, _NONE)[0],
            after.get(session, _NONE)[1] - before.get(session, _NONE)[1],
        )
        for session in before.keys() | after.keys()
    }


def _keep(con: Con, first: int) -> None:
    """Replace the tellings that came again; `around_tellings` are all that could be about the same runs."""
    con.execute(_TOUCHED, {"first": first})
    con.execute("CREATE OR REPLACE TEMP TABLE gone_tellings AS SELECT telling FROM new_tellings WHERE n < 0")
    con.execute(_LOOSE_PAIRS, {"first": first})
    if value(con, "SELECT count(*) FROM loose_pairs"):
        con.execute(_NEAR, {"first": first})
    else:
        con.execute("CREATE OR REPLACE TEMP TABLE near_tellings AS SELECT * FROM kept_tellings WHERE false")
    con.execute(
        "CREATE OR REPLACE TEMP TABLE changed_runs AS SELECT run_key FROM new_tellings"
        " UNION SELECT run_key FROM kept_tellings UNION SELECT run_key FROM near_tellings"
    )
    con.execute(_AROUND, {"first": first})
    con.execute("DELETE FROM tool_tellings WHERE seq >= ? AND telling IN (SELECT telling FROM gone_tellings)", [first])
    con.execute("INSERT INTO tool_tellings BY NAME SELECT * EXCLUDE (n) FROM new_tellings WHERE n > 0")


def _match(con: Con, first: int) -> None:
    """Say of each telling without an id whose run it is."""
    if not value(con, "SELECT count(*) FROM around_tellings WHERE tool_call_id = ''"):
        return
    rows = con.execute(
        "SELECT telling, pair, run_key, origin, tool_call_id <> '', end_ns FROM around_tellings"
    ).fetchall()
    told = [Telling(*row) for row in rows]
    owners = matched(told)
    moved = {one.telling: owner for one in told if (owner := owners.get(one.telling, one.run_key)) != one.run_key}
    if not moved:
        return
    columns = {"telling": ("int", list(moved)), "run_key": ("int", list(moved.values()))}
    with given(con, "given_owners", columns):
        con.execute(
            "UPDATE tool_tellings SET run_key = g.run_key FROM given_owners AS g"
            " WHERE tool_tellings.telling = g.telling AND seq >= ?",
            [first],
        )
        con.execute("INSERT INTO changed_runs SELECT run_key FROM given_owners")


def matched(told: Iterable[Telling]) -> dict[int, int]:
    """Telling without an id -> the run that it tells of; a run without an id has the key of its first telling."""
    origins: dict[int, set[str]] = defaultdict(set)
    ends: dict[tuple[int, int], int] = {}
    loose: dict[int, dict[str, list[Telling]]] = defaultdict(lambda: defaultdict(list))
    owners: dict[int, int] = {}
    for one in told:
        if one.has_id:
            origins[one.run_key].add(one.origin)
            if one.end_ns is not None:
                place = (one.pair, one.run_key)
                ends[place] = min(ends.get(place, one.end_ns), one.end_ns)
        elif one.end_ns is None:
            owners[one.telling] = one.telling
        else:
            loose[one.pair][one.origin].append(one)
    runs: dict[int, list[tuple[int, int]]] = defaultdict(list)
    for (pair, run_key), end in ends.items():
        runs[pair].append((end, run_key))
    for pair, by_origin in loose.items():
        owners |= _matched_pair(runs[pair], by_origin, origins)
    return owners


def _matched_pair(
    runs: list[tuple[int, int]], by_origin: Mapping[str, list[Telling]], origins: Mapping[int, set[str]]
) -> dict[int, int]:
    """The same for one tool in one session: each origin in turn, runs and tellings in the order in which they ended."""
    owners: dict[int, int] = {}
    for origin in sorted(by_origin, key=lambda name: (RANKS.get(name, len(RANKS)), name)):
        free = sorted(run for run in runs if origin not in origins.get(run[1], ()))
        at = 0
        for end, telling in sorted((one.end_ns or 0, one.telling) for one in by_origin[origin]):
            while at < len(free) and free[at][0] < end - MATCH_NS:
                at += 1
            if at < len(free) and free[at][0] <= end + MATCH_NS:
                owners[telling] = free[at][1]
                at += 1
            else:
                owners[telling] = telling
                runs.append((end, telling))
    return owners


_RANK: Final = "CASE origin " + " ".join(f"WHEN '{name}' THEN {rank}" for name, rank in RANKS.items()) + " ELSE 9 END"


def _best(what: str, known: str) -> str:
    return f"arg_min({what}, rank) FILTER ({known})"


def _word(name: str) -> str:
    known = _best(name, f"{name} <> ''")
    return f"coalesce({known}, '') AS {name}"


_NAMES: Final = ", ".join(map(_word, ("agent", "subagent", "tool_name", "error_type", "error_message")))
_MADE: Final = f"""
CREATE OR REPLACE TEMP TABLE made_runs AS
SELECT * EXCLUDE (times, place), printf('%016x', run_key) AS run_id, times.start_ns AS start_ns, times.end_ns AS end_ns,
    times.duration_ns AS duration_ns, coalesce(place.trace_id, '') AS trace_id, coalesce(place.span_id, '') AS span_id
FROM (
    SELECT run_key, max(seq) AS seq, any_value(session_id) AS session_id, max(tool_call_id) AS tool_call_id, {_NAMES},
        coalesce({_best("struct_pack(start_ns, end_ns, duration_ns)", "duration_ns IS NOT NULL")},
            {_best("struct_pack(start_ns, end_ns, duration_ns)", "true")}) AS times,
        coalesce({_best("struct_pack(trace_id, span_id)", "span_id <> ''")},
            {_best("struct_pack(trace_id, span_id)", "trace_id <> ''")}) AS place,
        bool_or(is_error) AS is_error, max(arguments_bytes) AS arguments_bytes, max(result_bytes) AS result_bytes,
        to_json(list_sort(list(DISTINCT origin)))::VARCHAR AS origins, bool_or(is_demo) AS is_demo
    FROM (
        SELECT *, {_RANK}::HUGEINT * 9223372036854775808 + telling AS rank FROM tool_tellings
        WHERE rowid IN (
            SELECT rowid FROM tool_tellings WHERE seq >= ? AND run_key IN (SELECT run_key FROM changed_runs)
        )
    ) GROUP BY run_key
)
"""
_NONE: Final = (0, 0)


def _counts(con: Con, table: str, where: str = "", parameters: object = None) -> dict[str, tuple[int, int]]:
    rows = con.execute(
        f"SELECT session_id, count(*), count_if(is_error) FROM {table} {where} GROUP BY session_id", parameters
    ).fetchall()
    return {session: (runs, failed) for session, runs, failed in rows}


_DIFFERS: Final = " OR ".join(f's."{name}" <> t."{name}"' for name in OF_SESSION)


def place(con: Con, sessions: Iterable[str], first: int) -> None:
    """Write the runs that `fold` made, now that the rows of their sessions are there, and follow changes of those.

    `sessions` are those whose row may say another project, channel, user or team than before.
    """
    told = ", ".join(f'm."{column.name}"' for column in TABLES["tool_runs"] if column.name not in OF_SESSION)
    names = ", ".join(f'coalesce(s."{name}", \'\') AS "{name}"' for name in OF_SESSION)
    con.execute(
        f"INSERT INTO tool_runs BY NAME SELECT {told}, {names}"
        " FROM made_runs AS m LEFT JOIN sessions AS s USING (session_id)"
    )
    changed = list(sessions)
    if changed:
        with given(con, "given_sessions", {"session_id": ("text", changed)}):
            values = ", ".join(f'"{name}" = s."{name}"' for name in OF_SESSION)
            con.execute(
                f"UPDATE tool_runs SET {values} FROM (SELECT * FROM sessions SEMI JOIN given_sessions"
                " USING (session_id)) AS s WHERE tool_runs.session_id = s.session_id AND tool_runs.seq >= ?"
                f" AND ({_DIFFERS.replace('t.', 'tool_runs.')})",
                [first],
            )
