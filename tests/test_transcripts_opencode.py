"""OpenCode's database: the truth of its sessions, as they grow, fork, fail and are deleted."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recordings import requests, transcripts
from tachograph import registry
from tachograph.config import Surroundings
from tachograph.errors import Rejected
from tachograph.ledger.working import calls_of
from tachograph.model import FORK, MODEL_CALL, PROMPT, SUBAGENT, TOOL_RUN, Batch, Event, Meaning
from tachograph.transcripts import opencode
from test_transcripts import ANYTHING, reports_of
from test_truth import Truth, makers, orders, replayed

RECORDED = Path(__file__).parent / "data" / "transcripts" / "opencode"
FILE = RECORDED / "transcript" / "opencode.db"
TRUTH = json.loads((RECORDED / "truth.json").read_text(encoding="utf-8"))
BILLED = Truth(TRUTH["llm_calls_ok"], TRUTH["llm_calls_failed"], TRUTH["input_tokens_incl_cache"])
# A small model makes the titles; OpenCode keeps neither its calls nor an attempt that it tried again.
TITLES = [call for call in TRUTH["calls"] if call["model"] == "gpt-4o-mini"]
NOW = 1_795_000_000_000


def told(path: Path, since: str = "") -> list[Event]:
    """All events of a database, reading by reading."""
    events: list[Event] = []
    position = since
    while True:
        batch, after = opencode.read(path, position)
        if after == position:
            return events
        events += batch.events
        position = after


def meanings(events: list[Event], role: str) -> list[Meaning]:
    """What the events of a role say."""
    return [e.meaning for e in events if e.meaning is not None and e.meaning.role == role]


def shown(events: list[Event]) -> list[Any]:
    """Events as plain values, in an order of their own."""
    plain = [(e.name, e.time_ns, e.attributes, e.meaning, e.contents, e.source.resource) for e in events]
    return sorted(msgspec.json.encode(row) for row in plain)


@contextmanager
def database(path: Path) -> Iterator[sqlite3.Connection]:
    """An empty database of OpenCode's shape, open as OpenCode has it."""
    with closing(sqlite3.connect(FILE)) as recorded:
        shape = [row[0] for row in recorded.execute("SELECT sql FROM sqlite_master WHERE type = 'table'")]
    with closing(sqlite3.connect(path, isolation_level=None)) as agent:
        agent.execute("PRAGMA journal_mode = wal")
        for statement in shape:
            agent.execute(statement)
        yield agent


def session(agent: sqlite3.Connection, id_: str, created: int = NOW, parent: str | None = None) -> None:
    """A session."""
    names = "id, project_id, parent_id, slug, directory, title, version, time_created, time_updated"
    row = (id_, "p", parent, "slug", "/home/dev/shop", "title", "1.18.33", created, created)
    agent.execute(f"INSERT INTO session ({names}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", row)


def message(agent: sqlite3.Connection, id_: str, of: str, created: int, *parts: Any, **data: Any) -> None:
    """A message and its parts."""
    data = {"role": "assistant", "modelID": "gpt-5.1", "providerID": "openai", "time": {"created": created}, **data}
    row = (id_, of, created, created, json.dumps(data, separators=(",", ":")))
    agent.execute("INSERT INTO message VALUES (?, ?, ?, ?, ?)", row)
    for number, part in enumerate(parts):
        of_part = (f"{id_}-{number}", id_, of, created, created, json.dumps(part))
        agent.execute("INSERT INTO part VALUES (?, ?, ?, ?, ?, ?)", of_part)


def ended(created: int, uncached: int = 10, **more: Any) -> dict[str, Any]:
    """What a message says when its call has ended."""
    tokens = {"input": uncached, "output": 3, "reasoning": 0, "cache": {"read": 0, "write": 0}}
    return {
        "tokens": tokens,
        "cost": 0,
        "finish": "stop",
        "time": {"created": created, "completed": created + 9},
        **more,
    }


def test_a_database_is_known(tmp_path: Path) -> None:
    found = registry.files_of(FILE)
    assert found is not None and found.read is opencode.read and found.beside == ("-wal",)


