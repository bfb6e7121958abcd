"""Makes one call of its reports, field by field, and remembers where each field came from."""

from __future__ import annotations

from copy import copy
from hashlib import blake2b
from typing import Final

from msgspec.structs import fields

from tachograph.ledger.identity import RANKS, announces
from tachograph.ledger.matching import Cluster
from tachograph.model import MODEL_CALL, Call, Meaning, Report, Usage

# Fields decided together, or not merged by precedence.
_APART: Final = {
    *("usage", "cost_nanousd", "cost_kind", "is_notional", "is_error", "is_call", "is_rollup", "is_noise", "role"),
    *("is_cut_short", "is_timed"),
    *("dialect", "failed_attempts", "session_id", "error_type", "error_message", "http_status"),
}
# What an announcement cannot know: it tells of the request, not of the answer.
_OF_THE_END: Final = ("duration_ns", "ttft_ns", "finish_reason")
_PLAIN: Final = tuple(f.name for f in fields(Meaning) if f.name not in _APART)
_TOKENS: Final = tuple(f.name for f in fields(Usage))
_ABORTED: Final = ("abort", "cancel")


def call_of(cluster: Cluster, sessions: dict[str, str]) -> Call:
    """The call that a cluster's reports tell of, not yet priced."""
    reports = sorted(cluster.reports, key=lambda r: (-r.rank, r.start_ns, r.report_id))
    meaning = Meaning(role=MODEL_CALL, is_call=True)
    provenance: dict[str, str] = {}
    for name in _PLAIN:
        for told in reports:
            value = getattr(told.meaning, name)
            if value not in ("", None) and not (name in _OF_THE_END and announces(told)):
                setattr(meaning, name, value)
                provenance[name] = told.report_id
                break
    _session(meaning, reports, sessions, provenance)
    _usage(meaning, reports, provenance)
    _money(meaning, reports, provenance)
    call = Call(call_id=_call_id(cluster, reports), meaning=meaning, provenance=provenance)
    _outcome(call, reports, provenance)
    _times(call, reports, provenance)
    meaning.failed_attempts = max(told.meaning.failed_attempts for told in reports)
    meaning.dialect = reports[0].meaning.dialect
    meaning.is_cut_short = all(told.meaning.is_cut_short for told in reports)
    call.is_demo = any(told.is_demo for told in reports)
    call.reports = [told.report_id for told in reports] + sorted({r.report_id for r in cluster.rollups})
    if call.usage_status == "reported" and all(told.meaning.is_rollup for told in reports):
        call.usage_status = "partial"  # a sum over calls that nobody told of one by one
    return call


def _call_id(cluster: Cluster, reports: list[Report]) -> str:
    """From the provider's ids where there are any, so that it stays the same as more sources tell of the call."""
    ids = cluster.ids
    name = ids.get("response") or ids.get("request") or min(told.report_id for told in reports)
    scope = "" if len(name) >= 20 else min(told.report_id for told in reports)
    return "call_" + blake2b(f"{name}{scope}".encode(), digest_size=10).hexdigest()


def _session(meaning: Meaning, reports: list[Report], sessions: dict[str, str], provenance: dict[str, str]) -> None:
    """The session of the best report; of several (history copied by a fork) the one that sorts first: ids made
    from time sort by age."""
    for rank in sorted({told.rank for told in reports}, reverse=True):
        found = [(s, r.report_id) for r in reports if r.rank == rank and (s := sessions.get(r.report_id, ""))]
        if found:
            meaning.session_id, provenance["session_id"] = min(found)
            return


def _usage(meaning: Meaning, reports: list[Report], provenance: dict[str, str]) -> None:
    """The fullest usage of the best source; parts that it does not tell are filled in from others that agree.

    Transcript and log count alike: a line that was written while the answer still streamed has fewer output tokens.
    """
    told_by = [(r, r.meaning.usage) for r in reports if r.meaning.usage is not None]
    if not told_by:
        return
    level = {RANKS["transcript"]: RANKS["log"]}
    best, base = max(
        told_by,
        key=lambda pair: (
            pair[1].input_uncached is not None and pair[1].output is not None,
            level.get(pair[0].rank, pair[0].rank),
            pair[1].output or 0,
            sum(getattr(pair[1], name) is not None for name in _TOKENS),
            pair[0].report_id,
        ),
    )
    usage = copy(base)
    origin = {name: best.report_id for name in _TOKENS if getattr(usage, name) is not None}
    for told, other in sorted(told_by, key=lambda pair: (-pair[0].rank, pair[0].report_id)):
        _fill(usage, other, told.report_id, origin)
    meaning.usage = usage
    provenance.update({"usage." + name: report_id for name, report_id in origin.items()})


