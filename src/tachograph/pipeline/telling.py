"""The texts of steps, as far as a destination may have them: messages in the shape of the GenAI conventions."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

import msgspec

from tachograph.forwarders.contract import Step
from tachograph.model import AGENT, MODEL_CALL, PROMPT, TOOL_RUN
from tachograph.pipeline import privacy
from tachograph.pipeline.placing import Placed
from tachograph.questions import messages
from tachograph.scan import Match, Reader, Scan
from tachograph.tree import Node

STEP_BYTES_MAX: Final = 1024 * 1024  # of the texts of one step; of messages, the newest stay
LEFT_OUT: Final = f"[more than {STEP_BYTES_MAX // 1024} KB left out]"
STEPS_AT_ONCE: Final = 200
# Instrumentations that write each field of each message into an attribute of its own.
_FLAT: Final = re.compile(r"(llm\.(?:in|out)put_messages|gen_ai\.(?:prompt|completion))\.(\d{1,6})\.(.+)")
_SLOTS: Final = {
    MODEL_CALL: ("system", "tools", "input", "thinking", "output", "response"),
    TOOL_RUN: ("arguments", "result"),
    PROMPT: ("prompt", "input", "response"),
    AGENT: ("prompt", "input", "arguments", "result", "output", "response"),
}
_Kept = list[tuple[str, list[str]]]  # the attribute that each text was in, and the hashes of its pieces
_Texts = list[tuple[str, list[str]]]  # the same, read


def with_texts(reader: Reader, steps: Sequence[tuple[Placed, Step]], mode: str, bytes_max: int) -> Iterator[list[Step]]:
    """The steps with their texts put in, in order, as many at a time as have so many bytes of texts."""
    for at in range(0, len(steps), STEPS_AT_ONCE):
        some = steps[at : at + STEPS_AT_ONCE]
        if mode == "none":
            yield [step for _, step in some]
            continue
        sources = {id(source.node): source for placed, _ in some for source in (placed, _last_call(placed)) if source}
        kept = _kept(reader, sources.values())
        hashes = sorted(
            {one for slots in kept.values() for texts in slots.values() for _, some in texts for one in some}
        )
        sizes = _sizes(reader, hashes)
        for page in _pages(some, kept, sizes, bytes_max):
            yield _filled(reader, page, kept, sizes, mode)


def _last_call(placed: Placed) -> Placed | None:
    """The call whose answer is that of a prompt: the last one below it that is no sub-agent's."""
    if placed.node.role != PROMPT:
        return None
    last: Placed | None = None
    todo = list(placed.below)
    while todo:
        one = todo.pop()
        if one.node.role == MODEL_CALL and one.subagent == placed.subagent:
            if last is None or one.node.start_ns >= last.node.start_ns:
                last = one
        elif one.node.role != PROMPT:
            todo.extend(one.below)
    return last


# -- what is kept -----------------------------------------------------------------------------------------------------


def _kept(reader: Reader, steps: Iterable[Placed]) -> dict[int, dict[str, _Kept]]:
    """The hashes of the texts of each step by slot, with the attributes that a span had them in; by its node."""
    told: dict[str, dict[str, _Kept]] = {}
    wanted: list[tuple[Placed, list[Node]]] = [(one, [one.node, *one.also]) for one in steps]
    nodes = {node.id: node for _, some in wanted for node in some}
    for node in nodes.values():
        slots = _SLOTS.get(node.role, ())
        told[node.id] = {slot: [("", hashes)] for slot, hashes in node.texts if slot in slots}
    for row in _contents(reader, nodes.values()):
        by_slot: dict[str, _Kept] = {}
        node_id = f"{row['trace_id']}:{row['span_id']}"
        for content in row["contents"] if node_id in nodes else ():
            if content["slot"] in _SLOTS.get(nodes[node_id].role, ()):
                by_slot.setdefault(content["slot"], []).append((content["key"], content["hashes"]))
        told.get(node_id, {}).update(by_slot)
    found: dict[int, dict[str, _Kept]] = {}
    for one, some in wanted:
        found[id(one.node)] = slots_of = {}
        for node in reversed(some):  # what the step's own record says counts most
            slots_of.update(told[node.id])
    return found


def _contents(reader: Reader, nodes: Iterable[Node]) -> list[dict[str, Any]]:
    ids = sorted({node.span_id for node in nodes if node.origin == "span" and node.span_id})
    if not ids:
        return []
    where = (Match("span_id", "in", ids), Match("contents", "not_null"))
    select = {name: name for name in ("trace_id", "span_id", "contents")}
    return reader.scan(Scan("spans", dict(select), where)).rows()


