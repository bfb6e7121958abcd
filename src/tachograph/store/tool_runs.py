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

Con = duckdb.DuckDBPyConnection

MATCH_NS: Final = 5_000_000_000
# Whom to believe, best first: a log tells the run alone, a span may hold the wait for a permission as well, and a
# transcript knows only when its lines were written.
RANKS: Final = {"log": 0, "hook": 1, "span": 2, "transcript": 3}
OF_SESSION: Final = ("project", "channel", "user", "team")
# What a telling says of its run, as columns of spans and events.
TOLD: Final = "subagent, tool_name, duration_ns, error_type, error_message, arguments_bytes, result_bytes"

# Planning costs more than reading here, by the column: the queries below name no column that they can do without, and
# what a settlement has none of (tellings without an id, runs told of twice) it does not ask about.
_TELLING: Final = key("session_id || chr(0) || origin || chr(0) || trace_id || chr(0) || id")
_PAIR: Final = key("session_id || chr(0) || lower(tool_name)")
_RUN: Final = key("session_id || chr(0) || tool_call_id")
# A span has both ends; an event comes at the end of the run. A loose telling is a run of its own until it is matched.
_NEW: Final = f"""
CREATE OR REPLACE TEMP TABLE new_tellings AS
SELECT seq, telling, if(tool_call_id = '', telling, {_RUN}) AS run_key, {_PAIR} AS pair, session_id, origin, trace_id,
    if(is_span, id, '') AS span_id, agent, subagent, tool_name, tool_call_id,
    if(is_span, at_ns, at_ns - duration_ns) AS start_ns, if(is_span, end_ns, at_ns) AS end_ns,
    duration_ns, is_error, error_type, error_message, arguments_bytes, result_bytes,
    seq IN (SELECT seq FROM commits WHERE is_demo) AS is_demo, n
FROM (SELECT *, {_TELLING} AS telling, origin = 'span' AS is_span FROM fresh WHERE role = 'tool_run')
"""
# What matching looks at, in the order of Telling.
_LOOKED_AT: Final = "telling, pair, run_key, origin, tool_call_id, end_ns"
_TOUCHED: Final = f"""
CREATE OR REPLACE TEMP TABLE kept_tellings AS
SELECT {_LOOKED_AT} FROM tool_tellings WHERE rowid IN (
    SELECT rowid FROM tool_tellings WHERE seq >= $first AND run_key IN (SELECT run_key FROM new_tellings)
)
"""
_DELETE_GONE: Final = """
DELETE FROM tool_tellings WHERE seq >= ? AND telling IN (SELECT telling FROM new_tellings WHERE n < 0)
"""
# Whether there is any without an id at all: cheap, as whole row groups have none.
_IS_LOOSE: Final = "SELECT 1 FROM tool_tellings WHERE seq >= ? AND tool_call_id = '' LIMIT 1"
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
    SELECT pair, r, sum(step) OVER (PARTITION BY pair ORDER BY end_ns) AS cluster FROM (
        SELECT *, if(end_ns - lag(end_ns) OVER (PARTITION BY pair ORDER BY end_ns) <= {MATCH_NS}, 0, 1) AS step
        FROM points WHERE end_ns IS NOT NULL
    )
)
SELECT {_LOOKED_AT} FROM tool_tellings WHERE rowid IN (
    SELECT r FROM numbered SEMI JOIN (SELECT pair, cluster FROM numbered WHERE r IS NULL) USING (pair, cluster)
)
"""
# Everything that is told of the runs with an id among those near, wherever it lies: a run has each origin once.
_AROUND: Final = f"""
CREATE OR REPLACE TEMP TABLE around_tellings AS
SELECT DISTINCT ON (telling) {_LOOKED_AT} FROM (
    SELECT {_LOOKED_AT}, 1 AS n FROM near_tellings
    UNION ALL SELECT {_LOOKED_AT}, 1 FROM kept_tellings
    UNION ALL SELECT {_LOOKED_AT}, 1 FROM tool_tellings WHERE seq >= $first
        AND run_key IN (SELECT run_key FROM near_tellings WHERE tool_call_id <> '')
    UNION ALL SELECT {_LOOKED_AT}, 0 FROM new_tellings WHERE n > 0
)
WHERE telling NOT IN (SELECT telling FROM new_tellings WHERE n < 0) OR n = 0
ORDER BY telling, n
"""


class Telling(NamedTuple):
    """What matching looks at: `run_key` is fixed where there is an id."""

    telling: int
    pair: int
    run_key: int
    origin: str
    tool_call_id: str
    end_ns: int | None


class Folded(NamedTuple):
    """Session -> runs and failed runs more than before, and whether any of the runs to place is told of twice."""

    counts: dict[str, tuple[int, int]]
    are_several: bool


def fold(con: Con, first: int) -> Folded | None:
    """Work the records of `fresh` into the tellings; None where none is of a tool run.

    Nothing that is told of their sessions lies before commit `first`. Leaves `changed_tellings`: all that is told of
    the runs that `place` has to write anew.
    """
    con.execute(_NEW)
    new, gone, loose = con.execute(
        "SELECT count(*), count_if(n < 0), count_if(tool_call_id = '') FROM new_tellings"
    ).fetchall()[0]
    if not new:
        return None
    is_any_kept = value(con, _TOUCHED, {"first": first}) > 0
    is_loose = bool(loose or value(con, _IS_LOOSE, [first])) and value(con, _LOOSE_PAIRS, {"first": first}) > 0
    changed = "SELECT run_key FROM new_tellings"
    if is_loose:
        is_any_kept |= value(con, _NEAR, {"first": first}) > 0
        con.execute(_AROUND, {"first": first})
        changed += " UNION SELECT run_key FROM kept_tellings UNION SELECT run_key FROM near_tellings"
    con.execute(f"CREATE OR REPLACE TEMP TABLE changed_runs AS {changed}")
    if gone:
        con.execute(_DELETE_GONE, [first])
    con.execute("INSERT INTO tool_tellings BY NAME SELECT * EXCLUDE (n) FROM new_tellings WHERE n > 0")
    if is_loose:
        _match(con, first)
    before = _take(con, first) if is_any_kept else []
    con.execute(_ALL_TOLD if is_any_kept or is_loose else _ALL_NEW, {"first": first})
    return _folded(before, con.execute(_COUNTED).fetchall())


def _folded(before: list[tuple[str, int, int]], after: list[tuple[str, int, int, bool]]) -> Folded:
    counts = {session: (-runs, -failed) for session, runs, failed in before}
    for session, runs, failed, _ in after:
        less = counts.get(session, (0, 0))
        counts[session] = (less[0] + runs, less[1] + failed)
    return Folded(counts, any(is_several for *_, is_several in after))


def _take(con: Con, first: int) -> list[tuple[str, int, int]]:
    """Remove the runs that are to be written anew; what they counted for their sessions."""
    changed = "FROM tool_runs WHERE seq >= ? AND run_key IN (SELECT run_key FROM changed_runs)"
    counts = con.execute(
        f"SELECT session_id, count(*), count_if(is_error) {changed} GROUP BY session_id", [first]
    ).fetchall()
    con.execute(f"DELETE {changed}", [first])
    return counts


def _match(con: Con, first: int) -> None:
    """Say of each telling without an id whose run it is."""
    told = [Telling(*row) for row in con.execute(f"SELECT {_LOOKED_AT} FROM around_tellings").fetchall()]
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
        if one.tool_call_id:
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


# Not by their row ids: those of rows that this transaction has written DuckDB 2.0.0 reads wrongly (0002-duckdb.md).
_ALL_TOLD: Final = """
CREATE OR REPLACE TEMP TABLE changed_tellings AS
SELECT * FROM tool_tellings WHERE seq >= $first AND run_key IN (SELECT run_key FROM changed_runs)
"""
_ALL_NEW: Final = """
CREATE OR REPLACE TEMP TABLE changed_tellings AS
SELECT * EXCLUDE (n) FROM new_tellings WHERE n > 0 AND seq >= $first
"""
_COUNTED: Final = """
SELECT session_id, count(*), count_if(is_failed), max(tellings) > 1 FROM (
    SELECT any_value(session_id) AS session_id, bool_or(is_error) AS is_failed, count(*) AS tellings
    FROM changed_tellings GROUP BY run_key
) GROUP BY session_id
"""
# Runs that one record each tells of, and runs of whom each may be told of by several: the best of each wins, ties by
# the hash, so that any order of arrival gives the same. Ranks leave the two highest bits for what else comes first.
_ONCE: Final = """
SELECT seq, run_key, session_id, tool_call_id, agent, subagent, tool_name, error_type, error_message, start_ns, end_ns,
    duration_ns, trace_id, span_id, is_error, arguments_bytes, result_bytes, '["' || origin || '"]' AS origins, is_demo
