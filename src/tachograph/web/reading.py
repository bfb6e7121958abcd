"""Which part of a session a page shows: all of a short one; of a long one some prompts, and only these are read."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from typing import Any, Final

from msgspec import Struct

from tachograph.questions import Course
from tachograph.scan import Reader
from tachograph.tree import Node, Tree, prompts_of, session_tree
from tachograph.web import conversation
from tachograph.web.conversation import Section

PROMPTS_SHOWN: Final = 25
RECORDS_MANY: Final = 1_500  # spans and events of a session: from here on it is read in parts
_CALLS_SHOWN: Final = 150  # of a part of a long session, where its prompts have many
_END: Final = 1 << 62


class Part(Struct):
    """The sections of a page; `first` counts what stands before them, `earlier` and `later` lead to their neighbours.

    `tree` is that of the whole session, or of the part where `is_part`; then `prompts` are those of the session.
    """

    sections: list[Section]
    tree: Tree
    first: int
    total: int
    earlier: int | None
    later: int | None
    is_part: bool = False
    prompts: list[Node] = []


def part(reader: Reader, row: dict[str, Any], course: Course, asked: str) -> Part:
    """What a page of this session shows; `asked` is the number of the first prompt, "" = the newest ones."""
    session_id = row["session_id"]
    first = int(asked) if asked.isdecimal() and len(asked) < 7 else None
    if (row["spans"] or 0) + (row["events"] or 0) > RECORDS_MANY:
        prompts = prompts_of(reader, session_id)
        if len(prompts) > 1:
            return _windowed(reader, session_id, course, prompts, first)
    tree = session_tree(reader, session_id)
    found = conversation.sections(tree)
    newest = max(0, len(found) - PROMPTS_SHOWN)
    start = newest if first is None else min(first, max(0, len(found) - 1))
    shown = found[start : start + PROMPTS_SHOWN]
    conversation.note(shown, course.happenings, _since(found, start), _until(found, start + PROMPTS_SHOWN))
    later = start + PROMPTS_SHOWN if start + PROMPTS_SHOWN < len(found) else None
    return Part(shown, tree, start, len(found), max(0, start - PROMPTS_SHOWN) if start else None, later)


def _windowed(reader: Reader, session_id: str, course: Course, prompts: list[Node], first: int | None) -> Part:
    starts = [prompt.start_ns for prompt in prompts]
    calls = [call["start_ns"] for call in course.calls]
    if first is None:
        start, end = _back(starts, calls, len(starts)), len(starts)
    else:
        start = min(first, len(starts) - 1)
        end = _forth(starts, calls, start)
    since = starts[start] if start else 0
    until = starts[end] if end < len(starts) else _END
    tree = session_tree(reader, session_id, (since, until))
    shown = conversation.sections(tree)
    numbers = {prompt.id: number for number, prompt in enumerate(prompts, start=1)}
    for section in shown:
        section.number = numbers.get(section.node.id, 0) if section.node is not None else 0
    conversation.note(shown, course.happenings, since, until)
    earlier = _back(starts, calls, start) if start else None
    later = end if end < len(starts) else None
    return Part(shown, tree, start, len(prompts), earlier, later, True, prompts)


def _back(starts: Sequence[int], calls: Sequence[int], end: int) -> int:
    """The first prompt of a part that ends before this one."""
    until = bisect_left(calls, starts[end]) if end < len(starts) else len(calls)
    start = end - 1
    while start > 0 and end - start < PROMPTS_SHOWN and until - bisect_left(calls, starts[start - 1]) <= _CALLS_SHOWN:
        start -= 1
    return max(0, start)


def _forth(starts: Sequence[int], calls: Sequence[int], start: int) -> int:
    """The first prompt behind a part that begins with this one."""
    since = bisect_left(calls, starts[start])
    end = start + 1
    while end < len(starts) and end - start < PROMPTS_SHOWN:
        until = bisect_left(calls, starts[end + 1]) if end + 1 < len(starts) else len(calls)
        if until - since > _CALLS_SHOWN:
            break
        end += 1
    return end


def _since(found: list[Section], start: int) -> int:
    return found[start].start_ns if start else 0


def _until(found: list[Section], end: int) -> int:
    return found[end].start_ns if end < len(found) else _END