def test_the_database_alone(tmp_path: Path) -> None:
    expected = BILLED._replace(
        calls=BILLED.calls - len(TITLES),
        failed=0,
        input_tokens=BILLED.input_tokens - sum(call["input_tokens_total"] for call in TITLES),
    )
    for order, batches in orders(makers(transcripts(RECORDED)), "opencode").items():
        assert replayed(batches, tmp_path / order, settle_each=True) == (expected, 0), order


def test_with_what_it_exports(tmp_path: Path) -> None:
    """The export loses its tail, the database has it: together they are the truth; what only the export told of is
    flagged as what may have lost others."""
    batches = [*requests(RECORDED), *transcripts(RECORDED)]
    for order, made in orders(makers(batches), "opencode").items():
        result = replayed(made, tmp_path / order, settle_each=order in ("backward", "twice"))
        assert result == (BILLED, len(TITLES)), order


def test_the_tree_of_a_session() -> None:
    events = told(FILE)
    prompts = {m.prompt_id: m for m in meanings(events, PROMPT)}
    task = next(m for m in meanings(events, TOOL_RUN) if m.tool_name == "task")
    child = [m for m in meanings(events, MODEL_CALL) if m.lineage == SUBAGENT]
    assert len(prompts) == 3 and len(child) == 2
    for meaning in child:
        assert (meaning.parent_session_id, meaning.parent_tool_call_id) == (task.session_id, task.tool_call_id)
        assert meaning.subagent == "general"
    assert all(m.prompt_id in prompts for m in [*meanings(events, MODEL_CALL), *meanings(events, TOOL_RUN)])
    assert [(m.tool_name, m.error_message[:14]) for m in meanings(events, TOOL_RUN) if m.is_error] == [
        ("read", "File not found")
    ]
    assert all(m.duration_ns for m in meanings(events, TOOL_RUN))


def test_read_as_it_grows(tmp_path: Path) -> None:
    """Each row first as OpenCode begins it, then as it ends it, and read each time: the same as read at the end."""
    path, position = tmp_path / "opencode.db", ""
    events: list[Event] = []
    with closing(sqlite3.connect(FILE)) as recorded, database(path) as agent:
        for row in recorded.execute("SELECT * FROM session"):
            agent.execute(f"INSERT INTO session VALUES ({', '.join('?' * len(row))})", row)
        for row in recorded.execute("SELECT * FROM message ORDER BY rowid").fetchall():
            data = json.loads(row[4])
            begun = {**data, "time": {"created": data["time"]["created"]}, "tokens": {"input": 0, "output": 0}}
            agent.execute("INSERT INTO message VALUES (?, ?, ?, ?, ?)", (*row[:4], json.dumps(begun)))
            for part in recorded.execute("SELECT * FROM part WHERE message_id = ? ORDER BY id", row[:1]).fetchall():
                agent.execute("INSERT INTO part VALUES (?, ?, ?, ?, ?, ?)", part)
                batch, position = opencode.read(path, position)
                events += batch.events
            agent.execute("UPDATE message SET data = ? WHERE id = ?", (row[4], row[0]))
            batch, position = opencode.read(path, position)
            events += batch.events
        assert shown(events) == shown(told(path))
        assert opencode.read(path, position)[1] == position


def test_a_message_without_parts_waits_for_them(tmp_path: Path) -> None:
    with database(tmp_path / "opencode.db") as agent:
        session(agent, "s")
        message(agent, "u", "s", NOW, role="user")
        batch, position = opencode.read(tmp_path / "opencode.db", "")
        assert not batch.events
        row = ("p", "u", "s", NOW, NOW, '{"type": "text", "text": "hello"}')
        agent.execute("INSERT INTO part VALUES (?, ?, ?, ?, ?, ?)", row)
        (event,) = opencode.read(tmp_path / "opencode.db", position)[0].events
        assert event.contents is not None and event.contents[0].pieces == ["hello"]


def test_a_fork_begins_with_what_was_paid_for_elsewhere(tmp_path: Path) -> None:
    with database(tmp_path / "opencode.db") as agent:
        session(agent, "s", NOW)
        message(agent, "m1", "s", NOW + 1, **ended(NOW + 1))
        session(agent, "f", NOW + 100)
        message(agent, "copy", "f", NOW + 1, **ended(NOW + 1))
        message(agent, "m2", "f", NOW + 101, **ended(NOW + 101))
    found = meanings(told(tmp_path / "opencode.db"), MODEL_CALL)
    assert [(m.message_id, m.lineage, m.parent_session_id) for m in found] == [("m1", "", ""), ("m2", FORK, "s")]


