"""One session: its facts, when things ran, and the conversation with every call and tool."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from markupsafe import Markup
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from tachograph.model import MODEL_CALL, PROMPT, TOOL_RUN
from tachograph.questions import descendants, traces_of, usage
from tachograph.questions import session as find_session
from tachograph.scan import Match
from tachograph.tree import Node, Tree, session_tree
from tachograph.web import conversation, units
from tachograph.web.charts import Mark, joined, strip
from tachograph.web.pages.overview import priced
from tachograph.web.pages.sessions import with_costs
from tachograph.web.rendering import Look, Site, look_of, render

PROMPTS_SHOWN: Final = 25
_MARKS_MANY: Final = 400  # from here on marks that touch are drawn as one
_LANES: Final = {PROMPT: 0, MODEL_CALL: 1, TOOL_RUN: 2}


def session(site: Site, request: Request) -> Response:
    """The page of a session's id; `?from=` is the number of the first prompt shown, without it the newest are."""
    session_id = request.path_params["session_id"]
    sequence = site.reader.sequence()
    row = find_session(site.reader, session_id)
    if row is None:
        raise HTTPException(404)
    look = look_of(site, request)
    tree = session_tree(site.reader, session_id)
    sections = conversation.sections(tree)
    first = _first(request.query_params.get("from", ""), len(sections))
    shown = sections[first : first + PROMPTS_SHOWN]
    conversation.fill(site.reader, shown)
    own = Match("session_id", "=", session_id)
    if session_id.startswith("trace:"):
        own = Match("trace_id", "=", session_id.removeprefix("trace:"))
    return render(
        site, request, "session.html",
        sequence=sequence, look=look, session=with_costs(site.reader, [row])[0],
        models=[priced(model) for model in usage(site.reader, "model", where=(own,))["rows"]],
        traces=traces_of(site.reader, session_id),
        sections=shown, first=first, total=len(sections), per_page=PROMPTS_SHOWN, strip=_strip(tree, look),
        is_cut=tree.is_cut, descendants=descendants(site.reader, session_id),
    )  # fmt: skip


def _first(asked: str, total: int) -> int:
    """Index of the first section to show."""
    newest = max(0, total - PROMPTS_SHOWN)
    return min(int(asked), newest) if asked.isdecimal() and len(asked) < 7 else newest


def _strip(tree: Tree, look: Look) -> Markup | None:
    """Prompts, calls and tools over the time of the session, None where there is nothing to see."""
    marks = [_mark(node.role, node.start_ns, node.end_ns, node.is_error, node.name, look) for node in _timed(tree)]
    if not marks:
        return None
    start = min(mark.start_ns for mark in marks)
    end = max(mark.end_ns for mark in marks)
    if len(marks) > _MARKS_MANY:
        marks = joined(marks, start, end)
    return strip(marks, start, end, len(_LANES), "prompts, model calls and tools over time")


def _timed(tree: Tree) -> Sequence[Node]:
    return [node for _, node in tree.walk() if node.role in _LANES and node.start_ns and not node.is_noise]


def _mark(role: str, start_ns: int, end_ns: int, is_error: bool, name: str, look: Look) -> Mark:
    title = f"{name}\n{units.clock_time(start_ns, look.zone)}, {units.duration(end_ns - start_ns)}"
    return Mark(_LANES[role], "mark-error" if is_error else f"mark-{role}", start_ns, end_ns, title)
