"""The model calls of a Pi process: every attempt one, those that an SDK hides and those beside the conversation too."""

from __future__ import annotations

from typing import Any, Final

from tachograph.hooks.pi_run import EVENTS_MAX, EXCHANGES_MAX, Exchange, Run
from tachograph.hooks.pi_telling import Telling, happening
from tachograph.hooks.spans import (
    ATTEMPTS_MAX,
    CLIENT,
    FAILED,
    HTTP_STATUS,
    MESSAGE_MAX,
    conventions,
    digest,
    short,
    take_cost,
    told_of,
    usage_of,
)
from tachograph.lines import items, record, time_ns, told, words
from tachograph.model import MODEL_CALL, Attributes, Content, Meaning, Span
from tachograph.vocabulary import FINISH_REASONS, provider, truth, whole

Line = dict[str, Any]


def request(telling: Telling, run: Run, line: Line, t: int) -> None:
    """A request leaves: what came before it belongs to others."""
    run.request_ns, run.first_ns, run.status, run.request_id = t, 0, None, ""
    run.exchanges.clear()
    run.asked = told_of(
        {
            "llm.model": short(line.get("model")) or run.model,
            "gen_ai.request.model": short(line.get("requested")),
            "gen_ai.request.stream": truth(line.get("stream")),
            "gen_ai.request.max_tokens": whole(line.get("max_tokens")),
            "llm.messages": whole(line.get("messages")),
            "llm.tools": whole(line.get("tools")),
        }
    )
    if run.turn and len(run.turn_events) < EVENTS_MAX:
        run.turn_events.append(happening("llm.request", t, run.asked))
    if system := words(line.get("system")):
        telling.event(run, "system_prompt", t, {}, Content("system", "system", [system]))


def response(telling: Telling, run: Run, line: Line, t: int) -> None:
    """The headers of an answer."""
    run.status = whole(line.get("status"), 1, 999)
    run.request_id = _request_id(line)


def first(telling: Telling, run: Run, line: Line, t: int) -> None:
    """The first piece of an answer."""
    run.first_ns = run.first_ns or t


def http(telling: Telling, run: Run, line: Line, t: int) -> None:
    """A step of a request as the network saw it."""
    number = whole(line.get("n")) or 0
    if line.get("phase") == "create":
        if line.get("method", "POST") == "POST":
            run.exchanges = [*run.exchanges[-EXCHANGES_MAX + 1 :], Exchange(number, t)]
        return
    exchange = next((e for e in reversed(run.exchanges) if e.number == number), None)
    if exchange is None:
        return
    exchange.end_ns = t
    if line.get("phase") == "headers":
        exchange.status, exchange.request_id = whole(line.get("status"), 1, 999), _request_id(line)
    elif line.get("phase") == "error":
        exchange.error = short(line.get("error")) or "connection"


def _request_id(line: Line) -> str:
    """The provider's id of a request, from the headers that carry one."""
    return next((short(value) for value in record(line.get("ids")).values() if isinstance(value, str) and value), "")


