"""One trace: tree and waterfall in one, drawn by the browser from compact rows, and a panel for what is selected."""

from __future__ import annotations

from typing import Any, Final

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from tachograph.questions import call as find_call
from tachograph.scan import Agg, Match, Reader, Scan
from tachograph.store.schema import TABLES
from tachograph.tree import Node, Tree, significant, trace_tree
from tachograph.web.charts import waterfall_bar
from tachograph.web.messages import Message, pretty_json
from tachograph.web.messages import read as read_message
from tachograph.web.rendering import Look, Site, fragment, look_of, render

FIRST_ROWS: Final = 80  # drawn by the server: a screenful, and what there is without a script
_KEPT_TRACES: Final = 4
_SHOWN_TEXTS: Final = 40  # messages of one span in the panel: agents resend their whole history
_EVENTS_SHOWN: Final = 200
_ERRORS_SHOWN: Final = 50
_ERROR_SEARCHED: Final = 200  # characters of an error that the search of the page looks in
_ERROR, _NOISE, _CALL, _NOTIONAL, _ESTIMATE, _COMPUTED = (
    1,
    2,
    4,
    8,
    16,
    32,
)  # bits of a row's flags; static/trace.js knows them
_JSON_FIELDS: Final = ("attributes", "events", "links", "contents")


def trace(site: Site, request: Request) -> Response:
    """The page; `?node=` selects a step for readers without a script."""
    trace_id = request.path_params["trace_id"]
    sequence = site.reader.sequence()
    look = look_of(site, request)
    tree = trace_tree(site.reader, trace_id, has_texts=False)
    if not tree.nodes:
        raise HTTPException(404)
    _keep(site, trace_id, sequence, _compact(tree))
    selected = request.query_params.get("node", "")
    panel = _panel(site.reader, trace_id, selected, look) if selected else None
    where = (Match("trace_id", "=", trace_id),)
    sessions = site.reader.scan(Scan("trace_sessions", {"session_id": "session_id"}, where)).data["session_id"]
    start_ns, end_ns = _extent(tree)
    return render(
        site, request, "trace.html",
        sequence=sequence, look=look, trace_id=trace_id, tree=tree, totals=tree.root.totals, start_ns=start_ns,
        duration_ns=end_ns - start_ns, sessions=sessions or [f"trace:{trace_id}"],
        title=_title(tree), first_rows=_first_rows(tree, start_ns, end_ns), shown=tree.nodes - tree.noise,
        selected=selected, panel=panel, errors=_errors(tree),
    )  # fmt: skip


def rows(site: Site, request: Request) -> Response:
    """Every step in order of the tree as columns: 10,000 of them are some hundred kilobytes."""
    trace_id = request.path_params["trace_id"]
    sequence = site.reader.sequence()
    kept = site.traces.get((trace_id, sequence))
    if kept is None:
        tree = trace_tree(site.reader, trace_id, has_texts=False)
        if not tree.nodes:
            raise HTTPException(404)
        kept = _compact(tree)
    return Response(kept, media_type="application/json")


def _keep(site: Site, trace_id: str, sequence: int, compact: bytes) -> None:
    """Keep the rows for the request that the page's script makes next."""
    for old in list(site.traces)[: max(0, len(site.traces) - _KEPT_TRACES + 1)]:
        site.traces.pop(old, None)
    site.traces[trace_id, sequence] = compact


def panel(site: Site, request: Request) -> Response:
    """The panel of one step, as a piece of a page."""
    look = look_of(site, request)
    made = _panel(site.reader, request.path_params["trace_id"], request.query_params.get("node", ""), look)
    if made is None:
        raise HTTPException(404)
    return HTMLResponse(made)


def _title(tree: Tree) -> str:
    return next((node.name for node in significant(tree.root) if node.name), "Trace")


def _extent(tree: Tree) -> tuple[int, int]:
    return tree.root.start_ns, max(tree.root.end_ns, tree.root.start_ns + 1)


