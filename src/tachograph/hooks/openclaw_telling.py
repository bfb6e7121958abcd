"""Tells what OpenClaw's agents did as spans and events: requests, turns, model calls and tool runs."""

from __future__ import annotations

from typing import Any

from tachograph.hooks.openclaw_run import NAME, Call, Chat, Process, Request, Tool, Turn, meaning_of, when
from tachograph.hooks.spans import (
    ATTEMPTS_MAX,
    CLIENT,
    ERROR,
    FAILED,
    HTTP_STATUS,
    INTERNAL,
    IS_OPEN,
    MESSAGE_MAX,
    conventions,
    digest,
    filled,
    short,
    take_cost,
    told_of,
    usage_of,
)
from tachograph.lines import SCOPES, Page, record, time_ns, told, words
from tachograph.model import (
    MODEL_CALL,
    PROMPT,
    STEP,
    TOOL_RUN,
    TURN,
    Attributes,
    Content,
    Event,
    Meaning,
    Source,
    Span,
)
from tachograph.vocabulary import FINISH_REASONS, provider, whole

Line = dict[str, Any]


class Telling:
    """One piece of a spool while it is read: makes the records of what its lines tell."""

    def __init__(self, page: Page, process: Process) -> None:
        self.page = page
        self.know(process)

    def know(self, process: Process) -> None:
        """From here on, another process tells."""
        self.process = process
        self.source = Source(process.resource or {"service.name": NAME}, scope_name=SCOPES["hook"] + NAME)

    def event(
        self, chat: Chat, name: str, t: int, attributes: Attributes, *contents: Content, meaning: Meaning | None = None
    ) -> Event:
        """Add a record of something that took no time, within what is open of a conversation."""
        request, turn = chat.request, chat.turn
        above = turn.span_id if turn else request.span_id if request else ""
        made = Event(
            source=self.source,
            time_ns=t,
            name=f"{NAME}.{name}",
            attributes=told_of(attributes),
            trace_id=request.trace_id if request else "",
            span_id=above,
            origin="hook",
            meaning=meaning or meaning_of(self.process, chat, STEP),
            contents=filled(contents),
        )
        self.page.events.append(made)
        return made

    def request(self, chat: Chat, end_ns: int) -> None:
        """Tell of the request as it is now."""
        request = chat.request
        if request is None or request.is_aside or end_ns <= request.shown_ns:
            return
        meaning = meaning_of(self.process, chat, PROMPT)
        attributes = {**_place(chat), **request.facts}
        if not request.end_ns:
            attributes[IS_OPEN] = True
        prompt = [told("prompt", request.prompt)] if request.prompt is not None else []
        name = f"{NAME}.request"
        self._span(request, request.span_id, "", name, (request.begun_ns, end_ns), attributes, meaning, *prompt)
        request.shown_ns = end_ns

    def turn(self, chat: Chat, turn: Turn, end_ns: int) -> None:
        """Tell of a run of the agent loop as it is now."""
        request = chat.request
        if request is None or (turn.end_ns and turn.shown_ns == turn.end_ns):
            return
        turn.shown_ns = turn.end_ns
        meaning = meaning_of(self.process, chat, TURN)
        meaning.is_error, meaning.error_message = turn.is_error, turn.error
        attributes = {**_place(chat), "openclaw.run.id": turn.run, **turn.facts}
        if not turn.end_ns:
            attributes[IS_OPEN] = True
        times = (turn.begun_ns, end_ns)
        span = self._span(request, turn.span_id, request.span_id, f"{NAME}.agent.turn", times, attributes, meaning)
        span.links = [{**link, "dropped": 0, "flags": 0} for link in turn.links] or None

    def tool(self, chat: Chat, tool: Tool, call_id: str, line: Line, end_ns: int, is_open: bool = False) -> None:
        """Tell of a tool run, or that it goes on."""
        request, turn = chat.request, chat.turn
        if request is None or turn is None:
            return
        meaning = meaning_of(self.process, chat, TOOL_RUN)
        meaning.operation, meaning.tool_name, meaning.tool_call_id = "execute_tool", tool.name, call_id
        meaning.is_error = line.get("isError") is True
        if meaning.is_error:
            meaning.error_message = words(line.get("error"))[:MESSAGE_MAX]
            meaning.error_type = "tool_error"
        attributes: Attributes = {
            "gen_ai.operation.name": "execute_tool",
            "gen_ai.tool.name": tool.name,
            "gen_ai.tool.call.id": call_id,
            "openclaw.tool.status": short(line.get("status")),
            "openclaw.tool.exit_code": whole(line.get("exit")),
            IS_OPEN: is_open or None,
        }
        span_id = digest(8, turn.span_id, "tool", call_id or tool.start_ns)
        contents = [told("arguments", tool.args), told("result", line.get("result"))]
        times = (tool.start_ns, end_ns)
        self._span(request, span_id, turn.span_id, f"tool.{tool.name}", times, attributes, meaning, *contents)

    def compaction(self, chat: Chat, line: Line, t: int) -> None:
        """The history was made shorter; what a model was asked for it stands in the transcript alone."""
        facts: Attributes = {
            "openclaw.compaction.messages": whole(line.get("messageCount")),
            "openclaw.compaction.compacted": whole(line.get("compactedCount")),
            "openclaw.compaction.tokens": whole(line.get("tokenCount")),
            "openclaw.compaction.previous_session": short(line.get("previousSessionId")),
        }
        request, turn, start = chat.request, chat.turn, chat.compacting_ns or t
        meaning, name = meaning_of(self.process, chat, STEP), f"{NAME}.compaction"
        if turn is not None and request is not None:
            span_id = digest(8, request.span_id, "compaction", start)
            self._span(request, span_id, turn.span_id, name, (start, t), facts, meaning)
        elif request is not None and request.is_aside:
            self._span(request, request.span_id, "", name, (request.begun_ns, t), facts, meaning)
        else:
            self.event(chat, "compaction", t, facts)

    def call(self, chat: Chat, call: Call) -> None:
        """Tell of a model call: how long it took, and what its message says of tokens, money and outcome."""
        request, turn = chat.request, chat.turn
        end, message = call.end or {}, call.message or {}
        if request is None:
            return
        meaning = self._call_meaning(chat, call, {**call.start, **end}, message)
        lasted = whole(end.get("durationMs"), 1_000_000)
        ended = call.begun_ns + lasted if lasted is not None else call.end_ns or call.begun_ns
        meaning.duration_ns = max(0, ended - call.begun_ns)
        meaning.is_timed = call.end is not None or ended > call.begun_ns
        meaning.ttft_ns = whole(end.get("firstByteMs"), 1_000_000)
        _outcome(meaning, end, message)
        is_aside = is_compaction(call.start.get("r"))
        meaning.attempt = None if is_aside else min(request.failures + 1, ATTEMPTS_MAX)
        request.failures = request.failures + 1 if meaning.is_error and meaning.error_type != "aborted" else 0
        attributes = {
            "openclaw.call.id": short(call.start.get("callId")),
            "openclaw.call.kind": "compaction" if is_aside else "",
            "openclaw.api": short(message.get("api")) or short(call.start.get("api")),
            "openclaw.stop_reason": short(message.get("stop")),
            "openclaw.request_bytes": whole(end.get("requestBytes")),
            "openclaw.response_bytes": whole(end.get("responseBytes")),
            "openclaw.error_category": short(end.get("errorCategory")),
            **conventions(meaning),
        }
        name = f"chat {meaning.request_model}".rstrip()
        output = told("output", message.get("content"))
        times = (call.begun_ns, ended)
        above = turn.span_id if turn else request.span_id
        span = self._span(request, call.span_id, above, name, times, attributes, meaning, output)
        span.kind = CLIENT

    def announce(self, chat: Chat, call: Call) -> None:
        """A call that has no end yet: should none ever come, this is what remains of it.

        It says less than the call, so it stands beside it as a record of its own, within the call's span.
        """
        meaning = self._call_meaning(chat, call, call.start, {})
        meaning.is_rollup = True
        event = self.event(chat, "model_call_started", call.begun_ns, {}, meaning=meaning)
        event.origin, event.span_id = "log", call.span_id

    def _call_meaning(self, chat: Chat, call: Call, given: Line, message: Line) -> Meaning:
        meaning = meaning_of(self.process, chat, MODEL_CALL)
        meaning.is_call = True
        meaning.operation = "chat"
        meaning.provider = provider(short(message.get("provider")) or short(given.get("provider")))
        meaning.request_model = short(given.get("model")) or short(message.get("model"))
        answered = short(message.get("responseModel")) or short(message.get("model"))
        meaning.response_model = answered if answered != meaning.request_model else ""
        meaning.response_id = short(message.get("responseId"))
        usage = record(message.get("usage"))
        reasoning = usage.get("reasoningTokens")
        meaning.usage = usage_of(usage, usage.get("reasoning") if reasoning is None else reasoning)
        take_cost(meaning, record(usage.get("cost")))
        return meaning

    def _span(
        self,
        request: Request,
        span_id: str,
        above: str,
        name: str,
        times: tuple[int, int],
        attributes: Attributes,
        meaning: Meaning,
        *contents: Content,
    ) -> Span:
        start, end = times
        span = Span(
            source=self.source,
            trace_id=request.trace_id,
            span_id=span_id,
            parent_id=above,
            name=name,
            kind=INTERNAL,
            start_ns=start,
            end_ns=max(start, end),
            attributes=told_of(attributes),
            status_code=ERROR if meaning.is_error else 0,
            status_message=meaning.error_message if meaning.is_error else "",
            meaning=meaning,
            contents=filled(contents),
        )
        self.page.spans.append(span)
        return span