def answered(telling: Telling, run: Run, line: Line, t: int) -> None:
    """The end of an attempt: an answer, or how it failed."""
    stop = words(line.get("stop"))
    is_failed = stop in FAILED
    sent = time_ns(line.get("timestamp"))
    own = _attempts(telling, run, is_failed, t, run.above_steps)
    meaning = meaning_of(telling, run, line)
    lasted = whole(line.get("durationMs"), 1_000_000)
    start = sent or run.request_ns or (t - lasted if lasted is not None else t)
    end = start + lasted if lasted is not None else max(start, t)
    meaning.duration_ns = end - start
    meaning.finish_reason = FINISH_REASONS.get(stop.lower(), stop)
    meaning.response_id, meaning.response_model = short(line.get("responseId")), short(line.get("responseModel"))
    meaning.is_streaming = truth(run.asked.get("gen_ai.request.stream"))
    meaning.ttft_ns = run.first_ns - start if start <= run.first_ns <= end + 1_000_000_000 else None
    meaning.http_status = run.status
    meaning.request_id = run.request_id
    if own is not None:
        meaning.http_status = own.status if own.status is not None else meaning.http_status
        meaning.request_id = own.request_id or meaning.request_id
    if is_failed:
        _fail(meaning, words(line.get("error")), stop)
    meaning.attempt = min(run.failures + 1, ATTEMPTS_MAX)
    run.failures = run.failures + 1 if stop == "error" else 0
    attributes = {**run.asked, "pi.stop_reason": stop, "pi.thinking_level": short(line.get("thinking")) or run.thinking}
    content = told("output", line.get("content"))
    span = _call(telling, run, run.above_steps, ("call", t), start, end, meaning, attributes, content)
    run.request_ns = run.first_ns = 0
    run.status, run.request_id, run.asked = None, "", {}
    _take_usage(telling, run, meaning, start, end)
    if sent:
        telling.hold(run, sent, span)
    else:
        telling.add(span)


def entered(telling: Telling, run: Run, line: Line, t: int) -> None:
    """Which entry of the session file a message became."""
    telling.release(run, time_ns(line.get("timestamp")), short(line.get("entry")))


def _fail(meaning: Meaning, error: str, stop: str) -> None:
    """How an attempt failed."""
    meaning.is_error = True
    meaning.error_message = error[:MESSAGE_MAX]
    status = HTTP_STATUS.match(error)
    if status:
        meaning.http_status = int(status[1])
    is_told = meaning.http_status is not None and meaning.http_status >= 400
    meaning.error_type = "aborted" if stop == "aborted" else str(meaning.http_status) if is_told else stop


def _attempts(telling: Telling, run: Run, is_failed: bool, t: int, above: str, kind: str = "") -> Exchange | None:
    """Tell of the failed attempts that only the network saw; returns the exchange that is the call's own."""
    seen, run.exchanges = run.exchanges, []
    own = next((e for e in reversed(seen) if is_failed or not e.is_failed), None)
    for exchange in seen:
        if exchange is own or not exchange.is_failed:
            continue
        meaning = telling.meaning(run, MODEL_CALL)
        meaning.is_call = meaning.is_error = True
        meaning.operation, meaning.provider, meaning.request_model = "chat", run.provider, _asked(run)
        meaning.http_status, meaning.request_id = exchange.status, exchange.request_id
        meaning.error_type = str(exchange.status) if exchange.status is not None else exchange.error
        meaning.finish_reason = "error"
        meaning.attempt = min(run.failures + 1, ATTEMPTS_MAX)
        run.failures += 1
        end = exchange.end_ns or t
        meaning.duration_ns = max(0, end - exchange.start_ns)
        key = ("attempt", exchange.number, exchange.start_ns)
        attributes: Attributes = {"pi.call.kind": kind or "attempt"}
        telling.add(_call(telling, run, above, key, exchange.start_ns, end, meaning, attributes))
    return own


def _asked(run: Run) -> str:
    return str(run.asked.get("llm.model") or run.model)


def meaning_of(telling: Telling, run: Run, given: Line) -> Meaning:
    """A model call's meaning from anything that carries provider, model and usage."""
    meaning = telling.meaning(run, MODEL_CALL)
    meaning.is_call = True
    meaning.operation = "chat"
    meaning.provider = provider(short(given.get("provider"))) or run.provider
    meaning.request_model = short(given.get("model")) or run.model
    usage = record(given.get("usage"))
    meaning.usage = usage_of(usage, usage.get("reasoning"))
    if meaning.usage is not None and not meaning.usage.input_total and not meaning.usage.output:
        meaning.usage = None  # zeros stand for "never told": no call goes without any tokens
    take_cost(meaning, usage.get("cost"))
    return meaning


