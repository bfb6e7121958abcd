"""Who is who: makes the reports of a batch, and decides by which identities a report may be the same call as another.

Order of trust: response id or request id of the provider; the agent's own message id within its session; then the
session, the input tokens and the time. Ids that a local server counts up (`chatcmpl-123`) are no identity of their own.
"""

from __future__ import annotations

from copy import copy
from hashlib import blake2b, sha256
from typing import Final

import msgspec

from tachograph.model import Batch, Event, Meaning, Report, Span, Usage

# Precedence of a report's fields in a merge: what the provider returned, hook, transcript, log, leaf span, metric.
RANKS: Final = {"provider": 50, "hook": 40, "transcript": 30, "log": 20, "span": 10, "metric": 0}
# Scopes of the providers' own SDKs: what they report is what the provider returned.
PROVIDER_SCOPES: Final = ("com.anthropic.sdk.",)
# Scopes of what an agent's own hooks told, which are made into spans by tachograph.hooks.
HOOK_SCOPES: Final = "tachograph.hook."
# An id shorter than this many characters may come again for another call.
STRONG_ID: Final = 20

# A session id that is given as its SHA-256 is cut to so many hex digits.
HASHED_ID: Final = 16
_HEX: Final = frozenset("0123456789abcdef")

_ENCODE: Final = msgspec.json.Encoder().encode


def report(batch: Batch) -> None:
    """The stage `report`: one Report for each record of the batch that tells of a model call.

    A transcript may tell of one answer on several lines, one for each of its parts: those make one report.
    """
    for span in batch.spans:
        meaning = span.meaning
        if meaning is not None and meaning.is_call:
            batch.reports.append(_of_span(span, meaning, batch.is_demo))
    answers: dict[tuple[str, str, str], Report] = {}
    for event in batch.events:
        meaning = event.meaning
        if meaning is None or not meaning.is_call:
            continue
        if event.origin == "transcript" and len(meaning.response_id) >= STRONG_ID:
            answer = (meaning.response_id, event.name, event.source.scope_name)
            earlier = answers.get(answer)
            if earlier is not None and _goes_on(earlier, event, meaning):
                continue
            answers[answer] = told = _of_event(event, meaning, batch.is_demo)
            batch.reports.append(told)
        else:
            batch.reports.append(_of_event(event, meaning, batch.is_demo))


def _goes_on(told: Report, event: Event, meaning: Meaning) -> bool:
    """Whether a line tells the same as the report of an earlier one, or just more of it; the report then has it too.

    It keeps the id of the first line, so that it is the same one wherever a piece of the file ends.
    """
    before = told.meaning
    if event.time_ns < told.end_ns or (event.trace_id, event.span_id) != (told.trace_id, told.span_id):
        return False
    if before == meaning:
        return True
    if (before.duration_ns is None) != (meaning.duration_ns is None):
        return False
    if before.duration_ns is not None and event.time_ns - (meaning.duration_ns or 0) != told.start_ns:
        return False
    more = copy(meaning)
    more.finish_reason = meaning.finish_reason or before.finish_reason
    more.usage = _fuller(before.usage, meaning.usage)
    same = copy(more)
    same.duration_ns, same.usage, same.finish_reason = before.duration_ns, before.usage, before.finish_reason
    if same != before or more.usage is None or before.finish_reason not in ("", more.finish_reason):
        return False
    told.meaning = more  # a copy: the meaning before is the record's own
    if more.duration_ns is not None:
        told.end_ns = event.time_ns
    return True


def _fuller(one: Usage | None, other: Usage | None) -> Usage | None:
    """That of two tellings of the same usage which has more output, as it grew while the answer came; else None."""
    if one is None or other is None:
        return None
    first, last = (one, other) if (one.output or 0) <= (other.output or 0) else (other, one)
    grown = copy(first)
    grown.output, grown.reasoning = last.output, last.reasoning
    return last if grown == last else None


def _of_span(span: Span, meaning: Meaning, is_demo: bool) -> Report:
    scope = span.source.scope_name
    rank = "provider" if scope.startswith(PROVIDER_SCOPES) else "hook" if scope.startswith(HOOK_SCOPES) else "span"
    return Report(
        report_id="s" + _digest(f"{span.trace_id}:{span.span_id}"),
        origin="span",
        rank=RANKS[rank],
        trace_id=span.trace_id,
        span_id=span.span_id,
        start_ns=span.start_ns if meaning.is_timed else max(span.start_ns, span.end_ns),
        end_ns=max(span.start_ns, span.end_ns),
        name=span.name,
        service=scope,
        is_demo=is_demo,
        meaning=meaning,
    )


