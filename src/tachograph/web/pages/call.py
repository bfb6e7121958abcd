"""One call: tokens, price, messages, and where each number comes from."""

from __future__ import annotations

from typing import Any, Final

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from tachograph.errors import QueryError
from tachograph.questions import explain
from tachograph.scan import Agg, Any_, Bucket, Condition, Match, Reader, Scan
from tachograph.web.messages import Message
from tachograph.web.messages import read as read_message
from tachograph.web.rendering import Site, look_of, render

_TRANSCRIPT: Final = "transcript"
_SHOWN_MESSAGES: Final = 60
_ROLES: Final = {"output": "assistant", "response": "assistant", "prompt": "user", "system": "system"}
_ORDER: Final = ("system", "tools", "prompt", "input", "thinking", "output", "response")
# What people call the kinds of cost.
COST_WORDS: Final = {
    "billed": "billed: what the provider or gateway says it charged",
    "source_estimate": "estimate of the agent that made the call",
    "computed": "computed here from the tokens and the list price at the time of the call",
    "": "unpriced: no source named an amount, and no price is known for this model",
}


def call(site: Site, request: Request) -> Response:
    """The page of a call's id."""
    sequence = site.reader.sequence()
    look = look_of(site, request)
    try:
        told = explain(site.reader, request.path_params["call_id"])
    except QueryError:
        raise HTTPException(404) from None
    row = told["call"]
    return render(
        site, request, "call.html",
        sequence=sequence, look=look, call=row, told=told, cost_words=COST_WORDS[row["cost_kind"]],
        reports={report["report_id"]: report for report in told["reports"]},
        labels={report["report_id"]: number for number, report in enumerate(told["reports"], start=1)},
        contents=_contents(site.reader, row, told["reports"]),
    )  # fmt: skip


def _contents(reader: Reader, row: dict[str, Any], reports: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What was sent and answered, of the record that kept most of it: `{"slot", "messages", "before"}`."""
    best: dict[str, list[str]] = {}
    for contents in _kept(reader, row, reports):
        for content in contents or []:
            slot = content.get("slot") or ""
            if slot in _ORDER and len(content["hashes"]) > len(best.get(slot, ())):
                best[slot] = content["hashes"]
    if best.get("response") and best.get("output"):
        del best["response"]
    shown = {slot: hashes[-_SHOWN_MESSAGES:] for slot, hashes in best.items()}
    texts = reader.texts([h for hashes in shown.values() for h in hashes]) if shown else {}
    return [
        {
            "slot": slot,
            "messages": [_message(texts[h], slot, h) for h in shown[slot] if h in texts],
            "before": len(best[slot]) - len(shown[slot]),
        }
        for slot in _ORDER
        if slot in shown
    ]


def _message(text: str, slot: str, hash_: str) -> Message:
    return read_message(text, _ROLES.get(slot, ""), hash_)


def _kept(reader: Reader, row: dict[str, Any], reports: list[dict[str, Any]]) -> list[Any]:
    """The contents of every span and event that tells of the call."""
    found: list[Any] = []
    spans = {(report["trace_id"], report["span_id"]) for report in reports if report["span_id"]}
    for trace_id, span_id in sorted(spans):
        where: tuple[Condition, ...] = (Match("trace_id", "=", trace_id), Match("span_id", "=", span_id))
        found += reader.scan(Scan("spans", {"contents": "contents"}, where)).data["contents"]
    ids = [Match(name, "=", row[name]) for name in ("response_id", "request_id") if row[name]]
    if ids:
        where = (Any_(tuple(ids)), *((Match("session_id", "=", row["session_id"]),) if row["session_id"] else ()))
        select: dict[str, str | Agg | Bucket] = {"contents": "contents", "origin": "origin"}
        rows = reader.scan(Scan("events", select, where, order_by=(("time_ns", False),))).rows()
        found += [one["contents"] for one in rows if one["origin"] != _TRANSCRIPT]
        found.append(_joined([one["contents"] or [] for one in rows if one["origin"] == _TRANSCRIPT]))
    return found


def _joined(lines: list[list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """The contents of a transcript's lines as one: it writes an answer as a line for each part."""
    slots: dict[str, dict[str, None]] = {}
    for contents in lines:
        for content in contents:
            slots.setdefault(content.get("slot") or "", {}).update(dict.fromkeys(content["hashes"]))
    return [{"slot": slot, "hashes": list(hashes)} for slot, hashes in slots.items()]
