"""What the page of a trace shows, made once for each state that the trace is in and kept for the next who asks."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, Final

import msgspec
from msgspec import Struct, field

from tachograph.scan import Agg, Match, Reader, Scan
from tachograph.tree import Node, Totals

KEPT_ROWS: Final = 200_000  # of all traces together; a row is about 80 bytes

State = tuple[Any, ...]
_RECORDS: Final[dict[str, Any]] = {"n": Agg("count"), "last": Agg("max", "seq")}


class Shown(Struct):
    """What a page says of a trace; its nodes stand for themselves, without those below them."""

    nodes: int
    noise: int
    is_cut: bool
    totals: Totals
    start_ns: int
    end_ns: int
    title: str
    first_rows: list[dict[str, Any]]
    errors: dict[str, Any]
    waited: dict[str, Any]
    rows: bytes
    ids: bytes  # of the rows, where these come without; b"" = they come with theirs


class KeptTraces(Struct, frozen=True):
    """The last traces shown. Two that ask for the same one at the same time wait for one tree."""

    shown: dict[str, tuple[State, Shown]] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def get(self, trace_id: str, state: State) -> Shown | None:
        """What is kept of a trace in just this state."""
        kept = self.shown.get(trace_id)
        return kept[1] if kept is not None and kept[0] == state else None

    def make(self, trace_id: str, state: State, make: Callable[[], Shown | None]) -> Shown | None:
        """What is kept, else what is made now; None where there is no such trace."""
        with self.lock:
            found = self.get(trace_id, state)
            if found is None:
                found = make()
            if found is not None:
                self.shown.pop(trace_id, None)
                self.shown[trace_id] = state, found  # the newest stand last
                self._forget()
            return found

    def _forget(self) -> None:
        rows = sum(shown.nodes for _, shown in self.shown.values())
        for trace_id in list(self.shown)[:-1]:
            if rows <= KEPT_ROWS:
                break
            rows -= self.shown.pop(trace_id)[1].nodes


def spans_of(reader: Reader, trace_id: str) -> State:
    """How many spans a trace has, and the last and the first commit that any of them came with."""
    where = (Match("trace_id", "=", trace_id),)
    return tuple(reader.scan(Scan("spans", _RECORDS | {"first": Agg("min", "seq")}, where)).rows()[0].values())


def state_of(reader: Reader, trace_id: str, spans: State) -> State:
    """What tells one state of a trace from another, beginning with `spans_of` it; no row is read for it."""
    where = (Match("trace_id", "=", trace_id),)
    spent = {name: Agg("sum", name) for name in ("cost_nanousd", "input_tokens", "output_tokens", "end_ns")}
    found = reader.scan(Scan("events", dict(_RECORDS), where)).rows()
    found += reader.scan(Scan("calls", _RECORDS | spent, where)).rows()
    return (*spans, *(value for row in found for value in row.values()))


def alone(node: Node) -> Node:
    """A copy of a node without those below it: whoever keeps it keeps no tree."""
    return msgspec.structs.replace(node, children=[])
