"""Tells names that were certainly never kept from those that may have been, within bounded memory."""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import md5


class Seen:
    """The names added last, and a Bloom filter of all of them.

    Agents resend their history on every call, so most names were met lately; of the others nearly all are new. Only
    what is neither has to be looked up in the table. `size` is that of the filter in bits, `lately_max` how many names
    are added before the oldest are forgotten: twice as many at most are held.
    """

    def __init__(self, size: int, lately_max: int, bits: bytes = b"") -> None:
        self._size = size
        self._lately_max = lately_max
        self._bits = bytearray(bits) if bits else bytearray(size // 8)
        self._new: set[str] = set()
        self._old: set[str] = set()

    @staticmethod
    def query(table: str, column: str, size: int, condition: str = "true") -> str:
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
        if len(lately) >= self._lately_max:
            self._old, self._new = lately, set()


def _positions(name: str, size: int) -> tuple[int, int]:
    """The two bits that stand for a name; the same as `query` computes."""
    number = int.from_bytes(md5(name.encode(), usedforsecurity=False).digest()[8:], "little")
    return number % size, number // size % size