def _call(
    telling: Telling,
    run: Run,
    above: str,
    key: tuple[str | int, ...],
    start: int,
    end: int,
    meaning: Meaning,
    attributes: Attributes,
    *contents: Content,
) -> Span:
    """The span of a model call, named and described as the GenAI conventions say."""
    span_id = digest(8, run.span_id, *key)
    name = f"chat {meaning.request_model}".rstrip()
    described = {**attributes, **told_of({**conventions(meaning), "pi.attempt": meaning.attempt})}
    return telling.span(run, span_id, above, name, start, end, described, meaning, *contents, kind=CLIENT)


def _take_usage(telling: Telling, run: Run, meaning: Meaning, start: int, end: int) -> None:
    """Count a call's tokens, for the metrics and for the totals of turn and session."""
    usage = meaning.usage
    if usage is None:
        return
    labels = {"llm.model": meaning.request_model}
    total, output = usage.input_total or 0, usage.output or 0
    telling.count("pi.tokens.input", total, labels, start, end, "tokens")
    telling.count("pi.tokens.output", output, labels, start, end, "tokens")
    run.input_tokens += total
    run.output_tokens += output
    if run.turn:
        sums = run.turn_usage
        for name, number in (
            ("llm.usage.input_tokens", usage.input_uncached),
            ("llm.usage.output_tokens", output),
            ("llm.usage.cache_read_tokens", usage.cache_read),
            ("llm.usage.cache_write_tokens", usage.cache_write),
            ("llm.usage.total_tokens", total + output),
        ):
            sums[name] = sums.get(name, 0) + (number or 0)


# Beside the conversation


def aside_begun(telling: Telling, run: Run, line: Line, t: int) -> None:
    """A compaction or a branch summary begins: requests from here on are its own."""
    run.aside_ns = t
    run.exchanges.clear()


def compacted(telling: Telling, run: Run, line: Line, t: int) -> None:
    """The history was summed up, by a call that no message tells of."""
    facts = {
        "pi.compaction.reason": short(line.get("reason")),
        "pi.compaction.tokens_before": whole(line.get("tokensBefore")),
        "pi.compaction.will_retry": truth(line.get("willRetry")),
    }
    _aside(telling, run, line, t, "compaction", told_of(facts))


def branched(telling: Telling, run: Run, line: Line, t: int) -> None:
    """The user went to another branch; the one that was left may have been summed up."""
    if line.get("usage") or line.get("summary"):
        _aside(telling, run, line, t, "branch_summary", {})
    run.aside_ns = 0


def _aside(telling: Telling, run: Run, line: Line, t: int, kind: str, facts: Attributes) -> None:
    telling.event(run, f"session.{kind}", t, facts, told("output", line.get("summary")), span_id=run.above_asides)
    if line.get("usage") or line.get("fromExtension") is not True:
        start = run.aside_ns or t
        seen = sum(not e.is_failed for e in run.exchanges)
        own = _attempts(telling, run, False, t, run.above_asides, kind)
        meaning = meaning_of(telling, run, line)
        meaning.message_id = short(line.get("entry"))
        meaning.duration_ns = max(0, t - start)
        if own is not None:
            meaning.http_status, meaning.request_id = own.status, own.request_id
        if seen > 1:
            facts = {**facts, "pi.call.requests": seen}
        facts = {"pi.call.kind": kind, **facts}
        telling.add(_call(telling, run, run.above_asides, (kind, t), start, t, meaning, facts))
        _take_usage(telling, run, meaning, start, t)
    run.failures = run.aside_ns = 0