def _place(chat: Chat) -> Attributes:
    return {"openclaw.session.key": chat.key, "openclaw.agent.id": chat.agent, "openclaw.channel": chat.channel}


def _outcome(meaning: Meaning, end: Line, message: Line) -> None:
    """How a call ended; zeros of one that failed stand for tokens that nobody told."""
    stop = words(message.get("stop"))
    meaning.finish_reason = FINISH_REASONS.get(stop.lower(), short(stop))
    if stop not in FAILED and (stop or end.get("outcome") != "error"):
        return
    kind = short(end.get("failureKind"))
    error = words(message.get("error"))
    status = HTTP_STATUS.match(error) or HTTP_STATUS.match(words(message.get("errorCode")))
    meaning.is_error = True
    meaning.finish_reason = meaning.finish_reason or "error"
    meaning.http_status = int(status[1]) if status else None
    meaning.error_message = error[:MESSAGE_MAX]
    is_aborted = stop == "aborted" or kind == "aborted"
    meaning.error_type = "aborted" if is_aborted else status[1] if status else kind or stop or "error"
    usage = meaning.usage
    if usage is not None and not usage.input_total and not usage.output:
        meaning.usage = None


def is_compaction(run: Any) -> bool:
    """Whether a run is one that makes the history shorter; its id says so."""
    return ":compaction:" in words(run)


def alone(chat: Chat, message: Line) -> Call:
    """The call of a message that no other line told of: its harness has no hooks for calls."""
    sent = time_ns(message.get("timestamp")) or when(message)
    ended = when(message) if message.get("late") is not True else sent
    seed = short(message.get("responseId")) or sent
    call = Call(digest(8, chat.request.span_id if chat.request else chat.key, "call", seed), sent, {})
    call.message, call.end_ns = message, max(sent, ended)
    return call
