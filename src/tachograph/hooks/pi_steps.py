"""The session, prompts, turns and tool runs of a Pi process, and what the user and Pi did between them."""

from __future__ import annotations

import re
from typing import Any, Final

from tachograph.hooks import pi_calls
from tachograph.hooks.pi_run import (
    EVENTS_MAX,
    Run,
    Tool,
    open_prompt,
    open_tool,
    open_turn,
    use_model,
)
from tachograph.hooks.pi_telling import Telling, happening
from tachograph.hooks.spans import IS_OPEN, digest, folder_name, short, told_of
from tachograph.lines import record, time_ns, told, words
from tachograph.model import FORK, PROMPT, SESSION, SUBAGENT, TOOL_RUN, TURN, Attributes
from tachograph.vocabulary import truth, whole

Line = dict[str, Any]

# <timestamp>_<session id>.jsonl
_FILE_ID: Final = re.compile(r"_([0-9a-f]{8}-[0-9a-f-]{27})\.jsonl$")
_ERROR_MAX: Final = 300

# The session


def facts(telling: Telling, run: Run, line: Line, t: int) -> None:
    """What `open` and `session_start` say of a session."""
    use_model(run, line.get("model"))
    run.thinking = short(line.get("thinking")) or run.thinking
    origin = _FILE_ID.search(words(line.get("parent_session")))
    if run.parent_session_id and telling.process.parent_session_id == run.parent_session_id:
        run.lineage = SUBAGENT
    elif origin and origin[1] != run.session:
        run.parent_session_id, run.lineage = origin[1], FORK
    run.facts |= told_of(
        {
            "session.cwd": short(line.get("cwd")),
            "pi.session.file": folder_name(short(line.get("session_file"))),
            "pi.session.reason": short(line.get("reason")),
            "pi.mode": short(line.get("mode")),
            "pi.content": short(line.get("content")),
        }
    )
    session_named(telling, run, line, t)


def session_named(telling: Telling, run: Run, line: Line, t: int) -> None:
    """The user gave the session a name, or had before."""
    name = short(line.get("name"))
    if name and name != run.name:
        telling.event(run, "session_name", t, {}, told("title", name), meaning=telling.meaning(run, SESSION))
    run.name = name or run.name


def session_ended(telling: Telling, run: Run, line: Line, t: int) -> None:
    """The process ends or turns to another session; a reload is neither."""
    if line.get("reason") == "reload":
        return
    close_prompt(telling, run, t)
    run.facts |= told_of({"pi.session.end": short(line.get("reason"))})
    _tell_session(telling, run, t, is_open=False)
    telling.measure("pi.session.duration", max(0, t - run.begun_ns) / 1e9, _model(run), run.begun_ns, t, "s")
    run.span_id = ""


def _model(run: Run) -> Attributes:
    return {"llm.model": run.model} if run.model else {}


def _tell_session(telling: Telling, run: Run, end: int, is_open: bool) -> None:
    totals = {"session.turns": run.turns, "session.prompts": run.prompts}
    if run.is_whole:
        totals |= {
            "session.tool_calls": run.tool_calls,
            "session.tokens.input": run.input_tokens,
            "session.tokens.output": run.output_tokens,
        }
    attributes = told_of(
        {
            "session.id": run.session,
            **run.facts,
            "llm.model": run.model,
            "pi.thinking_level": run.thinking,
            "process.pid": whole(telling.process.pid),
            **totals,
            IS_OPEN: is_open or None,
        }
    )
    meaning = telling.meaning(run, SESSION)
    meaning.prompt_id = ""
    args = (run, run.span_id, run.above, "session", run.begun_ns, end, attributes, meaning)
    telling.add(telling.span(*args, events=run.events, links=telling.process.links))


def model_changed(telling: Telling, run: Run, line: Line, t: int) -> None:
    """The session goes on with another model."""
    before = record(line.get("previous"))
    use_model(run, line.get("model"))
    attributes = told_of(
        {
            "llm.model": run.model,
            "gen_ai.provider.name": run.provider,
            "llm.model.previous": short(before.get("id")),
            "pi.source": short(line.get("source")),
        }
    )
    _remember(run, "model.changed", t, attributes)
    telling.event(run, "model.changed", t, attributes)


