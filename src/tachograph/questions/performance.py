"""How fast and how reliably models answered: latency, time to the first token, tokens per second, errors, fallbacks."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

from tachograph.questions.counting import DIMENSIONS, TIMES, Tally, usage, zone_of
from tachograph.scan import Agg, Bucket, Condition, Field, Match, Reader, Scan

_QUANTILES: Final = {"p50": 0.5, "p95": 0.95, "p99": 0.99}
# claude-sonnet-4-5 and claude-sonnet-4-5-20250929, gpt-5 and gpt-5-2025-08-07, -latest: one model under two names.
_DATED: Final = re.compile(r"-(?:\d{8}|\d{4}-\d{2}-\d{2}|latest|\d{3})$")


def performance(
    reader: Reader,
    by: str,
    since_ns: int | None = None,
    until_ns: int | None = None,
    where: Sequence[Condition] = (),
) -> list[dict[str, Any]]:
    """The rows of `usage` by a dimension, with how its calls performed.

    Of calls that went well: `p50_ns`, `p95_ns`, `p99_ns` of their duration, `ttft_p50_ns` and `ttft_p95_ns` where
    sources tell it, `tokens_per_s` (output tokens by the duration of the calls that have both), `cost_per_call_nanousd`
    and `cache_share` (of input tokens). `errors`: (what went wrong, how often), the most frequent first.
    """
    rows = usage(reader, by, since_ns, until_ns, where)["rows"]
    column = DIMENSIONS[by]
    period = _period(since_ns, until_ns)
    fast = {row["name"]: row for row in _latencies(reader, column, (*period, *where))}
    wrong = _errors(reader, column, (*period, *where))
    return [row | _figures(row, fast.get(row[by])) | {"errors": wrong.get(row[by], [])} for row in rows]


def unmeasured(by: str) -> dict[str, Any]:
    """The row of `performance` of no calls: every key that a row has."""
    row: dict[str, Any] = {by: ""} | Tally().as_dict()
    return row | _figures(row, None) | {"errors": []}


def over_time(
    reader: Reader,
    width: str,
    since_ns: int | None = None,
    until_ns: int | None = None,
    where: Sequence[Condition] = (),
    timezone: str = "UTC",
) -> dict[str, dict[str, Any]]:
    """Bucket, as `usage` names it -> the counters of `usage` and the latencies of `performance` in it.

    Buckets without calls are left out; latencies are None where nothing was measured.
    """
    rows = usage(reader, width, since_ns, until_ns, where, timezone)["rows"]
    asked = (*_period(since_ns, until_ns), *where)
    zone, pattern = zone_of(timezone), TIMES[width]
    fast = {
        datetime.fromtimestamp(row["name"] // 1_000_000_000, zone).strftime(pattern): row
        for row in _latencies(reader, Bucket("start_ns", width, timezone), asked)
        if row["name"] is not None
    }
    return {row[width]: row | _speed_figures(fast.get(row[width])) for row in rows}


def _speed_figures(fast: dict[str, Any] | None) -> dict[str, Any]:
    return {
        **{f"{name}_ns": fast[name] if fast else None for name in _QUANTILES},
        **{f"ttft_{name}_ns": fast[f"ttft_{name}"] if fast else None for name in ("p50", "p95")},
    }


def _figures(row: dict[str, Any], fast: dict[str, Any] | None) -> dict[str, Any]:
    priced = row["calls"] - row["unpriced_calls"]
    seconds = (fast["output_ns"] or 0) / 1e9 if fast else 0
    return {
        **_speed_figures(fast),
        "tokens_per_s": fast["output_tokens"] / seconds if fast and seconds else None,
        "cost_per_call_nanousd": round(row["cost_usd"] * 1e9 / priced) if row["cost_usd"] and priced > 0 else None,
        "cache_share": row["cache_read_tokens"] / row["input_tokens"]
        if row["cache_read_tokens"] is not None and row["input_tokens"]
        else None,
    }


def _period(since_ns: int | None, until_ns: int | None) -> tuple[Condition, ...]:
    since = (Match("start_ns", ">=", since_ns),) if since_ns is not None else ()
    return (*since, Match("start_ns", "<", until_ns)) if until_ns is not None else since


def _latencies(reader: Reader, column: str | Bucket, where: tuple[Condition, ...]) -> list[dict[str, Any]]:
    select: dict[str, Any] = {"name": column}
    select |= {name: Agg("quantile", "duration_ns", part) for name, part in _QUANTILES.items()}
    select |= {f"ttft_{name}": Agg("quantile", "ttft_ns", _QUANTILES[name]) for name in ("p50", "p95")}
    answered = (Match("output_tokens", ">", 0),)
    select |= {"output_tokens": Agg("sum", "output_tokens", where=answered)}
    select |= {"output_ns": Agg("sum", "duration_ns", where=answered)}
    # A duration of 0 is one that nobody measured: a log line with one time.
    asked = (*where, Match("status", "=", "ok"), Match("duration_ns", ">", 0))
    rows = reader.scan(Scan("calls", select, asked, ("name",))).rows()
    return [{k: round(v) if isinstance(v, float) else v for k, v in row.items()} for row in rows]


def _errors(reader: Reader, column: str, where: tuple[Condition, ...]) -> dict[str, list[tuple[str, int]]]:
    select: dict[str, Any] = {"name": column, "status": "status", "type": "error_type", "http": "http_status"}
    select["n"] = Agg("count")
    failed = Match("status", "!=", "ok")
    found: dict[str, dict[str, int]] = {}
    keys = ("name", "status", "type", "http")
    for row in reader.scan(Scan("calls", select, (*where, failed), keys)).rows():
        kind = "aborted" if row["status"] == "aborted" else row["type"] or str(row["http"] or "") or "unknown"
        kinds = found.setdefault(row["name"], {})
        kinds[kind] = kinds.get(kind, 0) + row["n"]
    return {name: sorted(kinds.items(), key=lambda kind: (-kind[1], kind[0])) for name, kinds in found.items()}


def fallbacks(
    reader: Reader, since_ns: int | None = None, until_ns: int | None = None, where: Sequence[Condition] = ()
) -> list[dict[str, Any]]:
    """Calls that another model answered than was asked for: requested, served, how many, what they cost.

    A date or `-latest` behind a name is the same model.
    """
    select: dict[str, Any] = {"requested": "request_model", "served": "response_model", "calls": Agg("count")}
    select |= {"cost_nanousd": Agg("sum", "cost_nanousd"), "last_ns": Agg("max", "start_ns")}
    told = (Match("request_model", "!=", ""), Match("response_model", "!=", ""))
    other = Match("request_model", "!=", Field("response_model"))
    asked = (*_period(since_ns, until_ns), *where, *told, other)
    rows = reader.scan(Scan("calls", select, asked, ("requested", "served"), (("calls", True),))).rows()
    return [row for row in rows if plain_model(row["requested"]) != plain_model(row["served"])]


def plain_model(name: str) -> str:
    """A model's name without its provider's prefix, date or `-latest`."""
    return _DATED.sub("", name.rpartition("/")[2].lower())
