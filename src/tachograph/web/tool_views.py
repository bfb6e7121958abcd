"""Tool runs as people read them: commands with their output, edits as changes, lists to do, files, pages, searches."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Final

import msgspec
from msgspec import Struct, field

from tachograph.web import diffs, messages
from tachograph.web.diffs import Line
from tachograph.web.messages import Message

_TODOS_MAX: Final = 200
# What tools are called, in lower case and without what joins the words -> what they do.
_KINDS: Final = {
    **dict.fromkeys(("bash", "exec", "execcommand", "shell", "runshellcommand", "localshell", "terminal"), "command"),
    **dict.fromkeys(("powershell", "runcommand", "runinterminal", "execute", "userbash"), "command"),
    **dict.fromkeys(("edit", "multiedit", "replace", "strreplace", "applypatch", "patch", "notebookedit"), "edit"),
    **dict.fromkeys(("strreplaceeditor", "strreplacebasededittool", "editfile"), "edit"),
    **dict.fromkeys(("write", "writefile", "create", "createfile"), "write"),
    **dict.fromkeys(("read", "readfile", "view", "openfile", "notebookread", "ls", "listdirectory", "list"), "read"),
    **dict.fromkeys(("grep", "glob", "search", "find", "searchfilecontent", "codebasesearch", "rg"), "search"),
    **dict.fromkeys(("todowrite", "todo", "todos", "updateplan", "writetodos", "updatetodolist"), "todo"),
    **dict.fromkeys(("webfetch", "fetch", "webget", "websearch", "googlewebsearch", "fetchwebpage"), "fetch"),
    **dict.fromkeys(("task", "agent", "subagent", "sessionsspawn", "spawnagent"), "agent"),
}
_COMMAND: Final = ("full_command", "command", "cmd", "bash_command", "script")
_PATH: Final = (
    "file_path",
    "filePath",
    "path",
    "absolute_path",
    "target_file",
    "notebook_path",
    "filename",
    "dir_path",
)
_BODY: Final = ("content", "file_text", "contents", "text")
_URL: Final = ("url", "query", "prompt")
_PATTERN: Final = ("pattern", "query", "regex", "search")
_TASK: Final = ("prompt", "task", "description")
_TODO_LISTS: Final = ("todos", "plan", "items", "tasks")
_TODO_WORDS: Final = ("content", "step", "text", "description", "title", "task")
# What Claude Code writes before the arguments and results of tools that it does not know.
_LABEL: Final = re.compile(r"\A\[TOOL (?:INPUT|RESULT): [^\]\n]{1,200}\]\n")
_EXIT: Final = re.compile(r"(?:exit code:?|exited with(?: exit)?(?: code)?)\s*(-?\d{1,5})\b", re.IGNORECASE)
_EXIT_NAMES: Final = ("exit_code", "exitCode", "exit", "returncode", "return_code", "code")
_OUTPUT_NAMES: Final = ("output", "stdout", "content", "result", "returnDisplay", "llmContent", "text", "response")


class ToolView(Struct):
    """One tool run: `kind` is command, edit, write, read, search, todo, fetch, agent or plain.

    `headline` says in a line what it was asked; `rest` are arguments that no other field tells.
    """

    kind: str = "plain"
    headline: str = ""
    command: str = ""
    change: list[Line] = field(default_factory=list)
    todos: list[tuple[str, str]] = field(default_factory=list)  # (status, words)
    task: str = ""
    rest: str = ""
    output: str = ""
    exit_code: int | None = None
    is_cut: bool = False
    images: list[messages.Block] = field(default_factory=list)


def view(
    name: str, given: Sequence[str], got: Sequence[Message], raw: Sequence[str] = (), chars: int = messages.SHOWN_CHARS
) -> ToolView:
    """The view of a tool run from the kept texts of its arguments and the messages and texts of its result.

    Of either at most `chars` are shown.
    """
    arguments, words = _arguments(given)
    made = ToolView(_kind(name, arguments, words))
    _ask(made, arguments, words, chars)
    _answer(made, got, raw, chars)
    return made


def _kind(name: str, arguments: dict[str, Any], words: str) -> str:
    if diffs.is_patch(words) and words:
        return "edit"
    plain = re.sub(r"[^a-z]", "", name.rpartition("__")[2].lower())
    kind = _KINDS.get(plain, "plain")
    if kind == "edit" and not diffs.of_arguments(arguments):
        return "write" if _first(arguments, _BODY) else "edit"
    if kind == "command" and _first(arguments, ("path",)) and not _first(arguments, _COMMAND):
        return "read"
    return kind


def _ask(made: ToolView, arguments: dict[str, Any], words: str, chars: int) -> None:
    path = _first(arguments, _PATH)
    told: tuple[str, ...] = ()
    if made.kind == "command":
        made.command = _first(arguments, _COMMAND) or _joined(arguments.get("command")) or words
        made.headline, told = made.command, (*_COMMAND, "description")
    elif made.kind == "edit":
        made.change = diffs.of_arguments(arguments) or (diffs.of_patch(words) if diffs.is_patch(words) else [])
        files = [line.text for line in made.change if line.kind == "file"]
        made.headline = path or (files[0].partition(": ")[2] if files else words)
        told = (*_PATH, "edits", "patchText", "old_string", "new_string", "old_str", "new_str", "oldText", "newText")
        told = (*told, "oldString", "newString", "old_text", "new_text", "patch", "diff", "input")
    elif made.kind == "write":
        made.change, made.headline, told = diffs.added(_first(arguments, _BODY)), path or words, (*_PATH, *_BODY)
    elif made.kind == "todo":
        made.todos = _todos(arguments)
        done = sum(status in ("completed", "done") for status, _ in made.todos)
        made.headline, told = (f"{done} of {len(made.todos)} done" if made.todos else words), _TODO_LISTS
    elif made.kind in ("read", "search", "fetch", "agent"):
        names = {"read": _PATH, "search": _PATTERN, "fetch": _URL, "agent": ("description", *_TASK)}[made.kind]
        made.headline = _first(arguments, names) or words
        made.task = _first(arguments, _TASK) if made.kind == "agent" else ""
        told = (*names, *_TASK) if made.kind == "agent" else (next((n for n in names if arguments.get(n)), ""),)
    rest = {key: value for key, value in arguments.items() if key not in told}
    made.rest = messages.pretty_json(rest)[:chars] if rest else "" if made.headline else words[:chars]
    made.headline = made.headline or _line(rest) or words


def _answer(made: ToolView, got: Sequence[Message], raw: Sequence[str], chars: int) -> None:
    blocks = [block for message in got for block in message.blocks]
    made.images = [block for block in blocks if block.data]
    made.is_cut = any(block.is_cut for block in blocks)
    texts = [_plain(text) for text in raw] if raw else []
    found = next((one for one in texts if one is not None), None)
    shown = [found[0]] if found else [block.text for block in blocks if not block.data]
    made.output = _LABEL.sub("", "\n".join(dict.fromkeys(shown)))
    if len(made.output) > chars:
        made.output, made.is_cut = made.output[:chars], True
    if found and found[1] is not None:
        made.exit_code = found[1]
    elif made.kind == "command":
        ends = made.output[:300] + "\n" + made.output[-300:]
        match = _EXIT.search(ends)
        made.exit_code = int(match[1]) if match else None


def _plain(text: str) -> tuple[str, int | None] | None:
    """The output and exit code in a result that is an object around them, None for any other text."""
    value = _object(_LABEL.sub("", text))
    if value is None or "type" in value:
        return None
    code = next((value[n] for n in _EXIT_NAMES if type(value.get(n)) is int), None)
    inner = value.get("metadata")
    if code is None and isinstance(inner, dict):
        code = next((inner[n] for n in _EXIT_NAMES if type(inner.get(n)) is int), None)
    parts = [value[name] for name in _OUTPUT_NAMES if isinstance(value.get(name), str)][:1]
    parts += [value["stderr"]] if isinstance(value.get("stderr"), str) and value["stderr"] else []
    return ("\n".join(parts), code) if parts else None


def _arguments(given: Sequence[str]) -> tuple[dict[str, Any], str]:
    """The named arguments of all texts, the first to name one wins, and what is no object as words."""
    named: dict[str, Any] = {}
    words: list[str] = []
    for text in given:
        plain = _LABEL.sub("", text)
        value = _object(plain)
        if value is None:
            words.append(plain)
        else:
            named = value | named if len(value) <= len(named) else named | value
    return named, "\n".join(dict.fromkeys(words))


def _object(text: str) -> dict[str, Any] | None:
    if text.lstrip()[:1] != "{":
        return None
    try:
        value = msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeEncodeError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _todos(arguments: dict[str, Any]) -> list[tuple[str, str]]:
    given: list[Any] = next((arguments[name] for name in _TODO_LISTS if isinstance(arguments.get(name), list)), [])
    found = []
    for one in given[:_TODOS_MAX]:
        if isinstance(one, dict):
            status = one.get("status") if isinstance(one.get("status"), str) else ""
            found.append((str(status or "pending").lower(), _first(one, _TODO_WORDS)))
        elif isinstance(one, str):
            found.append(("pending", one))
    return found


def _first(given: dict[str, Any], names: Sequence[str]) -> str:
    return next((given[name] for name in names if isinstance(given.get(name), str) and given[name]), "")


def _joined(value: Any) -> str:
    """A command that came as a list of words."""
    return " ".join(str(one) for one in value) if isinstance(value, list) else ""


def _line(rest: dict[str, Any]) -> str:
    shown = ((key, value) for key, value in rest.items() if isinstance(value, str | int | float))
    return "  ".join(f"{key}: {value}"[:80] for key, value in list(shown)[:4])
