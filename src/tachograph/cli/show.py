"""Show a session or a trace as a tree: its prompts, turns, model calls and tool runs, what each took and cost."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from datetime import tzinfo
from typing import TYPE_CHECKING, Any, Final

from tachograph.cli.arguments import add_json, settings
from tachograph.cli.formats import count, duration, moment, nanousd, plural, printable
from tachograph.cli.periods import add_timezone, timezone_name
from tachograph.cli.tables import Column, write_json, write_lines, write_table

if TYPE_CHECKING:
    from tachograph.scan import Reader
    from tachograph.tree import Node, Tree

EXAMPLES = ("tachograph show last", "tachograph show last --all --json")

_COLUMNS = (
    Column("step", width_min=20),
    Column("input", True, 3),
    Column("output", True, 3),
    Column("took", True, 2),
    Column("cost", True, 1),
)
# Role -> (word, slots that say what it was about, best first).
_ROLES: Final = {
    "session": ("session", ()),
    "prompt": ("prompt", ("prompt", "input")),
    "turn": ("turn", ()),
    "agent": ("agent", ()),
    "model_call": ("call", ()),
    "tool_run": ("tool", ("arguments",)),
    "": ("", ()),
}
# How a session comes from another, said before the other's id.
LINEAGES: Final = {"subagent": "a sub-agent of", "fork": "forked from", "resume": "goes on with", "": "comes from"}
_EXCERPT: Final = 120  # characters of a text: more than a line has room for beside the numbers


def arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of `show`."""
    parser.add_argument("id", metavar="SESSION|TRACE", help="an id or the beginning of one, or last")
    parser.add_argument("--all", action="store_true", help="with the inner steps of the agent, folded otherwise")
    parser.add_argument("--depth", metavar="N", type=int, help="only so many levels")
    add_timezone(parser)
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    """Print the tree."""
    from tachograph import questions
    from tachograph.cli.reading import open_reader
    from tachograph.tree import session_tree, trace_tree

    zone = questions.zone_of(timezone_name(arguments))
    with open_reader(settings(arguments)) as reader:
        found = questions.find(reader, arguments.id, ("session", "trace"))
        is_session = found.kind == "session"
        tree = session_tree(reader, found.id) if is_session else trace_tree(reader, found.id)
        row = questions.session(reader, found.id) if is_session else None
        if arguments.json:
            write_json({"kind": found.kind, "id": found.id, "session": row, "tree": _as_json(tree, arguments.all)})
            return 0
        lines = list(_walk(tree.root, arguments.all, arguments.depth))
        about = _excerpts(reader, [node for _, node in lines])
    write_lines([*_heading(found.kind, tree, row, zone), ""])
    write_table(_COLUMNS, [_cells(indent, node, about) for indent, node in lines], _total(tree))
    if tree.is_cut:
        write_lines(["the tree is cut: it has more spans than can be shown"])
    return 0


def _walk(root: Node, with_noise: bool, depth: int | None) -> Iterator[tuple[str, Node]]:
    """Every node to be shown, with the branches drawn before it; no recursion, as trees may be deep."""
    stack = _branches(root, "", with_noise)
    while stack:
        indent, below, node = stack.pop()
        yield indent, node
        if depth is None or len(below) // 2 < depth:
            stack += _branches(node, below, with_noise)


def _branches(node: Node, below: str, with_noise: bool) -> list[tuple[str, str, Node]]:
    from tachograph.tree import significant

    children = node.children if with_noise else significant(node)
    last = len(children) - 1
    drawn = [
        (below + ("└ " if i == last else "├ "), below + ("  " if i == last else "│ "), child)
        for i, child in enumerate(children)
    ]
    return drawn[::-1]


def _heading(kind: str, tree: Tree, row: dict[str, Any] | None, zone: tzinfo) -> list[str]:
    from tachograph.cli.reading import DEMO

    told = row or {}
    facts = [told.get(name) or "" for name in ("agent", "project", "branch")]
    when = moment(tree.root.start_ns, zone)
    took = duration(max(0, tree.root.end_ns - tree.root.start_ns)) if tree.root.start_ns else ""
    lines = [f"{kind} {tree.id}", " · ".join(part for part in (*facts, when, took) if part)]
    if told.get("parent_session_id"):
        lines.append(f"{LINEAGES[told['lineage']]} session {told['parent_session_id']}")
    if told.get("title"):
        lines.append(f"“{told['title']}”")
    if told.get("is_demo"):
        lines.append(DEMO)
    return lines


