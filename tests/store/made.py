"""Batches made by hand, and a store to put them into."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tachograph.model import Attributes, Batch, Content, Event, Meaning, Point, Source, Span
from tachograph.store.duckdb import DuckStore, open_store

SECOND_NS = 1_000_000_000
DAY_NS = 86_400 * SECOND_NS
MONDAY_NS = 1_762_732_800 * SECOND_NS  # Monday, 2025-11-10 00:00 UTC
SOURCE = Source({"service.name": "my-agent", "service.version": "1.2"}, "my.scope", "0.1")


class Clock:
    """A clock that stands still until it is set."""

    def __init__(self, now_ns: int = MONDAY_NS) -> None:
        self.now_ns = now_ns

    def __call__(self) -> int:
        return self.now_ns


@contextmanager
def opened(folder: Path, clock: Clock | None = None) -> Iterator[DuckStore]:
    """A store that is closed at the end of the block."""
    store = open_store(folder, clock or Clock())
    try:
        yield store
    finally:
        store.close()


def span(number: int = 1, attributes: Attributes | None = None, **fields: Any) -> Span:
    """A span that differs from that of another number."""
    values: dict[str, Any] = {
        "source": SOURCE,
        "trace_id": f"{number // 10:032x}",
        "span_id": f"{number:016x}",
        "parent_id": "",
        "name": f"span {number}",
        "kind": 1,
        "start_ns": MONDAY_NS + number * SECOND_NS,
        "end_ns": MONDAY_NS + number * SECOND_NS + 250_000_000,
        "attributes": {"number": number} if attributes is None else attributes,
    }
    return Span(**{**values, **fields})


def event(number: int = 1, attributes: Attributes | None = None, **fields: Any) -> Event:
    """An event that differs from that of another number."""
    values: dict[str, Any] = {
        "source": SOURCE,
        "time_ns": MONDAY_NS + number * SECOND_NS,
        "name": f"event {number}",
        "attributes": {"number": number} if attributes is None else attributes,
    }
    return Event(**{**values, **fields})


def point(number: int = 1, **fields: Any) -> Point:
    """A data point of the series `tokens` unless told otherwise."""
    values: dict[str, Any] = {
        "source": SOURCE,
        "name": "tokens",
        "attributes": {"session.id": "s1", "model": "m1"},
        "time_ns": MONDAY_NS + number * SECOND_NS,
        "type": "sum",
        "unit": "{token}",
        "temporality": 1,
        "is_monotonic": True,
        "value": number,
    }
    return Point(**{**values, **fields})


def said(text: str, slot: str = "input") -> list[Content]:
    """The contents of a record that holds one text."""
    return [Content(slot, "key", [text])]


def batch(*records: Span | Event | Point, **fields: Any) -> Batch:
    """A batch of the records."""
    return Batch(
        spans=[record for record in records if isinstance(record, Span)],
        events=[record for record in records if isinstance(record, Event)],
        points=[record for record in records if isinstance(record, Point)],
        **fields,
    )


def call(**fields: Any) -> Meaning:
    """What a model call means."""
    return Meaning(role="model_call", is_call=True, **fields)


def rows(store: DuckStore, query: str) -> list[dict[str, Any]]:
    """The answer of a query, row by row."""
    return store.sql(query).rows()