def test_what_opencode_says_itself_is_no_prompt(tmp_path: Path) -> None:
    note = {"type": "text", "text": "go on", "synthetic": True}
    with database(tmp_path / "opencode.db") as agent:
        session(agent, "s")
        message(agent, "c", "s", NOW, {"type": "compaction", "auto": True}, role="user")
        message(agent, "m1", "s", NOW + 1, parentID="c", **ended(NOW + 1))
        message(agent, "n", "s", NOW + 2, note, role="user")
        message(agent, "m2", "s", NOW + 3, parentID="n", **ended(NOW + 3))
    events = told(tmp_path / "opencode.db")
    assert not meanings(events, PROMPT)
    assert [m.prompt_id for m in meanings(events, MODEL_CALL)] == ["", ""]


def test_failed_retried_and_left_calls(tmp_path: Path) -> None:
    error = {"name": "APIError", "data": {"message": "slow down", "statusCode": 429}}
    retry = {"type": "retry", "attempt": 1, "error": error, "time": {"created": NOW + 2}}
    zero = {"input": 0, "output": 0, "reasoning": 0, "cache": {"read": 0, "write": 0}}
    with database(tmp_path / "opencode.db") as agent:
        session(agent, "s")
        message(agent, "m1", "s", NOW + 1, retry, **ended(NOW + 1))
        message(agent, "m2", "s", NOW + 20, error=error, tokens=zero)
        message(agent, "m3", "s", NOW + 30, tokens=zero)  # the program was killed
        assert len(told(tmp_path / "opencode.db")) == 3
        message(agent, "m4", "s", NOW + 40, **ended(NOW + 40))
    events = told(tmp_path / "opencode.db")
    reports = reports_of(Batch(events=events))
    calls = calls_of(reports, {r.report_id: r.meaning.session_id for r in reports}, {})
    told_of = sorted((c.meaning.message_id, c.status, c.usage_status, c.meaning.http_status) for c in calls)
    assert told_of == [
        ("m1", "ok", "reported", None),
        ("m1-0", "failed", "unknown", 429),
        ("m2", "failed", "unknown", 429),
        ("m3", "failed", "unknown", None),
        ("m4", "ok", "reported", None),
    ]


def test_several_calls_in_one_message(tmp_path: Path) -> None:
    def step(uncached: int) -> dict[str, Any]:
        return {"type": "step-finish", "reason": "stop", "cost": 0.001, "tokens": ended(NOW, uncached)["tokens"]}

    with database(tmp_path / "opencode.db") as agent:
        session(agent, "s")
        message(agent, "m", "s", NOW, step(1), step(2), **ended(NOW, 2))
    found = meanings(told(tmp_path / "opencode.db"), MODEL_CALL)
    assert [m.usage.input_uncached for m in found if m.usage is not None] == [1, 2]
    assert [(m.cost_nanousd, m.cost_kind) for m in found] == [(1_000_000, "source_estimate")] * 2
    assert len({m.message_id for m in found}) == 2


@pytest.mark.parametrize(("total", "output"), [(20, 8), (18, 6), (None, 8)])
def test_reasoning_beside_the_output_or_within_it(tmp_path: Path, total: int | None, output: int) -> None:
    tokens = {"input": 5, "output": 6, "reasoning": 2, "cache": {"read": 4, "write": 3}}
    given_tokens = tokens if total is None else {**tokens, "total": total}
    with database(tmp_path / "opencode.db") as agent:
        session(agent, "s")
        message(agent, "m", "s", NOW, **{**ended(NOW), "tokens": given_tokens})
    (meaning,) = meanings(told(tmp_path / "opencode.db"), MODEL_CALL)
    assert meaning.usage is not None
    assert (meaning.usage.input_total, meaning.usage.output, meaning.usage.reasoning) == (12, output, 2)


