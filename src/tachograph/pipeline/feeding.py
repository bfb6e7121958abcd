"""Reads from the store what a destination may have of what came in, and of the calls made of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

from tachograph.destinations import Destination
from tachograph.forwarders.contract import CALLS, EVENTS, POINTS, SPANS, Feed, Item, Memory
from tachograph.model import Batch, Event, Point, Span
from tachograph.pipeline import privacy
from tachograph.pipeline.windows import LARGE, Bounds
from tachograph.questions import kept_records
from tachograph.questions.kept_meanings import is_told, put_meanings
from tachograph.questions.kept_records import Sources
from tachograph.scan import Agg, Bucket, Condition, Match, Reader, Scan

_OPEN: Final = "tachograph.is_open"  # of a span that is told again when it ends
_CALLS_PER_RECORD: Final = 2  # calls are read twice as many at a time: they have no texts
_SIGNAL: Final[dict[str, str]] = {SPANS: "traces", EVENTS: "logs", POINTS: "metrics"}


def feeds(
    reader: Reader,
    destination: Destination,
    wanted: Sequence[str],
    columns: Sequence[str],
    derived_signal: str,
    bounds: Bounds = LARGE,
) -> list[Feed]:
    """A feed for each kind of record that is wanted and that the destination's signals leave, STEPS apart.

    `columns` are those of `calls`, which count as `derived_signal`.
    """
    made: dict[str, Callable[[], Feed]] = {
        SPANS: lambda: _Spans(reader, destination, bounds),
        EVENTS: lambda: _Events(reader, destination, bounds),
        POINTS: lambda: _Points(reader, destination, bounds),
        CALLS: lambda: Calls(reader, destination, columns, bounds),
    }
    mine = [name for name in wanted if _SIGNAL.get(name, derived_signal) in destination.signals]
    return [made[name]() for name in mine if name in made]


def of_window(since: int, until: int) -> tuple[Condition, ...]:
    """The condition that a record came in these commits."""
    return Match("seq", ">", since), Match("seq", "<=", until)


def of_changes(since: int, until: int) -> tuple[Condition, ...]:
    """The condition that a call of an earlier window became another one in these commits, without a new report."""
    return Match("changed_seq", ">", since), Match("changed_seq", "<=", until), Match("seq", "<=", since)


def chosen(destination: Destination) -> tuple[Condition, ...]:
    """The conditions that a record is one of those that the destination is for."""
    found: list[Condition] = []
    if destination.agents:
        found.append(Match("agent", "in", list(destination.agents)))
    if destination.projects:
        found.append(Match("project", "in", list(destination.projects)))
    return tuple(found)


class _Spans:
    def __init__(self, reader: Reader, destination: Destination, bounds: Bounds) -> None:
        self._reader, self._destination, self._page = reader, destination, _page(bounds)

    def read(self, since: int, until: int, memory: Memory) -> Iterator[list[Item]]:
        """Feed.read."""
        where = (*of_window(since, until), *chosen(self._destination))
        for some in kept_records.kept_spans(self._reader, Sources(self._reader), where, self._page):
            put_meanings(self._reader, "spans", some)
            batch = Batch(spans=[span for _, span in some if not span.attributes.get(_OPEN)])
            rows = [row for row, span in some if not span.attributes.get(_OPEN)]
            privacy.fit(batch, self._destination.privacy)
            yield [_item(f"{s.trace_id}:{s.span_id}", row, s) for row, s in zip(rows, batch.spans, strict=True)]


class _Events:
    def __init__(self, reader: Reader, destination: Destination, bounds: Bounds) -> None:
        self._reader, self._destination, self._page = reader, destination, _page(bounds)

    def read(self, since: int, until: int, memory: Memory) -> Iterator[list[Item]]:
        """Feed.read."""
        where = (*of_window(since, until), *chosen(self._destination))
        for some in kept_records.kept_events(self._reader, Sources(self._reader), where, self._page):
            put_meanings(self._reader, "events", some)
            batch = Batch(events=[event for _, event in some])
            privacy.fit(batch, self._destination.privacy)
            yield [_item(row["event_id"], row, event) for (row, _), event in zip(some, batch.events, strict=True)]


class _Points:
    """Points say nothing of a project, and of an agent only by the service that sent them."""

    def __init__(self, reader: Reader, destination: Destination, bounds: Bounds) -> None:
        self._reader, self._destination, self._page = reader, destination, _page(bounds)

    def read(self, since: int, until: int, memory: Memory) -> Iterator[list[Item]]:
        """Feed.read."""
        if self._destination.projects:
            return
        for some in kept_records.kept_points(self._reader, Sources(self._reader), of_window(since, until), self._page):
            mine = [(row, point) for row, point in some if self._is_mine(point)]
            batch = Batch(points=[point for _, point in mine])
            privacy.fit(batch, self._destination.privacy)
            yield [
                _item(f"{row['series_id']}:{row['time_ns']}", row, point)
                for (row, _), point in zip(mine, batch.points, strict=True)
            ]

    def _is_mine(self, point: Point) -> bool:
        agents = self._destination.agents
        service = str(point.source.resource.get("service.name", ""))
        return not agents or any(service == agent or service.startswith(f"{agent}-") for agent in agents)


class Calls:
    """Rows of `calls`: each model call as the ledger has it, again when it has changed."""

    def __init__(
        self, reader: Reader, destination: Destination, columns: Sequence[str], bounds: Bounds = LARGE
    ) -> None:
        self._reader, self._destination = reader, destination
        self._at_once = _CALLS_PER_RECORD * bounds.page_records
        self._select: dict[str, str | Agg | Bucket] = {name: name for name in columns}

    def read(self, since: int, until: int, memory: Memory) -> Iterator[list[Item]]:
        """Feed.read."""
        for window in (of_window(since, until), of_changes(since, until)):
            yield from self._read((*window, *chosen(self._destination)))

    def _read(self, where: tuple[Condition, ...]) -> Iterator[list[Item]]:
        last = ""
        while True:
            after = (*where, Match("call_id", ">", last))
            order = (("call_id", False),)
            rows = self._reader.scan(Scan("calls", self._select, after, order_by=order, limit=self._at_once)).rows()
            if not rows:
                return
            yield [_item(row["call_id"], row, fit_call(row, self._destination.privacy)) for row in rows]
            last = rows[-1]["call_id"]


def fit_call(row: dict[str, Any], mode: str) -> dict[str, Any]:
    """A row of `calls` as the destination may have it."""
    return privacy.fit_row(row, mode)


def _page(bounds: Bounds) -> kept_records.Bounds:
    return kept_records.Bounds(bounds.page_records, bounds.page_bytes)


def _item(key: str, row: dict[str, Any], record: Span | Event | Point | dict[str, Any]) -> Item:
    if isinstance(record, (Span, Event)):
        contents = record.contents if is_told(record) else None
        kept_records.with_texts(record)
        record.contents = contents  # how its texts were cut, for who passes on what a hook or a file told
    return Item(key, row["seq"], record)
