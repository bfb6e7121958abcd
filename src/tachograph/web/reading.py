"""Which part of a session a page shows: all of a short one; of a long one some prompts or steps, alone read as well."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from typing import Any, Final

from msgspec import Struct

from tachograph.model import TOOL_RUN
from tachograph.questions import Course
from tachograph.scan import Match, Reader, Scan
from tachograph.tree import Node, Tree, prompts_of, session_tree
from tachograph.web import conversation
from tachograph.web.conversation import Section

PROMPTS_SHOWN: Final = 25
RECORDS_MANY: Final = 1_500  # spans and events of a session: from here on it is read in parts
_CALLS_SHOWN: Final = 150  # of a part of a long session, where its prompts have many
STEPS_SHOWN: Final = 250  # of a long session without prompts, or with one that it is all about
_END: Final = 1 << 62
_TRACE: Final = "trace:"


class Part(Struct):
    """The sections of a page; `first` counts what stands before them, `earlier` and `later` lead to their neighbours.

    `tree` is that of the whole session, or of the part where `is_part`; then `prompts` are those of the session, and it
    began and ended at about these times. With `is_by_step`, steps are counted and not prompts.
    """

    sections: list[Section]
    tree: Tree
    first: int
    total: int
    earlier: int | None
    later: int | None
    is_part: bool = False
    prompts: list[Node] = []
    is_by_step: bool = False
    start_ns: int = 0
    end_ns: int = 0


def part(reader: Reader, row: dict[str, Any], course: Course, asked: str, step: str = "") -> Part:
    """What a page of this session shows; `asked` is the number of the first prompt, "" = the newest ones.

    `step` is that of the first step where a long session has no prompts to tell its parts by, "" = the first ones.
    """
    session_id = row["session_id"]
    first = int(asked) if asked.isdecimal() and len(asked) < 7 else None
    if (row["spans"] or 0) + (row["events"] or 0) > RECORDS_MANY:
        prompts = prompts_of(reader, session_id)
        if len(prompts) > 1:
            return _windowed(reader, session_id, course, prompts, first)
        moments = _moments(reader, session_id, course)
        if len(moments) > conversation.STEPS_MAX:
            at = int(step) if step.isdecimal() and len(step) < 7 else 0
            return _stepped(reader, session_id, course, prompts, moments, min(at, len(moments) - 1))
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
    bounds = [moment for moment in (*starts, *calls) if moment] or [0]
    return Part(
        shown, tree, start, len(prompts), earlier, later, True, prompts, start_ns=min(bounds), end_ns=max(bounds)
    )


def of_session(session_id: str) -> Match:
    """The records of a session, or of the trace that stands for one."""
    if session_id.startswith(_TRACE):
        return Match("trace_id", "=", session_id.removeprefix(_TRACE))
    return Match("session_id", "=", session_id)


def _moments(reader: Reader, session_id: str, course: Course) -> list[int]:
    """When the calls and tool runs of a session began, in time; the runs are those of its spans, else of its events."""
    where = (of_session(session_id), Match("role", "=", TOOL_RUN))
    found: list[int] = []
    for table, time in (("spans", "start_ns"), ("events", "time_ns")):
        found = [at for at in reader.scan(Scan(table, {"at": time}, where)).data["at"] if at]
        if found:
            break
    return sorted((*found, *(call["start_ns"] for call in course.calls if call["start_ns"])))


def _stepped(
    reader: Reader, session_id: str, course: Course, prompts: list[Node], moments: Sequence[int], at: int
) -> Part:
    """Some steps by the time that they began at, and the prompt that they belong to."""
    start = bisect_left(moments, moments[at])  # those of one moment stay together
    end = min(start + STEPS_SHOWN, len(moments))
    if end < len(moments):
        begun = bisect_left(moments, moments[end])
        end = begun if begun - start >= STEPS_SHOWN // 2 else bisect_right(moments, moments[end])
    since, until = moments[start] if start else 0, moments[end] if end < len(moments) else _END
    tree = session_tree(reader, session_id, (since, until))
    shown = conversation.sections(tree)
    if start and prompts:
        _name(shown, prompts_of(reader, session_id, has_texts=True)[0])
    conversation.note(shown, course.happenings, since, until)
    earlier = max(0, start - STEPS_SHOWN) if start else None
    later = end if end < len(moments) else None
    return Part(
        shown, tree, start, len(moments), earlier, later, True, prompts,
        is_by_step=True, start_ns=moments[0], end_ns=moments[-1],
    )  # fmt: skip


def _name(shown: Sequence[Section], prompt: Node) -> None:
    """Say of the first of the sections that came later which prompt it goes on with."""
    for section in shown:
        if section.node is None or section.node.origin == "made":
            section.node, section.number = prompt, 1
            return


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
