"""One session: its facts, how it went, and the conversation with every call and tool; and the session as a file."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final
from urllib.parse import urlencode

from markupsafe import Markup
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from tachograph.model import MODEL_CALL, PROMPT, TOOL_RUN
from tachograph.questions import Course, course, descendants, traces_of, usage
from tachograph.questions import session as find_session
from tachograph.scan import Agg, Bucket, Match, Reader, Scan
from tachograph.tree import Node, Tree
from tachograph.web import conversation, session_files, units
from tachograph.web.asking import term
from tachograph.web.charts import Mark, joined, strip
from tachograph.web.pages.overview import priced
from tachograph.web.pages.sessions import with_costs
from tachograph.web.reading import Part, of_session, part
from tachograph.web.rendering import Look, Site, look_of, render
from tachograph.web.session_charts import charts

_MARKS_MANY: Final = 400  # from here on marks that touch are drawn as one
_LANES: Final = {PROMPT: 0, MODEL_CALL: 1, TOOL_RUN: 2}
_EVENT_LANE: Final = len(_LANES)
_EVENTS: Final = {"compaction": "compaction", "model": "model switch", "cache": "cache break", "aborted": "aborted"}
_BUCKETS: Final = 400
_TOOLS_SHOWN: Final = 12
_TRACES_SHOWN: Final = 12
_NANO: Final = 1_000_000_000


def session(site: Site, request: Request) -> Response:
    """The page of a session's id; `?from=` counts the prompts before the first one shown, `?prompt=` names it.

    Without them it is the newest ones. A long session without prompts begins with its first steps; `?step=` counts
    those before.
    """
    session_id = request.path_params["session_id"]
    sequence = site.reader.sequence()
    row = find_session(site.reader, session_id)
    if row is None:
        raise HTTPException(404)
    look = look_of(site, request)
    went = course(site.reader, session_id)
    shown = part(site.reader, row, went, _first(request), request.query_params.get("step", ""))
    conversation.fill(site.reader, shown.sections)
    own = of_session(session_id)
    return render(
        site, request, "session.html",
        sequence=sequence, look=look, session=with_costs(site.reader, [row])[0],
        models=[priced(model) | {"href": _behind(session_id, term("model", model["model"] or ""))}
                for model in usage(site.reader, "model", where=(own,))["rows"]],
        tools=_tools(site.reader, own, shown), traces=traces_of(site.reader, session_id, _TRACES_SHOWN),
        sections=shown.sections, is_part=shown.is_part, is_by_step=shown.is_by_step,
        first=shown.first, total=shown.total, earlier=shown.earlier, later=shown.later,
        strip=_strip(site.reader, own, shown, went, look), calls={call["call_id"]: call for call in went.calls},
        happened=_counted(went), charts=charts(went, look.zone), is_cut=shown.tree.is_cut,
        descendants=descendants(site.reader, session_id), files=session_files.links(session_id),
        all_calls=_behind(session_id), failed_calls=_behind(session_id, "error:true"),
    )  # fmt: skip


def _first(request: Request) -> str:
    number = request.query_params.get("prompt", "")
    return (
        str(max(0, int(number) - 1)) if number.isdecimal() and len(number) < 7 else request.query_params.get("from", "")
    )


def file(site: Site, request: Request) -> Response:
    """The whole session as Markdown or as a page of its own, secrets taken out."""
    session_id, form = request.path_params["session_id"], request.path_params["form"]
    if form not in session_files.FORMS:
        raise HTTPException(404)
    look = look_of(site, request)
    text = session_files.written(site.reader, session_id, form, look)
    if text is None:
        raise HTTPException(404)
    name = session_files.name_of(session_id, form)
    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    return Response(text.encode("utf-8", "replace"), media_type=session_files.FORMS[form], headers=headers)


def _behind(session_id: str, *terms: str) -> str:
    """The address of the calls behind a number, "" where a trace stands for the session: no filter names it."""
    if session_id.startswith("trace:"):
        return ""
    return "/calls?" + urlencode({"range": "all", "q": " ".join((term("session", session_id), *terms))})


def _counted(went: Course) -> list[tuple[str, int, str]]:
    """What happened how often: (words, number, kind)."""
    words = {
        "compaction": "compaction", "model": "model switch", "cache": "cache break", "aborted": "abort",
        "bash": "command of the user", "waiting": "wait for the user", "retry": "failed or repeated attempt",
    }  # fmt: skip
    counts = {kind: sum(one.kind == kind for one in went.happenings) for kind in words}
    return [(words[kind], number, kind) for kind, number in counts.items() if number]


# Tools


def _tools(reader: Reader, own: Match, shown: Part) -> list[dict[str, Any]]:
    """Runs, failures and time of each tool, most time first; of a long session as its spans or events tell."""
    if shown.is_part:
        return _tools_told(reader, own)
    found: dict[str, dict[str, Any]] = {}
    for _, node in shown.tree.walk():
        if node.role == TOOL_RUN and not node.is_repeat and not node.is_noise:
            tool = found.setdefault(node.tool_name, {"tool": node.tool_name, "runs": 0, "errors": 0, "took": None})
            tool["runs"] += 1
            tool["errors"] += node.is_error
            if node.duration_ns is not None:
                tool["took"] = (tool["took"] or 0) + node.duration_ns
    return sorted(found.values(), key=lambda tool: (-(tool["took"] or 0), tool["tool"]))[:_TOOLS_SHOWN]


def _tools_told(reader: Reader, own: Match) -> list[dict[str, Any]]:
    select: dict[str, str | Agg | Bucket] = {
        "tool": "tool_name",
        "runs": Agg("count"),
        "errors": Agg("count_if_true", "is_error"),
        "took": Agg("sum", "duration_ns"),
    }
    where = (own, Match("role", "=", TOOL_RUN), Match("tool_name", "!=", ""))
    for table in ("spans", "events"):
        asked = Scan(table, select, where, ("tool",), (("took", True),), limit=_TOOLS_SHOWN)
        if rows := reader.scan(asked).rows():
            return rows
    return []


# The time line


def _strip(reader: Reader, own: Match, shown: Part, went: Course, look: Look) -> Markup | None:
    """Prompts, calls, tools and what happened over the time of the session, None where there is nothing to see."""
    if shown.is_part:
        marks = _marks_told(reader, own, shown, went)
    else:
        marks = [_mark(node, look) for node in _timed(shown.tree)]
    if not marks:
        return None
    start = min(mark.start_ns for mark in marks)
    end = max(mark.end_ns for mark in marks)
    if len(marks) > _MARKS_MANY:
        marks = joined(marks, start, end)
    for one in went.happenings:
        if one.kind in _EVENTS and start <= one.time_ns <= end:
            title = f"{_EVENTS[one.kind]} {one.said}\n{units.clock_time(one.time_ns, look.zone)}"
            marks.append(Mark(_EVENT_LANE, "mark-event", one.time_ns, one.time_ns, title))
    lanes = _EVENT_LANE + (marks[-1].lane == _EVENT_LANE)
    return strip(marks, start, end, lanes, "prompts, model calls, tools and events over time")


def _marks_told(reader: Reader, own: Match, shown: Part, went: Course) -> list[Mark]:
    """The marks of a long session, in as many pieces of time as a screen can show."""
    prompts = [(one.start_ns, one.end_ns, one.is_error) for one in shown.prompts]
    calls = [(call["start_ns"], call["end_ns"] or 0, call["status"] != "ok") for call in went.calls]
    start = shown.start_ns
    width_ns = max(_NANO, (shown.end_ns - start) // _BUCKETS)
    marks = _gathered(prompts, width_ns, PROMPT, "prompt") + _gathered(calls, width_ns, MODEL_CALL, "model call")
    for table, column in (("spans", "start_ns"), ("events", "time_ns")):
        select: dict[str, str | Agg | Bucket] = {
            "bucket": Bucket(column, width_ns // _NANO), "error": "is_error", "n": Agg("count"),
            "first": Agg("min", column), "last": Agg("max", column),
        }  # fmt: skip
        where = (own, Match("role", "=", TOOL_RUN))
        rows = reader.scan(Scan(table, select, where, ("bucket", "error"))).rows()
        for row in rows:
            class_ = "mark-error" if row["error"] else "mark-tool_run"
            title = units.plural(row["n"], "tool run")
            marks.append(Mark(_LANES[TOOL_RUN], class_, row["first"] or start, row["last"] or start, title))
        if rows:
            break
    return marks


def _gathered(moments: Sequence[tuple[int, int, bool]], width_ns: int, role: str, word: str) -> list[Mark]:
    """One mark for what began in the same piece of time; failures apart."""
    found: dict[tuple[int, bool], list[int]] = {}
    for start_ns, end_ns, is_error in moments:
        told = found.setdefault((start_ns // width_ns, is_error), [start_ns, end_ns, 0])
        told[0], told[1], told[2] = min(told[0], start_ns), max(told[1], end_ns, start_ns), told[2] + 1
    return [
        Mark(_LANES[role], "mark-error" if is_error else f"mark-{role}", first, last, units.plural(count, word))
        for (_, is_error), (first, last, count) in found.items()
    ]


def _timed(tree: Tree) -> Sequence[Node]:
    return [node for _, node in tree.walk() if node.role in _LANES and node.start_ns and not node.is_noise]


def _mark(node: Node, look: Look) -> Mark:
    took = "duration unknown" if node.duration_ns is None else units.duration(node.duration_ns)
    title = f"{node.name}\n{units.clock_time(node.start_ns, look.zone)}, {took}"
    class_ = "mark-error" if node.is_error else f"mark-{node.role}"
    return Mark(_LANES[node.role], class_, node.start_ns, node.end_ns, title)
