"""Pi's spool read live, after a kill, beside the session file, and with anything at all in it."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pi_spools import (
    NOW_NS,
    SESSION,
    START_MS,
    Spool,
    calls,
    keep,
    last,
    outline,
    read,
    told,
    whole_session,
)
from recordings import CAPTURES
from tachograph import ledger, questions
from tachograph.hooks import pi
from tachograph.model import Batch
from tachograph.redaction import redact
from tachograph.store.duckdb import DuckStore, open_store
from tachograph.transcripts import pi as transcript
from tachograph.tree import session_tree


@pytest.fixture
def store(tmp_path: Path) -> Iterator[DuckStore]:
    """A store of the test's own."""
    kept = open_store(tmp_path / "store", lambda: NOW_NS)
    yield kept
    kept.close()


def in_pieces(path: Path, source: bytes, cuts: list[int]) -> Iterator[Batch]:
    """The batches of a file that grew to each of `cuts` in turn and was read each time."""
    position = ""
    for cut in [*cuts, len(source)]:
        path.write_bytes(source[:cut])
        batch, position = pi.read(path, position)
        yield batch


def test_what_is_open_is_seen(tmp_path: Path, store: DuckStore) -> None:
    """And where the process was killed, what never ended covers what lies in it."""
    spool = Spool().open().ask().line("turn_start", turn=0).answer(stop="toolUse")
    spool.line("tool_start", id="call_1", name="bash", args={"command": "make"})
    keep(store, read(spool.write(tmp_path)))
    assert [line.strip() for line in outline(store, SESSION)] == [
        "session",
        "agent.prompt",
        "agent.turn",
        "chat claude-sonnet-4-5 ok",
        "tool.bash",
    ]
    nodes = [node for _, node in session_tree(store, SESSION).walk()]
    assert all(node.end_ns >= nodes[3].end_ns for node in nodes[:3])
    assert [slot for slot, _ in nodes[4].texts] == ["arguments"]


SOURCE = "".join(json.dumps(line) + "\n" for line in whole_session().lines).encode()


@given(st.lists(st.integers(0, len(SOURCE)), max_size=8))
def test_any_pieces_give_the_same(tmp_path_factory: pytest.TempPathFactory, cuts: list[int]) -> None:
    path = tmp_path_factory.mktemp("grown") / f"{int(START_MS)}-100-1.jsonl"
    path.write_bytes(SOURCE)
    whole = read(path)
    pieces = list(in_pieces(path, SOURCE, sorted(cuts)))

    def state(batches: list[Batch]) -> dict[str, Any]:
        return {
            i: (s.name, s.parent_id, s.start_ns, s.end_ns, s.attributes, told(s).usage, told(s).is_error)
            for i, s in last(batches).items()
        }

    assert state(pieces) == state([whole])
    points = [(p.name, p.time_ns, p.value, p.sum) for batch in pieces for p in batch.points]
    assert points == [(p.name, p.time_ns, p.value, p.sum) for p in whole.points]
    assert len(calls(*pieces)) == len(calls(whole)) == 4


def entries(spool: Spool) -> list[dict[str, Any]]:
    """The session file of a spool, as Pi writes it."""
    head = {
        "type": "session",
        "version": 3,
        "id": SESSION,
        "timestamp": "2026-11-21T00:00:18.000Z",
        "cwd": "/home/dev/shop",
    }
    rows: list[dict[str, Any]] = [head]
    ids = {line["timestamp"]: line["entry"] for line in spool.lines if line["e"] == "message_entry"}
    for line in spool.lines:
        if line["e"] == "message_end":
            names = ("provider", "model", "usage", "responseId", "timestamp", "content")
            message = {"role": "assistant", "stopReason": line["stop"], "errorMessage": line.get("error")}
            message |= {name: line[name] for name in names}
            # As Pi: the entry is written at the end of the message.
            rows.append({"type": "message", "id": ids[line["timestamp"]], "timestamp": line["t"], "message": message})
    return rows


