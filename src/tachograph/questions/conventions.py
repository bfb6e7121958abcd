"""Model calls as OpenTelemetry's GenAI conventions say them, for every source alike: spans and client metrics.

Names are those of generation B (semantic conventions 1.37 to 1.41). What the ledger merged and priced is said once,
whatever the source said twice or not at all; an amount of money has no name there and is `tachograph.cost.usd`.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable
from hashlib import blake2b
from typing import Any, Final

from tachograph.model import Point, Source, Span
from tachograph.vocabulary import RESOURCE

Row = dict[str, Any]

SCOPE: Final = "tachograph.calls"
_CLIENT: Final = 3  # OTLP SpanKind
_ERROR: Final = 2  # OTLP StatusCode
_CUMULATIVE: Final = 2  # OTLP AggregationTemporality
# Bounds as the conventions advise them for the two kinds of histogram.
TOKEN_BOUNDS: Final = tuple(4**power for power in range(14))
SECOND_BOUNDS: Final = tuple(0.01 * 2**power for power in range(14))

_ATTRIBUTES: Final = {
    "gen_ai.operation.name": "operation",
    "gen_ai.provider.name": "provider",
    "gen_ai.conversation.id": "session_id",
    "gen_ai.agent.name": "subagent",
    "gen_ai.request.model": "request_model",
    "gen_ai.response.model": "response_model",
    "gen_ai.response.id": "response_id",
    "gen_ai.usage.input_tokens": "input_tokens",
    "gen_ai.usage.output_tokens": "output_tokens",
    "gen_ai.usage.cache_read.input_tokens": "cache_read_tokens",
    "gen_ai.usage.cache_creation.input_tokens": "cache_write_tokens",
    "gen_ai.usage.reasoning.output_tokens": "reasoning_tokens",
    "http.response.status_code": "http_status",
    "enduser.id": "user",
    "tachograph.call.id": "call_id",
    "tachograph.cost.kind": "cost_kind",
}
_LABELS: Final = {
    "gen_ai.operation.name": "operation",
    "gen_ai.provider.name": "provider",
    "gen_ai.request.model": "request_model",
    "gen_ai.response.model": "response_model",
}


class Sources:
    """One Source for each distinct resource, so that records of one sender stay together."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, ...], Source] = {}

    def of(self, row: Row) -> Source:
        """The source of a call: the agent at work, where it ran and for whom."""
        key = tuple(row[column] or "" for column in RESOURCE.values())
        if key not in self._known:
            told = {name: value for name, value in zip(RESOURCE, key, strict=True) if value}
            self._known[key] = Source({"service.name": "unknown_service", **told}, scope_name=SCOPE)
        return self._known[key]


def spans(rows: Iterable[Row]) -> list[Span]:
    """One CLIENT span for each call (rows of `calls`), in the trace it was seen in, else in one of its session's own.

    Ids are the same whenever a call is asked for; a call that no span reported gets ids made of its own id.
    """
    sources = Sources()
    return [_span(row, sources.of(row)) for row in rows]


def _span(row: Row, source: Source) -> Span:
    given = ((name, row[column]) for name, column in _ATTRIBUTES.items())
    attributes = {name: value for name, value in given if value not in (None, "")}
    attributes.setdefault("gen_ai.operation.name", "chat")
    if row["finish_reason"]:
        attributes["gen_ai.response.finish_reasons"] = [row["finish_reason"]]
    if row["is_streaming"]:
        attributes["gen_ai.request.stream"] = True
    if row["ttft_ns"] is not None:
        attributes["gen_ai.response.time_to_first_chunk"] = row["ttft_ns"] / 1e9
    if row["cost_nanousd"] is not None:
        attributes["tachograph.cost.usd"] = row["cost_nanousd"] / 1e9
    if (error := _error_type(row)) is not None:
        attributes["error.type"] = error
    end_ns = row["end_ns"] or row["start_ns"] or 0
    return Span(
        source,
        trace_id=row["trace_id"] or _id(row["session_id"] or row["call_id"], 16),
        span_id=_id(row["call_id"], 8),
        parent_id=row["span_id"],
        name=f"{attributes['gen_ai.operation.name']} {_model(row)}".strip(),
        kind=_CLIENT,
        start_ns=row["start_ns"] or end_ns,
        end_ns=end_ns,
        attributes=attributes,
        status_code=0 if error is None else _ERROR,
        status_message="" if error is None else row["error_message"],
    )


def _id(text: str, size: int) -> str:
    return blake2b(text.encode("utf-8", "replace"), digest_size=size, person=b"tachograph.call").hexdigest()


def _model(row: Row) -> str:
    return str(row["request_model"] or row["response_model"])


def _error_type(row: Row) -> str | None:
    """The conventions' error.type, None for a call that went well."""
    if row["status"] == "ok":
        return None
    return str(row["error_type"] or row["http_status"] or ("aborted" if row["status"] == "aborted" else "_OTHER"))


def points(rows: Iterable[Row]) -> list[Point]:
    """The client metrics of these calls as cumulative histograms: tokens, duration, and time to the first chunk.

    Sums of `gen_ai.client.token.usage` are those of the ledger. A number that no source told is no measurement.
    """
    sources = Sources()
    series: dict[tuple[Any, ...], _Histogram] = {}
    for row in rows:
        labels = {name: row[column] for name, column in _LABELS.items() if row[column]}
        error = _error_type(row)
        failed = labels if error is None else labels | {"error.type": error}
        for name, unit, value, told in (
            ("gen_ai.client.token.usage", "{token}", row["input_tokens"], labels | {"gen_ai.token.type": "input"}),
            ("gen_ai.client.token.usage", "{token}", row["output_tokens"], labels | {"gen_ai.token.type": "output"}),
            ("gen_ai.client.operation.duration", "s", _seconds(row["duration_ns"]), failed),
            ("gen_ai.client.operation.time_to_first_chunk", "s", _seconds(row["ttft_ns"]), labels),
        ):
            if value is not None:
                source = sources.of(row)
                key = (id(source), name, *told.items())
                if key not in series:
                    series[key] = _Histogram(source, name, unit, told)
                series[key].add(value, row["start_ns"], row["end_ns"])
    return [histogram.point() for histogram in series.values()]


def _seconds(nanoseconds: int | None) -> float | None:
    return None if nanoseconds is None else nanoseconds / 1e9


class _Histogram:
    """One series while it is counted."""

    def __init__(self, source: Source, name: str, unit: str, attributes: Row) -> None:
        bounds = SECOND_BOUNDS if unit == "s" else TOKEN_BOUNDS
        self._point = Point(
            source, name, attributes, 0, "histogram", unit, temporality=_CUMULATIVE, count=0, sum=0,
            buckets={"bounds": [float(bound) for bound in bounds], "counts": [0] * (len(bounds) + 1)},
        )  # fmt: skip

    def add(self, value: float, start_ns: int | None, end_ns: int | None) -> None:
        """Count one call's value."""
        p = self._point
        assert p.count is not None and p.sum is not None and p.buckets is not None
        p.count, p.sum = p.count + 1, p.sum + value
        p.min = value if p.min is None else min(p.min, value)
        p.max = value if p.max is None else max(p.max, value)
        p.buckets["counts"][bisect_left(p.buckets["bounds"], value)] += 1
        if start_ns:
            p.start_ns = min(p.start_ns or start_ns, start_ns)
        p.time_ns = max(p.time_ns, end_ns or start_ns or 0)

    def point(self) -> Point:
        """What was counted."""
        return self._point
