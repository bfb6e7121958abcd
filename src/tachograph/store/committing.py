"""Writes batches into the tables in one transaction, and knows what is already kept and need not be written again."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

import duckdb

from tachograph.model import Batch, Event, Point, Source, Span
from tachograph.store import landing, rows
from tachograph.store.ddl import physical
from tachograph.store.identity import clean_text, series_id, source_id
from tachograph.store.landing import Parcel
from tachograph.store.relations import given, registered, value
from tachograph.store.room import Room
from tachograph.store.seen import Seen

Con = duckdb.DuckDBPyConnection

# What Python and DuckDB say of values that a table cannot hold; all else is about the disk, the memory or a bug.
REFUSED: Final = (
    TypeError,
    ValueError,
    OverflowError,
    duckdb.DataError,
    duckdb.IntegrityError,
    duckdb.ConversionException,
    duckdb.InvalidInputException,
)

_WEEK_NS: Final = 7 * 86_400 * 1_000_000_000
_MONDAY_NS: Final = 4 * 86_400 * 1_000_000_000  # 1970-01-05


def epoch_start(time_ns: int) -> int:
    """Start of the calendar week (UTC) of a time: texts are kept once a week, so that old weeks can go."""
    return (time_ns - _MONDAY_NS) // _WEEK_NS * _WEEK_NS + _MONDAY_NS


@dataclass(slots=True)
class Draft:
    """Commits in the making, written together; what the committer knows changes by it only once it is durable."""

    parcels: list[Parcel]
    sources: dict[str, Source] = field(default_factory=dict)
    series: dict[str, tuple[Point, str]] = field(default_factory=dict)
    contents: dict[str, bytes] = field(default_factory=dict)
    source_ids: dict[int, str] = field(default_factory=dict)

    @property
    def last(self) -> Parcel:
        """The newest of the commits."""
        return self.parcels[-1]

    def batches(self) -> Iterator[tuple[int, Batch]]:
        """All batches, each with the number of its commit."""
        return ((parcel.seq, batch) for parcel in self.parcels for batch in parcel.batches)

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


_LAST_SEQ: Final = "SELECT coalesce(max(seq), 0) FROM (SELECT seq FROM commits UNION ALL SELECT seq FROM landed)"


class Committer:
    """Writes commits, one at a time; owned by the store, which serialises the calls."""

    def __init__(self, con: Con, room: Room) -> None:
        self._room = room
        self.landed = landing.Landed(con, room)
        self.seq: int = value(con, _LAST_SEQ)
        self.epoch_ns = 0
        self._contents = Seen(64, 0)  # until the first texts come: then those of their week are looked up
        self._digests = self._seen(con, "digests", "digest", room.digest_bits)
        self._sources = {row[0] for row in con.execute("SELECT source_id FROM sources").fetchall()}
        self._series = {row[0] for row in con.execute("SELECT series_id FROM series").fetchall()}
        self._digests.add(b.digest for parcel in self.landed.parcels for b in parcel.batches if b.digest)

    def _seen(self, con: Con, table: str, column: str, size: int, condition: str = "true") -> Seen:
        """What a column holds, to be asked again and again."""
        return Seen(size, self._room.names, value(con, Seen.query(table, column, size, condition)) or b"")

    def commit(self, con: Con, batches: Sequence[Batch], time_ns: int) -> int:
        """Keep the batches that are not kept yet; returns the sequence number, the last one if there is nothing."""
        new = self._unknown_batches(con, batches)
        if not new:
            return self.seq
        data = landing.spelled(new)
        if data is None or not self.landed.has_room(new):
            self.sort(con)
        parcel = Parcel(self.seq + 1, time_ns, new)
        if data is None:
            self._write(con, [parcel])
        else:
            self.landed.land(con, parcel, data)
            self._digests.add(batch.digest for batch in new if batch.digest)
        self.seq = parcel.seq
        return self.seq

    def sort(self, con: Con) -> None:
        """Write what has landed into the tables.

        It was acknowledged, so a commit that no table can hold is neither lost nor keeps back its neighbours: it is
        set aside where it landed.
        """
        if not self.landed.parcels:
            return
        try:
            self._write(con, self.landed.parcels)
        except REFUSED:
            for parcel in list(self.landed.parcels):
                try:
                    self._write(con, [parcel])
                except REFUSED:
                    self.landed.set_aside(con, parcel)

    def _write(self, con: Con, parcels: list[Parcel]) -> None:
        """Write commits into the tables, in one transaction."""
        draft = Draft(parcels)
        tables = self._tables(con, draft)
        con.execute("BEGIN")
        try:
            for name, columns in tables:
                insert(con, name, columns)
            self._write_positions(con, draft)
            self.landed.take_out(con, parcels)
            con.execute("COMMIT")
        except BaseException:
            with suppress(duckdb.Error):  # the first error is the one to tell; DuckDB may have rolled back by itself
                con.execute("ROLLBACK")
            raise
        self.landed.forget(parcels)
        self._remember(draft)

    def _tables(self, con: Con, draft: Draft) -> list[tuple[str, Mapping[str, rows.Values]]]:
        """The rows of the commits by table; what is written first is what the rest refers to."""
        spans = [span for _, batch in draft.batches() for span in batch.spans]
        events = [event for _, batch in draft.batches() for event in batch.events]
        points = [point for _, batch in draft.batches() for point in batch.points]
        reports = [report for _, batch in draft.batches() for report in batch.reports]
        tables: list[tuple[str, Mapping[str, rows.Values]]] = []
        if spans:
            seqs = [seq for seq, batch in draft.batches() for _ in batch.spans]
            tables.append(("spans", rows.spans(spans, seqs, draft.sources_of(spans), draft.keep)))
        if events:
            seqs = [seq for seq, batch in draft.batches() for _ in batch.events]
            tables.append(("events", rows.events(events, seqs, draft.sources_of(events), draft.keep)))
        if points:
            seqs = [seq for seq, batch in draft.batches() for _ in batch.points]
            tables.append(("samples", rows.samples(points, seqs, self._series_of(points, draft))))
        if draft.series:
            tables.append(("series", rows.series(draft.series)))
        if new_sources := {name: source for name, source in draft.sources.items() if name not in self._sources}:
            tables.append(("sources", rows.sources(new_sources)))
        if contents := self._new_contents(con, draft):
            tables.append(("contents", contents))
        if reports:
            seqs = [seq for seq, batch in draft.batches() for _ in batch.reports]
            are_demo = [batch.is_demo for _, batch in draft.batches() for _ in batch.reports]
            tables.append(("reports", rows.reports(reports, seqs, are_demo)))
        if digests := [(seq, batch.digest) for seq, batch in draft.batches() if batch.digest]:
            tables.append(("digests", {"seq": [seq for seq, _ in digests], "digest": [name for _, name in digests]}))
        tables.append(("commits", rows.commits(draft.parcels)))
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
        start_ns = epoch_start(draft.last.time_ns)
        if start_ns != self.epoch_ns:
            self._contents = self._seen(con, "contents", "hash", self._room.text_bits, f"time_ns >= {start_ns}")
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
            "seq": [draft.last.seq] * len(names),
            "time_ns": [draft.last.time_ns] * len(names),
            "bytes": [len(text) for text in texts],
            "text": [text.decode() for text in texts],
        }

    def _unknown_batches(self, con: Con, batches: Sequence[Batch]) -> list[Batch]:
        """The batches without those whose digest is kept, or came earlier in the same commit.

        How far a file was read still counts: the same piece may have come under another path before.
        """
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
            elif batch.positions:
                new.append(Batch(positions=batch.positions))
        return new

    def _write_positions(self, con: Con, draft: Draft) -> None:
        positions = {path: position for _, batch in draft.batches() for path, position in batch.positions.items()}
        if not positions:
            return
        columns = {
            "path": ("text", [clean_text(path) for path in positions]),
            "position": ("text", [clean_text(position) for position in positions.values()]),
        }
        with given(con, "incoming", columns):
            con.execute("DELETE FROM positions WHERE path IN (SELECT path FROM incoming)")
            con.execute(
                "INSERT INTO positions (path, position, seq)"
                " SELECT path, position, ? FROM incoming WHERE position <> ''",
                [draft.last.seq],
            )

    def _remember(self, draft: Draft) -> None:
        self._contents.add(draft.contents)
        self._digests.add(batch.digest for _, batch in draft.batches() if batch.digest)
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
