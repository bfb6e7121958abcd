"""OpenClaw, live: what its plugin appends to the spool -> requests, turns, model calls and tool runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import msgspec

from tachograph.config import Surroundings
from tachograph.hooks import openclaw_run
from tachograph.hooks.openclaw_run import (
    CALLS_MAX,
    CHATS_MAX,
    TOOLS_MAX,
    Call,
    Chat,
    State,
    Tool,
    begin_aside,
    begin_turn,
    kind_of,
    learn,
    process_of,
    restored,
    trace_of,
    when,
)
from tachograph.hooks.openclaw_telling import Line, Telling, alone, is_compaction
from tachograph.hooks.spans import digest, short
from tachograph.lines import Page, read_lines, record, time_ns, told, words
from tachograph.model import Batch
from tachograph.vocabulary import truth, whole

NAME: Final = openclaw_run.NAME

Step = Callable[[Telling, Chat, Line, int], None]

# An answer names the moment its call began; two clocks within one process differ by less.
_SAME_NS: Final = 50_000_000
# Of a message that no run has taken up yet; and what is kept of an answer whose call goes on.
_TEXT_MAX: Final = 16_384
_OF_ANSWERS: Final = {
    *("t", "timestamp", "provider", "model", "api", "responseId", "responseModel", "usage"),
    *("stop", "error", "errorCode"),
}


def discover(where: Surroundings) -> Iterator[Path]:
    """The files of the spool, oldest first."""
    yield from sorted((where.spool / NAME).glob("*.jsonl"))


def is_mine(path: Path, first: dict[str, Any]) -> bool:
    """Whether a file whose first line is this was written by the plugin."""
    return first.get("e") == "open" and "openclaw" in first and "pid" in first


def read(path: Path, since: str) -> tuple[Batch, str]:
    """What the lines after `since` tell, and the position after them."""
    reading = Reading()
    return read_lines(path, since, NAME, reading.understand, origin="hook", finish=reading.finish)


class Reading:
    """One piece of a spool file, line by line."""

    def __init__(self) -> None:
        self._told: tuple[State, Telling] | None = None

    def understand(self, line: dict[str, Any], state: dict[str, Any], page: Page) -> None:
        """Make the records of one line."""
        known, telling = self._begun(state, page)
        event, t = words(line.get("e")), when(line)
        if not event or not t:
            return
        if event == "open":
            known.process = process_of(line)
            telling.know(known.process)
            return
        key = next((name for part in ("k", "s", "parent", "child") if (name := short(line.get(part)))), "")
        if event in _PROCESS_STEPS:
            _PROCESS_STEPS[event](telling, known.chats.get(key) or Chat(key), line, t)
            return
        if event == "subagent_spawned":
            _spawned(telling, known, line, t)
        elif event in _STEPS and key:
            chat = _chat(telling, known, key)
            chat.last_ns = t
            learn(chat, line)
            _STEPS[event](telling, chat, line, t)

    def finish(self, page: Page) -> None:
        """Show what is open, and remember it."""
        if self._told is None:
            return
        known, telling = self._told
        for chat in known.chats.values():
            _show(telling, chat)
        page.state["spool"] = msgspec.to_builtins(known)

    def _begun(self, state: dict[str, Any], page: Page) -> tuple[State, Telling]:
        if self._told is None:
            known = restored(state)
            self._told = (known, Telling(page, known.process))
        return self._told


def _chat(telling: Telling, known: State, key: str) -> Chat:
    """The conversation with this key, now the last one heard of; the one that was silent longest makes room."""
    chat = known.chats.pop(key, None) or Chat(key)
    known.chats[key] = chat
    while len(known.chats) > CHATS_MAX:
        _close(telling, known.chats.pop(next(iter(known.chats))))
    return chat


def _show(telling: Telling, chat: Chat) -> None:
    """Tell of what goes on, so that it is seen before it ends."""
    turn = chat.turn
    chat.asked = _bounded(chat.asked)
    for call in chat.calls:
        telling.announce(chat, call)
        call.message = call.message and {name: call.message[name] for name in _OF_ANSWERS & call.message.keys()}
    if turn is not None and turn.end_ns:
        telling.turn(chat, turn, turn.end_ns)  # its totals may follow
        telling.request(chat, turn.end_ns)
    elif turn is not None:
        for call_id, tool in turn.tools.items():
            telling.tool(chat, tool, call_id, {}, tool.start_ns, is_open=True)
            tool.args = None
        telling.turn(chat, turn, chat.last_ns)
        telling.request(chat, chat.last_ns)
    if chat.request is not None:
        chat.request.prompt = _bounded(chat.request.prompt)


def _bounded(text: Any) -> Any:
    """As much of a text as is remembered from one piece to the next."""
    if isinstance(text, str):
        return text[:_TEXT_MAX]
    return text if len(msgspec.json.encode(text)) <= _TEXT_MAX else None


# The request


def _asked(telling: Telling, chat: Chat, line: Line, t: int) -> None:
    """Somebody wrote a message, or what stands for one; a run takes it up soon after, or has already."""
    text, request = line.get("text"), chat.request
    if chat.turn is None or chat.turn.end_ns:
        chat.asked_ns = chat.asked_ns or t
        chat.asked = chat.asked if chat.asked is not None else text
    elif request is not None and not request.is_asked:
        request.prompt, request.is_asked = text, text is not None
    elif request is not None and request.turns == 1:
        facts = {"openclaw.message.chars": whole(line.get("chars"))}
        telling.event(chat, "message_received", t, facts, told("prompt", text))


def _sent(telling: Telling, chat: Chat, line: Line, t: int) -> None:
    """An answer went out: the request lasts until then."""
    facts = {
        "openclaw.channel": chat.channel,
        "openclaw.message.chars": whole(line.get("chars")),
        "openclaw.message.success": truth(line.get("success")),
        "error.message": words(line.get("error")),
    }
    if not chat.session:
        return
    event = telling.event(chat, "message_sent", t, facts)
    if event.meaning is not None and line.get("success") is False:
        event.meaning.is_error = True
    if chat.request is not None and chat.request.end_ns and chat.turn is None:
        chat.request.end_ns = t
        telling.request(chat, t)


# The turn


def _prompted(telling: Telling, chat: Chat, line: Line, t: int) -> None:
    """An attempt at a request begins."""
    _close_turn(telling, chat)
    turn = begin_turn(chat, line, t, is_told=True)
    turn.facts = {
        "openclaw.workspace": short(line.get("cwd")),
        "openclaw.prompt.chars": whole(line.get("chars")),
        "openclaw.system_prompt.chars": whole(line.get("systemChars")),
        "openclaw.history.messages": whole(line.get("history")),
        "openclaw.images": whole(line.get("images")),
        "openclaw.tools": whole(line.get("tools")),
    }
    if chat.request is not None:
        chat.request.facts = {
            "openclaw.trigger": short(line.get("trigger")) or kind_of(chat.key),
            "openclaw.provenance": short(line.get("provenance")),
            "openclaw.cron.job": short(line.get("job")),
            "openclaw.account": short(line.get("account")),
        }


def _in_turn(telling: Telling, chat: Chat, line: Line, t: int) -> bool:
    """Make sure that a turn is open for what happens in one; whether it could be."""
    run, turn = short(line.get("r")), chat.turn
    if is_compaction(run):
        if turn is None and (chat.request is None or not chat.request.is_aside):
            begin_aside(chat, line, t)
    elif turn is None or (run and turn.run and run != turn.run):
        if not run:
            return False
        _close_turn(telling, chat)
        begin_turn(chat, line, t, is_told=False)
    if chat.turn is not None:
        chat.turn.last_ns = t
    return True


def _ended(telling: Telling, chat: Chat, line: Line, t: int) -> None:
    """A run is over; its totals follow."""
    turn = chat.turn
    if turn is None or (short(line.get("r")) or turn.run) != turn.run:
        return
    _flush_calls(telling, chat)
    turn.end_ns = t
    turn.error = words(line.get("error"))
    turn.is_error = line.get("success") is False or bool(turn.error)


def _totals(telling: Telling, chat: Chat, line: Line, t: int) -> None:
    """What a run used in all: shown, and never counted beside its calls."""
    turn = chat.turn
    if turn is None or (short(line.get("r")) or turn.run) != turn.run:
        return
    usage = record(line.get("usage"))
    turn.facts |= {
        "openclaw.harness.id": short(line.get("harnessId")),
        "openclaw.model": short(line.get("resolvedRef")),
        "openclaw.reasoning_effort": short(line.get("reasoningEffort")),
        "openclaw.fast_mode": truth(line.get("fastMode")),
        "openclaw.turn.input_tokens": whole(usage.get("input")),
        "openclaw.turn.output_tokens": whole(usage.get("output")),
        "openclaw.turn.cache_read_tokens": whole(usage.get("cacheRead")),
        "openclaw.turn.cache_write_tokens": whole(usage.get("cacheWrite")),
    }
    if turn.end_ns:
        turn.end_ns = t
        _close_turn(telling, chat)


def _close_turn(telling: Telling, chat: Chat) -> None:
    """Tell of a turn for the last time, and of its request as far as it is known."""
    turn = chat.turn
    _flush_calls(telling, chat)
    if turn is None:
        return
    end = turn.end_ns = turn.end_ns or turn.last_ns
    for call_id, tool in turn.tools.items():
        telling.tool(chat, tool, call_id, {}, end)
    telling.turn(chat, turn, end)
    if chat.request is not None:
        chat.request.end_ns = end
        telling.request(chat, end)
    chat.turn = None


# The model call


def _call_started(telling: Telling, chat: Chat, line: Line, t: int) -> None:
    if _in_turn(telling, chat, line, t):
        _flush_calls(telling, chat)
        _begin_call(chat, line, t)


def _begin_call(chat: Chat, line: Line, begun_ns: int) -> Call:
    own = trace_of(line)[1]
    span_id = own or digest(8, chat.key, "call", short(line.get("callId")), begun_ns)
    kept = {name: short(line.get(name)) for name in ("callId", "provider", "model", "api", "r")}
    call = Call(span_id, begun_ns, kept)
    chat.calls = [*chat.calls[-CALLS_MAX + 1 :], call]
    return call


def _call_ended(telling: Telling, chat: Chat, line: Line, t: int) -> None:
    if not _in_turn(telling, chat, line, t):
        return
    own, call_id = trace_of(line)[1], short(line.get("callId"))
    known = [c for c in chat.calls if c.end is None and (c.span_id == own or (c.start.get("callId") == call_id))]
    lasted = whole(line.get("durationMs"), 1_000_000) or 0
    call = known[-1] if known else _begin_call(chat, line, max(0, t - lasted))
    names = ("durationMs", "outcome", "errorCategory", "failureKind", "firstByteMs", "requestBytes", "responseBytes")
    call.end, call.end_ns = {name: line[name] for name in names if name in line}, t
    if call.message is not None:
        _tell_call(telling, chat, call)


def _answered(telling: Telling, chat: Chat, line: Line, t: int) -> None:
    """An answer, or how an attempt failed: it belongs to the call that began at the moment it names."""
    if line.get("provider") == NAME:
        return  # what OpenClaw itself put into the conversation, such as a copy of what it sent
    sent = time_ns(line.get("timestamp"))
    waiting = [call for call in chat.calls if call.message is None]
    near = [call for call in waiting if abs(call.begun_ns - sent) <= _SAME_NS]
    before = [call for call in waiting if call.begun_ns <= t] if line.get("late") is not True else []
    call = min(near, key=lambda c: abs(c.begun_ns - sent)) if near else before[0] if before else None
    if call is None:
        if _in_turn(telling, chat, line, t):
            telling.call(chat, alone(chat, line))
        return
    call.message = line
    if chat.turn is not None:
        chat.turn.last_ns = t
    if call.end is not None:
        _tell_call(telling, chat, call)


def _tell_call(telling: Telling, chat: Chat, call: Call) -> None:
    chat.calls = [other for other in chat.calls if other is not call]
    telling.call(chat, call)


def _flush_calls(telling: Telling, chat: Chat) -> None:
    """Tell of the calls whose message, or whose end, will not come any more."""
    for call in list(chat.calls):
        _tell_call(telling, chat, call)


# The tool run


def _tool_started(telling: Telling, chat: Chat, line: Line, t: int) -> None:
    if not _in_turn(telling, chat, line, t) or chat.turn is None:
        return
    tool = Tool(short(line.get("name")) or "tool", t, line.get("params"))
    if len(chat.turn.tools) < TOOLS_MAX:
        chat.turn.tools[short(line.get("id"))] = tool


def _tool_ended(telling: Telling, chat: Chat, line: Line, t: int) -> None:
    if not _in_turn(telling, chat, line, t) or chat.turn is None:
        return
    call_id = short(line.get("id"))
    lasted = whole(line.get("durationMs"), 1_000_000) or 0
    tool = chat.turn.tools.pop(call_id, None) or Tool(short(line.get("name")) or "tool", max(0, t - lasted))
    telling.tool(chat, tool, call_id, line, t)


# The session


def _spawned(telling: Telling, known: State, line: Line, t: int) -> None:
    """A sub-agent was started by the tool run that is open in the conversation that asked for it."""
    child_key = short(line.get("child"))
    parent = known.chats.get(short(line.get("parent")) or short(line.get("k")))
    if not child_key:
        return
    child = _chat(telling, known, child_key)
    child.agent = short(line.get("childAgent")) or child.agent
    child.subagent = short(line.get("label")) or child.agent or "subagent"
    if parent is None:
        return
    child.parent_session = parent.session
    child.channel, child.sender = parent.channel, parent.sender
    open_tools = list(parent.turn.tools) if parent.turn else []
    child.parent_tool_call = open_tools[-1] if open_tools else ""
    facts = {"openclaw.subagent.label": child.subagent, "openclaw.subagent.key": child_key}
    telling.event(parent, "subagent_spawned", t, {**facts, "gen_ai.request.model": short(line.get("model"))})


def _happened(telling: Telling, chat: Chat, line: Line, t: int) -> None:
    """Something that is told as it came: its short facts."""
    skipped = ("e", "t", "k", "s", "r", "a", "tr", "error", "name")
    facts = {f"openclaw.{name}": _fact(value) for name, value in line.items() if name not in skipped}
    error = words(line.get("error"))
    name = words(line.get("e"))[:100]
    event = telling.event(chat, name, t, {**facts, "error.message": error}, told("prompt", line.get("name")))
    is_bad = line.get("status") == "error" or line.get("outcome") in ("error", "timeout", "killed")
    if event.meaning is not None and (error or is_bad):
        event.meaning.is_error, event.meaning.error_message = True, error


def _fact(value: Any) -> Any:
    return short(value) if isinstance(value, str) else value if isinstance(value, bool | int | float) else None


def _session_ended(telling: Telling, chat: Chat, line: Line, t: int) -> None:
    _close_turn(telling, chat)
    _happened(telling, chat, line, t)
    chat.request, chat.asked, chat.asked_ns = None, None, 0


def _close(telling: Telling, chat: Chat) -> None:
    _close_turn(telling, chat)


def _compacting(telling: Telling, chat: Chat, line: Line, t: int) -> None:
    chat.compacting_ns = t


def _compacted(telling: Telling, chat: Chat, line: Line, t: int) -> None:
    """The history is shorter; a compaction between two requests is over."""
    _flush_calls(telling, chat)
    telling.compaction(chat, line, t)
    chat.compacting_ns = 0
    if chat.request is not None and chat.request.is_aside:
        chat.request = None


_STEPS: Final[dict[str, Step]] = {
    "user": _asked,
    "message_received": _asked,
    "message_sent": _sent,
    "llm_input": _prompted,
    "llm_output": _totals,
    "agent_end": _ended,
    "model_call_started": _call_started,
    "model_call_ended": _call_ended,
    "assistant": _answered,
    "before_tool_call": _tool_started,
    "after_tool_call": _tool_ended,
    "before_compaction": _compacting,
    "after_compaction": _compacted,
    "session_start": _happened,
    "session_end": _session_ended,
    "before_reset": _happened,
    "subagent_ended": _happened,
}
# What belongs to no conversation, or is no reason to remember one.
_PROCESS_STEPS: Final[dict[str, Step]] = {
    "gateway_start": _happened,
    "gateway_stop": _happened,
    "cron_changed": _happened,
    "lost": _happened,
}
