"""Sessions side by side: totals against the first, models, tools, cost over their own time, prompts aligned."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

from msgspec import Struct, field
from starlette.requests import Request
from starlette.responses import Response

from tachograph.model import TOOL_RUN
from tachograph.questions import sessions as list_sessions
from tachograph.questions import usage
from tachograph.questions.contexts import contexts
from tachograph.scan import Agg, Bucket, Condition, Match, Reader, Scan
from tachograph.tree import Node, Tree, session_tree
from tachograph.web import conversation, messages, plots, units
from tachograph.web.asking import Asked
from tachograph.web.pages.overview import priced
from tachograph.web.pages.sessions import COMPARED_MAX, subagents_of, with_costs
from tachograph.web.rendering import Site, path_of, render
from tachograph.web.sparks import context_line

_PLACES: Final = 120  # of the chart, from left to right
_PROMPTS_SHOWN: Final = 40
_ROWS_SHOWN: Final = 30  # of models and of tools
_NANO: Final = 1_000_000_000


class Cell(Struct):
    """One number of one session: its kind as tables write it, and how it stands to the first session's."""

    kind: str
    value: Any
    cost_kind: str = ""
    change: str = ""
    under: str = ""


class Line(Struct):
    """One row: a label and a cell for each session; a row whose cells all say the same is drawn faintly."""

    label: str
    cells: list[Cell]
    what: str = ""


class Asking(Struct):
    """One prompt of one session: what was asked, and what came of it."""

    text: str
    href: str
    section: conversation.Section


class Side(Struct):
    """One session of the comparison."""

    row: dict[str, Any]
    href: str
    tree: Tree
    sections: list[conversation.Section]
    context: list[int] = field(default_factory=list)


def compare_sessions(site: Site, request: Request) -> Response:
    """The page of `?id=` and `?id=`, or `?a=` and `?b=`: two to five sessions."""
    sequence = site.reader.sequence()
    asked = Asked(site, request)
    wanted = _wanted(request)
    sides = _sides(site.reader, wanted)
    missing = [id_ for id_ in wanted if id_ not in {side.row["session_id"] for side in sides}]
    values: dict[str, Any] = {"totals": [], "models": [], "tools": [], "chart": None, "prompts": [], "more": 0}
    if len(sides) > 1:
        prompts = _prompts(site.reader, sides)
        values = {
            "totals": _totals(site.reader, sides),
            "models": _models(site.reader, sides),
            "tools": _tools(sides),
            "chart": _chart(site.reader, sides),
            "prompts": prompts[:_PROMPTS_SHOWN],
            "more": max(0, len(prompts) - _PROMPTS_SHOWN),
        }
    return render(
        site, request, "compare_sessions.html",
        sequence=sequence, look=asked.look, sides=sides, missing=missing, most=COMPARED_MAX,
        contexts=[context_line(side.context) for side in sides], **values,
    )  # fmt: skip


def _wanted(request: Request) -> list[str]:
    names = [id_ for key in ("a", "b", "id") for id_ in request.query_params.getlist(key) if id_]
    return list(dict.fromkeys(names))[:COMPARED_MAX]


def _sides(reader: Reader, wanted: Sequence[str]) -> list[Side]:
    if not wanted:
        return []
    found = with_costs(reader, list_sessions(reader, where=(Match("session_id", "in", list(wanted)),), limit=None))
    rows = {row["session_id"]: row for row in found}
    lines = contexts(reader, rows.values())
    sides = []
    for id_ in (id_ for id_ in wanted if id_ in rows):
        tree = session_tree(reader, id_)
        side = Side(rows[id_], path_of("sessions", id_), tree, conversation.sections(tree), lines.get(id_, []))
        sides.append(side)
    return sides


def _own(session_id: str) -> Condition:
    if session_id.startswith("trace:"):
        return Match("trace_id", "=", session_id.removeprefix("trace:"))
    return Match("session_id", "=", session_id)