@pytest.mark.parametrize("is_packed", [False, True])
def test_rows_that_took_the_place_of_others(tmp_path: Path, is_packed: bool) -> None:
    """Deleted messages give their numbers away, and VACUUM gives all anew: nothing is missed or told twice."""
    path = tmp_path / "opencode.db"
    with database(path) as agent:
        for number in range(4):
            session(agent, f"s{number}", NOW)
            message(agent, f"m{number}", f"s{number}", NOW + number, **ended(NOW + number))
        batch, position = opencode.read(path, "")
        assert len(batch.events) == 4
        agent.execute("DELETE FROM message WHERE id = 'm3'")
        agent.execute("DELETE FROM message WHERE id = 'm0'")
        if is_packed:
            agent.execute("VACUUM")
        message(agent, "new", "s3", NOW + 50, **ended(NOW + 50))
        found = [e.attributes["id"] for e in told(path, position)]
        assert found == ["new"]


def test_discovered(tmp_path: Path) -> None:
    folder = tmp_path / ".local" / "share" / "opencode"
    folder.mkdir(parents=True)
    files = [folder / "opencode.db", folder / "opencode-beta.db"]
    for file in [*files, folder / "opencode.db-wal", folder / "own.sqlite"]:
        file.touch()
    assert sorted(opencode.discover(Surroundings(tmp_path, {}, tmp_path))) == sorted(files)
    moved = {"XDG_DATA_HOME": str(tmp_path / ".local" / "share"), "OPENCODE_DB": "own.sqlite"}
    found = list(opencode.discover(Surroundings(tmp_path / "else", moved, tmp_path)))
    assert sorted(found) == sorted([*files, folder / "own.sqlite"])


NUMBERS = st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False)
VALUES = st.none() | NUMBERS | st.text(st.characters(codec="utf-8"), max_size=8) | st.binary(max_size=8)
KEYS = ("role", "parentID", "modelID", "providerID", "time", "tokens", "cost", "finish", "error", "agent")
PART = ("type", "text", "time", "state", "tool", "callID", "tokens", "cost", "reason", "error", "attempt", "synthetic")


@settings(max_examples=120)
@given(st.data())
def test_any_values(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    """Whatever stands in the columns and in their JSON: events, nothing or Rejected."""
    path = tmp_path_factory.mktemp("fuzz") / "opencode.db"
    kinds = st.sampled_from(["text", "tool", "retry", "step-finish", "reasoning"])
    with closing(sqlite3.connect(path)) as agent:
        agent.execute("CREATE TABLE session (id, parent_id, directory, version, time_created)")
        agent.execute("CREATE TABLE message (id, session_id, time_created, data)")
        agent.execute("CREATE TABLE part (id, message_id, data)")
        agent.execute("INSERT INTO session VALUES ('s', ?, ?, ?, ?)", [data.draw(VALUES) for _ in range(4)])
        for id_ in ("a", "b", data.draw(VALUES)):
            content = {key: data.draw(ANYTHING) for key in data.draw(st.sets(st.sampled_from(KEYS)))}
            content["role"] = data.draw(st.sampled_from(["user", "assistant", 1]))
            text = data.draw(st.just(json.dumps(content)) | VALUES)
            agent.execute("INSERT INTO message VALUES (?, ?, ?, ?)", (id_, data.draw(VALUES | st.just("s")), NOW, text))
            part = {key: data.draw(ANYTHING) for key in data.draw(st.sets(st.sampled_from(PART)))}
            part["type"] = data.draw(kinds)
            text = data.draw(st.just(json.dumps(part)) | VALUES)
            agent.execute("INSERT INTO part VALUES (?, ?, ?)", (data.draw(VALUES), id_, text))
        agent.commit()
    try:
        events = told(path)
    except Rejected:
        return
    for event in events:
        assert event.meaning is not None and 0 <= event.time_ns < 2**63
        msgspec.convert(msgspec.to_builtins(event.meaning), Meaning, strict=True)
    reports_of(Batch(events=events))


def test_a_copy_without_its_log_is_read(tmp_path: Path) -> None:
    shutil.copy(FILE, tmp_path / "opencode-copy.db")
    assert shown(told(tmp_path / "opencode-copy.db")) == shown(told(FILE))
