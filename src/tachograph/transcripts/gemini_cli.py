"""Gemini CLI's chats: messages that are written again as tokens and tool results arrive; every one was paid for."""

from __future__ import annotations

import re
from collections.abc import Iterator
from hashlib import blake2b
from pathlib import Path
from typing import Any, Final

import msgspec

from tachograph.config import Surroundings
from tachograph.errors import Rejected
from tachograph.lines import Page, Position, items, read_lines, record, time_ns, told, words
from tachograph.model import MODEL_CALL, PROMPT, STEP, TOOL_RUN, Batch, Content, Meaning
from tachograph.vocabulary import tokens, whole

NAME: Final = "gemini-cli"
_FILE: Final = re.compile(r"session-.*\.jsonl?$")
# Messages and tool runs that were told already, remembered from one reading to the next; older ones are written again
# only when a whole conversation is.
_TOLD_MAX: Final = 2000
# What Gemini CLI itself says in the user's name.
_CONTEXT: Final = "<session_context>"
_DONE: Final = frozenset(("success", "error", "cancelled"))
# Versions before 0.3x rewrite one JSON object; the largest chats are some tens of megabytes.
_OBJECT_BYTES_MAX: Final = 256 * 1024 * 1024
_HASHED_PROJECT: Final = re.compile(r"[0-9a-f]{64}")
_DECODE_POSITION: Final = msgspec.json.Decoder(Position)
_ENCODE: Final = msgspec.json.Encoder().encode


def discover(where: Surroundings) -> Iterator[Path]:
    """The chats of all projects, those of sub-agents included."""
    home = where.environment.get("GEMINI_CLI_HOME", "").strip()
    for folder in where.folders("GEMINI_DATA_DIR", f"{home}/.gemini" if home else ".gemini"):
        for path in folder.glob("tmp/*/chats/**/*.json*"):
            is_old = path.suffix == ".json" and path.name.startswith("session-")
            # A chat that was gone on with is written anew beside the old file.
            if path.suffix == ".jsonl" or (is_old and not path.with_suffix(".jsonl").exists()):
                yield path


def is_mine(path: Path, first: dict[str, Any]) -> bool:
    """Whether a file whose first line is this is one of Gemini CLI's."""
    if path.suffix == ".json" and not first:  # an object over several lines
        return _FILE.fullmatch(path.name) is not None
    return "sessionId" in first and "projectHash" in first


def read(path: Path, since: str) -> tuple[Batch, str]:
    """The prompts, model calls and tool runs of the lines after `since`, and the position after them."""
    if path.suffix == ".json":
        return _read_object(path, since)
    return read_lines(path, since, NAME, _understand)


def _read_object(path: Path, since: str) -> tuple[Batch, str]:
    """What is new in a file that is rewritten as a whole, one JSON object."""
    try:
        with path.open("rb") as file:
            data = file.read(_OBJECT_BYTES_MAX + 1)
    except OSError as error:
        raise Rejected(f"{path.name}: cannot be read: {error.strerror}") from error
    try:
        position = _DECODE_POSITION.decode(since) if since else Position()
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        position = Position()
    head = blake2b(data, digest_size=16).hexdigest()
    if since and head == position.head:
        return Batch(), since
    if len(data) > _OBJECT_BYTES_MAX:
        raise Rejected(f"{path.name}: got more than {_OBJECT_BYTES_MAX} bytes; expected a chat")
    page = Page(NAME, path, position.state)
    try:
        chat = record(msgspec.json.decode(data))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return Batch(), since  # half written: the next reading finds it whole
    _understand(chat, page.state, page)
    for message in items(chat.get("messages")):
        _understand(message, page.state, page)
    token = _ENCODE(Position(offset=len(data), head=head, state=page.state)).decode()
    batch = Batch(events=page.events, positions={str(path): token}, size=len(data))
    batch.digest = blake2b(f"{path.name}\0{head}".encode(errors="surrogateescape"), digest_size=16).hexdigest()
    return batch, token


def _understand(line: dict[str, Any], state: dict[str, Any], page: Page) -> None:
    if words(line.get("sessionId")) and "projectHash" in line:
        _begin(line, state, page)
        return
    changed = line.get("$set")
    if isinstance(changed, dict):
        _place(changed, state)
        for message in items(changed.get("messages")):
            _understand(message, state, page)
        return
    understand = {"user": _prompt, "gemini": _answer, "error": _complaint}.get(words(line.get("type")))
    if understand is not None and words(line.get("id")):
        understand(line, time_ns(line.get("timestamp")), state, page)


def _begin(line: dict[str, Any], state: dict[str, Any], page: Page) -> None:
    """A sub-agent's chat lies in a folder named by the session that it worked for, and belongs to it."""
    own, folder = words(line["sessionId"]), page.path.parent
    is_subagent = line.get("kind") == "subagent"
    state["session"] = folder.name if is_subagent and folder.parent.name == "chats" else own
    state["subagent"] = own if is_subagent else ""
    chats = folder.parent if is_subagent else folder
    project = chats.parent.name if chats.name == "chats" else ""
    state["cwd"] = "" if _HASHED_PROJECT.fullmatch(project) else project
    _place(line, state)


