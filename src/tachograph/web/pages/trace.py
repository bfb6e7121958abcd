"""One trace: tree and waterfall in one, drawn by the browser from compact rows; what failed, what took the time."""

from __future__ import annotations

from typing import Any, Final

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from tachograph import otlp_messages
from tachograph.model import MODEL_CALL, STEP, SUBAGENT, TOOL_RUN
from tachograph.questions.kept_spans import kept_spans
from tachograph.scan import Match, Reader, Scan
from tachograph.tree import Node, Totals, Tree, beginning, significant, trace_tree, uncollected
from tachograph.tree.timing import Stretch, critical_path
from tachograph.web.charts import share_bar
from tachograph.web.kept_traces import Shown, State, alone, spans_of, state_of
from tachograph.web.pages.panel import panel_of
from tachograph.web.rendering import Site, look_of, render
from tachograph.web.waterfall import compact, compact_beginning, extent, first_rows

_SPANS_MANY: Final = 2_000  # from here on a page comes before its tree, and rows before their ids
_FIRST_STEPS: Final = 200  # sent before all others: some screenfuls
_ERRORS_SHOWN: Final = 50
_LONGEST_SHOWN: Final = 8
_SUBAGENTS_SHOWN: Final = 20
_KINDS: Final = {MODEL_CALL: "model calls", TOOL_RUN: "tool runs", STEP: "other steps"}


def trace(site: Site, request: Request) -> Response:
    """The page; `?node=` selects a step for readers without a script.

    Of a long trace that nobody has looked at lately it has the first steps alone, which the script draws at once: it
    asks for all rows then, and for the rest when it has them. `?whole` waits for all of it.
    """
    trace_id = request.path_params["trace_id"]
    sequence = site.reader.sequence()
    look = look_of(site, request)
    spans = spans_of(site.reader, trace_id)
    is_long = spans[0] > _SPANS_MANY and "whole" not in request.query_params
    shown = None
    if not is_long:
        state = state_of(site.reader, trace_id, spans)
        shown = site.traces.make(trace_id, state, lambda: _shown(site.reader, trace_id))
    elif trace_id in site.traces.shown:
        shown = site.traces.get(trace_id, state_of(site.reader, trace_id, spans))
    is_frame = shown is None and is_long
    if is_frame:
        shown = _frame(site.reader, trace_id, spans)
    if shown is None:
        raise HTTPException(404)
    selected = request.query_params.get("node", "")
    kept = {"whole": "1"} if "whole" in request.query_params else {}
    where = (Match("trace_id", "=", trace_id),)
    sessions = site.reader.scan(Scan("trace_sessions", {"session_id": "session_id"}, where)).data["session_id"]
    return render(
        site, request, "trace.html",
        sequence=sequence, look=look, trace_id=trace_id, tree=shown, totals=shown.totals, start_ns=shown.start_ns,
        duration_ns=shown.end_ns - shown.start_ns, sessions=sessions or [f"trace:{trace_id}"],
        subagents=_subagents(site.reader, sessions), title=shown.title, first_rows=shown.first_rows,
        shown=shown.nodes - shown.noise, selected=selected, errors=shown.errors, waited=shown.waited,
        is_frame=is_frame, begun=shown.rows.decode() if is_frame else "", kept=kept,
        panel=panel_of(site.reader, trace_id, selected, look) if selected else None,
    )  # fmt: skip


def rows(site: Site, request: Request) -> Response:
    """Every step in order of the tree as columns: 20,000 of them are some hundred kilobytes, packed.

    A long trace's come without ids, which no packing makes smaller; `?ids` gives these.
    """
    trace_id = request.path_params["trace_id"]
    state = state_of(site.reader, trace_id, spans_of(site.reader, trace_id))
    shown = site.traces.make(trace_id, state, lambda: _shown(site.reader, trace_id))
    if shown is None:
        raise HTTPException(404)
    told = shown.ids if "ids" in request.query_params and shown.ids else shown.rows
    return Response(told, media_type="application/json")


def _shown(reader: Reader, trace_id: str) -> Shown | None:
    with uncollected():
        return _made(reader, trace_id)


def _made(reader: Reader, trace_id: str) -> Shown | None:
    tree = trace_tree(reader, trace_id, has_texts=False)
    if not tree.nodes:
        return None
    path = critical_path(tree)
    by_id = {node.id: node for _, node in tree.walk()}
    start_ns, end_ns = extent(tree)
    told, ids = compact(tree, path, has_ids=tree.nodes <= _SPANS_MANY)
    return Shown(
        tree.nodes, tree.noise, tree.is_cut, tree.root.totals, start_ns, end_ns, _title(tree),
        first_rows=[row | {"node": alone(row["node"])} for row in first_rows(tree)],
        errors=_errors(by_id), waited=_waited(tree, by_id, path), rows=told, ids=ids,
    )  # fmt: skip