def _sizes(reader: Reader, hashes: list[str]) -> dict[str, int]:
    if not hashes:
        return {}
    asked = Scan("contents", {"hash": "hash", "bytes": "bytes"}, (Match("hash", "in", hashes),))
    found = reader.scan(asked)
    return dict(zip(found.data["hash"], found.data["bytes"], strict=True))


def _pages(
    steps: Sequence[tuple[Placed, Step]], kept: dict[int, dict[str, _Kept]], sizes: dict[str, int], bytes_max: int
) -> Iterator[list[tuple[Placed, Step]]]:
    page: list[tuple[Placed, Step]] = []
    held = 0
    for placed, step in steps:
        size = min(STEP_BYTES_MAX, sum(sizes.get(one, 0) for one in _hashes(placed, kept)))
        if page and held + size > bytes_max:
            yield page
            page, held = [], 0
        page.append((placed, step))
        held += size
    if page:
        yield page


def _hashes(placed: Placed, kept: dict[int, dict[str, _Kept]]) -> Iterator[str]:
    for source in (placed, _last_call(placed)):
        for texts in kept.get(id(source.node), {}).values() if source else ():
            for _, hashes in texts:
                yield from hashes


# -- what is told -----------------------------------------------------------------------------------------------------


def _filled(
    reader: Reader,
    page: Sequence[tuple[Placed, Step]],
    kept: dict[int, dict[str, _Kept]],
    sizes: dict[str, int],
    mode: str,
) -> list[Step]:
    bounded: dict[int, dict[str, _Kept]] = {}
    for placed, _ in page:
        for source in (placed, _last_call(placed)):
            if source is not None:
                bounded[id(source.node)] = _bounded(kept[id(source.node)], sizes)
    hashes = {one for slots in bounded.values() for texts in slots.values() for _, some in texts for one in some}
    texts = {hash_: privacy.fit_text(text, mode) for hash_, text in reader.texts(sorted(hashes)).items()}
    for placed, step in page:
        node_id = id(placed.node)
        _fill(step, _read(bounded[node_id], texts))
        _say_left_out(step, kept[node_id], bounded[node_id])
        last = _last_call(placed)
        if last is not None:
            step.answer = _words(_read(bounded[id(last.node)], texts), "output", "response") or step.answer
    return [step for _, step in page]


def _bounded(slots: dict[str, _Kept], sizes: dict[str, int]) -> dict[str, _Kept]:
    """The texts without those that are too many: of a list, the last ones stay."""
    room = STEP_BYTES_MAX
    found: dict[str, _Kept] = {}
    for slot in sorted(slots, key=lambda one: one in ("input", "tools")):  # the longest come last
        for key, hashes in slots[slot]:
            stays: list[str] = []
            for hash_ in reversed(hashes):
                size = sizes.get(hash_, 0)
                if size > room:  # the other slots are not its fault
                    break
                room -= size
                stays.insert(0, hash_)
            if stays:
                found.setdefault(slot, []).append((key, stays))
    return found


def _say_left_out(step: Step, kept: dict[str, _Kept], stay: dict[str, _Kept]) -> None:
    """Of messages how many are missing before those that stay; of other texts that nothing of them stays."""
    if step.role == MODEL_CALL:
        step.left_out = _most(kept.get("input", [])) - _most(stay.get("input", []))
        said = {"output", "response"}
        if not step.output_messages and said & kept.keys() and not said & stay.keys():
            step.output_messages = [{"role": "assistant", "parts": [{"type": "text", "content": LEFT_OUT}]}]
        return
    gone = kept.keys() - stay.keys()
    if "prompt" in gone and not step.prompt:
        step.prompt = LEFT_OUT
    if "arguments" in gone and not step.arguments:
        step.arguments = LEFT_OUT
    if "result" in gone and not step.result:
        step.result = LEFT_OUT
    if gone & {"output", "response"} and not step.answer:
        step.answer = LEFT_OUT


def _most(texts: _Kept) -> int:
    """How many texts the attribute with the most of them has."""
    return max((len(hashes) for _, hashes in texts), default=0)


def _read(slots: dict[str, _Kept], texts: dict[str, str]) -> dict[str, _Texts]:
    return {
        slot: [(key, [texts[one] for one in hashes if one in texts]) for key, hashes in kept]
        for slot, kept in slots.items()
    }