def _of_event(event: Event, meaning: Meaning, is_demo: bool) -> Report:
    end = event.time_ns or event.observed_ns
    told = (
        event.origin,
        event.source.scope_name,
        event.name,
        end,
        event.trace_id,
        event.span_id,
        event.attributes.get("event.sequence"),
        meaning,
    )
    return Report(
        report_id=event.origin[0] + _digest(_ENCODE(told)),
        origin=event.origin,
        rank=RANKS.get(event.origin, RANKS["log"]),
        trace_id=event.trace_id,
        span_id=event.span_id,
        start_ns=end - (meaning.duration_ns or 0),
        end_ns=end,
        name=event.name,
        service=event.source.scope_name,
        is_demo=is_demo,
        meaning=meaning,
    )


def _digest(told: str | bytes) -> str:
    return blake2b(_bytes(told) if isinstance(told, str) else told, digest_size=12).hexdigest()


def _bytes(told: str) -> bytes:
    return told.encode("utf-8", "replace")  # half a surrogate pair is no reason to lose a call


def source_of(told: Report) -> str:
    """What may tell of one call once only: two reports with the same source are two calls."""
    if told.origin == "span":
        return "span:" + told.service
    return f"{told.origin}:{told.service}:{told.name}"


def scope_of(told: Report, session_id: str) -> str:
    """Within what weak identities hold: the session, else the trace; "" = nowhere.

    Sessions go by their hash, because an exporter may give the hash for the id (@damngamerz/pi-otel does), while the
    agent's own file gives the id.
    """
    if session_id:
        is_hash = len(session_id) == HASHED_ID and set(session_id) <= _HEX
        return "session:" + (session_id if is_hash else sha256(_bytes(session_id)).hexdigest()[:HASHED_ID])
    return "trace:" + told.trace_id if told.trace_id else ""


def strong(told: Report, scope: str) -> list[str]:
    """Identities that make two reports the same call, wherever they come from."""
    meaning = told.meaning
    found = []
    for kind, value in (("response", meaning.response_id), ("request", meaning.request_id)):
        if value:
            found.append(f"{kind}:{value}" if len(value) >= STRONG_ID else f"{kind}:{scope}:{value}")
    if meaning.message_id:
        found.append(f"message:{meaning.agent}:{scope}:{meaning.message_id}")
    return found


def has_place(told: Report) -> bool:
    """Whether a report stands at a place in its trace's tree: a span, or a record that announces a call in one."""
    return told.origin == "span" or (bool(told.span_id) and told.meaning.is_rollup)


def announces(told: Report) -> bool:
    """Whether a report tells only that a call began: its end, with the tokens, is told by another, if at all."""
    return told.origin == "log" and told.meaning.is_rollup and told.meaning.usage is None


def weak(told: Report, scope: str) -> str:
    """The identity under which a report without a common id is compared with others of its scope; "" = none."""
    if not scope:
        return ""
    usage = told.meaning.usage
    total = usage.input_total if usage is not None else None
    return f"tokens:{scope}:{total}" if total is not None else f"untold:{scope}"


def keys(told: Report, session_id: str) -> list[int]:
    """All identities of a report as 64-bit numbers: reports that share one have to be looked at together."""
    scope = scope_of(told, session_id)
    names = strong(told, scope)
    found = weak(told, scope)
    if found:
        names.append(found)
    if scope and (told.meaning.failed_attempts or told.meaning.is_error):
        names.append(f"untold:{scope}")  # failures that others tell of are not made up a second time
    if told.span_id:
        names.append(f"span:{told.trace_id}:{told.span_id}")
    if scope and (announces(told) or not told.meaning.is_timed):
        names.append(f"announced:{scope}")
    if has_place(told):
        names.append(f"trace:{told.trace_id}")
    return [_number(name) for name in dict.fromkeys(names)]


def _number(name: str) -> int:
    return int.from_bytes(blake2b(_bytes(name), digest_size=8).digest(), "little", signed=True)
