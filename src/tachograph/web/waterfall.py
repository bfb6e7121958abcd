"""The steps of a trace for its waterfall: as columns for the script, and the first screenful drawn by the server."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any, Final

import msgspec

from tachograph.tree import Beginning, Node, Tree, significant
from tachograph.tree.timing import Stretch, self_times
from tachograph.web.charts import waterfall_bar

FIRST_ROWS: Final = 80  # drawn by the server: a screenful, and what there is without a script
_DEPTH_SHOWN: Final = 12  # indented so far; the style sheet knows as many
_ERROR_SEARCHED: Final = 200  # characters of an error that the search of the page looks in
# Bits of a row's flags; static/trace-steps.js knows them.
_ERROR, _NOISE, _CALL, _NOTIONAL, _ESTIMATE, _COMPUTED = 1, 2, 4, 8, 16, 32


def extent(tree: Tree) -> tuple[int, int]:
    """When the tree starts and ends; at least a nanosecond apart."""
    return tree.root.start_ns, max(tree.root.end_ns, tree.root.start_ns + 1)


def compact(tree: Tree, path: Sequence[Stretch], has_ids: bool = True) -> tuple[bytes, bytes]:
    """JSON of a trace for the script, and of its ids where they are to follow, else b""."""
    told, ids = _told(tree, path, extent(tree))
    if has_ids:
        return msgspec.json.encode(told), b""
    told["columns"]["id"] = None
    return msgspec.json.encode(told), msgspec.json.encode({"state": told["state"], "id": ids})


def compact_beginning(first: Beginning) -> bytes:
    """The same of the first steps of a trace: `of` says how many spans it has, and nothing is told of its path.

    What a step did itself is unknown while those below it are, and stands as where nothing is below.
    """
    told, _ = _told(first.tree, (), (first.start_ns, first.end_ns))
    told["columns"]["self"] = [None] * len(told["columns"]["up"])
    return msgspec.json.encode(told | {"of": first.spans})


def _told(tree: Tree, path: Sequence[Stretch], between: tuple[int, int]) -> tuple[dict[str, Any], list[str]]:
    """Columns, a row for each step in order of the tree, and the critical path; and the ids.

    `up`: so many rows above stands the parent (0 = none). Words are numbers into `words`; times are µs. `name` and `at`
    are told from those of the row before. `took` is null where it is unknown, `self` where nothing stands below. The id
    of a span of this trace comes without the trace's; without ids the column is null, and they follow with the same
    `state`. `path` has the row, start and length of each stretch.
    """
    start_ns, end_ns = between
    nodes = [node for _, node in tree.walk()]
    row_of = {node.id: row for row, node in enumerate(nodes)}
    own = self_times(tree)
    words: dict[str, int] = {"": 0}

    def numbers(texts: Iterable[str]) -> list[int]:
        told = list(texts)
        for text in dict.fromkeys(told):
            words.setdefault(text, len(words))
        return [words[text] for text in told]

    ids = [n.span_id if n.origin == "span" and n.span_id and n.trace_id == tree.id else n.id for n in nodes]
    at = [max(0, node.start_ns - start_ns) // 1000 if node.start_ns else 0 for node in nodes]
    columns: dict[str, Any] = {
        # Each parent stands before its rows: small numbers, and a name of 16 signs instead of 49, pack well.
        "id": ids,
        "up": [row - row_of.get(node.parent, row) for row, node in enumerate(nodes)],
        "name": _steps(numbers(node.name for node in nodes)),
        "role": numbers(node.role for node in nodes),
        "detail": numbers(detail(node) for node in nodes),
        "also": numbers(_also(node) for node in nodes),
        "error": numbers(node.error[:_ERROR_SEARCHED] for node in nodes),
        "at": _steps(at),
        "took": [None if lasted is None else lasted // 1000 for lasted in [node.duration_ns for node in nodes]],
        "self": [own[node.id] // 1000 if node.children and node.id in own else None for node in nodes],
        "flags": [_flags(node) for node in nodes],
        "tokens": [None if n.input_tokens is None else n.input_tokens + (n.output_tokens or 0) for n in nodes],
        "cost": [node.cost_nanousd for node in nodes],
    }
    stretches = {
        "row": [row_of[one.node.id] for one in path],
        "at": [(one.start_ns - start_ns) // 1000 for one in path],
        "took": [one.duration_ns // 1000 for one in path],
    }
    told = {
        "state": hashlib.sha256("\n".join(ids).encode("utf-8", "replace")).hexdigest()[:16],
        "duration": (end_ns - start_ns) // 1000, "words": list(words), "columns": columns, "path": stretches,
    }  # fmt: skip
    return told, ids


def _steps(numbers: Sequence[int]) -> list[int]:
    """Each number from the one before it: what grows from row to row packs to next to nothing."""
    return [number - before for before, number in pairwise((0, *numbers))]


def detail(node: Node) -> str:
    """What the name does not say yet."""
    if not (node.tool_name or node.model or node.subagent):
        return ""
    for one in (node.tool_name, node.model, node.subagent):
        if one and one != node.name:
            return one
    return ""


def _also(node: Node) -> str:
    """What else a search finds a step by, beside its name and detail."""
    if not (node.tool_call_id or node.subagent or (node.tool_name and node.model)):
        return ""
    shown = (node.name, detail(node), "")
    return " ".join(one for one in (node.tool_name, node.model, node.subagent, node.tool_call_id) if one not in shown)


def _flags(node: Node) -> int:
    flags = (_ERROR if node.is_error else 0) | (_NOISE if node.is_noise else 0) | (_CALL if node.call_id else 0)
    if not node.cost_kind:
        return flags | (_NOTIONAL if node.is_notional else 0)
    return (
        flags
        | (_NOTIONAL if node.is_notional else 0)
        | (_ESTIMATE if node.cost_kind == "source_estimate" else 0)
        | (_COMPUTED if node.cost_kind == "computed" else 0)
    )


def first_rows(tree: Tree) -> list[dict[str, Any]]:
    """The first steps with noise folded, as the script will draw them."""
    start_ns, end_ns = extent(tree)
    length = end_ns - start_ns
    found: list[dict[str, Any]] = []
    stack = [(0, node) for node in reversed(significant(tree.root))]
    while stack and len(found) < FIRST_ROWS:
        depth, node = stack.pop()
        class_ = "fall-error" if node.is_error else f"fall-{node.role or 'step'}"
        bar = waterfall_bar((node.start_ns - start_ns) / length, (node.duration_ns or 0) / length, class_)
        found.append({"depth": min(depth, _DEPTH_SHOWN), "node": node, "detail": detail(node), "bar": bar})
        stack.extend((depth + 1, child) for child in reversed(significant(node)))
    return found