@pytest.mark.parametrize("is_hook_first", [True, False])
@pytest.mark.parametrize("has_ids", [True, False])
def test_with_the_session_file_every_call_counts_once(
    tmp_path: Path, store: DuckStore, is_hook_first: bool, has_ids: bool
) -> None:
    """By the entry's id; without it by response id, tokens and time."""
    spool = whole_session()
    (tmp_path / "session.jsonl").write_text("".join(json.dumps(e) + "\n" for e in entries(spool)))
    if not has_ids:
        spool.lines = [line for line in spool.lines if line["e"] != "message_entry"]
    both = [read(spool.write(tmp_path)), transcript.read(tmp_path / "session.jsonl", "")[0]]
    keep(store, *(both if is_hook_first else both[::-1]), *(read(spool.write(tmp_path)) for _ in "again"))
    totals = questions.usage(store, "agent")["totals"]
    assert (totals["calls"], totals["failed_calls"], totals["input_tokens"], totals["partial"]) == (3, 1, 300, 0)


EVENTS = [*sorted(pi._STEPS), "open", "lost", "later"]
KEYS = sorted({key for line in whole_session().lines for key in line} | {"carry", "parent", "subagents", "ids", "n"})
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from([*KEYS, "input", "cost"]), inner, max_size=4)
    ),
    max_leaves=8,
)
# What a sound line says of a step, or next to nothing, and in it some fields of which anything may be said.
SOUND = [*whole_session().lines, *({"e": name, "t": 1e12, "s": "a"} for name in EVENTS)]
hostile = st.builds(
    lambda line, odd: {**line, **odd},
    st.sampled_from(SOUND),
    st.dictionaries(st.sampled_from(KEYS), values, max_size=8),
)


@settings(max_examples=300)
@given(st.lists(hostile, max_size=12), st.integers(0, 12))
def test_any_lines_give_records_or_nothing(
    tmp_path_factory: pytest.TempPathFactory, lines: list[dict[str, Any]], cut: int
) -> None:
    path = tmp_path_factory.mktemp("hostile") / "1-1-1.jsonl"
    rows = [json.dumps(line).encode() + b"\n" for line in lines]
    for batch in in_pieces(path, b"".join(rows), [len(b"".join(rows[:cut]))]):
        redact(batch)
        ledger.report(batch)


def test_what_is_remembered_stays_small(tmp_path: Path) -> None:
    """However much a process does: thousands of steps, texts of any size, sessions without an end."""
    spool = Spool().open().ask()
    for n in range(3000):
        spool.line("request", model="m" * 5000).line("tool_start", id=f"t{n}", name="bash", args={"x": "y" * 1000})
        spool.line("model_select", model={"id": "n" * 5000}).line("http", phase="create", n=n)
        spool.session = f"s{n % 50}"
    _, position = pi.read(spool.write(tmp_path), "")
    assert len(position) < 1_000_000


RECORDED = [
    line
    for path in sorted(CAPTURES.glob("pi-spool-*/spool/*.jsonl"))
    for line in path.read_bytes().splitlines()
    if len(line) < 2000
]


@given(st.lists(st.sampled_from(RECORDED), max_size=60), st.randoms(use_true_random=False))
def test_real_lines_in_any_order_make_sound_spans(
    tmp_path_factory: pytest.TempPathFactory, lines: list[bytes], rng: random.Random
) -> None:
    """As a spool that lost much, or was written by several at once, would have them; some of them torn."""
    torn = [line[: rng.randrange(len(line))] if rng.random() < 0.1 else line for line in lines]
    path = tmp_path_factory.mktemp("torn") / "1-1-1.jsonl"
    path.write_bytes(b"".join(line + b"\n" for line in torn))
    batch = read(path)
    for span in batch.spans:
        assert (len(span.trace_id), len(span.span_id), len(span.parent_id)) in ((32, 16, 0), (32, 16, 16))
        assert span.span_id != span.parent_id
        assert 0 < span.start_ns <= span.end_ns
        assert told(span).session_id
    assert len(calls(batch)) <= sum(told(span).is_call for span in batch.spans) + len(batch.events)
