"""Writes batches into the tables in one transaction, and knows what is already kept and need not be written again."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

import duckdb

from tachograph.model import Batch, Event, Point, Source, Span
from tachograph.store import rows
from tachograph.store.ddl import physical
from tachograph.store.identity import clean_text, series_id, source_id
from tachograph.store.relations import given, registered, value
from tachograph.store.seen import Seen

Con = duckdb.DuckDBPyConnection

_WEEK_NS: Final = 7 * 86_400 * 1_000_000_000
_MONDAY_NS: Final = 4 * 86_400 * 1_000_000_000  # 1970-01-05


def epoch_start(time_ns: int) -> int:
    """Start of the calendar week (UTC) of a time: texts are kept once a week, so that old weeks can go."""
    return (time_ns - _MONDAY_NS) // _WEEK_NS * _WEEK_NS + _MONDAY_NS


@dataclass(slots=True)
class Draft:
    """One commit in the making; `known` changes by it only once it is durable."""

    seq: int
    time_ns: int
    batches: list[Batch]
    sources: dict[str, Source] = field(default_factory=dict)
    series: dict[str, tuple[Point, str]] = field(default_factory=dict)
    contents: dict[str, bytes] = field(default_factory=dict)
    digests: list[str] = field(default_factory=list)
    counts: tuple[int, int, int] = (0, 0, 0)  # spans, events, points
    source_ids: dict[int, str] = field(default_factory=dict)

    def keep(self, name: str, data: bytes) -> None:
        """Take a text."""
        self.contents[name] = data

    def sources_of(self, records: Sequence[Span] | Sequence[Event] | Sequence[Point]) -> list[str]:
        """Source ids of records, which share Source objects; new sources are noted."""
        known = self.source_ids
        found = []
        for record in records:
            source = record.source
            name = known.get(id(source))
            if name is None:
                name = known[id(source)] = source_id(source)
                self.sources[name] = source
            found.append(name)
        return found


class Committer:
    """Writes commits, one at a time; owned by the store, which serialises the calls."""

    def __init__(self, con: Con) -> None:
        self.seq: int = value(con, "SELECT coalesce(max(seq), 0) FROM commits")
        self.epoch_ns = 0
        self._contents = Seen()
        self._digests = Seen(value(con, Seen.query("digests", "digest")) or b"")
        self._sources = {row[0] for row in con.execute("SELECT source_id FROM sources").fetchall()}
        self._series = {row[0] for row in con.execute("SELECT series_id FROM series").fetchall()}

    def commit(self, con: Con, batches: Sequence[Batch], time_ns: int) -> int:
        """Write the batches that are not kept yet; returns the sequence number, the last one if there is nothing."""
        new = self._unknown_batches(con, batches)
        if not new:
            return self.seq
        draft = Draft(self.seq + 1, time_ns, new, digests=[batch.digest for batch in new if batch.digest])
        tables = self._tables(con, draft)
        con.execute("BEGIN")
        try:
            for name, columns in tables:
                insert(con, name, columns)
            self._write_positions(con, draft)
            self._write_commit(con, draft)
            con.execute("COMMIT")
        except BaseException:
            with suppress(duckdb.Error):  # the first error is the one to tell; DuckDB may have rolled back by itself
                con.execute("ROLLBACK")
            raise
        self._remember(draft)
        return draft.seq

    def _tables(self, con: Con, draft: Draft) -> list[tuple[str, Mapping[str, rows.Values]]]:
        """The rows of the commit by table; what is written first is what the rest refers to."""
        batches, seq = draft.batches, draft.seq
        spans = [span for batch in batches for span in batch.spans]
        events = [event for batch in batches for event in batch.events]
        points = [point for batch in batches for point in batch.points]
        reports = [report for batch in batches for report in batch.reports]
        tables: list[tuple[str, Mapping[str, rows.Values]]] = []
        if spans:
            tables.append(("spans", rows.spans(spans, seq, draft.sources_of(spans), draft.keep)))
        if events:
            tables.append(("events", rows.events(events, seq, draft.sources_of(events), draft.keep)))
        if points:
            tables.append(("samples", rows.samples(points, seq, self._series_of(points, draft))))
        if draft.series:
            tables.append(("series", rows.series(draft.series)))
        if new_sources := {name: source for name, source in draft.sources.items() if name not in self._sources}:
            tables.append(("sources", rows.sources(new_sources)))
        if contents := self._new_contents(con, draft):
            tables.append(("contents", contents))
        if reports:
            are_demo = [batch.is_demo for batch in batches for _ in batch.reports]
            tables.append(("reports", rows.reports(reports, seq, are_demo)))
        draft.counts = (len(spans), len(events), len(points))
        return tables

    def _series_of(self, points: Sequence[Point], draft: Draft) -> list[str]:
        """Series ids of points; new series are noted."""
        found = []
        for point, source in zip(points, draft.sources_of(points), strict=True):
            name = series_id(point, source)
            if name not in self._series and name not in draft.series:
                draft.series[name] = (point, source)
            found.append(name)
        return found

    def _new_contents(self, con: Con, draft: Draft) -> Mapping[str, rows.Values]:
        """Rows of the texts that this week has not kept yet."""
        start_ns = epoch_start(draft.time_ns)
        if start_ns != self.epoch_ns:
            self._contents = Seen(value(con, Seen.query("contents", "hash", f"time_ns >= {start_ns}")) or b"")
            self.epoch_ns = start_ns
        seen = self._contents
        names = [name for name in draft.contents if not seen.was_lately(name)]
        asked = [name for name in names if seen.may_hold(name)]
        if kept := known_among(con, "contents", "hash", asked, f"time_ns >= {start_ns}"):
            names = [name for name in names if name not in kept]
        if not names:
            return {}
        texts = [draft.contents[name] for name in names]
        return {
            "hash": names,
            "seq": [draft.seq] * len(names),
            "time_ns": [draft.time_ns] * len(names),
            "bytes": [len(text) for text in texts],
            "text": [text.decode() for text in texts],
        }

    def _unknown_batches(self, con: Con, batches: Sequence[Batch]) -> list[Batch]:
        """The batches without those whose digest is kept, or came earlier in the same commit."""
        seen = self._digests
        for batch in batches:
            batch.digest = clean_text(batch.digest)
        digests = {batch.digest for batch in batches if batch.digest}
        met = {digest for digest in digests if seen.was_lately(digest)}
        met |= known_among(con, "digests", "digest", [d for d in digests - met if seen.may_hold(d)])
        new: list[Batch] = []
        for batch in batches:
            if batch.digest not in met:
                new.append(batch)
                met.update((batch.digest,) if batch.digest else ())
        return new

    def _write_commit(self, con: Con, draft: Draft) -> None:
        is_demo = any(batch.is_demo for batch in draft.batches)
        con.execute("INSERT INTO commits VALUES (?, ?, ?, ?, ?, ?)", [draft.seq, draft.time_ns, *draft.counts, is_demo])
        if draft.digests:
            con.execute("INSERT INTO digests (seq, digest) SELECT ?, unnest(?)", [draft.seq, draft.digests])

    def _write_positions(self, con: Con, draft: Draft) -> None:
        positions = {path: position for batch in draft.batches for path, position in batch.positions.items()}
        if not positions:
            return
        columns = {
            "path": ("text", [clean_text(path) for path in positions]),
            "position": ("text", [clean_text(position) for position in positions.values()]),
        }
        with given(con, "incoming", columns):
            con.execute("DELETE FROM positions WHERE path IN (SELECT path FROM incoming)")
            con.execute(
                "INSERT INTO positions (path, position, seq) SELECT path, position, ? FROM incoming", [draft.seq]
            )

    def _remember(self, draft: Draft) -> None:
        self.seq = draft.seq
        self._contents.add(draft.contents)
        self._digests.add(draft.digests)
        self._sources.update(draft.sources)
        self._series.update(draft.series)


def insert(con: Con, name: str, columns: Mapping[str, rows.Values]) -> None:
    """Add rows to a table."""
    table = rows.table(name, columns)
    names = ", ".join(f'"{column}"' for column in table.column_names)
    with registered(con, "incoming", table):
        con.execute(f"INSERT INTO {physical(name)} ({names}) SELECT {names} FROM incoming")


def known_among(con: Con, table: str, column: str, values: Iterable[str], condition: str = "true") -> set[str]:
    """Which of the values the table holds."""
    wanted = list(values)
    if not wanted:
        return set()
    with given(con, "wanted", {column: ("text", wanted)}):
        found = con.execute(
            f"SELECT DISTINCT {column} FROM {table} SEMI JOIN wanted USING ({column}) WHERE {condition}"
        ).fetchall()
    return {row[0] for row in found}
