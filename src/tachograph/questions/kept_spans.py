"""The spans of a trace as records again, with their texts where those are kept: what goes out as OTLP."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from tachograph.model import AGENT, MODEL_CALL, TOOL_RUN, Attributes, Source, Span
from tachograph.scan import Match, Reader, Scan

_AT_ONCE: Final = 1000  # spans: with their texts some megabytes in memory
_SPAN: Final = [
    "span_id",
    "parent_id",
    "name",
    "kind",
    "start_ns",
    "end_ns",
    "status_code",
    "status_message",
    "flags",
    "trace_state",
    "source_id",
    "attributes",
    "events",
    "links",
    "contents",
    "dropped_attributes",
    "dropped_events",
    "dropped_links",
]
_SOURCE: Final = [
    "source_id",
    "resource",
    "resource_schema_url",
    "resource_dropped",
    "scope_name",
    "scope_version",
    "scope_attributes",
    "scope_schema_url",
    "scope_dropped",
]
_TOLD: Final = frozenset((AGENT, MODEL_CALL, TOOL_RUN))
# What a span means whose attributes do not say it in the names of the GenAI conventions: any backend reads these.
_MEANING: Final = {
    "gen_ai.operation.name": "operation",
    "gen_ai.provider.name": "provider",
    "gen_ai.conversation.id": "session_id",
    "gen_ai.agent.name": "subagent",
    "gen_ai.request.model": "request_model",
    "gen_ai.response.model": "response_model",
    "gen_ai.response.id": "response_id",
    "gen_ai.tool.name": "tool_name",
    "gen_ai.tool.call.id": "tool_call_id",
    "gen_ai.usage.input_tokens": "input_tokens",
    "gen_ai.usage.output_tokens": "output_tokens",
    "gen_ai.usage.cache_read.input_tokens": "cache_read_tokens",
    "gen_ai.usage.cache_creation.input_tokens": "cache_write_tokens",
    "gen_ai.usage.reasoning.output_tokens": "reasoning_tokens",
    "error.type": "error_type",
}


def kept_spans(reader: Reader, trace_id: str, span_id: str | None = None) -> Iterator[list[Span]]:
    """The spans of a trace, or the one of them, so many at a time in order of their start; each span once.

    What was taken out before it was kept, or is not kept any more, is missing and counted as a dropped attribute.
    """
    where: tuple[Match, ...] = (Match("trace_id", "=", trace_id),)
    if span_id is not None:
        where = (*where, Match("span_id", "=", span_id))
    told = reader.scan(Scan("spans", {"span_id": "span_id"}, where, order_by=(("start_ns", False), ("span_id", False))))
    ids = list(dict.fromkeys(told.data["span_id"]))
    sources: dict[str, Source] = {}
    for at in range(0, len(ids), _AT_ONCE):
        some = ids[at : at + _AT_ONCE]
        rows = _rows(reader, (where[0], Match("span_id", "in", some)))
        _learn(reader, sources, {row["source_id"] for row in rows.values()} - sources.keys())
        texts = reader.texts(list({hash_ for row in rows.values() for hash_ in _hashes(row)}))
        yield [_span(trace_id, rows[one], sources[rows[one]["source_id"]], texts) for one in some]


def _rows(reader: Reader, where: tuple[Match, ...]) -> dict[str, dict[str, Any]]:
    """Span id -> its row; of a span that was sent more than once the one that lasted longest, as the tree has it."""
    select: dict[str, Any] = {name: name for name in (*_SPAN, "role", *_MEANING.values())}
    found: dict[str, dict[str, Any]] = {}
    for row in reader.scan(Scan("spans", select, where, order_by=(("seq", False),))).rows():
        known = found.get(row["span_id"])
        if known is None or (known["end_ns"] or 0) < (row["end_ns"] or 0):
            found[row["span_id"]] = row
    return found


def _learn(reader: Reader, sources: dict[str, Source], ids: set[str]) -> None:
    """Read these sources."""
    select: dict[str, Any] = {name: name for name in _SOURCE}
    told = reader.scan(Scan("sources", select, (Match("source_id", "in", sorted(ids)),))).rows() if ids else []
    for row in told:
        sources[row["source_id"]] = Source(
            resource=row["resource"] or {},
            scope_name=row["scope_name"],
            scope_version=row["scope_version"],
            scope_attributes=row["scope_attributes"] or {},
            resource_schema_url=row["resource_schema_url"],
            scope_schema_url=row["scope_schema_url"],
            resource_dropped=row["resource_dropped"] or 0,
            scope_dropped=row["scope_dropped"] or 0,
        )
    for unknown in ids - sources.keys():
        sources[unknown] = Source({})


def _hashes(row: dict[str, Any]) -> list[str]:
    return [hash_ for content in row["contents"] or [] for hash_ in content["hashes"]]


def _span(trace_id: str, row: dict[str, Any], source: Source, texts: dict[str, str]) -> Span:
    attributes: Attributes = dict(row["attributes"] or {})
    if row["role"] in _TOLD and not any(name.startswith("gen_ai.") for name in attributes):
        attributes |= {name: row[column] for name, column in _MEANING.items() if row[column] not in (None, "")}
    lost = _put_back(attributes, row["contents"] or [], texts)
    links = [link | {name: _hex(link.get(name)) for name in ("trace_id", "span_id")} for link in row["links"] or []]
    return Span(
        source, _hex(trace_id), _hex(row["span_id"]), _hex(row["parent_id"]), row["name"], row["kind"] or 0,
        row["start_ns"] or 0, row["end_ns"] or 0, attributes, row["status_code"] or 0, row["status_message"],
        row["flags"] or 0, row["trace_state"], row["events"], links or None,
        (row["dropped_attributes"] or 0) + lost, row["dropped_events"] or 0, row["dropped_links"] or 0,
    )  # fmt: skip


def _hex(id_: object) -> str:
    """The id, "" for what cannot be one: what was never OTLP may have any text there."""
    try:
        return bytes.fromhex(id_).hex() if isinstance(id_, str) else ""
    except ValueError:
        return ""


def _put_back(attributes: Attributes, contents: list[dict[str, Any]], texts: dict[str, str]) -> int:
    """Put the texts back where they were taken from; returns how many are not kept any more."""
    lost = 0
    for content in contents:
        pieces = [texts[hash_] for hash_ in content["hashes"] if hash_ in texts]
        if len(pieces) < len(content["hashes"]):
            lost += 1
        elif content["list"]:
            attributes[content["key"] or content["slot"]] = "[" + ",".join(pieces) + "]"
        else:
            attributes[content["key"] or content["slot"]] = "".join(pieces)
    return lost