def _frame(reader: Reader, trace_id: str, spans: State) -> Shown:
    """What is known of a long trace before its tree is made; its rows are those of the first steps."""
    _, last_seq, first_seq = spans
    first = beginning(reader, trace_id, _FIRST_STEPS, (first_seq, last_seq))
    nothing: dict[str, Any] = {"shown": [], "more": 0, "steps": []}
    return Shown(
        first.spans, 0, False, Totals(), first.start_ns, first.end_ns, _title(first.tree), first_rows=[],
        errors=nothing, waited=nothing, rows=compact_beginning(first), ids=b"",
    )  # fmt: skip


def otlp(site: Site, request: Request) -> Response:
    """The trace as OTLP/JSON, a request a line and one line where they are few; `?node=` gives the one span."""
    trace_id = request.path_params["trace_id"]
    node = request.query_params.get("node")
    span_id = None if node is None else node.removeprefix(f"{trace_id}:")
    pages = kept_spans(site.reader, trace_id, span_id)
    first = next(pages, None)  # before the answer begins: it may be that there is none
    if first is None:
        raise HTTPException(404)
    name = "".join(sign for sign in f"{trace_id}{'-' + span_id if span_id else ''}" if sign.isalnum() or sign == "-")
    lines = (otlp_messages.to_json(otlp_messages.traces(page)) + b"\n" for page in _chained(first, pages))
    headers = {"Content-Disposition": f'attachment; filename="{name[:80]}.otlp.jsonl"'}
    return StreamingResponse(lines, media_type="application/json", headers=headers)


def _chained(first: Any, others: Any) -> Any:
    yield first
    yield from others


def _title(tree: Tree) -> str:
    return next((node.name for node in significant(tree.root) if node.name), "Trace")


def _subagents(reader: Reader, sessions: list[str]) -> list[dict[str, Any]]:
    """The sessions of sub-agents that the sessions of this trace started, with a trace of each where there is one."""
    if not sessions:
        return []
    where = (Match("parent_session_id", "in", sessions), Match("lineage", "=", SUBAGENT))
    select: dict[str, Any] = {name: name for name in ("session_id", "title", "agent")}
    asked = Scan("sessions", select, where, order_by=(("start_ns", False),), limit=_SUBAGENTS_SHOWN)
    found = reader.scan(asked).rows()
    ids = [row["session_id"] for row in found]
    both: dict[str, Any] = {"session_id": "session_id", "trace_id": "trace_id"}
    traces = reader.scan(Scan("trace_sessions", both, (Match("session_id", "in", ids),))).rows() if ids else []
    trace_of = {row["session_id"]: row["trace_id"] for row in reversed(traces)}
    return [row | {"trace_id": trace_of.get(row["session_id"], "")} for row in found]


def _errors(by_id: dict[str, Node]) -> dict[str, Any]:
    """The steps that failed: first those that no failed step below explains, each group in time."""
    failed = [node for node in by_id.values() if node.is_error and not node.is_noise and not node.is_repeat]
    around = _above(by_id, failed)
    ordered = sorted(failed, key=lambda node: (node.id in around, node.start_ns, node.id))
    shown = [{"node": alone(node), "is_first": node.id not in around} for node in ordered[:_ERRORS_SHOWN]]
    return {"shown": shown, "more": len(ordered) - len(shown)}


def _above(by_id: dict[str, Node], nodes: list[Node]) -> set[str]:
    """The ids of every node that one of these stands below."""
    found: set[str] = set()
    for node in nodes:
        parent = by_id.get(node.parent)
        while parent is not None and parent.id not in found:
            found.add(parent.id)
            parent = by_id.get(parent.parent)
    return found


def _waited(tree: Tree, by_id: dict[str, Node], path: list[Stretch]) -> dict[str, Any]:
    """What the trace waited for on its critical path: by kind, and the steps that it waited for the longest."""
    kinds: dict[str, int] = {}
    steps: dict[str, int] = {}
    for stretch in path:
        node = _told(stretch.node, by_id)
        kind = _KINDS.get(node.role, "the agent in between")
        kinds[kind] = kinds.get(kind, 0) + stretch.duration_ns
        steps[node.id] = steps.get(node.id, 0) + stretch.duration_ns
    start_ns, end_ns = extent(tree)
    idle_ns = end_ns - start_ns - sum(kinds.values())
    parts = sorted(kinds.items(), key=lambda part: -part[1])
    longest = sorted(steps.items(), key=lambda step: (-step[1], step[0]))[:_LONGEST_SHOWN]
    peak = longest[0][1] if longest else 0
    return {
        "kinds": [*parts, ("nothing that is told", idle_ns)] if idle_ns > 0 else parts,
        "steps": [{"node": alone(by_id[id_]), "wait_ns": ns, "bar": share_bar(ns, peak)} for id_, ns in longest],
        "whole_ns": end_ns - start_ns,
    }


def _told(node: Node, by_id: dict[str, Node]) -> Node:
    """The step that a folded inner one is shown in."""
    at: Node | None = node
    while at is not None and (at.is_noise or not at.role):
        at = by_id.get(at.parent)
    return at or node