def _totals(reader: Reader, sides: Sequence[Side]) -> list[Line]:
    below = subagents_of(reader, [side.row["session_id"] for side in sides])

    def line(label: str, kind: str, value: Callable[[Side], Any], what: str = "") -> Line:
        kinds = [side.row["cost_kind"] if kind == "cost" else "" for side in sides]
        return Line(
            label, _against([Cell(kind, value(side), made) for side, made in zip(sides, kinds, strict=True)]), what
        )

    cost = [Cell("cost", side.row["cost_nanousd"], side.row["cost_kind"], under=_unpriced(side.row)) for side in sides]
    return [
        Line("Cost", _against(cost)),
        line("Cost a prompt", "cost", lambda side: _by(side.row["cost_nanousd"], side.row["prompts"])),
        line("Took", "duration", lambda side: side.row["took_ns"], "from its first record to its last"),
        line("Prompts", "count", lambda side: side.row["prompts"]),
        line("Calls", "count", lambda side: side.row["ok_calls"], "that went well"),
        line("Failed calls", "failed", lambda side: side.row["failed_calls"] or 0),
        line("Tools", "count", lambda side: side.row["tool_runs"]),
        line("Failed tools", "failed", lambda side: side.row["tool_errors"] or 0),
        line("Input", "tokens", lambda side: side.row["input_tokens"], "tokens, cache included"),
        line("From the cache", "share", _cache_share, "of the input tokens"),
        line("Output", "tokens", lambda side: side.row["output_tokens"], "tokens, reasoning included"),
        line("Largest context", "tokens", lambda side: max(side.context, default=None), "input tokens of one call"),
        line("Sub-agents", "count", lambda side: below.get(side.row["session_id"], (0, None))[0], "sessions"),
    ]


def _by(amount: int | None, count: int | None) -> int | None:
    return round(amount / count) if amount is not None and count else None


def _unpriced(row: dict[str, Any]) -> str:
    return f"+{row['unpriced_calls']:,} unpriced" if row["unpriced_calls"] and row["cost_nanousd"] is not None else ""


def _cache_share(side: Side) -> float | None:
    cached, tokens = side.row["cache_read_tokens"], side.row["input_tokens"]
    return cached / tokens if cached is not None and tokens else None


def _against(cells: list[Cell]) -> list[Cell]:
    """The cells, each but the first with its change against the first, where both are known."""
    first = cells[0].value
    for cell in cells[1:]:
        if cell.value is not None and first:
            cell.change = units.change(cell.value, first, is_share=cell.kind == "share")
    return cells


def _models(reader: Reader, sides: Sequence[Side]) -> list[Line]:
    """Cost and calls of each model, the dearest first."""
    used: dict[str, dict[int, dict[str, Any]]] = {}
    for at, side in enumerate(sides):
        for row in usage(reader, "model", where=(_own(side.row["session_id"]),))["rows"]:
            used.setdefault(row["model"], {})[at] = priced(row)
    names = sorted(used, key=lambda name: -sum(row["cost_nanousd"] or 0 for row in used[name].values()))
    return [
        Line(name or "unknown", [_model_cell(used[name].get(at)) for at in range(len(sides))])
        for name in names[:_ROWS_SHOWN]
    ]


def _model_cell(row: dict[str, Any] | None) -> Cell:
    if row is None:
        return Cell("none", None)
    failed = f", {row['failed_calls']:,} failed" if row["failed_calls"] else ""
    return Cell("cost", row["cost_nanousd"], row["cost_kind"], under=f"{units.plural(row['calls'], 'call')}{failed}")


def _tools(sides: Sequence[Side]) -> list[Line]:
    """Runs of each tool, those of sub-agents within; the most frequent first."""
    runs: dict[str, dict[int, list[Node]]] = {}
    for at, side in enumerate(sides):
        for _, node in side.tree.walk():
            if node.role == TOOL_RUN and not node.is_repeat and not node.is_noise:
                runs.setdefault(node.tool_name or node.name, {}).setdefault(at, []).append(node)
    names = sorted(runs, key=lambda name: (-sum(map(len, runs[name].values())), name))
    return [
        Line(name, [_tool_cell(runs[name].get(at, ())) for at in range(len(sides))]) for name in names[:_ROWS_SHOWN]
    ]