def _place(line: dict[str, Any], state: dict[str, Any]) -> None:
    directories = line.get("directories")
    if isinstance(directories, list) and directories and words(directories[0]):
        state["cwd"] = directories[0]


def _is_new(what: str, state: dict[str, Any]) -> bool:
    """Whether this was not told before, and remember that it is now."""
    known = state.setdefault("told", [])
    name = blake2b(what.encode(errors="replace"), digest_size=5).hexdigest()
    if name in known:
        return False
    known.append(name)
    del known[:-_TOLD_MAX]
    return True


def _prompt(line: dict[str, Any], when: int, state: dict[str, Any], page: Page) -> None:
    text = _text(line.get("content"))
    if not text or text.startswith(_CONTEXT) or not _is_new(line["id"], state):
        return
    # A sub-agent's first message is the task that its parent gave it, not something the user asked.
    subagent = words(state.get("subagent"))
    meaning = Meaning(role=STEP if subagent else PROMPT, subagent=subagent)
    page.add("user", when, meaning, {"id": line["id"]}, told("prompt", text))


def _text(content: Any) -> str:
    """The text of a message; "" where it only carries tool results."""
    if isinstance(content, list):
        return "\n".join(filter(None, (words(part.get("text")) for part in items(content))))
    return words(content)


def _complaint(line: dict[str, Any], when: int, state: dict[str, Any], page: Page) -> None:
    text = _text(line.get("content"))
    if _is_new(line["id"], state):
        meaning = Meaning(role=STEP, is_error=True, subagent=words(state.get("subagent")), error_message=text[:2000])
        page.add("error", when, meaning, {"id": line["id"]}, told("response", text))


def _answer(line: dict[str, Any], when: int, state: dict[str, Any], page: Page) -> None:
    given = line.get("tokens")
    # Without tokens it is not known yet whether this is a call: they come with a later line, or with the next message.
    if isinstance(given, dict) and _is_new(line["id"], state):
        _call(line, given, when, state, page)
    for tool in items(line.get("toolCalls")):
        _tool(tool, when, state, page)


def _call(line: dict[str, Any], given: dict[str, Any], when: int, state: dict[str, Any], page: Page) -> None:
    counts = {name: whole(given.get(name)) or 0 for name in ("input", "output", "thoughts", "tool", "total")}
    # What tools put into the prompt stands beside it, where the total says so.
    beside = counts["tool"] if counts["total"] == sum(counts.values()) - counts["total"] else 0
    usage = tokens(
        {
            "input": counts["input"] + beside if "input" in given else None,
            "output": given.get("output"),
            "cache_read": given.get("cached"),
            "reasoning": given.get("thoughts"),
        },
        is_input_inclusive=True,
        is_output_inclusive=False,
    )
    meaning = Meaning(
        role=MODEL_CALL,
        is_call=True,
        operation="chat",
        provider="gcp.gemini",
        request_model=words(line.get("model")),
        message_id=line["id"],
        subagent=words(state.get("subagent")),
        usage=usage,
        is_timed=False,
    )
    thoughts = [
        f"{words(t.get('subject'))}\n{words(t.get('description'))}".strip() for t in items(line.get("thoughts"))
    ]
    output = told("output", line.get("content") or [])
    page.add("gemini", when, meaning, {"id": line["id"]}, Content("thinking", "thoughts", thoughts), output)


def _tool(tool: dict[str, Any], asked: int, state: dict[str, Any], page: Page) -> None:
    call_id, status = words(tool.get("id")), words(tool.get("status")).lower()
    if not call_id or status not in _DONE or not _is_new("tool:" + call_id, state):
        return
    when = time_ns(tool.get("timestamp")) or asked
    result = tool.get("result")
    meaning = Meaning(
        role=TOOL_RUN,
        operation="execute_tool",
        tool_name=words(tool.get("name")),
        tool_call_id=call_id,
        subagent=words(state.get("subagent")),
        is_error=status != "success",
        duration_ns=max(0, when - asked) if asked else None,
    )
    if meaning.is_error:
        meaning.error_type = status
        meaning.error_message = _failure(tool, result)[:2000]
    page.add("tool", when, meaning, {"id": call_id}, told("arguments", tool.get("args")), told("result", result))


def _failure(tool: dict[str, Any], result: Any) -> str:
    """What a tool that failed said, in the words that the user saw."""
    shown = words(tool.get("resultDisplay"))
    if shown:
        return shown
    responses = (record(record(part.get("functionResponse")).get("response")) for part in items(result))
    return next((text for response in responses if (text := words(response.get("error")))), "")