def _fill(usage: Usage, other: Usage, report_id: str, origin: dict[str, str]) -> None:
    """Fill what `usage` does not tell from a usage with the same totals."""
    if usage.input_uncached is None and other.input_uncached is not None:
        usage.input_uncached, usage.cache_read, usage.cache_write = (
            other.input_uncached,
            other.cache_read,
            other.cache_write,
        )
        origin["input_uncached"] = report_id
    if usage.output is None and other.output is not None:
        usage.output = other.output
        origin["output"] = report_id
    if usage.input_total == other.input_total:
        # The same total told without its cache parts looks uncached: the finer telling is the truer one.
        if (other.cache_read or 0) + (other.cache_write or 0) > (usage.cache_read or 0) + (usage.cache_write or 0):
            usage.input_uncached, usage.cache_read, usage.cache_write = (
                other.input_uncached,
                other.cache_read,
                other.cache_write,
            )
            origin["input_uncached"] = origin["cache_read"] = origin["cache_write"] = report_id
        if usage.cache_write_1h is None and other.cache_write_1h is not None and usage.cache_write == other.cache_write:
            usage.cache_write_1h = other.cache_write_1h
            origin["cache_write_1h"] = report_id
        for name in ("cache_read", "cache_write"):
            if getattr(usage, name) is None and getattr(other, name) == 0:
                setattr(usage, name, 0)
                origin[name] = report_id
    if usage.reasoning is None and other.reasoning is not None and other.reasoning <= (usage.output or 0):
        usage.reasoning = other.reasoning
        origin["reasoning"] = report_id


def _money(meaning: Meaning, reports: list[Report], provenance: dict[str, str]) -> None:
    """The amount that sources name: billed before estimated."""
    told_by = [r for r in reports if r.meaning.cost_nanousd is not None]
    if told_by:
        best = min(told_by, key=lambda r: (r.meaning.cost_kind != "billed", -r.rank, r.report_id))
        meaning.cost_nanousd, meaning.cost_kind = best.meaning.cost_nanousd, best.meaning.cost_kind
        provenance["cost_nanousd"] = best.report_id
    notional = [r for r in reports if r.meaning.is_notional is not None]
    if notional:
        meaning.is_notional = any(r.meaning.is_notional for r in notional)
        provenance["is_notional"] = notional[0].report_id


def _outcome(call: Call, reports: list[Report], provenance: dict[str, str]) -> None:
    """Whether it failed: only where no report tells of success; and how much is known of its usage."""
    meaning, usage = call.meaning, call.meaning.usage
    # A roll-up tells of its sum or its beginning, not of how this call ended.
    witnesses = [told for told in reports if not told.meaning.is_rollup] or reports
    failures = [told for told in witnesses if told.meaning.is_error]
    meaning.is_error = len(failures) == len(witnesses)
    speaking = failures if meaning.is_error else reports
    for name in ("http_status", "error_type", "error_message") if meaning.is_error else ("http_status",):
        best = next((r for r in speaking if getattr(r.meaning, name) not in ("", None)), None)
        if best is not None:
            setattr(meaning, name, getattr(best.meaning, name))
            provenance[name] = best.report_id
    if meaning.is_error:
        words = f"{meaning.error_type} {meaning.finish_reason}".lower()
        call.status = "aborted" if any(word in words for word in _ABORTED) else "failed"
        provenance["status"] = failures[0].report_id
    is_embedding = meaning.operation == "embeddings"
    if usage is None:
        call.usage_status = "unknown"
    elif usage.input_uncached is None or (usage.output is None and not is_embedding):
        call.usage_status = "partial"
    else:
        call.usage_status = "reported"


def _times(call: Call, reports: list[Report], provenance: dict[str, str]) -> None:
    """Start and end by the report that measured them: a span first, else the one that knows its duration."""
    begun = [told for told in reports if announces(told)]
    reports = [told for told in reports if not announces(told)] or reports
    timed = sorted(
        reports,
        key=lambda r: (
            r.origin != "span",
            r.end_ns == r.start_ns,
            r.origin == "transcript",  # written line by line while the answer comes: a log record measured the whole
            -r.rank,
            r.start_ns,
            -r.end_ns,
            r.report_id,
        ),
    )
    best = timed[0]
    call.start_ns, call.end_ns = best.start_ns, best.end_ns
    provenance["start_ns"] = provenance["end_ns"] = best.report_id
    is_begin_known = best.meaning.is_timed and best.start_ns < best.end_ns
    if begun and not is_begin_known and begun[0].start_ns < best.end_ns:
        call.start_ns, provenance["start_ns"] = begun[0].start_ns, begun[0].report_id
    traced = next((r for r in timed if r.origin == "span"), None) or next((r for r in timed if r.trace_id), None)
    if traced is not None:
        call.trace_id = traced.trace_id
        call.span_id = traced.span_id if traced.origin == "span" else ""


def attempts(call: Call, failed: list[Call]) -> list[Call]:
    """The earlier attempts of a call that only its number of attempts tells of, as failed calls of unknown usage.

    `failed`: calls of the same session that other reports told of; those that lie within this one are the attempts.
    """
    told = sum(1 for f in failed if call.start_ns <= f.end_ns <= call.end_ns and f.call_id != call.call_id)
    made = []
    for number in range(1, call.meaning.failed_attempts - told + 1):
        meaning = copy(call.meaning)
        meaning.usage = None
        meaning.cost_nanousd = meaning.ttft_ns = meaning.http_status = meaning.duration_ns = None
        meaning.cost_kind = meaning.finish_reason = meaning.response_id = meaning.request_id = meaning.message_id = ""
        meaning.is_error, meaning.error_type, meaning.attempt = True, "attempt_failed", number
        made.append(
            Call(
                call_id=f"{call.call_id}.{number}",
                start_ns=call.start_ns,
                end_ns=call.start_ns,
                trace_id=call.trace_id,
                meaning=meaning,
                status="failed",
                is_demo=call.is_demo,
                reports=list(call.reports),
                provenance={"attempt": call.provenance.get("attempt", call.reports[0])},
            )
        )
    if made:
        call.retry_of = made[-1].call_id
    return made
