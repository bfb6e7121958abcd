"""The steps of a session in their places: which nodes of its tree are told, under which ids, and whether they are over.

A node may change its origin: a tool run that a transcript told first has a span of its own a moment later. Whatever
names it (a call's id, a tool call's id, a span, an event) leads to the ids that it was given first.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from hashlib import blake2b
from typing import Final

import msgspec
from msgspec import Struct, field

from tachograph.forwarders.contract import Memory
from tachograph.model import AGENT, MODEL_CALL, PROMPT, TOOL_RUN, TURN
from tachograph.tree import Node, Tree, significant

_ROLES: Final = frozenset((PROMPT, AGENT, TURN, MODEL_CALL, TOOL_RUN))
_EVENTS_MAX: Final = 4  # of a node that are remembered as its names
_PREFIX: Final = "steps:told:"
_FORGOTTEN: Final = "steps:forgotten"
_DAY_NS: Final = 86_400 * 1_000_000_000
KEEP_NS: Final = 60 * _DAY_NS  # after the last commit that touched a session what was told of it is remembered


class Ids(Struct, array_like=True):
    """What a step is called, and what it was when it was told last (b"" = never)."""

    trace_id: bytes
    span_id: bytes
    told: bytes = b""


class _Kept(Struct, array_like=True):
    """The ids of a session's steps, the place in them by everything that names one, and when that was known."""

    names: dict[bytes, int]
    ids: list[Ids]
    time_ns: int = 0


class Placed(Struct, eq=False):
    """A node that is told: its ids, the step above it, and what it takes from those above."""

    node: Node
    ids: Ids
    above: Placed | None = None
    prompt_id: str = ""
    subagent: str = ""
    is_over: bool = True
    is_later_prompt: bool = False  # as Step.is_later_prompt
    root: Placed | None = None  # the step at the top in the same trace, None = itself
    also: list[Node] = field(default_factory=list)  # other records of the same call, one around the other
    below: list[Placed] = field(default_factory=list)


class Told:
    """The ids that the steps of a session have, by everything that names them; kept in memory."""

    def __init__(self, memory: Memory, session_id: str, others: Collection[str]) -> None:
        self._key = _PREFIX + session_id
        self._memory = memory
        self._by_name: dict[bytes, Ids] = {}
        for one in (*others, session_id):
            packed = memory.get(_PREFIX + one)
            if packed is not None:
                kept = msgspec.msgpack.decode(packed, type=_Kept)
                self._by_name.update((name, kept.ids[at]) for name, at in kept.names.items())

    def keep(self, time_ns: int) -> None:
        """Remember all of it; `time_ns`: when this was known."""
        places: dict[int, int] = {}
        ids: list[Ids] = []
        for one in self._by_name.values():
            if id(one) not in places:
                places[id(one)] = len(ids)
                ids.append(one)
        names = {name: places[id(one)] for name, one in self._by_name.items()}
        self._memory.put(self._key, msgspec.msgpack.encode(_Kept(names, ids, time_ns)))

    def known(self, names: list[bytes]) -> Ids | None:
        """The ids that one of the names leads to."""
        return next((self._by_name[name] for name in names if name in self._by_name), None)

    def learn(self, names: list[bytes], ids: Ids) -> None:
        """From now on the names lead to these ids."""
        for name in names:
            self._by_name[name] = ids


def forget(memory: Memory, now_ns: int) -> None:
    """Once in a day of the records' time: forget what was told of sessions that nothing has touched for long.

    Should one go on after that, its steps have the same ids as before.
    """
    packed = memory.get(_FORGOTTEN)
    if packed is not None and now_ns < int(packed) + _DAY_NS:
        return
    memory.put(_FORGOTTEN, str(now_ns).encode())
    for key in memory.keys(_PREFIX):
        kept = memory.get(key)
        if kept and msgspec.msgpack.decode(kept, type=_Kept).time_ns < now_ns - KEEP_NS:
            memory.put(key, None)


def sessions_of(tree: Tree) -> set[str]:
    """The other sessions whose steps stand in the tree: those of sub-agents, and of traces that named none."""
    found = {node.id.removeprefix("session:") for _, node in tree.walk() if node.id.startswith("session:")}
    return found | {f"trace:{node.trace_id}" for _, node in tree.walk() if node.trace_id}


