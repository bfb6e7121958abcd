"""Small commits land as one row each, durable at once, and are sorted into the tables together, by the next that finds
no room or by the first reader: a transaction over all tables costs nearly the same for ten records as for a thousand.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

import duckdb
import msgspec

from tachograph.model import Batch
from tachograph.store.room import Room

Con = duckdb.DuckDBPyConnection

# From here on a commit is sorted at once: landing would cost more than it saves.
LAND_RECORDS_MAX: Final = 1024

_ENCODE: Final = msgspec.msgpack.Encoder().encode
_DECODE: Final = msgspec.msgpack.Decoder(list[Batch])


class Parcel(NamedTuple):
    """What one commit brings: its number, its time and its batches."""

    seq: int
    time_ns: int
    batches: list[Batch]


class Landed:
    """Commits that are durable but not yet in the tables: the rows of `landed` hold the same.

    They are held in memory until they are sorted, and `room` says how many at most.
    """

    def __init__(self, con: Con, room: Room) -> None:
        self._room = room
        rows = con.execute("SELECT seq, time_ns, data FROM landed WHERE NOT is_set_aside ORDER BY seq").fetchall()
        self.parcels = [Parcel(seq, time_ns, _DECODE.decode(data)) for seq, time_ns, data in rows]

    def has_room(self, batches: Sequence[Batch]) -> bool:
        """Whether batches may land beside what has landed."""
        together = [*batches, *(batch for parcel in self.parcels for batch in parcel.batches)]
        is_few = sum(map(records, together)) <= self._room.sort_records
        return is_few and sum(batch.size for batch in together) <= self._room.sort_bytes

    def land(self, con: Con, parcel: Parcel, data: bytes) -> None:
        """Make a commit durable; `data` is how it is spelled."""
        con.execute("INSERT INTO landed VALUES (?, ?, false, ?)", [parcel.seq, parcel.time_ns, data])
        self.parcels.append(parcel)

    def take_out(self, con: Con, parcels: Sequence[Parcel]) -> None:
        """Remove commits from `landed`, within the transaction that writes them into the tables."""
        if self.parcels:
            con.execute("DELETE FROM landed WHERE seq IN (SELECT unnest(?))", [[parcel.seq for parcel in parcels]])

    def forget(self, parcels: Sequence[Parcel]) -> None:
        """What `take_out` removed is through."""
        gone = {parcel.seq for parcel in parcels}
        self.parcels = [parcel for parcel in self.parcels if parcel.seq not in gone]

    def set_aside(self, con: Con, parcel: Parcel) -> None:
        """Keep a commit that no table can hold out of the way: it stays in `landed` and is not read again."""
        con.execute("UPDATE landed SET is_set_aside = true WHERE seq = ?", [parcel.seq])
        self.forget([parcel])


def spelled(batches: Sequence[Batch]) -> bytes | None:
    """The row that batches land as; None where they have to go into the tables at once.

    These are many records, the demo, which is committed alone, and what cannot be spelled (half a surrogate pair).
    """
    if sum(map(records, batches)) > LAND_RECORDS_MAX or any(batch.is_demo for batch in batches):
        return None
    try:
        return _ENCODE(batches)
    except (UnicodeError, OverflowError):
        return None


def records(batch: Batch) -> int:
    """How many records a batch holds."""
    return len(batch.spans) + len(batch.events) + len(batch.points) + len(batch.reports)
