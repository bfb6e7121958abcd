"""Changes of files as lines that were added, taken away and left, from what edit tools are given."""

from __future__ import annotations

import difflib
from typing import Any, Final, NamedTuple

_COMPARED_MAX: Final = 400  # lines of either side: what is longer is shown as taken away and added
_SHOWN_MAX: Final = 400  # lines of one change
_LINE_MAX: Final = 1_000
_PATCH_FILE: Final = ("*** Update File: ", "*** Add File: ", "*** Delete File: ", "*** Move to: ", "Index: ")
_PATCH_FRAME: Final = ("*** Begin Patch", "*** End Patch", "*** End of File", "=====", "diff --git ", "index ")
_OLD: Final = ("old_string", "old_str", "oldText", "old_text", "oldString", "old_source")
_NEW: Final = ("new_string", "new_str", "newText", "new_text", "newString", "new_source")
_PATCH: Final = ("patchText", "patch", "diff", "input", "patch_text", "command")


class Line(NamedTuple):
    """One line of a change; `kind` is add, del, same, hunk or file."""

    kind: str
    text: str


def between(old: str, new: str) -> list[Line]:
    """What became of a text, with three lines around each change."""
    before, after = old.splitlines(), new.splitlines()
    if len(before) > _COMPARED_MAX or len(after) > _COMPARED_MAX:
        return _cut([Line("del", one) for one in before] + [Line("add", one) for one in after])
    lines = list(difflib.unified_diff(before, after, n=3, lineterm=""))[2:]
    return _cut([_line(one) for one in lines if not one.startswith("@@") or one != lines[0]])


def added(text: str) -> list[Line]:
    """A text that is all new."""
    return _cut([Line("add", one) for one in text.splitlines()])


def of_patch(text: str) -> list[Line]:
    """The lines of a patch, whichever of the usual forms it has."""
    found = []
    for one in text.splitlines():
        if one.startswith(_PATCH_FRAME):
            continue
        if one.startswith(_PATCH_FILE):
            found.append(Line("file", one.removeprefix("*** ")))
        elif one.startswith(("--- ", "+++ ")):
            found.append(Line("file", one))
        else:
            found.append(_line(one))
    return _cut(found)


def of_arguments(given: dict[str, Any]) -> list[Line]:
    """What the arguments of an edit tool change: one text for another, a list of such, or a patch."""
    edits = given.get("edits")
    if isinstance(edits, list):
        parts = [of_arguments(one) for one in edits[:_SHOWN_MAX] if isinstance(one, dict)]
        joined = [line for at, part in enumerate(parts) for line in ([Line("hunk", "…")] if at else []) + part]
        return _cut(joined)
    old, new = _first(given, _OLD), _first(given, _NEW)
    if old is not None or new is not None:
        return between(old or "", new or "")
    patch = _first(given, _PATCH)
    return of_patch(patch) if patch is not None and is_patch(patch) else []


def is_patch(text: str) -> bool:
    """Whether a text is a patch."""
    return text.lstrip().startswith(("*** Begin Patch", "--- ", "diff --git ", "Index: ")) or "\n@@" in text[:4000]


def _line(text: str) -> Line:
    if text.startswith("@@"):
        return Line("hunk", text)
    kind = {"+": "add", "-": "del"}.get(text[:1], "same")
    return Line(kind, text[1:] if text[:1] in ("+", "-", " ") else text)


def _cut(lines: list[Line]) -> list[Line]:
    shown = [line._replace(text=line.text[:_LINE_MAX]) for line in lines[:_SHOWN_MAX]]
    left = len(lines) - len(shown)
    return [*shown, Line("hunk", f"… {left:,} more lines")] if left else shown


def _first(given: dict[str, Any], names: tuple[str, ...]) -> str | None:
    return next((given[name] for name in names if isinstance(given.get(name), str)), None)