def place(tree: Tree, told: Told, open_spans: Collection[str], is_quiet: bool) -> list[Placed]:
    """The steps of a tree, parents first, siblings in time. `is_quiet`: nothing more is awaited of any of them."""
    used: set[bytes] = set()
    spans: set[bytes] = set()
    placed: list[Placed] = []
    todo: list[tuple[Node, Placed | None, Node | None, bool]] = [
        (node, None, None, is_over) for node, is_over in reversed(_with_ends(tree.root, open_spans, is_quiet))
    ]
    while todo:
        node, above, repeat, is_over = todo.pop()
        mine, around = above, None
        if is_step(node):
            mine = _placed(tree.id, node, above, told, used, spans)
            mine.is_over = is_over
            mine.also += [repeat] if repeat is not None and node.role == MODEL_CALL else []
            placed.append(mine)
            if above is not None:
                above.below.append(mine)
        elif node.role == MODEL_CALL and node.is_repeat:
            around = node
            if above is not None and above.node.role == MODEL_CALL:
                above.also.append(node)
        under = _with_ends(node, open_spans, (is_over and is_step(node)) or is_quiet)
        todo.extend((child, mine, around, child_is_over) for child, child_is_over in reversed(under))
    _find_roots(placed)
    return placed


def _find_roots(placed: list[Placed]) -> None:
    """Say of each step what is at its top; steps come parents first, siblings in time."""
    prompted: set[bytes] = set()
    for one in placed:
        above = one.above
        if above is not None and above.ids.trace_id == one.ids.trace_id:
            one.root, one.is_later_prompt = above.root or above, above.is_later_prompt
        elif one.node.role == PROMPT:
            one.is_later_prompt = one.ids.trace_id in prompted
            prompted.add(one.ids.trace_id)


def is_step(node: Node) -> bool:
    """Whether a node is told: no inner step, nothing that another one stands for, no call that the ledger has not."""
    return (
        node.role in _ROLES
        and not node.is_noise
        and not (node.is_repeat and node.role in (MODEL_CALL, TOOL_RUN))
        and bool(node.role != MODEL_CALL or node.call_id)
    )


def _with_ends(parent: Node, open_spans: Collection[str], is_over: bool) -> list[tuple[Node, bool]]:
    """The children of a node, each with whether nothing more will come to it."""
    children = significant(parent)
    found: list[tuple[Node, bool]] = []
    followed: set[str] = set()
    for node in reversed(children):
        has_ended = node.has_ended and node.id not in open_spans
        if node.role == MODEL_CALL:
            has_ended = True
        elif node.role == TOOL_RUN:
            has_ended = has_ended or node.is_error or any(slot == "result" for slot, _ in node.texts)
        elif node.role in (PROMPT, TURN):
            has_ended = node.role in followed or (has_ended and node.origin == "span")
            followed.add(node.role)
        else:
            has_ended = has_ended and node.origin == "span"
        found.append((node, is_over or has_ended))
    found.reverse()
    return found


def _placed(
    session_id: str, node: Node, above: Placed | None, told: Told, used: set[bytes], spans: set[bytes]
) -> Placed:
    names = [name for name in _names(node) if name not in used] or [_name(f"again:{node.id}")]
    used.update(names)
    ids = told.known(names)
    if ids is None or ids.span_id in spans:
        first = _first_name(session_id, node)
        trace_id = above.ids.trace_id if above is not None else _trace(node) or _made(first, 16)
        own = _hex(node.span_id, 8) if node.origin == "span" else b""
        ids = Ids(trace_id, own if own and own not in spans else _made(first, 8))
    told.learn(names, ids)
    spans.add(ids.span_id)
    placed = Placed(node, ids, above)
    placed.prompt_id = node.prompt_id or (above.prompt_id if above else "")
    placed.subagent = node.subagent or (above.subagent if above else "")
    return placed


def _first_name(session_id: str, node: Node) -> str:
    """What ids are made of: a call is the same call in whatever session, anything else is its session's own."""
    return f"call:{node.call_id}" if node.call_id else f"{session_id}\n{node.id}"


def _names(node: Node) -> Iterator[bytes]:
    if node.call_id:
        yield _name(f"call:{node.call_id}")
    if node.role == TOOL_RUN and node.tool_call_id:
        yield _name(f"tool:{node.tool_call_id}")
    if node.role == PROMPT and node.prompt_id:
        yield _name(f"prompt:{node.prompt_id}")
    yield _name(node.id)
    for event_id in node.event_ids[:_EVENTS_MAX]:
        yield _name(f"event:{event_id}")


def _name(text: str) -> bytes:
    return blake2b(text.encode("utf-8", "replace"), digest_size=8, person=b"tachograph.name").digest()


def _made(text: str, size: int) -> bytes:
    return blake2b(text.encode("utf-8", "replace"), digest_size=size, person=b"tachograph.step").digest()


def _trace(top: Node) -> bytes:
    """The trace of a step that stands alone: its own, else the first one below it; b"" = none."""
    todo = [top]
    while todo:
        node = todo.pop()
        if found := _hex(node.trace_id, 16):
            return found
        todo.extend(reversed(node.children))
    return b""


def _hex(text: str, size: int) -> bytes:
    """The bytes of an OTLP id, b"" for what is none."""
    if len(text) != 2 * size or not re.fullmatch("[0-9a-f]+", text) or not text.strip("0"):
        return b""
    return bytes.fromhex(text)
