"""The spans of a trace as records again, with their texts where those are kept: what goes out as OTLP."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from tachograph.model import AGENT, MODEL_CALL, TOOL_RUN, Span
from tachograph.questions.kept_records import SPAN, Row, Sources, hashes_of, span_of, with_texts
from tachograph.scan import Match, Reader, Scan

_AT_ONCE: Final = 1000  # spans: with their texts some megabytes in memory
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
    sources = Sources(reader)
    for at in range(0, len(ids), _AT_ONCE):
        some = ids[at : at + _AT_ONCE]
        rows = _rows(reader, (where[0], Match("span_id", "in", some)))
        known = sources.of({row["source_id"] for row in rows.values()})
        texts = reader.texts(list({hash_ for row in rows.values() for hash_ in hashes_of(row)}))
        yield [_told(rows[one], span_of(rows[one], known[rows[one]["source_id"]], texts)) for one in some]


def _rows(reader: Reader, where: tuple[Match, ...]) -> dict[str, Row]:
    """Span id -> its row; of a span that was sent more than once the one that lasted longest, as the tree has it."""
    select = SPAN | {name: name for name in ("role", *_MEANING.values())}
    found: dict[str, Row] = {}
    for row in reader.scan(Scan("spans", select, where, order_by=(("seq", False),))).rows():
        known = found.get(row["span_id"])
        if known is None or (known["end_ns"] or 0) < (row["end_ns"] or 0):
            found[row["span_id"]] = row
    return found


def _told(row: Row, span: Span) -> Span:
    """The span with what it means, where its own attributes do not say that, and with its texts."""
    if row["role"] in _TOLD and not any(name.startswith("gen_ai.") for name in span.attributes):
        span.attributes |= {name: row[column] for name, column in _MEANING.items() if row[column] not in (None, "")}
    with_texts(span)
    return span
