"""Live: what each running session does is read off its newest records, whoever told them."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import filled
from tachograph.model import Batch, Content, Event, Meaning, Source, Span, Usage
from tachograph.questions.running import MINUTE_NS, STALLED_NS, Running, running, spend
from tachograph.store.duckdb import DuckStore, open_store

NOW_NS = filled.NOW_NS
SECOND_NS = 1_000_000_000
_SOURCE = Source({"service.name": "test"})


@pytest.fixture
def kept(tmp_path: Path) -> Iterator[DuckStore]:
    """An empty store, whose clock stands still."""
    store = open_store(tmp_path / "kept", lambda: NOW_NS)
    yield store
    store.close()


def _span(number: int, ago_s: float, took_s: float, role: str, *, is_open: bool = False, **more: Any) -> Span:
    start = NOW_NS - int(ago_s * SECOND_NS)
    contents = [Content("prompt", "p", [more.pop("prompt")])] if "prompt" in more else []
    session_id = more.pop("session_id", "s1")
    meaning = Meaning(role=role, session_id=session_id, agent="pi", is_call=role == "model_call", **more)
    return Span(
        _SOURCE, f"{abs(hash(session_id)):032x}"[-32:], f"{number:016x}", "", role, 1, start,
        start + int(took_s * SECOND_NS), {"tachograph.is_open": True} if is_open else {}, meaning=meaning,
        contents=contents,
    )  # fmt: skip


def _call(number: int, ago_s: float, took_s: float, finish: str, **more: Any) -> Span:
    usage = Usage(input_uncached=100, output=10)
    given: dict[str, Any] = {"usage": usage, "response_id": f"r{number}", "response_model": "gpt-5.1"} | more
    return _span(number, ago_s, took_s, "model_call", finish_reason=finish, provider="openai", **given)


def _one(kept: DuckStore, tmp_path: Path, *spans: Span) -> Running:
    filled.keep(kept, tmp_path, [Batch(spans=list(spans))], is_understood=True)
    found = running(kept, NOW_NS)
    assert len(found) == 1
    return found[0]


def test_a_prompt_waits_for_the_model(kept: DuckStore, tmp_path: Path) -> None:
    one = _one(kept, tmp_path, _span(1, 7, 0, "prompt", is_open=True, prompt="Why?"))
    assert (one.step.doing, one.step.since_ns) == ("model", NOW_NS - 7 * SECOND_NS)
    assert kept.texts([one.prompt_hash]) == {one.prompt_hash: "Why?"}


def test_a_call_that_asked_for_a_tool_is_followed_by_the_tool(kept: DuckStore, tmp_path: Path) -> None:
    one = _one(kept, tmp_path, _span(1, 60, 0, "prompt", is_open=True), _call(2, 50, 20, "tool_call"))
    assert (one.step.doing, one.step.since_ns) == ("tool", NOW_NS - 30 * SECOND_NS)


def test_an_open_tool_has_its_name_and_its_start(kept: DuckStore, tmp_path: Path) -> None:
    prompt, call = _span(1, 60, 0, "prompt", is_open=True), _call(2, 50, 20, "tool_call")
    one = _one(kept, tmp_path, prompt, call, _span(3, 29, 0, "tool_run", is_open=True, tool_name="bash"))
    assert (one.step.doing, one.step.name, one.in_flight) == ("tool", "bash", 1)
    assert one.step.since_ns == NOW_NS - 29 * SECOND_NS and not one.is_stalled


def test_the_end_of_a_step_takes_the_place_of_its_being_open(kept: DuckStore, tmp_path: Path) -> None:
    filled.keep(
        kept, tmp_path, [Batch(spans=[_span(3, 29, 0, "tool_run", is_open=True, tool_name="bash")])], is_understood=True
    )
    one = _one(kept, tmp_path, _span(3, 29, 9, "tool_run", tool_name="bash"))
    assert (one.step.doing, one.step.since_ns, one.in_flight) == ("model", NOW_NS - 20 * SECOND_NS, 0)


def test_an_answered_prompt_waits_for_the_user_whatever_was_left_open(kept: DuckStore, tmp_path: Path) -> None:
    left = _span(2, 25, 0, "tool_run", is_open=True, tool_name="bash")
    one = _one(kept, tmp_path, left, _call(3, 20, 5, "stop"), _span(1, 30, 20, "prompt"))
    assert (one.step.doing, one.step.since_ns) == ("user", NOW_NS - 10 * SECOND_NS)
    assert one.in_flight == 0


def test_a_session_that_ended_runs_no_more(kept: DuckStore, tmp_path: Path) -> None:
    spans = [_call(3, 20, 5, "stop"), _span(1, 30, 20, "session")]
    filled.keep(kept, tmp_path, [Batch(spans=spans)], is_understood=True)
    assert running(kept, NOW_NS) == []


def test_silence_at_work_is_a_stall_and_half_an_hour_of_it_the_end(kept: DuckStore, tmp_path: Path) -> None:
    one = _one(kept, tmp_path, _span(3, 120, 0, "tool_run", is_open=True, tool_name="bash"))
    assert not one.is_stalled
    assert running(kept, NOW_NS + STALLED_NS)[0].is_stalled
    assert running(kept, NOW_NS + 30 * MINUTE_NS) == []


def test_a_failed_call_is_told_and_one_that_broke_off_waits_for_the_user(kept: DuckStore, tmp_path: Path) -> None:
    failed = _call(1, 20, 5, "", is_error=True, error_type="529", usage=None)
    assert _one(kept, tmp_path, failed).step.name == "failed call"


def test_a_log_record_that_announces_a_call_is_a_call_under_way(kept: DuckStore, tmp_path: Path) -> None:
    meaning = Meaning(
        role="model_call", is_call=True, is_rollup=True, session_id="s1", request_model="m", message_id="1"
    )
    event = Event(_SOURCE, NOW_NS - 3 * SECOND_NS, "stream", {}, meaning=meaning, trace_id="a" * 32, span_id="b" * 16)
    filled.keep(kept, tmp_path, [Batch(events=[event])], is_understood=True)
    one = running(kept, NOW_NS)[0]
    assert (one.step.doing, one.step.name) == ("model", "m")


def test_what_is_spent_is_told_by_the_minute_and_by_kind(kept: DuckStore, tmp_path: Path) -> None:
    spans = [
        _call(1, 61, 1, "stop"),
        _call(2, 600, 1, "stop", cost_nanousd=5 * 10**9, cost_kind="billed"),
        _call(3, 601, 1, "stop", cost_nanousd=2 * 10**9, cost_kind="billed", is_notional=True),
        _call(4, 7200, 1, "stop"),
    ]
    filled.keep(kept, tmp_path, [Batch(spans=spans)], is_understood=True)
    spent = spend(kept, NOW_NS)
    assert {kind: sum(values) > 0 for kind, values in spent.items()} == dict.fromkeys(spent, True)
    assert sum(spent["billed"]) == 5.0 and set(spent) >= {"billed", "computed"}
    total = kept.sql(f"select sum(cost_nanousd) / 1e9 as usd from calls where start_ns > {NOW_NS - 3600 * SECOND_NS}")
    assert sum(map(sum, spent.values())) == pytest.approx(total.data["usd"][0])


def test_the_page_says_what_runs_and_leads_to_it(kept: DuckStore, tmp_path: Path) -> None:
    evil = "</p><script>alert(1)</script>"
    prompt = _span(1, 30, 0, "prompt", is_open=True, prompt=evil)
    tool = _span(3, 29, 0, "tool_run", is_open=True, tool_name=evil)
    filled.keep(kept, tmp_path, [Batch(spans=[prompt, tool, _call(2, 50, 20, "tool_call")])], is_understood=True)
    page = filled.client(kept).get("/running").text
    assert "<script>alert" not in page and html.escape(evil) in page
    assert 'href="/sessions/s1"' in page and "runs a tool" in page
    assert f'data-since="{(NOW_NS - 29 * SECOND_NS) // 1_000_000}"' in page
    block = re.search(r'<script type="application/json">(.*?)</script>', page, re.DOTALL)
    assert block
    data = json.loads(block[1])
    assert len(data["labels"]) == len(data["hrefs"]) == 60 and data["hrefs"][0].startswith("/calls?from=")


def test_nothing_runs(kept: DuckStore) -> None:
    assert "Nothing runs." in filled.client(kept).get("/running").text