def thinking_changed(telling: Telling, run: Run, line: Line, t: int) -> None:
    """The session goes on with another thinking level."""
    run.thinking = short(line.get("level")) or run.thinking
    facts = {"pi.thinking_level": run.thinking, "pi.thinking_level.previous": short(line.get("previous"))}
    telling.event(run, "thinking_level.changed", t, told_of(facts))


def _remember(run: Run, name: str, t: int, attributes: Attributes) -> None:
    if len(run.events) < EVENTS_MAX:
        run.events.append(happening(name, t, attributes))


# The prompt


def asked(telling: Telling, run: Run, line: Line, t: int) -> None:
    """The user says something: a new prompt where the agent is idle, else a word to the one that runs."""
    behavior = short(line.get("behavior"))
    is_aside = bool(behavior) and bool(run.prompt)
    if not is_aside:
        close_prompt(telling, run, t)
        open_prompt(run, t)
        run.prompt_source = short(line.get("source"))
    facts = told_of(
        {
            "pi.input.source": short(line.get("source")),
            "pi.input.behavior": behavior,
            "pi.input.characters": whole(line.get("chars")),
            "pi.input.images": whole(line.get("images")),
        }
    )
    meaning = telling.meaning(run) if is_aside else telling.meaning(run, PROMPT)
    text = told("prompt", words(line.get("text")))
    telling.event(run, f"input.{behavior}" if is_aside else "input", t, facts, text, meaning=meaning)


def agent_started(telling: Telling, run: Run, line: Line, t: int) -> None:
    """The agent begins to work, or tries again."""
    if not run.prompt:
        open_prompt(run, t)
    if not run.has_run:
        run.prompts += 1
    run.has_run, run.stopped_ns = True, 0


def agent_stopped(telling: Telling, run: Run, line: Line, t: int) -> None:
    """The agent stops; it may try again."""
    close_turn(telling, run, t, "")
    run.stopped_ns = t


def agent_settled(telling: Telling, run: Run, line: Line, t: int) -> None:
    """The prompt is finished."""
    if line.get("aborted") is True:
        run.prompt_outcome = "aborted"
    run.stopped_ns = 0
    close_prompt(telling, run, t)


def close_prompt(telling: Telling, run: Run, t: int) -> None:
    """The open prompt and all in it ends now, or when the agent stopped."""
    close_turn(telling, run, t, "")
    if run.has_run:
        end = run.stopped_ns or t
        if run.prompt_outcome == "aborted":
            telling.event(run, "agent.aborted", end, {}, span_id=run.prompt)
        _tell_prompt(telling, run, end, is_open=False)
        telling.count("pi.prompts", 1, _model(run), run.prompt_ns, end)
    run.prompt = ""
    run.prompt_ns = run.stopped_ns = run.failures = 0
    run.has_run = False


def _tell_prompt(telling: Telling, run: Run, end: int, is_open: bool) -> None:
    attributes = told_of(
        {
            "session.id": run.session,
            "agent.turn_count": run.prompt_turns,
            "agent.outcome": run.prompt_outcome,
            "pi.input.source": run.prompt_source,
            "llm.model": run.model,
            IS_OPEN: is_open or None,
        }
    )
    meaning = telling.meaning(run, PROMPT)
    is_failed = run.prompt_outcome == "error"
    args = (run, run.prompt, run.span_id, "agent.prompt", run.prompt_ns, end, attributes, meaning)
    telling.add(telling.span(*args, is_failed=is_failed))


# The turn


def turn_started(telling: Telling, run: Run, line: Line, t: int) -> None:
    """A round of model call and tool runs begins."""
    close_turn(telling, run, t, "")
    if not run.prompt:  # set off by an extension
        agent_started(telling, run, line, t)
    run.turns += 1
    run.prompt_turns += 1
    open_turn(run, t, whole(line.get("turn")) or 0)


