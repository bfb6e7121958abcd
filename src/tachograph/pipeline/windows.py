"""Which commits a destination is sent next, and how many records it will never be sent since they are forgotten."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

from tachograph.scan import Agg, Bucket, Condition, Match, Reader, Scan
from tachograph.store.room import SMALL_BYTES

WINDOW_COMMITS: Final = 500


class Bounds(NamedTuple):
    """How much of what a destination is sent is in memory together."""

    window_records: int  # then the cursor is kept: what a killed process sends twice at most
    page_records: int  # spans, events or points as they came in, or calls
    page_bytes: int  # of their texts, and of those of steps
    sessions: int  # that are looked at together, and
    session_records: int  # spans and events of theirs, and
    nodes: int  # of their trees
    request_bytes: int | None = None  # where a destination would take larger ones


LARGE: Final = Bounds(
    window_records=5000,
    page_records=500,
    page_bytes=4 << 20,
    sessions=100,
    session_records=10_000,
    nodes=2000,
)
SMALL: Final = Bounds(
    window_records=500,
    page_records=100,
    page_bytes=512 << 10,
    sessions=20,
    session_records=500,
    nodes=200,
    request_bytes=512 << 10,
)


def bounds_of(memory_bytes: int | None) -> Bounds:
    """The bounds beside a database that may take so much; None = what a server gives it."""
    return SMALL if memory_bytes is not None and memory_bytes <= SMALL_BYTES else LARGE


_NAMES: Final = ("seq", "time_ns", "spans", "events", "points", "is_demo")


class Window(NamedTuple):
    """Commits one after another up to `until`; `records` as they came in, those of the demo not counted."""

    until: int
    records: int
    is_demo: bool


class Forgotten(NamedTuple):
    """Up to which commit retention has forgotten, and how many records those were, with all before."""

    until: int
    records: int


class Windows:
    """The commits of one store. `hold_ns`: younger ones wait; `is_settled`: and those that the ledger has not seen."""

    def __init__(self, reader: Reader, clock: Callable[[], int], hold_ns: int, *, is_settled: bool) -> None:
        self._reader = reader
        self._clock = clock
        self._hold_ns = hold_ns
        self._is_settled = is_settled

    def after(self, seq: int, records_max: int) -> Window | None:
        """The commits after one, of so many records or one commit; None where nothing is left to look at."""
        where: list[Condition] = [Match("seq", ">", seq)]
        if self._is_settled:
            where.append(Match("seq", "<=", self._number("settled_seq")))
        scan = Scan("commits", {n: n for n in _NAMES}, tuple(where), order_by=(("seq", False),), limit=WINDOW_COMMITS)
        found, now_ns = None, self._clock()
        for commit in self._reader.scan(scan).rows():
            if self._hold_ns and now_ns - self._hold_ns < commit["time_ns"] <= now_ns:
                break  # one from the future is not young: the clock was set back
            count = 0 if commit["is_demo"] else commit["spans"] + commit["events"] + commit["points"]
            if found is None:
                found = Window(commit["seq"], count, commit["is_demo"])
            elif found.records + count > records_max or commit["is_demo"] != found.is_demo:
                break
            else:
                found = Window(commit["seq"], found.records + count, found.is_demo)
        return found

    def forgotten(self) -> Forgotten:
        """What retention has forgotten."""
        return Forgotten(self._number("forgotten_seq"), self._number("forgotten_records"))

    def records(self, after: int, until: int) -> int:
        """How many records came in with commits after one up to another, as far as the store knows."""
        total: dict[str, str | Agg | Bucket] = {name: Agg("sum", name) for name in ("spans", "events", "points")}
        where = (Match("seq", ">", after), Match("seq", "<=", until), Match("is_demo", "=", False))
        row = self._reader.scan(Scan("commits", total, where)).rows()[0]
        return sum(int(value or 0) for value in row.values())

    def records_until(self, seq: int) -> int:
        """How many records came in with all commits up to one, those that are forgotten included."""
        forgotten = self.forgotten()
        if seq < forgotten.until:
            return forgotten.records - self.records(seq, forgotten.until)
        return forgotten.records + self.records(forgotten.until, seq)

    def _number(self, key: str) -> int:
        rows = self._reader.scan(Scan("meta", {"value": "value"}, (Match("key", "=", key),))).rows()
        return int(rows[0]["value"]) if rows else 0
