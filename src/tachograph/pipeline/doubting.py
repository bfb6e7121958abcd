"""Finds out whether a destination is down or a record is what it cannot take, where its answer may mean either."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from msgspec import Struct

from tachograph.errors import Busy
from tachograph.forwarders.contract import Part

FAILURES_MAX: Final = 3  # of the same request: then it is taken apart
PROBES_MAX: Final = 3  # requests in a row of which none was taken: then it is the destination, for now
_ELSEWHERE: Final = 2  # after so many a request with other records says more than a smaller one with these


def is_doubtful(error: Busy) -> bool:
    """Whether it may be the request that is at fault: gateways that have nobody behind them say 502, 503 and 504."""
    return error.status >= 500 and error.status not in (502, 503, 504)


class Piece(Struct):
    """Records that travel in one request; `is_suspect`: they were in one that failed."""

    route: str
    parts: list[Part]
    is_suspect: bool = True
    has_failed: bool = False  # since the last wait
    failures: int = 0


class _Alone(Struct):
    """One record in a request of its own."""

    part: Part
    takes_before: int  # requests that were taken before it failed first
    failures: int = 0


class Doubt:
    """A request that failed again and again, in ever smaller pieces, and others to compare it with.

    A record alone is at fault when another request is taken after it has failed, and there was no wait in between or
    it fails once more. Where nothing is left that could be taken, what was taken before counts, for one record each.
    """

    def __init__(self, route: str, parts: list[Part], error: Busy, parts_max: int, bytes_max: int) -> None:
        self.route = route
        self.error = error
        self.in_row = 0
        self.waits = 0  # since there was nothing left to try
        self.pieces = [Piece(route, parts, has_failed=True)]
        self._takes = 0
        self._credit = 0  # requests that were taken, each good for one that fails alone for ever after that
        self._alone: dict[int, _Alone] = {}  # by id
        self._bounds = parts_max, bytes_max
        self._is_joined = self._is_first = False

    def begin(self) -> None:
        """After a wait nothing is known: it may have been down."""
        self.in_row, self._is_joined, self._is_first = 0, False, True
        for piece in self.pieces:
            piece.has_failed = False

    def pick(self) -> Piece | None:
        """What says most when it is sent next, None = what is not here yet."""
        if self.in_row < _ELSEWHERE:
            return self.pick_any()
        others = [piece for piece in self.pieces if not piece.is_suspect and not piece.has_failed]
        return others[-1] if others else None

    def pick_any(self) -> Piece | None:
        """The first that was not tried, or half of one that failed; None = all is tried, one by one."""
        untried = [piece for piece in self.pieces if not piece.has_failed]
        if untried and self._is_first:  # in order, where it was down and is not any more
            self._is_first = False
            return untried[0]
        if untried:
            piece = min(untried, key=lambda one: one.failures)
            return self.halve(piece) if piece.failures and len(piece.parts) > 1 else piece
        for piece in self.pieces:
            if len(piece.parts) > 1:
                return self.halve(piece)
        return None

    def add(self, route: str, parts: list[Part]) -> Piece:
        """Have another request to compare with."""
        self.pieces.append(Piece(route, parts, is_suspect=False))
        return self.pieces[-1]

    def halve(self, piece: Piece) -> Piece:
        """Put two pieces in the place of one; the first of them."""
        at, middle = self.pieces.index(piece), len(piece.parts) // 2
        halves = [Piece(piece.route, piece.parts[:middle]), Piece(piece.route, piece.parts[middle:])]
        self.pieces[at : at + 1] = halves
        return halves[0]

    def failed(self, piece: Piece, error: Busy) -> bool:
        """It was sent, and may be at fault; whether it is."""
        piece.has_failed = piece.is_suspect = True
        piece.failures += 1
        self.in_row += 1
        self.error = error
        if len(piece.parts) > 1:
            return False
        (part,) = piece.parts
        alone = self._alone.setdefault(id(part), _Alone(part, self._takes))
        alone.failures += 1
        is_guilty = alone.takes_before < self._takes
        if not is_guilty and alone.failures >= FAILURES_MAX and self._credit:
            self._credit -= 1
            is_guilty = True
        if is_guilty:
            self.pieces.remove(piece)
        return is_guilty

    def taken(self, piece: Piece) -> list[Piece]:
        """It was sent and is at its place: those that are at fault, and so need not be tried again."""
        guilty = [one for one in self.pieces if one.has_failed and len(one.parts) == 1]
        self.in_row = 0
        self._takes += 1
        self._credit += 1
        self.pieces = [one for one in self.pieces if one is not piece and one not in guilty]
        if not self._is_joined:  # after an outage in one go, as before it
            self._is_joined, self.pieces = True, _joined(self.pieces, *self._bounds)
        return guilty


def _joined(pieces: Sequence[Piece], parts_max: int, bytes_max: int) -> list[Piece]:
    """With those that were not tried and lie side by side in one piece, within the bounds."""
    found: list[Piece] = []
    for piece in pieces:
        last = found[-1] if found else piece
        parts = [*last.parts, *piece.parts]
        is_alike = last.route == piece.route and last.is_suspect and piece.is_suspect
        is_untried = found and not last.has_failed and not piece.has_failed
        is_small = len(parts) <= parts_max and sum(part.size_bytes for part in parts) <= bytes_max
        if is_alike and is_untried and is_small:
            found[-1] = Piece(piece.route, parts)
        else:
            found.append(piece)
    return found