def turn_ended(telling: Telling, run: Run, line: Line, t: int) -> None:
    """The round is over; the entries of its tool results are known."""
    entries = line.get("results")
    if isinstance(entries, list) and len(entries) == len(run.turn_tools):
        for call_id, entry in zip(run.turn_tools, entries, strict=True):
            telling.release(run, call_id, f"{short(entry)}:usage")
    outcome = short(line.get("outcome"))
    if outcome:
        run.prompt_outcome = outcome
    close_turn(telling, run, t, outcome)


def close_turn(telling: Telling, run: Run, t: int, outcome: str) -> None:
    """The open turn ends now, and what runs in it with it."""
    for call_id in list(run.tools):
        _tell_tool(telling, run, run.tools.pop(call_id), call_id, t, {"tachograph.is_unfinished": True})
    if not run.turn:
        return
    _tell_turn(telling, run, t, outcome, is_open=False)
    telling.count("pi.turns", 1, _model(run), run.turn_ns, t)
    run.turn, run.turn_ns = "", 0


def _tell_turn(telling: Telling, run: Run, end: int, outcome: str, is_open: bool) -> None:
    attributes = told_of(
        {
            "turn.index": run.turn_index,
            "turn.number": run.turns,
            "turn.tool_results": len(run.turn_tools),
            "turn.outcome": outcome,
            **run.turn_usage,
            IS_OPEN: is_open or None,
        }
    )
    meaning = telling.meaning(run, TURN)
    args = (run, run.turn, run.prompt or run.span_id, "agent.turn", run.turn_ns, end, attributes, meaning)
    telling.add(telling.span(*args, events=run.turn_events, is_failed=outcome == "error"))


# The tool run


def tool_started(telling: Telling, run: Run, line: Line, t: int) -> None:
    """A tool begins to run."""
    tool = open_tool(telling.process, run, line, t)
    tool.args = line.get("args")
    run.tool_calls += 1


def tool_ended(telling: Telling, run: Run, line: Line, t: int) -> None:
    """A tool run is over."""
    call_id = short(line.get("id"))
    lasted = whole(line.get("durationMs"), 1_000_000)
    tool = run.tools.pop(call_id, None)
    if tool is None:
        tool = open_tool(telling.process, run, line, t - (lasted or 0))
        run.tools.pop(call_id, None)
    _tell_tool(telling, run, tool, call_id, t, line)
    pi_calls.tool_used(telling, run, line, tool.span_id, tool.start_ns, t)


def _tell_tool(telling: Telling, run: Run, tool: Tool, call_id: str, t: int, line: Line) -> None:
    lasted = whole(line.get("durationMs"), 1_000_000)
    meaning = telling.meaning(run, TOOL_RUN)
    meaning.tool_name, meaning.tool_call_id = tool.name, call_id
    meaning.duration_ns = lasted if lasted is not None else max(0, t - tool.start_ns)
    meaning.is_error = line.get("isError") is True
    code = whole(line.get("exit"))
    if meaning.is_error:
        meaning.error_type = f"exit_{code}" if code else "tool_error"
        meaning.error_message = " ".join(words(line.get("error"))[:_ERROR_MAX].split())
    attributes = told_of(
        {
            "tool.name": tool.name,
            "tool.call_id": call_id,
            "tool.is_error": meaning.is_error,
            "tool.duration_ms": meaning.duration_ns / 1e6,
            "process.exit.code": code,
            "gen_ai.operation.name": "execute_tool",
            "gen_ai.tool.name": tool.name,
            "gen_ai.tool.call.id": call_id,
            "error.type": meaning.error_type,
            "tachograph.is_unfinished": truth(line.get("tachograph.is_unfinished")),
        }
    )
    contents = (told("arguments", tool.args), told("result", line.get("result")))
    args = (run, tool.span_id, tool.above, f"tool.{tool.name}", tool.start_ns, t, attributes, meaning)
    telling.add(telling.span(*args, *contents))
    labels = {"tool.name": tool.name}
    telling.count("pi.tool.calls", 1, labels, tool.start_ns, t)
    if meaning.is_error:
        telling.count("pi.tool.errors", 1, labels, tool.start_ns, t)
    telling.measure("pi.tool.duration", meaning.duration_ns / 1e6, labels, tool.start_ns, t, "ms")