def _compact(tree: Tree) -> bytes:
    """JSON of columns: parents as row numbers (-1 = none), words as numbers into `words`, times in µs from the start.

    The id of a span of this trace comes without the trace's.
    """
    start_ns, end_ns = _extent(tree)
    words: dict[str, int] = {"": 0}
    at_of: dict[str, int] = {"": -1}
    columns: dict[str, list[Any]] = {
        name: []
        for name in ("id", "parent", "name", "role", "detail", "also", "error", "at", "took", "flags", "tokens", "cost")
    }
    for number, (_, node) in enumerate(tree.walk()):
        at_of[node.id] = number
        cells = (
            node.span_id if node.span_id and node.trace_id == tree.id and node.origin == "span" else node.id,
            at_of[node.parent],
            words.setdefault(node.name, len(words)),
            words.setdefault(node.role, len(words)),
            words.setdefault(_detail(node), len(words)),
            words.setdefault(_also(node), len(words)),
            words.setdefault(node.error[:_ERROR_SEARCHED], len(words)),
            max(0, node.start_ns - start_ns) // 1000 if node.start_ns else 0,
            node.duration_ns // 1000,
            _flags(node),
            None if node.input_tokens is None else node.input_tokens + (node.output_tokens or 0),
            node.cost_nanousd,
        )
        for column, cell in zip(columns.values(), cells, strict=True):
            column.append(cell)
    return msgspec.json.encode({"duration": (end_ns - start_ns) // 1000, "words": list(words), "columns": columns})


def _detail(node: Node) -> str:
    """What the name does not say yet."""
    return next((one for one in (node.tool_name, node.model, node.subagent) if one and one != node.name), "")


def _also(node: Node) -> str:
    """What else a search finds a step by, beside its name and detail."""
    shown = (node.name, _detail(node), "")
    return " ".join(one for one in (node.tool_name, node.model, node.subagent, node.tool_call_id) if one not in shown)


def _errors(tree: Tree) -> dict[str, Any]:
    """The steps that failed: first those that no failed step below explains, each group in time."""
    failed = [node for _, node in tree.walk() if node.is_error and not node.is_noise and not node.is_repeat]
    around = _above(tree, failed)
    ordered = sorted(failed, key=lambda node: (node.id in around, node.start_ns, node.id))
    shown = [{"node": node, "is_first": node.id not in around} for node in ordered[:_ERRORS_SHOWN]]
    return {"shown": shown, "more": len(ordered) - len(shown)}


def _above(tree: Tree, nodes: list[Node]) -> set[str]:
    """The ids of every node that one of these stands below."""
    by_id = {node.id: node for _, node in tree.walk()}
    found: set[str] = set()
    for node in nodes:
        parent = by_id.get(node.parent)
        while parent is not None and parent.id not in found:
            found.add(parent.id)
            parent = by_id.get(parent.parent)
    return found


def _flags(node: Node) -> int:
    return (
        (_ERROR if node.is_error else 0)
        | (_NOISE if node.is_noise else 0)
        | (_CALL if node.call_id else 0)
        | (_NOTIONAL if node.is_notional else 0)
        | (_ESTIMATE if node.cost_kind == "source_estimate" else 0)
        | (_COMPUTED if node.cost_kind == "computed" else 0)
    )


def _first_rows(tree: Tree, start_ns: int, end_ns: int) -> list[dict[str, Any]]:
    """The first steps with noise folded, as the script will draw them."""
    length = max(1, end_ns - start_ns)
    found: list[dict[str, Any]] = []
    stack = [(0, node) for node in reversed(significant(tree.root))]
    while stack and len(found) < FIRST_ROWS:
        depth, node = stack.pop()
        class_ = "fall-error" if node.is_error else f"fall-{node.role or 'step'}"
        bar = waterfall_bar((node.start_ns - start_ns) / length, node.duration_ns / length, class_)
        found.append({"depth": min(depth, 12), "node": node, "detail": _detail(node), "bar": bar})
        stack.extend((depth + 1, child) for child in reversed(significant(node)))
    return found


def _panel(reader: Reader, trace_id: str, node_id: str, look: Look) -> str | None:
    """The panel of a span, event or call; None where nothing has that id."""
    kind, _, rest = node_id.partition(":")
    if kind == "event":
        return _event_panel(reader, rest, look)
    if kind == "call":
        return _call_panel(reader, rest, look)
    return _span_panel(reader, trace_id, rest, look) if kind == trace_id else None


def _span_panel(reader: Reader, trace_id: str, span_id: str, look: Look) -> str | None:
    where = (Match("trace_id", "=", trace_id), Match("span_id", "=", span_id))
    span = _newest(reader, "spans", where)
    if span is None:
        return None
    call_ids = reader.scan(Scan("calls", {"call_id": "call_id"}, where, limit=1)).data["call_id"]
    if not call_ids:
        told = reader.scan(Scan("reports", {"report_id": "report_id"}, where, limit=1)).data["report_id"]
        call_ids = _call_of_report(reader, trace_id, told[0]) if told else []
    events = reader.scan(
        Scan("events", _all("events"), where, order_by=(("time_ns", False),), limit=_EVENTS_SHOWN)
    ).rows()
    return _render(reader, look, span, call_ids[0] if call_ids else "", events)


def _call_of_report(reader: Reader, trace_id: str, report_id: str) -> list[str]:
    """The call that a report was merged into."""
    where = (Match("trace_id", "=", trace_id),)
    calls = reader.scan(Scan("calls", {"call_id": "call_id", "reports": "reports"}, where)).rows()
    return [call["call_id"] for call in calls if report_id in (call["reports"] or [])]


def _event_panel(reader: Reader, event_id: str, look: Look) -> str | None:
    event = _newest(reader, "events", (Match("event_id", "=", event_id),))
    return None if event is None else _render(reader, look, event, "", [])


def _call_panel(reader: Reader, call_id: str, look: Look) -> str | None:
    call = find_call(reader, call_id)
    if call is None:
        return None
    return _render(reader, look, call | {"name": call["model"] or "model call", "role": "model_call"}, call_id, [])


def _newest(reader: Reader, table: str, where: tuple[Match, ...]) -> dict[str, Any] | None:
    found = reader.scan(Scan(table, _all(table), where, order_by=(("seq", True),), limit=1)).rows()
    return found[0] if found else None


def _all(table: str) -> dict[str, str | Agg | Any]:
    return {column.name: column.name for column in TABLES[table]}


def _render(reader: Reader, look: Look, record: dict[str, Any], call_id: str, events: list[dict[str, Any]]) -> str:
    source = None
    if record.get("source_id"):
        source = _one(reader, "sources", Match("source_id", "=", record["source_id"]))
    fields = {k: v for k, v in record.items() if v not in (None, "", [], {}) and k not in _JSON_FIELDS}
    return fragment(
        "panel.html", look,
        record=record, fields=fields, source=source, events=events, json=pretty_json,
        call=find_call(reader, call_id) if call_id else None, texts=_messages(reader, record.get("contents")),
        raw=pretty_json(record | ({"source": source} if source else {})),
    )  # fmt: skip


def _one(reader: Reader, table: str, where: Match) -> dict[str, Any] | None:
    found = reader.scan(Scan(table, _all(table), (where,), limit=1)).rows()
    return found[0] if found else None


def _messages(reader: Reader, contents: Any) -> list[tuple[str, list[Message], int]]:
    """(what it is, its last messages, how many came before them) of each kept content."""
    kept = contents if isinstance(contents, list) else []
    shown = [(c.get("slot") or c.get("key") or "text", c["hashes"]) for c in kept if c.get("hashes")]
    texts = reader.texts(list({h for _, hashes in shown for h in hashes[-_SHOWN_TEXTS:]}))
    roles = {"output": "assistant", "response": "assistant", "prompt": "user", "system": "system"}
    return [
        (
            name,
            [read_message(texts[h], roles.get(name, ""), h) for h in hashes[-_SHOWN_TEXTS:] if h in texts],
            max(0, len(hashes) - _SHOWN_TEXTS),
        )
        for name, hashes in shown
    ]
