"""What stands in the user's name in Claude Code's transcripts: prompts, commands, tool results and its own notes."""

from __future__ import annotations

import re
from typing import Any, Final

from tachograph.lines import Page, items, record, time_ns, told, words
from tachograph.model import PROMPT, STEP, TOOL_RUN, Meaning
from tachograph.transcripts.blocks import asked, plain
from tachograph.transcripts.claude_code_lines import (
    Line,
    Result,
    command_of,
    kind_of,
    queued_prompt,
    result_of,
    tagged,
    text_of,
)
from tachograph.transcripts.claude_code_places import add, follow, is_main
from tachograph.vocabulary import whole

_EXIT_CODE: Final = re.compile(r"(?:Error: )?Exit code (\d{1,5})\b")
_REJECTED: Final = "The user doesn't want to"
# Calls a model although its output goes to the user, as that of other commands of Claude Code itself does.
_COMPACT: Final = "/compact"


def understand(line: Line, state: dict[str, Any], page: Page) -> None:
    """A line of type `user`."""
    follow(line, page)
    content = record(line.message).get("content")
    blocks = items(content)
    results = [block for block in blocks if block.get("type") == "tool_result"]
    when = time_ns(line.timestamp)
    for block in results:
        _result(block, line, when, page)
    text = text_of(content)
    if not content or (results and not text):
        return
    kind = kind_of(text)
    settle_command(state, page, is_answered=kind != "output")
    if line.is_compact_summary:
        add(page, "compact_summary", when, Meaning(role=STEP), line, told("response", content))
    elif line.is_meta:
        return  # expands a command, or warns the model of what follows
    elif kind == "interrupt":
        add(page, "interrupted", when, Meaning(role=STEP), line)
    elif kind == "bash":
        add(page, "user_bash", when, Meaning(role=STEP), line, told("arguments", tagged(text, "bash-input")))
    elif kind in ("output", "note"):
        add(page, "note", when, Meaning(role=STEP, is_noise=True), line, told("response", text))
    elif not is_main(line):
        # The task that its parent gave a sub-agent is nothing the user asked.
        add(page, "task", when, Meaning(role=STEP), line, told("prompt", asked(content)))
    elif kind == "command":
        state["command"] = [when, command_of(text), words(line.prompt_id) or words(line.uuid), words(line.uuid)]
    elif not results:
        _prompt(line, when, content, page)


def _prompt(line: Line, when: int, content: Any, page: Page) -> None:
    page.state["prompt"] = words(line.prompt_id) or words(line.uuid)
    add(page, "user", when, Meaning(role=PROMPT), line, told("prompt", asked(content)))


def queued(line: Line, page: Page) -> None:
    """A line of type `attachment`: of interest where it is what the user typed while the agent was at work."""
    prompt = queued_prompt(line.attachment)
    if prompt and is_main(line):
        meaning = Meaning(role=PROMPT, prompt_id=words(line.uuid))
        add(page, "queued_prompt", time_ns(line.timestamp), meaning, line, told("prompt", asked(prompt)))


def settle_command(state: dict[str, Any], page: Page, is_answered: bool = True) -> None:
    """Add the command of an earlier line, now that it shows what it was: a prompt, unless the program answered."""
    if "command" not in state:
        return
    when, text, prompt_id, uuid = state.pop("command")
    is_prompt = is_answered or text.startswith(_COMPACT)
    if is_prompt:
        state["prompt"] = prompt_id
    meaning = Meaning(role=PROMPT if is_prompt else STEP, prompt_id=prompt_id)
    add(page, "command", when, meaning, Line(uuid=uuid), told("prompt" if is_prompt else "arguments", text))


def _result(block: dict[str, Any], line: Line, when: int, page: Page) -> None:
    call_id = words(block.get("tool_use_id"))
    name, started, given = page.state.setdefault("tools", {}).pop(call_id, ("", when, None))
    kept = result_of(line.tool_use_result)
    content = block.get("content")
    measured = _measured(kept)
    meaning = Meaning(
        role=TOOL_RUN,
        tool_name=name,
        tool_call_id=call_id,
        is_error=block.get("is_error") is True,
        duration_ns=max(0, when - started) if measured is None else measured,
    )
    if meaning.is_error or kept.interrupted is True:
        _fail(meaning, kept, text_of(content)[:200])
    more = {"startedAgentId": kept.agent_id} if words(kept.agent_id) else {}
    add(page, "tool_result", when, meaning, line, told("arguments", given), told("result", plain(content)), **more)


def _measured(kept: Result) -> int | None:
    """How long a tool says that it took."""
    for value, factor in (
        (kept.duration_ms, 1_000_000),
        (kept.total_duration_ms, 1_000_000),
        (kept.duration_seconds, 1_000_000_000),
    ):
        if value is not None and (duration_ns := whole(value, factor)) is not None:
            return duration_ns
    return None


def _fail(meaning: Meaning, kept: Result, text: str) -> None:
    """Why a tool run failed, as far as that is told in a few words and is nobody's text."""
    meaning.is_error = True
    code = _EXIT_CODE.match(text)
    if code:
        meaning.error_type, meaning.error_message = "exit_code", f"exit code {code[1]}"
    elif kept.interrupted is True:
        meaning.error_type = "interrupted"
    elif text.startswith(_REJECTED):
        meaning.error_type = "rejected"
    elif text.startswith("<tool_use_error>"):
        meaning.error_type = "tool_use_error"
