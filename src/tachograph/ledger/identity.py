"""Who is who: makes the reports of a batch, and decides by which identities a report may be the same call as another.

Order of trust: response id or request id of the provider; the agent's own message id within its session; then the
session, the input tokens and the time. Ids that a local server counts up (`chatcmpl-123`) are no identity of their own.
"""

from __future__ import annotations

from hashlib import blake2b, sha256
from typing import Final

import msgspec

from tachograph.model import Batch, Event, Meaning, Report, Span

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
    """The stage `report`: one Report for each record of the batch that tells of a model call."""
    for span in batch.spans:
        meaning = span.meaning
        if meaning is not None and meaning.is_call:
            batch.reports.append(_of_span(span, meaning, batch.is_demo))
    for event in batch.events:
        meaning = event.meaning
        if meaning is not None and meaning.is_call:
            batch.reports.append(_of_event(event, meaning, batch.is_demo))


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
    if told.meaning.failed_attempts and scope:
        names.append(f"untold:{scope}")  # failures that others tell of are not made up a second time
    if told.span_id:
        names.append(f"span:{told.trace_id}:{told.span_id}")
    if scope and (announces(told) or not told.meaning.is_timed):
        names.append(f"announced:{scope}")
    if has_place(told):
        names.append(f"trace:{told.trace_id}")
    return [int.from_bytes(blake2b(_bytes(name), digest_size=8).digest(), "little", signed=True) for name in names]
