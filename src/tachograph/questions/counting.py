"""What was used and what it cost, in total and by anything that a call has: the numbers of every page and report."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, tzinfo
from typing import Any, Final
from zoneinfo import ZoneInfo

from msgspec import Struct, field

from tachograph.errors import QueryError
from tachograph.scan import Agg, Bucket, Condition, Match, Reader, Scan

# What calls can be counted by: the name that people type -> the column of calls.
DIMENSIONS: Final[dict[str, str]] = {
    "agent": "agent",
    "subagent": "subagent",
    "model": "model",
    "provider": "provider",
    "session": "session_id",
    "project": "project",
    "channel": "channel",
    "user": "user",
    "team": "team",
    "host": "host",
    "repository": "repository",
    "branch": "branch",
    "environment": "environment",
    "tenant": "tenant",
    "operation": "operation",
}
# And by time: the width of the bucket -> how its start is written.
TIMES: Final[dict[str, str]] = {"hour": "%Y-%m-%d %H:00", "day": "%Y-%m-%d", "week": "%G-W%V", "month": "%Y-%m"}

# Counter of a tally -> column of calls that it sums.
_TOKENS: Final[dict[str, str]] = {
    "input_tokens": "input_tokens",
    "cache_read_tokens": "cache_read_tokens",
    "cache_write_tokens": "cache_write_tokens",
    "output_tokens": "output_tokens",
    "reasoning_tokens": "reasoning_tokens",
}
_FACTS: Final = ("status", "usage_status", "is_cut_short", "cost_kind", "is_notional")


class Tally(Struct):
    """Calls added up. `tokens` and `cost_nanousd` hold what is known; what is not is counted beside them."""

    calls: int = 0
    failed_calls: int = 0
    aborted_calls: int = 0
    partial: int = 0
    unpriced_calls: int = 0
    tokens: dict[str, int] = field(default_factory=dict)
    cost_nanousd: dict[str, int] = field(default_factory=dict)
    first_ns: int | None = None
    last_ns: int | None = None

    def add(self, group: dict[str, Any]) -> None:
        """Add one group of calls that agree in status, usage status and kind of cost."""
        count = group["count"]
        is_ok = group["status"] == "ok"
        self.calls += count if is_ok else 0
        self.failed_calls += 0 if is_ok else count
        self.aborted_calls += count if group["status"] == "aborted" else 0
        self.partial += count if is_ok and (group["usage_status"] != "reported" or group["is_cut_short"]) else 0
        self._add_cost(group, is_ok)
        for name in _TOKENS:
            if group[name] is not None:
                self.tokens[name] = self.tokens.get(name, 0) + int(group[name])
        self.first_ns = min((t for t in (self.first_ns, group["first_ns"]) if t), default=None)
        self.last_ns = max((t for t in (self.last_ns, group["last_ns"]) if t), default=None)

    def _add_cost(self, group: dict[str, Any], is_ok: bool) -> None:
        if group["cost_kind"] == "":
            # A failed call that used no tokens anyone knows of has nothing to price.
            self.unpriced_calls += group["count"] if is_ok or group["usage_status"] == "reported" else 0
            return
        kind = "notional" if group["is_notional"] else group["cost_kind"]
        self.cost_nanousd[kind] = self.cost_nanousd.get(kind, 0) + int(group["cost_nanousd"] or 0)

    def as_dict(self) -> dict[str, Any]:
        """The tally as the JSON that `usage` promises; see there."""
        return {
            "calls": self.calls,
            "failed_calls": self.failed_calls,
            "aborted_calls": self.aborted_calls,
            "partial": self.partial,
            **{name: self._known(self.tokens.get(name)) for name in _TOKENS},
            "cost_usd": self._usd(),
            "cost_billed_usd": self.cost_nanousd.get("billed", 0) / 1e9,
            "cost_source_estimate_usd": self.cost_nanousd.get("source_estimate", 0) / 1e9,
            "cost_computed_usd": self.cost_nanousd.get("computed", 0) / 1e9,
            "cost_notional_usd": self.cost_nanousd.get("notional", 0) / 1e9,
            "unpriced_calls": self.unpriced_calls,
            "first_ns": self.first_ns,
            "last_ns": self.last_ns,
        }

    def _known(self, tokens: int | None) -> int | None:
        # Nothing known of calls that went well is unknown; of no such calls it is nothing.
        return tokens if tokens is not None or self.calls else 0

    def _usd(self) -> float | None:
        if not self.cost_nanousd and self.unpriced_calls:
            return None
        return sum(self.cost_nanousd.values()) / 1e9


def usage(
    reader: Reader,
    by: str | Sequence[str] = (),
    since_ns: int | None = None,
    until_ns: int | None = None,
    where: Sequence[Condition] = (),
    timezone: str = "UTC",
) -> dict[str, Any]:
    """Count the calls that started in [since, until): `{"by", "timezone", "totals", "rows"}`.

    `by` names one or more of DIMENSIONS and TIMES; a row carries one value for each beside the same counters as the
    totals. Rows come by time, then by cost. The counters:

    `calls` went well, `failed_calls` did not (of which `aborted_calls` were cut off by the agent or its user).
    `partial`: calls that went well but whose tokens are not fully known, or in whose session more calls may be
    missing because the source is known to lose them: the sums below are short of these.
    `input_tokens` includes cache read and write, `output_tokens` includes reasoning; None where no source said.
    `cost_usd` is the sum of its four parts `cost_{billed,source_estimate,computed,notional}_usd`, where notional is
    what a subscription plan paid for, whoever named the amount; None where not one call has a price.
    `unpriced_calls` used tokens that nobody could price. `first_ns` and `last_ns`: first and last start of a call.
    """
    names = (by,) if isinstance(by, str) else tuple(by)
    conditions = _conditions(since_ns, until_ns, where)
    total = Tally()
    rows: dict[tuple[str, ...], Tally] = {}
    label = _labels(names, timezone)
    for group in _groups(reader, names, conditions, timezone):
        total.add(group)
        if names:
            rows.setdefault(label(group), Tally()).add(group)
    listed = [dict(zip(names, key, strict=True)) | tally.as_dict() for key, tally in rows.items()]
    times = [name for name in names if name in TIMES]
    listed.sort(key=lambda row: (-(row["cost_usd"] or 0), -row["calls"], *(str(row[name]) for name in names)))
    listed.sort(key=lambda row: tuple(row[name] for name in times))
    return {"by": list(names), "timezone": timezone, "totals": total.as_dict(), "rows": listed}


def _conditions(since_ns: int | None, until_ns: int | None, where: Sequence[Condition]) -> tuple[Condition, ...]:
    since = (Match("start_ns", ">=", since_ns),) if since_ns is not None else ()
    until = (Match("start_ns", "<", until_ns),) if until_ns is not None else ()
    return (*since, *until, *where)


def _groups(
    reader: Reader, names: Sequence[str], where: tuple[Condition, ...], timezone: str
) -> Iterable[dict[str, Any]]:
    """Calls grouped by the dimensions and by the facts that decide how they count."""
    keys = {f"by_{name}": _selected(name, timezone) for name in names}
    select: dict[str, str | Agg | Bucket] = {
        **keys,
        **{fact: fact for fact in _FACTS},
        "count": Agg("count"),
        **{name: Agg("sum", column) for name, column in _TOKENS.items()},
        "cost_nanousd": Agg("sum", "cost_nanousd"),
        "first_ns": Agg("min", "start_ns"),
        "last_ns": Agg("max", "start_ns"),
    }
    if "session" not in names or _has_named_sessions(where):
        return reader.scan(Scan("calls", select, where, (*keys, *_FACTS))).rows()
    # A call that names no session belongs to the session of its trace, as the sessions table has it.
    named = Scan("calls", select, (*where, Match("session_id", "!=", "")), (*keys, *_FACTS))
    by_trace = select | {"by_session": "trace_id"}
    unnamed = Scan("calls", by_trace, (*where, Match("session_id", "=", "")), (*keys, *_FACTS))
    found = reader.scan(unnamed).rows()
    for group in found:
        group["by_session"] = f"trace:{group['by_session']}" if group["by_session"] else ""
    return [*reader.scan(named).rows(), *found]


def _has_named_sessions(where: tuple[Condition, ...]) -> bool:
    """Whether only calls that name one of these sessions are asked for."""
    return any(
        isinstance(match, Match) and match.column == "session_id" and match.op == "in"
        and isinstance(match.value, list) and "" not in match.value
        for match in where
    )  # fmt: skip


def _selected(name: str, timezone: str) -> str | Bucket:
    if name in TIMES:
        return Bucket("start_ns", name, timezone)
    if name in DIMENSIONS:
        return DIMENSIONS[name]
    raise QueryError(
        f'by: got "{name}"; expected one of {", ".join((*TIMES, *DIMENSIONS))}', "tachograph usage --by day,model"
    )


def _labels(names: Sequence[str], timezone: str) -> Callable[[dict[str, Any]], tuple[str, ...]]:
    """How to read a group's values off as text."""
    zone = zone_of(timezone)

    def label(group: dict[str, Any]) -> tuple[str, ...]:
        return tuple(
            _time(group[f"by_{name}"], TIMES[name], zone) if name in TIMES else group[f"by_{name}"] for name in names
        )

    return label


def zone_of(timezone: str) -> tzinfo:
    """The time zone of that name; raises QueryError for one that there is not."""
    try:
        return ZoneInfo(timezone)
    except (KeyError, ValueError, OSError) as error:
        raise QueryError(
            f'time zone: got "{timezone}"; expected a name of the time zone database', "Europe/Berlin, or UTC"
        ) from error


def bucket_name(start_ns: int | None, pattern: str, timezone: str) -> str:
    """The name of a bucket that begins then, by a pattern of TIMES."""
    return _time(start_ns, pattern, zone_of(timezone))


def _time(start_ns: int | None, pattern: str, zone: tzinfo) -> str:
    return "" if start_ns is None else datetime.fromtimestamp(start_ns // 1_000_000_000, zone).strftime(pattern)