# The user


def bash(telling: Telling, run: Run, line: Line, t: int) -> None:
    """The user ran a command of his own."""
    facts = told_of({"pi.bash.is_excluded": truth(line.get("exclude"))})
    telling.event(run, "user.bash", t, facts, told("arguments", words(line.get("command"))))


def bash_ended(telling: Telling, run: Run, line: Line, t: int) -> None:
    """How that command ended, noticed later."""
    facts = {"process.exit.code": whole(line.get("exitCode")), "pi.bash.is_cancelled": truth(line.get("cancelled"))}
    telling.event(run, "user.bash.end", time_ns(line.get("at")) or t, told_of(facts))


def waiting(telling: Telling, run: Run, line: Line, t: int) -> None:
    """Pi waits for the user from now on."""
    run.asking_ns, run.asking = t, short(line.get("kind"))


def waited(telling: Telling, run: Run, line: Line, t: int) -> None:
    """The user answered."""
    if not run.asking_ns:
        return
    facts = told_of({"pi.ui.kind": run.asking or short(line.get("kind"))})
    title = told("prompt", words(line.get("title")))
    span_id, above = digest(8, run.span_id, "ui", run.asking_ns), run.above_steps
    args = (run, span_id, above, "waiting for the user", run.asking_ns, t, facts, telling.meaning(run))
    telling.add(telling.span(*args, title))
    run.asking_ns, run.asking = 0, ""


def cache_warming(telling: Telling, run: Run, line: Line, t: int) -> None:
    """Pi decided whether to keep the provider's cache warm."""
    facts = {f"pi.cache_warming.{name}": line.get(name) for name in ("action", "warmCost", "missCost", "probability")}
    plain = {name: value for name, value in facts.items() if isinstance(value, str | int | float)}
    telling.event(run, "cache_warming", t, {n: v[:100] if isinstance(v, str) else v for n, v in plain.items()})


# What is open


def show_open(telling: Telling, run: Run) -> None:
    """Tell of what has begun and not ended, once, so that it is seen while it goes on."""
    if run.shown_ns < 0:
        _tell_session(telling, run, run.begun_ns, is_open=True)
        run.shown_ns = run.begun_ns
    if run.prompt and run.has_run:
        end = run.stopped_ns or run.prompt_ns
        if run.prompt_shown_ns != end:
            _tell_prompt(telling, run, end, is_open=True)
            run.prompt_shown_ns = end
    if run.turn and run.turn_shown_ns < 0:
        _tell_turn(telling, run, run.turn_ns, "", is_open=True)
        run.turn_shown_ns = run.turn_ns
    for call_id, tool in run.tools.items():
        if not tool.is_shown:
            _show_tool(telling, run, tool, call_id)


def _show_tool(telling: Telling, run: Run, tool: Tool, call_id: str) -> None:
    """A tool that runs, and its arguments, which are not remembered beyond this piece."""
    meaning = telling.meaning(run, TOOL_RUN)
    meaning.tool_name, meaning.tool_call_id = tool.name, call_id
    attributes: Attributes = {"tool.name": tool.name, "tool.call_id": call_id, IS_OPEN: True}
    args = (run, tool.span_id, tool.above, f"tool.{tool.name}", tool.start_ns, tool.start_ns, attributes, meaning)
    telling.add(telling.span(*args))
    if tool.args:
        contents = told("arguments", tool.args)
        told_by = telling.meaning(run, TOOL_RUN)
        told_by.tool_name, told_by.tool_call_id = tool.name, call_id
        telling.event(run, "tool.start", tool.start_ns, {}, contents, span_id=tool.above, meaning=told_by)
    tool.args, tool.is_shown = None, True
