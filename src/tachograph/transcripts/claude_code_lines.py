"""The lines of Claude Code's transcripts: what is decoded of them, and which words a user did not write."""

from __future__ import annotations

from typing import Any, Final

import msgspec
from msgspec import Raw, Struct, field

from tachograph.lines import items, words


class Line(Struct, rename="camel", gc=False):
    """What matters of a line; whatever else stands in it (whole requests, file snapshots) is passed over unread."""

    type: Any = None
    subtype: Any = None
    session_id: Any = None
    cwd: Any = None
    git_branch: Any = None
    version: Any = None
    timestamp: Any = None
    uuid: Any = None
    parent_uuid: Any = None
    is_sidechain: Any = None
    is_meta: Any = None
    is_compact_summary: Any = None
    is_api_error_message: Any = None
    agent_id: Any = None
    prompt_id: Any = None
    request_id: Any = None
    request_ref: Any = None
    id: Any = None
    message: Any = None
    content: Any = None
    cost_usd: Any = field(default=None, name="costUSD")
    tool_use_result: Raw = field(default_factory=Raw)
    attachment: Raw = field(default_factory=Raw)
    error: Any = None
    retry_attempt: Any = None
    compact_metadata: Any = None
    duration_ms: Any = None
    forked_from: Any = None
    summary: Any = None
    custom_title: Any = None
    ai_title: Any = None


class Result(Struct, rename="camel", gc=False):
    """What Claude Code keeps of a tool run beside what the model gets; the texts in it stand in the result as well."""

    duration_ms: Any = None
    total_duration_ms: Any = None
    duration_seconds: Any = None
    interrupted: Any = None
    agent_id: Any = None
    total_tokens: Any = None


class Attachment(Struct, rename="camel", gc=False):
    """What is put beside a prompt; of interest is what the user typed while the agent was at work."""

    type: Any = None
    prompt: Any = None
    command_mode: Any = None


_LINE: Final = msgspec.json.Decoder(Line)
_RESULT: Final = msgspec.json.Decoder(Result)
_ATTACHMENT: Final = msgspec.json.Decoder(Attachment)


def decode(line: bytes) -> Line | None:
    """A line; None where it is JSON but no object."""
    try:
        return _LINE.decode(line)
    except msgspec.ValidationError:
        return None


def result_of(raw: Raw) -> Result:
    """What stands beside a tool result; an empty one where that is a text or nothing."""
    try:
        return _RESULT.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return Result()


def queued_prompt(raw: Raw) -> Any:
    """What the user typed while the agent was at work, where an attachment is that; else None."""
    if b"queued_command" not in bytes(raw):
        return None
    try:
        found = _ATTACHMENT.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    # The other mode is a note of a task that ran in the background.
    is_typed = found.type == "queued_command" and found.command_mode in (None, "prompt")
    return found.prompt if is_typed else None


# Tags that Claude Code puts around what it writes in the user's name.
_NOTES: Final = (
    *("local-command-stdout", "local-command-stderr", "local-command-caveat", "bash-stdout", "bash-stderr"),
    *("task-notification", "user-memory-input", "command-contents"),
)
_OUTPUT: Final = ("<local-command-stdout>", "<local-command-stderr>")
INTERRUPTED: Final = "[Request interrupted by user"


def kind_of(text: str) -> str:
    """What a user's line is: prompt, command, output (of a command), bash, note or interrupt."""
    text = text.lstrip()
    if text.startswith(INTERRUPTED):
        return "interrupt"
    if not text.startswith("<"):
        return "prompt"
    if text.startswith(("<command-name>", "<command-message>")) and "<command-name>" in text:
        return "command"
    if text.startswith(_OUTPUT):
        return "output"
    if text.startswith("<bash-input>"):
        return "bash"
    tag = text[1:40].partition(">")[0]
    is_reminder = tag == "system-reminder" and text.rstrip().endswith("</system-reminder>")
    return "note" if tag in _NOTES or is_reminder else "prompt"


def command_of(text: str) -> str:
    """A command as the user typed it."""
    return f"{tagged(text, 'command-name')} {tagged(text, 'command-args')}".strip()


def tagged(text: str, tag: str) -> str:
    """What stands in a tag, "" where it is not there."""
    return text.partition(f"<{tag}>")[2].partition(f"</{tag}>")[0].strip()


def text_of(content: Any) -> str:
    """The text of a message: itself, or that of its text blocks."""
    if isinstance(content, str):
        return content
    return "\n".join(words(block.get("text")) for block in items(content) if block.get("type") == "text")
