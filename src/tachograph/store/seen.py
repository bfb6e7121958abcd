"""Tells names that were certainly never kept from those that may have been, within bounded memory."""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import md5
from typing import Final

LATELY_MAX: Final = 50_000  # about 6 MB for 22-character names; twice that at most is kept
BITS: Final = 1 << 26  # 8 MiB: at a million names one in a thousand new ones is asked about in vain
FEW_BITS: Final = 1 << 23  # 1 MiB, for names of which there are fewer, and of which one at a time is asked about


class Seen:
    """The names added last, and a Bloom filter of all of them.

    Agents resend their history on every call, so most names were met lately; of the others nearly all are new. Only
    what is neither has to be looked up in the table.
    """

    def __init__(self, bits: bytes = b"", size: int = BITS) -> None:
        self._size = size
        self._bits = bytearray(bits) if bits else bytearray(size // 8)
        self._new: set[str] = set()
        self._old: set[str] = set()

    @staticmethod
    def query(table: str, column: str, condition: str = "true", size: int = BITS) -> str:
        """SQL of the filter's bits for the names in a column: the database makes them much faster than Python."""
        positions = f"[hash % {size}, hash // {size} % {size}]"
        return (
            f"SELECT bitstring_agg(position, 0, {size - 1})::BLOB FROM (SELECT unnest({positions})::BIGINT AS position"
            f" FROM (SELECT md5_number_lower({column}) AS hash FROM {table} WHERE {condition}))"
        )

    def was_lately(self, name: str) -> bool:
        """Whether the name was certainly added."""
        return name in self._new or name in self._old

    def may_hold(self, name: str) -> bool:
        """Whether the name may have been added; False is certain."""
        first, second = _positions(name, self._size)
        bits = self._bits
        return bool(bits[first >> 3] & 128 >> (first & 7) and bits[second >> 3] & 128 >> (second & 7))

    def add(self, names: Iterable[str]) -> None:
        """Remember the names."""
        bits, lately = self._bits, self._new
        for name in names:
            if name not in lately and name not in self._old:
                for position in _positions(name, self._size):
                    bits[position >> 3] |= 128 >> (position & 7)
            lately.add(name)
        if len(lately) >= LATELY_MAX:
            self._old, self._new = lately, set()


def _positions(name: str, size: int) -> tuple[int, int]:
    """The two bits that stand for a name; the same as `query` computes."""
    number = int.from_bytes(md5(name.encode(), usedforsecurity=False).digest()[8:], "little")
    return number % size, number // size % size
