"""How much the store holds in memory beside the database's own: in a server, or where it must be small."""

from __future__ import annotations

from typing import Final, NamedTuple

MIB: Final = 1 << 20
SMALL_BYTES: Final = 64 * MIB  # who gives the database no more than that wants the whole process small


class Room(NamedTuple):
    """The bounds. `text_bits` and `digest_bits` are sizes of filters of names, of which `names` are held whole."""

    text_bits: int
    digest_bits: int
    names: int
    sort_records: int  # that land one by one and are sorted into the tables together
    sort_bytes: int
    log_bytes: int  # of the log, before it is worked into the tables: until then DuckDB holds what it tells of
    is_one_by_one: bool  # questions wait for one another: each may take 17 MB for grouping, however little it reads


LARGE: Final = Room(
    text_bits=1 << 26,  # 8 MiB: at a million names one in a thousand new ones is asked about in vain
    digest_bits=1 << 23,  # 1 MiB, for names of which there are fewer, and of which one at a time is asked about
    names=50_000,  # about 6 MB for 22-character names; twice that at most is kept
    sort_records=2048,  # senders wait for it, about 70 ms
    sort_bytes=32 * MIB,
    log_bytes=32 * MIB,  # a fifth of a second of one core; the less, the shorter a commit can be held up at its end
    is_one_by_one=False,
)
SMALL: Final = Room(
    text_bits=1 << 20,  # 128 KiB: at fifteen thousand names one in a thousand new ones is asked about in vain
    digest_bits=1 << 18,
    names=4_000,
    sort_records=512,
    sort_bytes=1 * MIB,
    log_bytes=8 * MIB,  # of half as much come twice as many pieces of tables, of which each takes memory
    is_one_by_one=True,
)


def room_of(memory_bytes: int) -> Room:
    """The room beside a database that may take so much."""
    return SMALL if memory_bytes <= SMALL_BYTES else LARGE
