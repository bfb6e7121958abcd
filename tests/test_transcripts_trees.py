"""Sessions made of transcripts alone, as trees: who called what, below which prompt and which sub-agent's run."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from recordings import CAPTURES, prepared, transcripts
from tachograph import ledger
from tachograph.pricing import Prices
from tachograph.scan import Scan
from tachograph.store.duckdb import open_store
from tachograph.transcripts import codex
from tachograph.tree import Node, session_tree
from test_transcripts import codex_line, made
from test_transcripts_codex import CHILD, PARENT, call, record, said

GOLDEN = Path(__file__).parent / "data" / "golden" / "trees"
SETS = (
    "claude-code-compact",
    "claude-code-errors",
    "claude-code-old-10",
    "claude-code-subagent",
    "codex-errors",
    "codex-mcp",
    "pi/pi152-compact",
    "pi/pi152-rpc",
)


def line_of(depth: int, node: Node) -> str:
    """One step: what it is, what it used, how long it took, and what went wrong."""
    what = node.tool_name or node.model or node.subagent or node.name
    parts = [node.role, what, f"{(node.duration_ns or 0) // 1_000_000} ms"]
    if node.call_id:
        parts.append(f"{node.input_tokens} in, {node.output_tokens} out")
    if node.is_error:
        parts.append(f"failed: {node.error[:60]}")
    return "  " * depth + " | ".join(parts)


@pytest.mark.parametrize("name", SETS)
def test_the_tree_of_a_transcript(name: str, tmp_path: Path) -> None:
    prices = Prices(None)
    store = open_store(tmp_path / "store", lambda: 1_795_300_000_000_000_000)
    told = []
    try:
        for batch in transcripts(CAPTURES / name):
            store.commit([prepared(batch)])
        while ledger.settle(store, prices.price):
            pass
        columns = ("session_id", "title", "lineage", "prompts", "calls", "failed_calls", "tool_runs", "tool_errors")
        rows = store.scan(Scan("sessions", {c: c for c in columns}, order_by=(("start_ns", False),)))
        for row in zip(*(rows.data[c] for c in columns), strict=True):
            told.append(" | ".join(map(str, row[1:])))
            told += [line_of(depth + 1, node) for depth, node in session_tree(store, row[0]).walk()]
    finally:
        store.close()
    text = "\n".join(told) + "\n"
    path = GOLDEN / (name.replace("/", "-") + ".txt")
    if os.environ.get("TACHOGRAPH_GOLDEN") == "write":
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8")


def test_a_sub_agent_of_codex_stands_below_the_run_that_started_it(tmp_path: Path) -> None:
    """Its session is a file of its own; which run it was is told by its parent's file alone, read before or after."""
    parent = made(
        tmp_path / "rollout-parent.jsonl",
        codex_line("session_meta", 0, id=PARENT, source="cli"),
        said(1, "delegate"),
        *call(2, "c1", "spawn_agent", f'{{"agent_id":"{CHILD}"}}'),
        record(9, "resp_AAAAAAAAAAAAAAAAAAAAAAAA"),
    )
    spawn = {"parent_thread_id": PARENT, "agent_role": "explorer"}
    child = made(
        tmp_path / "rollout-child.jsonl",
        codex_line("session_meta", 3, id=CHILD, source={"subagent": {"thread_spawn": spawn}}),
        said(5, "look around"),
        *call(6, "c2", "exec_command", "done"),
        record(8, "resp_BBBBBBBBBBBBBBBBBBBBBBBB"),
    )
    for number, paths in enumerate(((parent, child), (child, parent))):
        store = open_store(tmp_path / str(number), lambda: 1_795_300_000_000_000_000)
        try:
            store.commit([prepared(codex.read(path, "")[0]) for path in paths])
            while ledger.settle(store, Prices(None).price):
                pass
            found = [(depth, n.role, n.tool_name or n.subagent) for depth, n in session_tree(store, PARENT).walk()]
        finally:
            store.close()
        assert found == [
            (0, "prompt", ""),
            (1, "tool_run", "spawn_agent"),
            (2, "agent", "explorer"),
            (3, "prompt", ""),
            (4, "tool_run", "exec_command"),
            (4, "model_call", ""),
            (1, "model_call", ""),
        ]