def compaction_failed(telling: Telling, run: Run, line: Line, t: int) -> None:
    """No summary came about: what was asked of the provider are failed calls."""
    error = words(line.get("error"))
    is_aborted = line.get("aborted") is True
    facts = {"pi.compaction.reason": short(line.get("reason")), "error.message": error[:MESSAGE_MAX]}
    telling.event(run, "session.compaction_failed", t, facts, span_id=run.above_asides)
    start = run.aside_ns or t
    own = _attempts(telling, run, True, t, run.above_asides, "compaction")
    if own is not None or HTTP_STATUS.match(error):
        meaning = meaning_of(telling, run, line)
        if own is not None:
            meaning.http_status, meaning.request_id = own.status, own.request_id
        _fail(meaning, error, "aborted" if is_aborted else "error")
        meaning.finish_reason = "error"
        meaning.attempt = min(run.failures + 1, ATTEMPTS_MAX)
        attributes: Attributes = {"pi.call.kind": "compaction"}
        telling.add(_call(telling, run, run.above_asides, ("compaction", t), start, t, meaning, attributes))
    run.failures = run.aside_ns = 0


def used(telling: Telling, run: Run, line: Line, t: int) -> None:
    """A usage entry of the session file, such as the warming of the cache."""
    if not record(line.get("usage")):
        return
    when, entry = time_ns(line.get("at")) or t, short(line.get("entry"))
    meaning = meaning_of(telling, run, line)
    meaning.message_id, meaning.is_timed = entry, False
    attributes: Attributes = {"pi.call.kind": short(line.get("kind")) or "usage"}
    key = ("usage", entry or t)
    telling.add(_call(telling, run, run.above_asides, key, when, when, meaning, attributes))
    _take_usage(telling, run, meaning, when, when)


def tool_used(telling: Telling, run: Run, line: Line, span_id: str, start: int, t: int) -> None:
    """What models used within a tool run: its own calls, or those of the sub-agents that it started.

    Of sub-agents each call may be told by a spool of its own. So their sum is a roll-up at the place of the tool run,
    which the ledger leaves out as soon as it finds calls below it.
    """
    call_id, agents, own = short(line.get("id")), items(line.get("subagents")), record(line.get("usage"))
    if agents:
        summed = _summed(agents) or ({"usage": own} if own else None)
        if summed is not None:
            meaning = meaning_of(telling, run, summed)
            meaning.provider, meaning.request_model = provider(summed.get("provider", "")), summed.get("model", "")
            meaning.is_rollup, meaning.tool_call_id, meaning.duration_ns = True, call_id, max(0, t - start)
            facts = told_of({"pi.call.kind": "subagents", "pi.call.turns": summed.get("turns")})
            telling.event(run, "subagents", t, facts, span_id=span_id, meaning=meaning)
    elif own:
        meaning = meaning_of(telling, run, {"usage": own, "model": own.get("model"), "provider": own.get("provider")})
        meaning.tool_call_id, meaning.duration_ns = call_id, max(0, t - start)
        attributes: Attributes = {"pi.call.kind": "tool_usage"}
        span = _call(telling, run, span_id, ("tool_usage", call_id, t), start, t, meaning, attributes)
        telling.hold(run, call_id, span)
        _take_usage(telling, run, meaning, start, t)


_SUMMED: Final = ("input", "output", "cacheRead", "cacheWrite")


def _summed(agents: list[Line]) -> Line | None:
    """The usage of all sub-agents of a tool run; None where none used any."""
    usages = [record(one.get("usage")) for one in agents]
    usage: Line = {name: sum(whole(used.get(name)) or 0 for used in usages) for name in _SUMMED}
    if not any(usage.values()):
        return None
    amounts = [whole(used.get("cost"), 1_000_000_000) for used in usages if not isinstance(used.get("cost"), dict)]
    if len(amounts) == len(usages) and None not in amounts:
        usage["cost"] = sum(amount or 0 for amount in amounts) / 1_000_000_000
    models = {short(one.get("model")) for one in agents}
    maker, slash, model = models.pop().partition("/") if len(models) == 1 else ("", "", "")
    turns = sum(whole(used.get("turns")) or 0 for used in usages)
    return {"usage": usage, "provider": maker if slash else "", "model": model or maker, "turns": turns}
