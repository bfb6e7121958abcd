"""Turns what a batch holds into the columns of the tables, in as few passes over the records as Python allows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import msgspec
from arro3.core import Array, DataType, Table
from msgspec.structs import astuple

from tachograph.model import TOOL_RUN, Content, Event, Meaning, Point, Report, Source, Span, Usage
from tachograph.store import identity
from tachograph.store.identity import json_bytes, name_of, text_bytes
from tachograph.store.landing import Parcel
from tachograph.store.schema import TABLES

Values = Sequence[Any]
Keep = Callable[[str, bytes], None]  # takes a text's hash and its UTF-8

_ARROW: Final = {
    "text": DataType.string(),
    "json": DataType.binary(),
    "int": DataType.int64(),
    "float": DataType.float64(),
    "bool": DataType.bool(),
}
_DEFAULTS: Final[dict[str, str | None]] = {"text": "", "json": None, "int": None, "float": None, "bool": None}
_TYPES: Final = {table: {column.name: column.type for column in columns} for table, columns in TABLES.items()}
_NO_MEANING: Final = Meaning()
_TOKENS: Final = (
    "input_tokens",
    "cache_read_tokens",
    "cache_write_tokens",
    "output_tokens",
    "reasoning_tokens",
)
_MEANING: Final = tuple(
    name for name in Meaning.__struct_fields__ if name in _TYPES["spans"] and name not in ("duration_ns",)
)
_INT64: Final = range(-(2**63), 2**63)


def table(name: str, columns: Mapping[str, Values]) -> Table:
    """The Arrow table of rows for table `name`; columns that hold nothing but their default are left out.

    JSON columns come as UTF-8 bytes. Values that their column cannot hold (lone surrogates, integers beyond 64 bits)
    are made to fit.
    """
    types = _TYPES[name]
    names: list[str] = []
    arrays: list[Array] = []
    for column, values in columns.items():
        kind = types[column]
        if values and values[0] == _DEFAULTS[kind] and values.count(values[0]) == len(values) and arrays:
            continue
        names.append(column)
        arrays.append(_array(values, kind))
    return Table.from_arrays(arrays, names=names)


def spans(spans: Sequence[Span], seqs: Values, source_ids: Sequence[str], keep: Keep) -> dict[str, Values]:
    """Columns of spans."""
    raw = _fields(Span, spans)
    starts, ends = raw["start_ns"], raw["end_ns"]
    columns: dict[str, Values] = {
        "seq": seqs,
        "source_id": source_ids,
        "start_ns": _times(starts),
        "end_ns": _times(ends),
        "duration_ns": [_duration(start, end) for start, end in zip(starts, ends, strict=True)],
        "attributes": _json(raw["attributes"]),
        "events": _json(raw["events"]),
        "links": _json(raw["links"]),
        "contents": [None if found is None else contents_json(found, keep) for found in raw["contents"]],
    }
    for name in _SPAN_PLAIN:
        columns[name] = raw[name]
    _add_meaning(columns, raw["meaning"])
    _add_sizes(columns, raw["contents"])
    return columns


def events(events: Sequence[Event], seqs: Values, source_ids: Sequence[str], keep: Keep) -> dict[str, Values]:
    """Columns of events."""
    raw = _fields(Event, events)
    columns: dict[str, Values] = {
        "seq": seqs,
        "source_id": source_ids,
        "time_ns": _times(raw["time_ns"]),
        "observed_ns": _times(raw["observed_ns"]),
        "body": _json(raw["body"]),
        "attributes": _json(raw["attributes"]),
        "contents": [None if found is None else contents_json(found, keep) for found in raw["contents"]],
    }
    for name in _EVENT_PLAIN:
        columns[name] = raw[name]
    _add_meaning(columns, raw["meaning"])
    _add_sizes(columns, raw["contents"])
    columns["duration_ns"] = [m and m.duration_ns for m in raw["meaning"]]
    columns["event_id"] = _event_ids(columns)
    return columns


def samples(points: Sequence[Point], seqs: Values, series_ids: Sequence[str]) -> dict[str, Values]:
    """Columns of samples."""
    raw = _fields(Point, points)
    values = raw["value"]
    columns: dict[str, Values] = {
        "seq": seqs,
        "series_id": series_ids,
        "start_ns": _times(raw["start_ns"]),
        "time_ns": _times(raw["time_ns"]),
        "value": [None if value is None else float(value) for value in values],
        "value_int": [value if isinstance(value, int) else None for value in values],
        "buckets": _json(raw["buckets"]),
        "exemplars": _json(raw["exemplars"]),
    }
    for name in ("count", "sum", "min", "max", "flags"):
        columns[name] = raw[name]
    return columns


def series(points: Mapping[str, tuple[Point, str]]) -> dict[str, Values]:
    """Columns of series, from series id -> one of its points and its source id."""
    found = [point for point, _ in points.values()]
    return {
        "series_id": list(points),
        "name": [point.name for point in found],
        "unit": [point.unit for point in found],
        "description": [point.description for point in found],
        "type": [point.type for point in found],
        "temporality": [point.temporality for point in found],
        "is_monotonic": [point.is_monotonic for point in found],
        "source_id": [source for _, source in points.values()],
        "session_id": [_first_text(point.attributes, _SESSION_KEYS) for point in found],
        "model": [_first_text(point.attributes, _MODEL_KEYS) for point in found],
        "attributes": _json([point.attributes for point in found]),
        "metadata": _json([point.metadata for point in found]),
    }


def sources(sources: Mapping[str, Source]) -> dict[str, Values]:
    """Columns of sources, from source id -> source."""
    found = list(sources.values())
    return {
        "source_id": list(sources),
        "service": [_first_text(source.resource, ("service.name",)) for source in found],
        "service_version": [_first_text(source.resource, ("service.version",)) for source in found],
        "resource": _json([source.resource for source in found]),
        "resource_schema_url": [source.resource_schema_url for source in found],
        "resource_dropped": [source.resource_dropped for source in found],
        "scope_name": [source.scope_name for source in found],
        "scope_version": [source.scope_version for source in found],
        "scope_attributes": _json([source.scope_attributes for source in found]),
        "scope_schema_url": [source.scope_schema_url for source in found],
        "scope_dropped": [source.scope_dropped for source in found],
    }


def commits(parcels: Sequence[Parcel]) -> dict[str, Values]:
    """Columns of commits."""
    return {
        "seq": [parcel.seq for parcel in parcels],
        "time_ns": [parcel.time_ns for parcel in parcels],
        "spans": [sum(len(batch.spans) for batch in parcel.batches) for parcel in parcels],
        "events": [sum(len(batch.events) for batch in parcel.batches) for parcel in parcels],
        "points": [sum(len(batch.points) for batch in parcel.batches) for parcel in parcels],
        "is_demo": [any(batch.is_demo for batch in parcel.batches) for parcel in parcels],
    }


def reports(reports: Sequence[Report], seqs: Values, are_demo: Sequence[bool]) -> dict[str, Values]:
    """Columns of reports."""
    return {
        "seq": seqs,
        "report_id": [report.report_id for report in reports],
        "origin": [report.origin for report in reports],
        "trace_id": [report.trace_id for report in reports],
        "span_id": [report.span_id for report in reports],
        "session_id": [report.meaning.session_id for report in reports],
        "report": [json_bytes(report) for report in reports],
        "is_demo": are_demo,
    }


def contents_json(contents: Sequence[Content], keep: Keep) -> bytes:
    """What a record says of its texts, with their hashes; hands each text to `keep`."""
    found = []
    for content in contents:
        hashes = []
        for piece in content.pieces:
            data = text_bytes(piece)
            hashes.append(name := name_of(data))
            keep(name, data)
        found.append({"slot": content.slot, "key": content.key, "list": content.is_list, "hashes": hashes})
    return json_bytes(found)


def _fields(struct: type[msgspec.Struct], records: Sequence[msgspec.Struct]) -> dict[str, Values]:
    """Field -> its values in all the records."""
    columns = zip(*map(astuple, records), strict=True)
    return dict(zip(struct.__struct_fields__, columns, strict=True))


def _add_meaning(columns: dict[str, Values], meanings: Sequence[Meaning | None]) -> None:
    known = [meaning or _NO_MEANING for meaning in meanings]
    raw = _fields(Meaning, known)
    for name in _MEANING:
        columns[name] = raw[name]
    usages: Sequence[Usage | None] = raw["usage"]
    if any(usages):
        tokens = [_NO_TOKENS if usage is None else _tokens(usage) for usage in usages]
        columns.update(zip(_TOKENS, zip(*tokens, strict=True), strict=True))


def _add_sizes(columns: dict[str, Values], contents: Sequence[Sequence[Content] | None]) -> None:
    """Measure what tool runs were given and gave; one text may stand in several attributes, so the longest counts."""
    sizes: dict[str, list[int | None]] = {slot: list(columns[f"{slot}_bytes"]) for slot in _MEASURED}
    for place, (role, found) in enumerate(zip(columns["role"], contents, strict=True)):
        for content in found or () if role == TOOL_RUN else ():
            if content.slot in sizes:
                size = sum(len(text_bytes(piece)) for piece in content.pieces)
                sizes[content.slot][place] = max(size, sizes[content.slot][place] or 0)
    columns.update({f"{slot}_bytes": values for slot, values in sizes.items()})


_MEASURED: Final = ("arguments", "result")
_NO_TOKENS: Final = (None,) * len(_TOKENS)


def _tokens(usage: Usage) -> tuple[int | None, ...]:
    return (usage.input_total, usage.cache_read, usage.cache_write, usage.output, usage.reasoning)


def _event_ids(columns: Mapping[str, Values]) -> list[str]:
    """Hash of all that a record says of itself; when it was observed, and what it means, are not part of it."""
    texts = zip(*(columns[name] for name in _EVENT_IDENTITY), strict=True)
    data = zip(columns["body"], columns["attributes"], columns["contents"], strict=True)
    return [
        name_of(b"\0".join((text_bytes(repr(text)), body or b"", attributes or b"", contents or b"")))
        for text, (body, attributes, contents) in zip(texts, data, strict=True)
    ]


_EVENT_IDENTITY: Final = (
    "time_ns",
    "source_id",
    "name",
    "origin",
    "trace_id",
    "span_id",
    "severity",
    "severity_text",
)
_EVENT_PLAIN: Final = (
    "name",
    "origin",
    "trace_id",
    "span_id",
    "severity",
    "severity_text",
    "flags",
    "dropped_attributes",
)
_SPAN_PLAIN: Final = (
    "trace_id",
    "span_id",
    "parent_id",
    "name",
    "kind",
    "status_code",
    "status_message",
    "flags",
    "trace_state",
    "dropped_attributes",
    "dropped_events",
    "dropped_links",
)
_SESSION_KEYS: Final = ("session.id", "session_id", "gen_ai.conversation.id", "conversation.id")
_MODEL_KEYS: Final = ("gen_ai.response.model", "gen_ai.request.model", "model")


def _first_text(attributes: Mapping[str, Any], keys: Sequence[str]) -> str:
    return next((str(attributes[key]) for key in keys if attributes.get(key)), "")


def _duration(start: int, end: int) -> int | None:
    if not start or not end:
        return None
    return end - start if end > start else 0


def _times(values: Values) -> Values:
    """Times with 0 as what it stands for: unknown."""
    return [value or None for value in values] if 0 in values else values


def _json(values: Values) -> list[bytes | None]:
    return [None if value is None else json_bytes(value) for value in values]


def _array(values: Values, kind: str) -> Array:
    try:
        return _cast(Array(values, type=_ARROW[kind]), kind)
    except (TypeError, ValueError, OverflowError):
        return _cast(Array([_FIT[kind](value) for value in values], type=_ARROW[kind]), kind)


def _cast(array: Array, kind: str) -> Array:
    return array.cast(_ARROW["text"]) if kind == "json" else array


def _fit_text(value: Any) -> str:
    return "" if value is None else identity.clean_text(str(value))


def _fit_int(value: Any) -> int | None:
    return int(value) if isinstance(value, int) and value in _INT64 else None


def _fit_float(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) else None


_FIT: Final[dict[str, Callable[[Any], Any]]] = {
    "text": _fit_text,
    "json": lambda value: value if isinstance(value, bytes) else None,
    "int": _fit_int,
    "float": _fit_float,
    "bool": lambda value: None if value is None else bool(value),
}
