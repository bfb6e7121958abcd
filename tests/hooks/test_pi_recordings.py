"""Trees of what Pi's extension spooled in real runs, beside the session files of the same runs."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from pi_spools import NOW_NS, keep, outline
from recordings import CAPTURES, transcripts
from tachograph.scan import Scan
from tachograph.store.duckdb import DuckStore, open_store

GOLDEN = Path(__file__).parents[1] / "data" / "golden"
SETS = sorted(path.name for path in CAPTURES.glob("pi-spool-*"))


@pytest.fixture
def store(tmp_path: Path) -> Iterator[DuckStore]:
    """A store of the test's own."""
    kept = open_store(tmp_path / "store", lambda: NOW_NS)
    yield kept
    kept.close()


@pytest.mark.parametrize("name", SETS)
def test_the_trees_of_a_recording(name: str, store: DuckStore) -> None:
    """Each session that no other holds, by when it began."""
    keep(store, *transcripts(CAPTURES / name / "spool"))
    columns = ("session_id", "start_ns", "title", "lineage", "prompts", "tool_runs", "tool_errors")
    rows = store.scan(Scan("sessions", {c: c for c in columns}, order_by=(("start_ns", False),)))
    lines = []
    for session, _, title, lineage, *counts in zip(*(rows.data[c] for c in columns), strict=True):
        prompts, tools, errors = counts
        if lineage != "subagent":
            lines.append(
                f"{title}{f' ({lineage})' if lineage else ''}: {prompts} prompts, {tools} tools, {errors} failed"
            )
            lines += [f"  {line}" for line in outline(store, session)]
    told = "\n".join(lines) + "\n"
    path = GOLDEN / f"{name}.txt"
    if os.environ.get("TACHOGRAPH_GOLDEN") == "write":
        path.write_text(told, encoding="utf-8")
    assert told == path.read_text(encoding="utf-8"), "TACHOGRAPH_GOLDEN=write pytest writes it anew"