def _tool_cell(nodes: Sequence[Node]) -> Cell:
    if not nodes:
        return Cell("none", None)
    failed = sum(node.is_error for node in nodes)
    under = [f"{failed:,} failed"] if failed else []
    took_ns = sum(node.duration_ns or 0 for node in nodes)
    return Cell("count", len(nodes), under=", ".join([*under, *([units.duration(took_ns)] if took_ns else [])]))


def _chart(reader: Reader, sides: Sequence[Side]) -> Any:
    """Cost as it added up from the start of each session on; None where nothing is priced."""
    curves = [_spent(reader, side.row) for side in sides]
    longest = max((at for curve in curves for at, _ in curve), default=0)
    if not longest or not any(curves):
        return None
    places = [round(longest * number / _PLACES) for number in range(_PLACES + 1)]
    series = [
        plots.Series(f"{number}: {units.excerpt(side.row['name'], 40)}", plots.rounded(_steps(curve, places)))
        for number, (side, curve) in enumerate(zip(sides, curves, strict=True), start=1)
    ]
    labels = [units.duration(place) for place in places]
    return plots.plot(plots.Plot("line", "dollars", labels, series), "Cost from the start of each session on")


def _spent(reader: Reader, row: dict[str, Any]) -> list[tuple[int, int]]:
    """(nanoseconds after the first call, nano-dollars by then), in time; a long session in stretches."""
    width_s = max(1, (row["took_ns"] or 0) // _NANO // (4 * _PLACES))
    select: dict[str, Any] = {
        "at": Bucket("start_ns", width_s), "end": Agg("max", "end_ns"), "cost": Agg("sum", "cost_nanousd"),
    }  # fmt: skip
    data = reader.scan(Scan("calls", select, (_own(row["session_id"]),), ("at",), (("at", False),))).data
    start = row["start_ns"] or next(iter(data["at"]), 0)
    total = 0
    curve = [(0, 0)] if data["at"] else []
    for at, end, cost in zip(data["at"], data["end"], data["cost"], strict=True):
        total += int(cost or 0)
        curve.append((max(0, (end or at) - start), total))
    return curve if total else []


def _steps(curve: Sequence[tuple[int, int]], places: Sequence[int]) -> list[float | None]:
    """Dollars at each place; nothing after the end."""
    values: list[float | None] = []
    last = max((at for at, _ in curve), default=-1)
    step = places[1] - places[0] if len(places) > 1 else 0
    for place in places:
        spent = max((cost for at, cost in curve if at <= place), default=0)
        values.append(spent / _NANO if curve and place - step < last else None)
    return values


def _prompts(reader: Reader, sides: Sequence[Side]) -> list[list[Asking | None]]:
    """The prompts of each session beside those of the same number."""
    asked = [[(at, one) for at, one in enumerate(side.sections) if one.node is not None] for side in sides]
    length = max(map(len, asked), default=0)
    shown = [one for prompts in asked for _, one in prompts[:_PROMPTS_SHOWN]]
    texts = reader.texts([hash_ for section in shown for hash_ in _hashes(section)]) if shown else {}

    def asking(side: Side, prompts: Sequence[tuple[int, conversation.Section]], number: int) -> Asking | None:
        if number >= len(prompts):
            return None
        at, section = prompts[number]
        text = next((texts[hash_] for hash_ in _hashes(section) if hash_ in texts), "")
        said = messages.first_text(messages.read(text, "user")) if text else ""
        return Asking(units.excerpt(said, 220), f"{side.href}?from={at}#prompt-{section.number}", section)

    return [
        [asking(side, prompts, number) for side, prompts in zip(sides, asked, strict=True)] for number in range(length)
    ]


def _hashes(section: conversation.Section) -> Iterable[str]:
    """What was asked: the prompt as it was told, else the last of what the model was given."""
    if section.node is None:
        return []
    slots = {slot: hashes for slot, hashes in section.node.texts if hashes}
    return slots.get("prompt") or slots.get("input", [])[-1:]
