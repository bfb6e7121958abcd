"""The demo: alive, marked, and gone without a trace."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recordings import CAPTURES
from tachograph.cli import demo, main
from tachograph.cli.periods import clock
from tachograph.cli.reading import DEMO, open_reader, open_sink
from tachograph.cli.staging import Stage, newest_ns
from tachograph.config import load
from tachograph.model import Batch, Event, Meaning, Source, Span
from tachograph.store.schema import TABLES

DAY_NS = 86_400 * 1_000_000_000
LABELS = {"project.name": "p", "enduser.id": "u", "team.name": "t"}


def output(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    capsys.readouterr()
    assert main(words) == 0
    return capsys.readouterr().out


def counts(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, int]:
    """Rows of every table but those that are about the store itself, or name what once sent and nothing it said."""
    kept = [name for name in TABLES if name not in ("meta", "sealed", "commits", "trace_parts", "sources", "series")]
    query = " union all ".join(f"select '{name}' as name, count(*) as n from {name}" for name in kept)
    return {row["name"]: row["n"] for row in json.loads(output(capsys, "sql", query, "--json", *words))}


def play(*wanted: str) -> None:
    """Play some of the scenes, as the command plays all of them."""
    with open_sink(load()) as sink:
        for scene in demo.scenes(clock()):
            if scene.name in wanted:
                for future in demo.play(sink, scene):
                    future.result()


SCENES = ("claude-code-content/0", "claude-code-content/1", "py-pydantic-ai/0")


def test_it_is_marked_and_cleared_without_a_trace(capsys: pytest.CaptureFixture[str]) -> None:
    play(*SCENES)
    totals = json.loads(output(capsys, "usage", "--json"))["totals"]
    assert totals["calls"] == 2 * 5 + 3
    rows = json.loads(output(capsys, "sessions", "--json"))["sessions"]
    assert rows and all(row["is_demo"] for row in rows)
    assert {row["project"] for row in rows} <= {"website", "billing", "search", "mobile-app"}
    assert "[demo]" in output(capsys, "sessions")
    for words in (["usage"], ["usage", "--by", "model"], ["models"], ["tools"], ["show", "last"], ["doctor"]):
        assert DEMO in output(capsys, *words).splitlines()
    assert "nothing has arrived yet" in output(capsys, "doctor")
    told = json.loads(output(capsys, "doctor", "--json"))
    assert told["is_demo"] and told["arrivals"] == told["findings"] == []
    assert {one["last_ns"] for one in json.loads(output(capsys, "connect", "--json"))["agents"]} == {None}
    assert output(capsys, "demo", "--clear").startswith("demo cleared: ")
    assert {name: count for name, count in counts(capsys).items() if count} == {}
    with open_reader(load()) as reader:
        assert not demo.has_real_data(reader)
        assert not demo.has_demo(reader)


def test_with_real_data_there_is_no_trace_of_it(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    real = str(CAPTURES / "codex-errors")
    play(*SCENES)
    output(capsys, "replay", real)
    after = counts(capsys)
    usage = output(capsys, "usage", "--json", "--by", "agent")
    assert {row["agent"] for row in json.loads(usage)["rows"]} == {"codex"}
    elsewhere = ("--home", str(tmp_path / "elsewhere"))
    output(capsys, "replay", real, *elsewhere)
    assert output(capsys, "usage", "--json", "--by", "agent", *elsewhere) == usage
    assert counts(capsys, *elsewhere) == after
    with open_reader(load()) as reader:
        assert demo.has_real_data(reader)
        assert not demo.has_demo(reader)
    assert main(["demo"]) == 2  # never into a store with real data


def test_every_set_is_there_and_is_read() -> None:
    for one in demo.SETS:
        assert newest_ns(max(demo._recorded(one.name), key=newest_ns)) > 0
    size = sum(path.stat().st_size for path in demo.FOLDER.iterdir())
    assert size < 1_500_000


def test_scenes_end_a_few_minutes_ago_and_fill_the_days() -> None:
    now = 1_800_000_000 * 1_000_000_000
    scenes = demo.scenes(now)
    assert [scene.end_ns for scene in scenes] == sorted(scene.end_ns for scene in scenes)
    assert 0 < now - scenes[-1].end_ns < 10 * 60 * 1_000_000_000
    assert len({(now - scene.end_ns) // DAY_NS for scene in scenes}) >= 7
    assert len({scene.name for scene in scenes}) == len(scenes)
    assert scenes == demo.scenes(now)


def batch() -> Batch:
    source = Source({"service.name": "x", "session.id": "0875cf19-cb38-4331-a970-8ac9fe07a39f"})
    attributes = {
        "request_id": "req_011CaXyZ0123456789",
        "link": "see 0875cf19-cb38-4331-a970-8ac9fe07a39f",
        "at": "2026-11-21T00:00:00.500Z",
        "count": 7,
        "text": "no ids here",
    }
    span = Span(source, "ab" * 16, "cd" * 8, "", "chat", 3, 1_000, 2_000, attributes)
    said = Meaning(session_id="0875cf19-cb38-4331-a970-8ac9fe07a39f", project="was")
    event = Event(source, 5_000, "line", {"trace": "ab" * 16}, trace_id="ab" * 16, meaning=said)
    return Batch([span], [event], digest="abc")


def test_staging_changes_ids_together_and_times_alike() -> None:
    staged = Stage("one", 3_600 * 1_000_000_000, LABELS).play(batch())
    (span,), (event,) = staged.spans, staged.events
    assert span.start_ns == 1_000 + 3_600 * 1_000_000_000
    assert event.time_ns == 5_000 + 3_600 * 1_000_000_000
    assert span.attributes["at"] == "2026-11-21T01:00:00.500Z"
    assert span.attributes["count"] == 7
    assert span.attributes["text"] == "no ids here"
    assert span.trace_id == event.trace_id == event.attributes["trace"] != "ab" * 16
    assert span.attributes["request_id"].startswith("req_")
    assert span.attributes["request_id"] != "req_011CaXyZ0123456789"
    session = span.source.resource["session.id"]
    assert span.attributes["link"] == f"see {session}"
    assert event.meaning is not None and event.meaning.session_id == session
    assert event.meaning.project == span.source.resource["project.name"] == "p"
    assert (staged.is_demo, staged.digest) == (True, "")
    assert batch().spans[0].trace_id == "ab" * 16


@given(st.text(alphabet="abcdef0123456789-_ :TZ.reqmsg", max_size=80), st.integers(0, 10**18))
def test_staging_takes_any_text(text: str, shift_ns: int) -> None:
    one = Batch(events=[Event(Source({}), 1, text, {"a": text}, body=[text])])
    staged = Stage("one", shift_ns, LABELS).play(one).events[0]
    assert staged.name == staged.attributes["a"] == staged.body[0]
    again = Stage("one", shift_ns, LABELS).play(one).events[0]
    assert again.name == staged.name
