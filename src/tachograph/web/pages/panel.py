"""The panel of a trace: one step with its tokens, price, messages, events, attributes, resource and raw JSON."""

from __future__ import annotations

from typing import Any, Final

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from tachograph.model import TOOL_RUN
from tachograph.questions import call as find_call
from tachograph.scan import Agg, Match, Reader, Scan
from tachograph.store.schema import TABLES
from tachograph.web.messages import Message, pretty_json
from tachograph.web.messages import read as read_message
from tachograph.web.rendering import Look, Site, fragment, look_of

_SHOWN_TEXTS: Final = 40  # messages of one span in the panel: agents resend their whole history
_EVENTS_SHOWN: Final = 200
_STARTED_SHOWN: Final = 10
_JSON_FIELDS: Final = ("attributes", "events", "links", "contents")


def panel(site: Site, request: Request) -> Response:
    """The panel of one step, as a piece of a page."""
    look = look_of(site, request)
    made = panel_of(site.reader, request.path_params["trace_id"], request.query_params.get("node", ""), look)
    if made is None:
        raise HTTPException(404)
    return HTMLResponse(made)


def panel_of(reader: Reader, trace_id: str, node_id: str, look: Look) -> str | None:
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
        id=record.get("span_id") or record.get("event_id") or record.get("call_id") or "",
        node=f"{record.get('trace_id')}:{record['span_id']}" if "parent_id" in record else "",
        call=find_call(reader, call_id) if call_id else None, texts=_messages(reader, record.get("contents")),
        started=_started(reader, record), raw=pretty_json(record | ({"source": source} if source else {})),
    )  # fmt: skip


def _started(reader: Reader, record: dict[str, Any]) -> list[dict[str, Any]]:
    """The sessions of sub-agents that a tool run started."""
    if record.get("role") != TOOL_RUN or not record.get("tool_call_id"):
        return []
    where = (Match("parent_tool_call_id", "=", record["tool_call_id"]),)
    select: dict[str, Any] = {name: name for name in ("session_id", "title", "agent")}
    return reader.scan(Scan("sessions", select, where, order_by=(("start_ns", False),), limit=_STARTED_SHOWN)).rows()


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
