"""Two periods side by side: the counters of `usage` of each, and what changed between them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from tachograph.questions.activity import activity
from tachograph.questions.counting import usage
from tachograph.scan import Condition, Reader

COUNTERS: Final = (
    "calls", "failed_calls", "input_tokens", "cache_read_tokens", "cache_write_tokens", "output_tokens",
    "reasoning_tokens", "cost_usd", "cost_billed_usd", "cost_source_estimate_usd", "cost_computed_usd",
    "cost_notional_usd", "unpriced_calls",
)  # fmt: skip
_NOTHING: Final[dict[str, Any]] = dict.fromkeys(COUNTERS, 0)


class Side(NamedTuple):
    """One period: [since, until) in nanoseconds."""

    since_ns: int
    until_ns: int


def compare(
    reader: Reader,
    by: str,
    earlier: Side,
    later: Side,
    where: Sequence[Condition] = (),
    alive: Sequence[Condition] = (),
) -> dict[str, Any]:
    """`{"totals", "rows"}`, each counter as [earlier, later, difference]; a row for each value of the dimension.

    What was there in one of the periods alone has 0 in the other; a difference to what is unknown is None. The totals
    have the counts of `activity` as well, of the sessions that `alive` chooses. Rows: the largest change of cost first.
    """
    told = [usage(reader, by, side.since_ns, side.until_ns, where) for side in (earlier, later)]
    went_on = [activity(reader, side.since_ns, side.until_ns, alive) for side in (earlier, later)]
    first, second = ({row[by]: row for row in one["rows"]} for one in told)
    rows = [
        {by: name, **_changes(first.get(name, _NOTHING), second.get(name, _NOTHING), COUNTERS)}
        for name in dict.fromkeys((*second, *first))
    ]
    rows.sort(key=lambda row: (-abs(row["cost_usd"][2] or 0), -abs(row["calls"][2] or 0), row[by]))
    totals = _changes(told[0]["totals"], told[1]["totals"], COUNTERS) | _changes(
        went_on[0], went_on[1], tuple(went_on[0])
    )
    return {"totals": totals, "rows": rows}


def _changes(first: dict[str, Any], second: dict[str, Any], names: Sequence[str]) -> dict[str, list[Any]]:
    return {name: [first[name], second[name], _difference(first[name], second[name])] for name in names}


def _difference(first: float | None, second: float | None) -> float | None:
    return None if first is None or second is None else second - first