def _total(tree: Tree) -> list[str]:
    totals = tree.root.totals
    words = [plural(totals.calls, "call")]
    words += [f"{totals.failed_calls} failed"] if totals.failed_calls else []
    words += [plural(totals.tool_runs, "tool")] if totals.tool_runs else []
    words += [f"{totals.unknown_calls} partial"] if totals.unknown_calls else []
    words += [f"{totals.unpriced_calls} unpriced"] if totals.unpriced_calls else []
    costs = [cost for cost in (totals.cost_nanousd, totals.notional_nanousd) if cost is not None]
    took = duration(max(0, tree.root.end_ns - tree.root.start_ns)) if tree.root.start_ns else ""
    cost = nanousd(sum(costs)) if costs or totals.calls else ""
    return [", ".join(words), count(totals.input_tokens), count(totals.output_tokens), took, cost]


def _cells(indent: str, node: Node, about: dict[str, str]) -> list[str]:
    cost = ""
    if node.call_id and (node.status == "ok" or node.cost_nanousd is not None):
        cost = nanousd(node.cost_nanousd)
    elif node.totals.calls:
        costs = [c for c in (node.totals.cost_nanousd, node.totals.notional_nanousd) if c is not None]
        cost = nanousd(sum(costs)) if costs else ""
    tokens = [count(t) if node.call_id else "" for t in (node.input_tokens, node.output_tokens)]
    return [
        indent + _label(node, about.get(node.id, "")),
        *tokens,
        "–" if node.duration_ns is None else duration(node.duration_ns),
        cost,
    ]


# Characters of an error beside its step: the whole of it stands on the page, and in `explain`.
_ERROR_MAX = 48


def _label(node: Node, about: str) -> str:
    word = _ROLES.get(node.role, ("", ()))[0]
    name = {"model_call": node.model, "tool_run": node.tool_name, "agent": node.subagent}.get(node.role) or node.name
    says_nothing = name.rpartition(".")[2] == word or (node.role == "prompt" and about)  # agent.turn is a turn
    parts = [word, "" if says_nothing else name, f"“{about}”" if about else ""]
    if node.is_error:
        error = " ".join((node.error or "failed").split())
        parts.append(f"✗ {error if len(error) <= _ERROR_MAX else error[: _ERROR_MAX - 1] + '…'}")
    if node.inner:
        parts.append(f"(+{node.inner} inner steps)")
    return " ".join(part for part in parts if part)


def _excerpts(reader: Reader, nodes: list[Node]) -> dict[str, str]:
    """Node id -> the beginning of the text that says what it was about, where that is kept."""
    wanted = {}
    for node in nodes:
        texts = {slot: hashes for slot, hashes in reversed(node.texts) if hashes}
        slot = next((slot for slot in _ROLES.get(node.role, ("", ()))[1] if slot in texts), None)
        if slot is not None:
            wanted[node.id] = texts[slot][-1]
    kept = reader.texts(sorted(set(wanted.values()))) if wanted else {}
    return {id_: _beginning(kept[hash_]) for id_, hash_ in wanted.items() if kept.get(hash_)}


# What says best what a tool was asked to do, where its arguments are an object.
_TELLING: Final = ("command", "file_path", "path", "pattern", "query", "url", "description", "prompt")


def _beginning(text: str) -> str:
    text = _telling(text)
    words = " ".join(printable(text[: 4 * _EXCERPT]).split())
    return words if len(words) <= _EXCERPT else words[:_EXCERPT] + "…"


def _telling(text: str) -> str:
    """The argument that says most, of arguments that are a JSON object; otherwise the text as it is."""
    if not text.startswith("{"):
        return text
    import msgspec

    try:
        given = msgspec.json.decode(text.encode())
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return text
    values = [given[name] for name in (*_TELLING, *given) if isinstance(given.get(name), str) and given[name]]
    return values[0] if values else text


def _as_json(tree: Tree, with_noise: bool) -> dict[str, Any]:
    """The tree as a flat list, parents first: nesting as deep as a trace can be is more than JSON readers take."""
    import msgspec

    nodes = []
    for depth, node in tree.walk():
        if with_noise or not node.is_noise:
            told = msgspec.to_builtins(node.totals)
            plain = {name: getattr(node, name) for name in node.__struct_fields__ if name not in ("children", "totals")}
            nodes.append(plain | {"depth": depth, "duration_ns": node.duration_ns, "totals": told})
    totals = msgspec.to_builtins(tree.root.totals)
    return {"nodes": nodes, "totals": totals, "noise": tree.noise, "is_cut": tree.is_cut}
