"""How a session went as charts: what it cost as it went on, how its context filled, and when things ran."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import tzinfo
from typing import Any, Final

from markupsafe import Markup
from msgspec import Struct

from tachograph.pricing import context_window
from tachograph.questions import Course
from tachograph.web import units
from tachograph.web.plots import Plot, Series, plot, rounded
from tachograph.web.rendering import path_of

PLACES_MAX: Final = 240  # of a chart: more calls than that share places
_NANO: Final = 1e9
_MARKED: Final = {
    "compaction": "compaction", "model": "model switch", "cache": "cache break", "aborted": "aborted",
}  # fmt: skip
_KINDS: Final = {
    "billed": ("billed", "2"), "source_estimate": ("agent's estimate", "0"), "computed": ("computed", "1"),
    "notional": ("plan, not spent", "3"),
}  # fmt: skip
_SHOWN_SHARE: Final = 4  # a window more than so many times the peak would press the line flat: told in words alone


class Charts(Struct):
    """The charts of a session that has more than one call; `cost` and `context` are None where nothing is known."""

    cost: Markup | None
    context: Markup | None
    told: str  # how full the context was, in words
    kind: str  # of all amounts of the cost, "" = of several kinds, and then each is a line of its own


def charts(course: Course, zone: tzinfo) -> Charts:
    """The charts of a session's course."""
    kind = _kind(course.calls)
    if len(course.calls) < 2:
        return Charts(None, None, _fill(course.calls), kind)
    cost = _drawn(course, course.calls, zone, _cost)
    sized = [call for call in course.calls if call["input_tokens"] is not None]  # others would tear the line
    context = _drawn(course, sized, zone, _context)
    return Charts(
        plot(cost, "cost as it added up, call by call") if cost else None,
        plot(context, "tokens of the context, call by call") if context else None,
        _fill(course.calls),
        kind,
    )


_Draw = Callable[[list[list[dict[str, Any]]], list[str], list[str]], Plot | None]


def _drawn(course: Course, calls: list[dict[str, Any]], zone: tzinfo, draw: _Draw) -> Plot | None:
    places = _places(calls)
    labels = units.clock_times([place[0]["start_ns"] for place in places], zone)
    made = draw(places, labels, [path_of("calls", _biggest(place)["call_id"]) for place in places])
    if made is not None:
        made.marks = _marks(course, places)
    return made


def _kind(calls: Sequence[dict[str, Any]]) -> str:
    kinds = {_kind_of(call) for call in calls if call["cost_nanousd"]}
    return kinds.pop() if len(kinds) == 1 else ""


def _kind_of(call: dict[str, Any]) -> str:
    return "notional" if call["is_notional"] else str(call["cost_kind"])


def _places(calls: Sequence[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    size = max(1, -(-len(calls) // PLACES_MAX))
    return [list(calls[at : at + size]) for at in range(0, len(calls), size)]


def _biggest(place: Sequence[dict[str, Any]]) -> dict[str, Any]:
    return max(place, key=lambda call: call["input_tokens"] or 0)


def _cost(places: list[list[dict[str, Any]]], labels: list[str], hrefs: list[str]) -> Plot | None:
    """What was paid up to each place, one line for each kind of amount: they are never added up."""
    sums: dict[str, list[float | None]] = {}
    for at, place in enumerate(places):
        for values in sums.values():
            values.append(values[-1])
        for call in place:
            kind = _kind_of(call)
            if call["cost_nanousd"] is not None and kind in _KINDS:
                values = sums.setdefault(kind, [0.0] * (at + 1))
                values[-1] = (values[-1] or 0.0) + call["cost_nanousd"] / _NANO
    if not any(values[-1] for values in sums.values()):
        return None
    known = [kind for kind in _KINDS if kind in sums]
    series = [Series(_KINDS[kind][0], rounded(sums[kind]), _KINDS[kind][1]) for kind in known]
    return Plot("area", "dollars", labels, series, hrefs)


def _context(places: list[list[dict[str, Any]]], labels: list[str], hrefs: list[str]) -> Plot | None:
    if len(places) < 2:
        return None
    own = [_peak(place, is_own=True) for place in places]
    others = [_peak(place, is_own=False) for place in places]
    if not any(own) and not any(others):
        return None
    series = [Series("context", own, "call")]
    if any(others):
        series.append(Series("sub-agents", others, "agent"))
    windows: list[float | None] = [_window(place) for place in places]
    peak = max(value or 0 for value in (*own, *others))
    if any(windows) and max(value or 0 for value in windows) <= peak * _SHOWN_SHARE:
        series.append(Series("window", windows, "bad"))
    return Plot("line", "tokens", labels, series, hrefs, is_joined=True)  # calls of the two come in turns


def _peak(place: Sequence[dict[str, Any]], is_own: bool) -> float | None:
    sizes = [call["input_tokens"] for call in place if (not call["subagent"]) is is_own]
    return max((size for size in sizes if size is not None), default=None)


def _window(place: Sequence[dict[str, Any]]) -> int | None:
    call = _biggest(place)
    return context_window(call["provider"], call["model"])


def _marks(course: Course, places: list[list[dict[str, Any]]]) -> list[dict[str, str | int]]:
    """Where something happened: at the first call from then on; what shares a place shares its words."""
    starts = [place[-1]["start_ns"] for place in places]
    found: dict[int, list[str]] = {}
    for one in course.happenings:
        if one.kind in _MARKED:
            at = next((i for i, start in enumerate(starts) if start >= one.time_ns), len(places) - 1)
            words = _MARKED[one.kind] + (f": {one.said}" if one.said else "")
            found.setdefault(at, []).append(words[:120])
    return [
        {"at": at, "label": "; ".join(words[:3]) + (f"; {len(words) - 3} more" if len(words) > 3 else "")}
        for at, words in sorted(found.items())
    ]


def _fill(calls: Sequence[dict[str, Any]]) -> str:
    """The fullest that the context of the agent itself was, and of what."""
    own = [call for call in calls if not call["subagent"] and call["input_tokens"]]
    if not own:
        return ""
    top = _biggest(own)
    size, window = top["input_tokens"], context_window(top["provider"], top["model"])
    told = f"peak {units.tokens(size)}"
    return told + (f" of {units.tokens(window)} ({units.share(size, window)})" if window else ", window unknown")
