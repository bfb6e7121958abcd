"""Two periods side by side: what was used and what it cost in each, in total and by model, agent or project."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple

from starlette.requests import Request
from starlette.responses import Response

from tachograph.questions.comparing import COUNTERS, Side, compare
from tachograph.web import exporting, units
from tachograph.web.asking import Asked, term
from tachograph.web.pages.overview import LEAST, SPLITS, nanousd
from tachograph.web.rendering import Site, render

_NANO: Final = 1_000_000_000
_ROWS_SHOWN: Final = 200
# Key of the totals -> what it is called and how it is written.
TOTALS: Final = {
    "calls": ("calls", "count"),
    "failed_calls": ("failed", "count"),
    "sessions": ("sessions", "count"),
    "prompts": ("prompts", "count"),
    "tool_runs": ("tool runs", "count"),
    "tool_errors": ("tool errors", "count"),
    "input_tokens": ("input tokens", "tokens"),
    "cache_read_tokens": ("of it cache read", "tokens"),
    "cache_write_tokens": ("of it cache write", "tokens"),
    "output_tokens": ("output tokens", "tokens"),
    "reasoning_tokens": ("of it reasoning", "tokens"),
    "cost_usd": ("cost", "money"),
    "cost_billed_usd": ("of it billed", "money"),
    "cost_source_estimate_usd": ("of it estimated", "money"),
    "cost_computed_usd": ("of it computed", "money"),
    "cost_notional_usd": ("of it covered by plans", "money"),
    "unpriced_calls": ("unpriced calls", "count"),
}
_ROW: Final = ("calls", "input_tokens", "output_tokens", "cost_usd")


class Shown(NamedTuple):
    """A period as the page names it, and as links to what is behind its numbers do."""

    side: Side
    words: str  # days, as the address and the form write them
    start: str
    end: str


def compared(site: Site, request: Request) -> Response:
    """The page; `?a=` and `?b=` are periods (`2026-11-01..2026-11-07`), `?by=`, `?q=` and `?format=` as everywhere."""
    sequence = site.reader.sequence()
    asked = Asked(site, request)
    split = asked.choice("by", SPLITS, "model")
    earlier, later = _sides(asked)
    told = compare(site.reader, split, earlier.side, later.side, asked.where("calls"), asked.where("sessions"))
    if exporting.wanted(asked):
        columns = [split, *(f"{key}_{at}" for key in COUNTERS for at in "ab")]
        return exporting.file_of(asked, "compared", columns, _flat(told["rows"], split))
    totals = [
        {"name": name, "key": key, "unit": unit} | _cells(told["totals"][key], unit)
        for key, (name, unit) in TOTALS.items()
        if key in ("calls", "sessions", "cost_usd") or any(told["totals"][key][:2])
    ]
    rows = [{"name": row[split]} | {key: _cells(row[key], TOTALS[key][1]) for key in _ROW} for row in told["rows"]]
    return render(
        site, request, "compare.html",
        sequence=sequence, look=asked.look, asked=asked, split=split, splits=SPLITS, sides=(earlier, later),
        totals=totals, rows=rows[:_ROWS_SHOWN], more=max(0, len(rows) - _ROWS_SHOWN), row_keys=_ROW, names=TOTALS,
        term=term,
    )  # fmt: skip


def _sides(asked: Asked) -> tuple[Shown, Shown]:
    """The periods of the address; by default the page's range, and the one of the same length just before."""
    now = datetime.fromtimestamp(asked.look.now_ns / _NANO, asked.look.zone)
    later = _days(asked.params.get("b", ""), now)
    if later is None:
        days = asked.range.days or 30
        midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
        later = (midnight - timedelta(days=days - 1), midnight + timedelta(days=1))
    earlier = _days(asked.params.get("a", ""), now)
    if earlier is None:
        earlier = (later[0] - (later[1].replace(tzinfo=None) - later[0].replace(tzinfo=None)), later[0])
    return _shown(*earlier), _shown(*later)


def _days(text: str, now: datetime) -> tuple[datetime, datetime] | None:
    """`2026-11-01..2026-11-07`, both days included; None for anything else."""
    first, dots, last = text.partition("..")
    try:
        start, end = datetime.fromisoformat(first), datetime.fromisoformat(last if dots else first)
        if start.tzinfo or end.tzinfo or not 1970 < start.year <= end.year < 2200 or start > end:
            return None
        return start.replace(tzinfo=now.tzinfo), end.replace(tzinfo=now.tzinfo) + timedelta(days=1)
    except ValueError:
        return None


def _shown(start: datetime, end: datetime) -> Shown:
    side = Side(int(start.timestamp()) * _NANO, int(end.timestamp()) * _NANO)
    return Shown(side, f"{start:%Y-%m-%d}..{end - timedelta(days=1):%Y-%m-%d}", start.isoformat(), end.isoformat())


def _cells(values: list[Any], unit: str) -> dict[str, Any]:
    """A counter's two values and its change, as a difference and (`part`) against what was before."""
    first, second, change = (nanousd(value) if unit == "money" else value for value in values)
    return {"first": first, "second": second, "change": change, "part": units.change(second, first, least=LEAST[unit])}


def _flat(rows: list[dict[str, Any]], split: str) -> list[dict[str, Any]]:
    return [
        {split: row[split]}
        | {f"{key}_{at}": value for key in row if key != split for at, value in zip("ab", row[key], strict=False)}
        for row in rows
    ]
