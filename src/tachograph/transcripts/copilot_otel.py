"""The telemetry that Copilot CLI writes into a file of its own: a span a line, in its exporter's own JSON, not OTLP."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import msgspec

from tachograph.config import Surroundings
from tachograph.lines import Page, items, read_lines, record, time_ns, words
from tachograph.model import Batch, Source, Span
from tachograph.vocabulary import whole

NAME: Final = "copilot"
_TRACE_ID: Final = re.compile(r"[0-9a-f]{32}")
_SPAN_ID: Final = re.compile(r"[0-9a-f]{16}")
# Later than this (2262) does not fit into 64 bits of nanoseconds.
_LAST_SECOND: Final = 2**63 // 1_000_000_000 - 1
_ENCODE: Final = msgspec.json.Encoder(order="sorted").encode


def discover(where: Surroundings) -> Iterator[Path]:
    """The files of Copilot's folder, and the one that COPILOT_OTEL_FILE_EXPORTER_PATH names."""
    for folder in where.folders("COPILOT_HOME", ".copilot"):
        yield from folder.glob("otel/*.jsonl")
    if where.environment.get("COPILOT_OTEL_FILE_EXPORTER_PATH", "").strip():
        yield from filter(Path.is_file, where.folders("COPILOT_OTEL_FILE_EXPORTER_PATH"))


def is_mine(path: Path, first: dict[str, Any]) -> bool:
    """Whether a file whose first line is this is one of the exporter's."""
    return first.get("type") in ("span", "metric") and isinstance(first.get("instrumentationScope"), dict)


def read(path: Path, since: str) -> tuple[Batch, str]:
    """The spans of the lines after `since`, and the position after them; the stage `normalise` reads what they mean.

    Metrics are left out: the lines do not say whether they add up or repeat, and the spans tell the same.
    """
    sources: dict[bytes, Source] = {}

    def understand(line: dict[str, Any], _: dict[str, Any], page: Page) -> None:
        if line.get("type") == "span":
            span = _span(line, sources)
            if span is not None:
                page.spans.append(span)

    return read_lines(path, since, NAME, understand)


def _span(line: dict[str, Any], sources: dict[bytes, Source]) -> Span | None:
    trace_id, span_id = words(line.get("traceId")), words(line.get("spanId"))
    if not (_TRACE_ID.fullmatch(trace_id) and _SPAN_ID.fullmatch(span_id)):
        return None
    parent_id, status = words(line.get("parentSpanId")), record(line.get("status"))
    begun = _ns(line.get("startTime"))
    return Span(
        source=_source(line, sources),
        trace_id=trace_id,
        span_id=span_id,
        parent_id=parent_id if _SPAN_ID.fullmatch(parent_id) else "",
        name=words(line.get("name")),
        kind=(whole(line.get("kind"), 1, 4) or 0) + 1,  # 0 is INTERNAL here, and UNSPECIFIED in OTLP
        start_ns=begun,
        end_ns=max(begun, _ns(line.get("endTime"))),
        attributes=record(line.get("attributes")),
        status_code=whole(status.get("code"), 1, 2) or 0,
        status_message=words(status.get("message")),
        events=[_event(event) for event in items(line.get("events"))] or None,
    )


def _event(event: dict[str, Any]) -> dict[str, Any]:
    return {
        "time_ns": _ns(event.get("time")),
        "name": words(event.get("name")),
        "attributes": record(event.get("attributes")),
        "dropped": whole(event.get("droppedAttributesCount"), 1, 2**32 - 1) or 0,
    }


def _ns(value: Any) -> int:
    """Nanoseconds of `[seconds, nanoseconds]`, or of a time as other lines tell it."""
    if isinstance(value, list) and len(value) == 2:
        seconds, rest = whole(value[0], 1, _LAST_SECOND), whole(value[1], 1, 999_999_999)
        return seconds * 1_000_000_000 + (rest or 0) if seconds is not None else 0
    return time_ns(value)


def _source(line: dict[str, Any], sources: dict[bytes, Source]) -> Source:
    """The resource and scope, the same object for lines that name the same."""
    resource, scope = record(line.get("resource")), record(line.get("instrumentationScope"))
    key = _ENCODE((resource, scope))
    if key not in sources:
        sources[key] = Source(
            resource=record(resource.get("attributes")),
            scope_name=words(scope.get("name")),
            scope_version=words(scope.get("version")),
            resource_schema_url=words(resource.get("schemaUrl")),
            scope_schema_url=words(scope.get("schemaUrl")),
        )
    return sources[key]
