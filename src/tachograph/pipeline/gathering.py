"""Answers what is asked of many sessions, one after the other, from one scan for all of them.

A question to the store costs about a millisecond however few rows answer it, and the tree of one session asks a dozen.
The trees of a hundred small sessions ask the same dozen a hundred times, each time of other sessions or traces: here
the first of them is asked for all, and the rows are told apart afterwards. What is not of that kind goes to the store.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable, Collection, Sequence
from operator import ge, gt, le, lt
from typing import Any, Final

from msgspec import Struct

from tachograph.model import SUBAGENT
from tachograph.scan import Agg, Bucket, Columns, Condition, Match, Reader, Scan

_LEVELS_MAX: Final = 8  # sub-agents of sub-agents
_LISTED_MAX: Final = 500  # values of one condition; of more the store makes the list itself
_COMPARED: Final[dict[str, Callable[[Any, Any], bool]]] = {">=": ge, "<=": le, ">": gt, "<": lt}
_AGGREGATES: Final[dict[str, Callable[[list[Any]], Any]]] = {
    "count_distinct": lambda values: len(set(values)),
    "min": lambda values: min(values, default=None),
    "max": lambda values: max(values, default=None),
}


class _Question(Struct):
    """A scan taken apart: by what its rows are found, what is tested here, and what the store tests."""

    pivot: str
    values: Collection[Any]  # of the pivot
    tested: list[tuple[str, Callable[[Any], bool]]]
    fixed: list[Condition]
    since: int | None = None  # the commits from which on and up to which it asks
    until: int | None = None


class _Rows(Struct):
    """The rows of one scan for all sessions, and where in them each value of the pivot is."""

    columns: Columns
    places: dict[Any, list[int]]


class Gathered:
    """A Reader for the trees of these sessions and of those of their sub-agents, as of when it is made.

    `calls` are those that are read alone. `records_max` bounds what sub-agents' sessions add.
    """

    def __init__(
        self, reader: Reader, sessions: Collection[str], calls: Collection[str] = (), records_max: int = 0
    ) -> None:
        self._reader = reader
        named = self._with_children(set(sessions), records_max)
        traces = Scan(
            "trace_sessions",
            {"trace_id": "trace_id", "trace_key": "trace_key"},
            (Match("session_id", "in", sorted(named)),),
        )
        found = reader.scan(traces).data
        self._domains: dict[str, set[Any]] = {
            "session_id": named,
            "parent_session_id": named,
            "call_id": set(calls),
            "key": {"settled_seq"},
            "trace_id": set(found["trace_id"]) - {""},
            "trace_key": set(found["trace_key"]) - {None},
        }
        self._since, self._until = self._commits()
        self._asked: dict[str, _Rows] = {}

    def scan(self, scan: Scan) -> Columns:
        """Reader.scan."""
        asked = self._question(scan)
        if asked is None:
            return self._reader.scan(scan)
        aggregates = {name: what for name, what in scan.select.items() if isinstance(what, Agg)}
        wanted = {name: what.column if isinstance(what, Agg) else str(what) for name, what in scan.select.items()}
        rows = self._rows(scan, asked, wanted)
        places = sorted(place for value in asked.values for place in rows.places.get(value, ()))
        data = rows.columns.data
        for column, test in asked.tested:
            told = data[f"#{column}"]
            places = [place for place in places if test(told[place])]
        if not aggregates:
            places = places[: scan.limit]
        answer = {name: [data[name][place] for place in places] for name in wanted}
        for name, what in aggregates.items():
            answer[name] = [_AGGREGATES[what.function]([one for one in answer[name] if one is not None])]
        return Columns(list(wanted), answer)

    def texts(self, hashes: Sequence[str]) -> dict[str, str]:
        """Reader.texts."""
        return self._reader.texts(hashes)

    def sql(self, query: str, limit: int | None = None, stop: threading.Event | None = None) -> Columns:
        """Reader.sql."""
        return self._reader.sql(query, limit, stop)

    def sequence(self) -> int:
        """Reader.sequence."""
        return self._reader.sequence()

    # -- of what -------------------------------------------------------------------------------------------------------

    def _with_children(self, sessions: set[str], records_max: int) -> set[str]:
        """The sessions with those of their sub-agents, as long as these are not too much."""
        found, above = set(sessions), set(sessions)
        select: dict[str, str | Agg | Bucket] = {name: name for name in ("session_id", "spans", "events")}
        for _ in range(_LEVELS_MAX):
            where = (Match("parent_session_id", "in", sorted(above)), Match("lineage", "=", SUBAGENT))
            rows = self._reader.scan(Scan("sessions", select, where)).rows()
            above = {row["session_id"] for row in rows} - found
            records_max -= sum((row["spans"] or 0) + (row["events"] or 0) for row in rows if row["session_id"] in above)
            if not above or records_max < 0:
                break
            found |= above
        return found

    def _commits(self) -> tuple[int | None, int | None]:
        """The first and the last commit that told of one of the traces, None where nothing says so of all of them."""
        keys = self._domains["trace_key"]
        if not keys:
            return None, None
        select: dict[str, str | Agg | Bucket] = {
            "first": Agg("min", "first_seq"),
            "last": Agg("max", "last_seq"),
            "traces": Agg("count_distinct", "trace_key"),
        }
        row = self._reader.scan(Scan("trace_parts", select, (self._in_domain("trace_key"),))).rows()[0]
        return (row["first"], row["last"]) if row["traces"] == len(keys) else (None, None)

    def _in_domain(self, column: str) -> Match:
        domain = self._domains[column]
        if column not in ("trace_id", "trace_key") or len(domain) <= _LISTED_MAX:
            return Match(column, "in", sorted(domain))
        where = (Match("session_id", "in", sorted(self._domains["session_id"])),)
        return Match(column, "in", Scan("trace_sessions", {column: column}, where))

    # -- one question --------------------------------------------------------------------------------------------------

    def _question(self, scan: Scan) -> _Question | None:
        """The scan taken apart; None where it has to be asked as it is."""
        if scan.group_by or scan.offset or not self._is_plain(scan):
            return None
        made = _Question("", (), [], [])
        for condition in scan.where:
            if not self._take(made, condition):
                return None
        return made if made.pivot else None

    def _is_plain(self, scan: Scan) -> bool:
        whats = list(scan.select.values())
        if any(isinstance(what, Agg) for what in whats):
            return not scan.order_by and all(
                isinstance(what, Agg) and what.function in _AGGREGATES and not what.where for what in whats
            )
        return all(isinstance(what, str) for what in whats)

    def _take(self, made: _Question, condition: Condition) -> bool:
        """Put a condition where it belongs; False where that cannot be told."""
        if not isinstance(condition, Match):
            made.fixed.append(condition)
            return not any(column in repr(condition) for column in self._domains)
        if condition.column == "seq" and condition.op in _COMPARED and isinstance(condition.value, int):
            compared, value = _COMPARED[condition.op], condition.value
            made.tested.append(("seq", lambda told: told is not None and compared(told, value)))
            if condition.op == ">=":
                made.since = value
            elif condition.op == "<=":
                made.until = value
            return True
        domain = self._domains.get(condition.column)
        if domain is None or condition.op not in ("=", "in"):
            made.fixed.append(condition)
            return not isinstance(condition.value, Scan)
        values = self._values(condition)
        if values <= domain and not made.pivot:
            made.pivot, made.values = condition.column, values
        elif values & domain:
            made.tested.append((condition.column, values.__contains__))
        else:
            made.fixed.append(condition)
        return True

    def _values(self, condition: Match) -> set[Any]:
        if condition.op == "=":
            return {condition.value}
        if isinstance(condition.value, Scan):
            asked = condition.value
            return set(self.scan(asked).data[next(iter(asked.select))])
        return set(condition.value)

    def _rows(self, scan: Scan, asked: _Question, wanted: dict[str, str]) -> _Rows:
        """What the store answers when the same is asked for all sessions."""
        between: list[Condition] = []
        if asked.since is not None and self._since is not None and asked.since >= self._since:
            between.append(Match("seq", ">=", self._since))
        if asked.until is not None and self._until is not None and asked.until <= self._until:
            between.append(Match("seq", "<=", self._until))
        tested = sorted({asked.pivot, *(column for column, _ in asked.tested)})
        key = repr((scan.table, wanted, tested, asked.pivot, asked.fixed, scan.order_by, between))
        if key not in self._asked:
            select: dict[str, str | Agg | Bucket] = {**wanted, **{f"#{column}": column for column in tested}}
            where = (self._in_domain(asked.pivot), *asked.fixed, *between)
            columns = self._reader.scan(Scan(scan.table, select, where, order_by=scan.order_by))
            places: defaultdict[Any, list[int]] = defaultdict(list)
            for place, value in enumerate(columns.data[f"#{asked.pivot}"]):
                places[value].append(place)
            self._asked[key] = _Rows(columns, places)
        return self._asked[key]
