"""The page of a trace: what failed, what can be found, and the columns that the page's script draws."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from starlette.testclient import TestClient

import filled
from tachograph.model import Batch, Meaning, Source, Span
from tachograph.store.duckdb import open_store

TRACE = "a" * 32
START_NS = filled.NOW_NS - 3_600_000_000_000


def span(number: int, parent: int, at_ms: int, took_ms: int, name: str, **meaning: object) -> Span:
    """A span of the trace, its times in milliseconds from the start."""
    start_ns = START_NS + at_ms * 1_000_000
    told = msgspec.convert({"session_id": "s", "agent": "mine"} | meaning, Meaning)
    return Span(
        Source({"service.name": "mine"}, "scope", "1"), TRACE, f"{number:016x}", f"{parent:016x}" if parent else "",
        name, 1, start_ns, start_ns + took_ms * 1_000_000, {"number": number}, meaning=told,
    )  # fmt: skip


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[TestClient]:
    """A prompt whose agent runs two tools, one of them in vain."""
    store = open_store(tmp_path / "s", lambda: filled.NOW_NS)
    failed = {"is_error": True, "error_message": "disk is full"}
    spans = [
        span(1, 0, 0, 1000, "ask", role="prompt"),
        span(2, 1, 100, 800, "work", role="agent", subagent="helper", is_error=True),
        span(3, 2, 200, 300, "run", role="tool_run", tool_name="Bash", tool_call_id="toolu_1"),
        span(4, 2, 600, 300, "run", role="tool_run", tool_name="Write", tool_call_id="toolu_2", **failed),
    ]
    filled.keep(store, tmp_path, [Batch(spans=spans)], is_understood=True)
    yield filled.client(store)
    store.close()


def test_what_failed_stands_first_where_it_began(shop: TestClient) -> None:
    page = shop.get(f"/traces/{TRACE}").text
    errors = page[page.index("fall-errors") : page.index("</details>")]
    assert "2 failed steps" in errors and "disk is full" in errors
    assert errors.index(f"{4:016x}") < errors.index(f"{2:016x}")
    assert errors.count("a step below it failed") == 1


def test_a_trace_that_went_well_lists_no_errors(tmp_path: Path) -> None:
    store = open_store(tmp_path / "s", lambda: filled.NOW_NS)
    filled.keep(store, tmp_path, [Batch(spans=[span(1, 0, 0, 10, "fine")])], is_understood=True)
    assert "fall-errors" not in filled.client(store).get(f"/traces/{TRACE}").text
    store.close()


def test_a_search_finds_tools_errors_and_ids(shop: TestClient) -> None:
    told = shop.get(f"/traces/{TRACE}/rows").json()
    words, also = told["words"], told["columns"]["also"]
    assert [words[one] for one in also] == ["", "", "toolu_1", "toolu_2"]
    assert [words[one] for one in told["columns"]["error"]] == ["", "", "", "disk is full"]
    assert [words[one] for one in told["columns"]["detail"]] == ["", "helper", "Bash", "Write"]
    assert told["columns"]["id"] == [f"{number:016x}" for number in (1, 2, 3, 4)]


def test_a_trace_folds_by_depth_and_by_kind(shop: TestClient) -> None:
    page = shop.get(f"/traces/{TRACE}").text
    tools = page[page.index('id="fall-fold"') : page.index("</select>")]
    assert re.findall(r'value="(\w*)"', tools) == [
        *("", "none", "1", "2", "3", "4", "5"), "prompt", "turn", "agent", "model_call", "tool_run",
    ]  # fmt: skip
    assert "below 1 level<" in tools and "below 2 levels<" in tools
