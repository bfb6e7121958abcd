"""In which commits the records of traces are: a scan bounded by them skips all others, however many there are."""

from __future__ import annotations

from typing import Any, Final

from tachograph.scan import Agg, Condition, Match, Reader, Scan

_TRACES_MANY: Final = 500  # from here on the store finds the traces of a session itself


def in_trace(reader: Reader, trace_id: str) -> tuple[Condition, ...]:
    """What lies in a trace."""
    own = Match("trace_id", "=", trace_id)
    return own, *_bounds(reader, own, 1)


def in_traces(reader: Reader, session_id: str) -> tuple[Condition, ...]:
    """What lies in the traces of a session; nothing where it has none."""
    where = (Match("session_id", "=", session_id), Match("trace_id", "!=", ""))
    traces = Scan("trace_sessions", {"trace_id": "trace_id"}, where)
    found = reader.scan(traces).data["trace_id"]
    if not found:
        return ()
    is_any = Match("trace_id", "in", found if len(found) < _TRACES_MANY else traces)
    return is_any, *_bounds(reader, where[0], len(set(found)))


def _bounds(reader: Reader, where: Match, traces: int) -> tuple[Condition, ...]:
    """Conditions on `seq` that every span, event and report of these traces meets; none where nothing is known.

    What is not settled yet has no parts, so that only the first commit is sure while anything waits for settlement.
    """
    settled = reader.scan(Scan("meta", {"value": "value"}, (Match("key", "=", "settled_seq"),))).data["value"]
    keys = Scan("trace_sessions", {"trace_key": "trace_key"}, (where,))
    select: dict[str, Any] = {
        "traces": Agg("count_distinct", "trace_key"),
        "first": Agg("min", "first_seq"),
        "last": Agg("max", "last_seq"),
    }
    found = reader.scan(Scan("trace_parts", select, (Match("trace_key", "in", keys),))).rows()[0]
    if found["traces"] < traces:
        return ()
    first = Match("seq", ">=", found["first"])
    is_settled = bool(settled) and int(settled[0]) >= reader.sequence()
    return (first, Match("seq", "<=", found["last"])) if is_settled else (first,)