def _fill(step: Step, texts: dict[str, _Texts]) -> None:
    if step.role == MODEL_CALL:
        step.system = messages.words(_messages(texts.get("system", []), "system"))
        step.input_messages = _best(texts.get("input", []), "user")
        step.output_messages = _output(texts)
        step.tools = _tools(texts.get("tools", []))
    elif step.role == TOOL_RUN:
        step.arguments, step.result = _plain(texts.get("arguments", [])), _plain(texts.get("result", []))
    elif step.role in (PROMPT, AGENT):
        asked = _best(texts.get("input", []), "user")
        step.prompt = _words(texts, "prompt") or messages.words(m for m in asked[-1:] if m["role"] == "user")
        step.answer = _words(texts, "response", "output")
        if step.role == AGENT:
            step.arguments, step.result = _plain(texts.get("arguments", [])), _plain(texts.get("result", []))


def _words(texts: dict[str, _Texts], *slots: str) -> str:
    """What is written in the first of the slots that has words."""
    return next((said for slot in slots if (said := messages.words(_best(texts.get(slot, []), "")))), "")


def _output(texts: dict[str, _Texts]) -> list[dict[str, Any]]:
    """One message: what the model thought, said and asked for. Sources write the same into several attributes."""
    parts: list[dict[str, Any]] = []
    for message in _messages(texts.get("thinking", []), "assistant"):
        parts += [
            {"type": "reasoning", "content": p["content"]} if p["type"] == "text" else p for p in message["parts"]
        ]
    for one in _unflattened(texts.get("output") or texts.get("response") or []):
        for message in _messages([one], "assistant"):
            parts += [part for part in message["parts"] if part not in parts]
    return [{"role": "assistant", "parts": parts}] if parts else []


def _best(texts: _Texts, role: str) -> list[dict[str, Any]]:
    """The messages of the attribute that says most; sources write the same into several."""
    read = [_messages([one], role) for one in _unflattened(texts)]
    return max(read, key=lambda found: (len(found), sum(len(m["parts"]) for m in found)), default=[])


def _messages(texts: _Texts, role: str) -> list[dict[str, Any]]:
    return messages.read([piece for _, pieces in texts for piece in pieces], role)


def _unflattened(texts: _Texts) -> _Texts:
    """Messages whose fields lie in attributes of their own, put together again; where there are none, all as it is."""
    groups: dict[str, dict[int, dict[str, Any]]] = {}
    rest: _Texts = []
    found: _Texts = []
    for key, pieces in texts:
        match = _FLAT.fullmatch(key)
        if match is None:
            rest.append((key, pieces))
            continue
        message = groups.setdefault(match[1], {}).setdefault(int(match[2]), {})
        _put(message, [one for one in match[3].split(".") if one not in _WRAPPERS], "".join(pieces))
    for key, by_number in groups.items():
        ordered = [_listed(by_number[number]) for number in sorted(by_number)]
        found.append((key, [msgspec.json.encode(one).decode() for one in ordered]))
    return found or rest


_WRAPPERS: Final = ("message", "message_content", "tool_call")


def _put(into: dict[str, Any], path: list[str], value: str) -> None:
    for name in path[:-1]:
        inner = into.setdefault(name, {})
        if not isinstance(inner, dict):
            return  # a text and fields below it: the text was first
        into = inner
    if path:
        into.setdefault(path[-1], value)


def _listed(value: Any) -> Any:
    """Tables whose names are numbers, as lists."""
    if not isinstance(value, dict):
        return value
    made = {name: _listed(one) for name, one in value.items()}
    if made and all(name.isdecimal() for name in made):
        return [made[name] for name in sorted(made, key=int)]
    return made


def _tools(texts: _Texts) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for _, pieces in texts:
        for piece in pieces:
            try:
                value = msgspec.json.decode(piece)
            except (msgspec.DecodeError, UnicodeEncodeError, RecursionError):
                continue
            found += [one for one in (value if isinstance(value, list) else [value]) if isinstance(one, dict)]
    return found


def _plain(texts: _Texts) -> str:
    """The text of the attribute that says most, as it was written; of parts that are texts, their words."""
    return max(("\n".join(_unwrapped(piece) for piece in pieces) for _, pieces in texts), key=len, default="")


def _unwrapped(piece: str) -> str:
    if not piece.startswith(('{"type":"text"', '[{"type":"text"')):
        return piece
    return messages.words(messages.read([piece], "tool")) or piece
