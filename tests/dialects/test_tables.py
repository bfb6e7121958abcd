"""Each table against records written after the facts: what goes in, and what it means, side by side as JSON.

What the recordings do not show (older and newer versions, frameworks, rare events) stands here.
"""

from __future__ import annotations

import difflib
import json
import os
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tachograph import registry
from tachograph.model import Batch, Event, Meaning, Source, Span

PAIRS = Path(__file__).parent.parent / "data" / "dialects"
FILES = sorted(PAIRS.glob("*.json"))
DEFAULTS = msgspec.structs.asdict(Meaning())


def record_of(given: dict[str, Any]) -> Span | Event:
    """The record that one entry describes: a log record where it says so, else a span."""
    resource = {"service.name": given["service"]} if "service" in given else {}
    source = Source({**resource, **given.get("resource", {})}, scope_name=given.get("scope", ""))
    if given.get("is_event"):
        return Event(source, 1, given["name"], dict(given["attributes"]), body=given.get("body"))
    return Span(
        source=source,
        trace_id="0" * 31 + "1",
        span_id="0" * 15 + "1",
        parent_id=given.get("parent", ""),
        name=given["name"],
        kind=given.get("kind", 1),
        start_ns=1,
        end_ns=2,
        attributes=dict(given["attributes"]),
        status_code=given.get("status", 0),
    )


def meant(given: dict[str, Any]) -> dict[str, Any]:
    """What one entry means: fields that say something, and the attributes kept as contents by slot."""
    record = record_of(given)
    if isinstance(record, Span):
        registry.normalise(Batch(spans=[record]))
    else:
        registry.normalise(Batch(events=[record]))
    assert record.meaning is not None
    meaning = msgspec.structs.asdict(record.meaning)
    usage = meaning.pop("usage")
    told = {name: value for name, value in meaning.items() if value != DEFAULTS[name]}
    if usage is not None:
        told["usage"] = {name: value for name, value in msgspec.structs.asdict(usage).items() if value is not None}
    contents: dict[str, list[str]] = {}
    for content in record.contents or ():
        contents.setdefault(content.slot, []).append(content.key)
    return {"meaning": told, "contents": contents}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_pairs(path: Path) -> None:
    entries = json.loads(path.read_text(encoding="utf-8"))
    made = [{**entry, "means": meant(entry)} for entry in entries]
    text = json.dumps(made, indent=2, ensure_ascii=False) + "\n"
    if os.environ.get("TACHOGRAPH_GOLDEN") == "write":
        path.write_text(text, encoding="utf-8")
        return
    expected = json.dumps(entries, indent=2, ensure_ascii=False) + "\n"
    diff = difflib.unified_diff(expected.splitlines(), text.splitlines(), path.name, "now", lineterm="", n=6)
    assert text == expected, "\n".join(diff)


def test_there_are_pairs() -> None:
    assert len(FILES) > 10