FROM changed_tellings
"""
_RANK: Final = "CASE origin " + " ".join(f"WHEN '{name}' THEN {rank}" for name, rank in RANKS.items()) + " ELSE 7 END"


def _best(name: str, rank: str, column: str = "") -> str:
    return f"arg_min_null({column or name}, {rank}) AS {name}"


def _word(name: str) -> str:
    return f"coalesce(arg_min(nullif({name}, ''), rank), '') AS {name}"


_SEVERAL: Final = f"""
SELECT run_key, max(seq) AS seq, any_value(session_id) AS session_id, max(tool_call_id) AS tool_call_id,
    {", ".join(_word(name) for name in ("agent", "subagent", "tool_name", "error_type", "error_message"))},
    {", ".join(_best(name, "time_rank") for name in ("start_ns", "end_ns", "duration_ns"))},
    {", ".join(_best(name, "place_rank") for name in ("trace_id", "span_id"))},
    bool_or(is_error) AS is_error, max(arguments_bytes) AS arguments_bytes, max(result_bytes) AS result_bytes,
    to_json(list_sort(list(DISTINCT origin)))::VARCHAR AS origins, bool_or(is_demo) AS is_demo
FROM (
    SELECT *, rank + if(duration_ns IS NULL, 1::BIGINT << 61, 0) AS time_rank,
        rank + CASE WHEN span_id <> '' THEN 0 WHEN trace_id <> '' THEN 1::BIGINT << 61 ELSE 1::BIGINT << 62 END
            AS place_rank
    FROM (SELECT *, ({_RANK}::BIGINT << 58) + (telling >> 5) AS rank FROM changed_tellings)
) GROUP BY run_key
"""


_DIFFERS: Final = " OR ".join(f's."{name}" <> t."{name}"' for name in OF_SESSION)


def place(con: Con, folded: Folded | None, sessions: Iterable[str], first: int) -> None:
    """Write the runs that were folded, now that the rows of their sessions are there, and follow changes of those.

    `sessions` are those whose row may say another project, channel, user or team than before.
    """
    if folded:
        names = ", ".join(f'coalesce(s."{name}", \'\') AS "{name}"' for name in OF_SESSION)
        con.execute(
            f"INSERT INTO tool_runs BY NAME SELECT m.*, printf('%016x', run_key) AS run_id, {names}"
            f" FROM ({_SEVERAL if folded.are_several else _ONCE}) AS m LEFT JOIN sessions AS s USING (session_id)"
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
