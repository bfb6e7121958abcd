"""The first steps of a long trace, in the order of its tree and made in a part of the time that the whole takes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from msgspec import Struct

from tachograph.scan import Condition, Match, Reader, Scan
from tachograph.tree import commits
from tachograph.tree.growth import SPAN_LIMIT, Growth
from tachograph.tree.nodes import Node, Tree

_INNER_MANY: Final = 10  # so many times the steps wanted are looked at: a trace may begin with inner ones alone
_PLACES: Final = {name: name for name in ("span_id", "parent_id", "start_ns", "end_ns", "is_noise")}
_ORDER: Final = (("start_ns", False), ("end_ns", False), ("span_id", False))


class Beginning(Struct):
    """The tree of the first steps alone; of the whole trace are `spans` and the times."""

    tree: Tree
    spans: int
    start_ns: int
    end_ns: int


def beginning(reader: Reader, trace_id: str, steps: int, between: tuple[int, int] | None = None) -> Beginning:
    """The first spans of a trace as its tree has them, with the calls that they reported.

    `between` are the first and the last commit of its spans, for who knows them already: then they are not looked up.

    Where all of a trace stands below itself, or it has none, there are none. What events tell is left out, and an end
    that follows from steps below is that of those that came.
    """
    where: tuple[Condition, ...]
    if between is None:
        where = commits.in_trace(reader, trace_id)
    else:
        where = (Match("trace_id", "=", trace_id), Match("seq", ">=", between[0]), Match("seq", "<=", between[1]))
    asked = Scan("spans", dict(_PLACES), where, order_by=_ORDER, limit=SPAN_LIMIT)
    places = reader.scan(asked).data
    growth = Growth(Node(id="", name=trace_id))
    if chosen := _first(places, steps):
        only = Match("span_id", "in", chosen)
        growth.spans(reader, ((*where, only),), has_texts=False)
        growth.calls(reader, (where[0], only), (*where, only))
    starts = [start_ns for start_ns in places["start_ns"] if start_ns]
    start_ns = min(starts, default=0)
    end_ns = max((end_ns for end_ns in places["end_ns"] if end_ns), default=0)
    return Beginning(growth.tree(trace_id), len(places["span_id"]), start_ns, max(end_ns, start_ns + 1))


def _first(places: dict[str, list[Any]], steps: int) -> Sequence[str]:
    """The ids of the first spans, parents before what stands below them, each in time."""
    ids, inner = places["span_id"], places["is_noise"]
    known = set(ids)
    below: dict[str, list[int]] = {}
    for row, parent in enumerate(places["parent_id"]):
        below.setdefault(parent if parent in known else "", []).append(row)
    found: dict[str, None] = {}
    stack = below.get("", [])[::-1]
    most = steps * _INNER_MANY
    while stack and steps > 0 and len(found) < most:
        row = stack.pop()
        if ids[row] not in found:
            found[ids[row]] = None
            steps -= not inner[row]
            stack += below.get(ids[row], [])[::-1]
    return list(found)
