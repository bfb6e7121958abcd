"""Gemini CLI's chats: every call once, whatever is written again, taken back or rewritten."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recordings import CAPTURES, transcripts
from tachograph import registry
from tachograph.config import Surroundings
from tachograph.errors import Rejected
from tachograph.model import MODEL_CALL, PROMPT, STEP, TOOL_RUN, Batch, Event, Usage
from tachograph.transcripts import gemini_cli
from test_transcripts import ANYTHING, calls, in_pieces, made, plain, reports_of
from test_truth import makers, orders, replayed, truth_of

SETS = ("gemini-cli-grpc", "gemini-cli-noprompt", "gemini-cli-tools")
FIRST = {"sessionId": "s-1", "projectHash": "ab", "startTime": "2026-11-21T00:11:32.347Z", "kind": "main"}
TOKENS = {"input": 1000, "output": 50, "cached": 600, "thoughts": 200, "tool": 0, "total": 1250}


def message(id_: str, type_: str = "gemini", **more: Any) -> dict[str, Any]:
    """A message as the chat recorder writes it."""
    return {"id": id_, "timestamp": "2026-11-21T00:12:00.000Z", "type": type_, "content": "x", **more}


def tool(id_: str, **more: Any) -> dict[str, Any]:
    """A tool call of a message."""
    told = {"id": id_, "name": "read_file", "args": {"path": "a"}, "timestamp": "2026-11-21T00:12:03.000Z"}
    return {**told, "status": "success", "result": [{"functionResponse": {"response": {"output": "y"}}}], **more}


def told(path: Path) -> list[Event]:
    """All events of a file, read once."""
    return gemini_cli.read(path, "")[0].events


def roles(path: Path) -> list[str]:
    """What was told, in order."""
    return [event.meaning.role for event in told(path) if event.meaning is not None]


@pytest.mark.parametrize("name", SETS)
def test_a_chat_alone_is_the_truth(name: str, tmp_path: Path) -> None:
    for order, batches in orders(makers(transcripts(CAPTURES / name)), name).items():
        assert replayed(batches, tmp_path / order, settle_each=True).told == truth_of(name), order


@pytest.mark.parametrize("name", SETS)
def test_read_as_it_grows(name: str, tmp_path: Path) -> None:
    source = next((CAPTURES / name / "transcript").glob("*.jsonl")).read_bytes()
    file = tmp_path / "session-x.jsonl"
    file.write_bytes(source)
    whole = plain(told(file))
    for step in (1, 7, 700):
        cuts = list(range(step, len(source), max(step, len(source) // 40)))
        assert plain(in_pieces(file, source, cuts, gemini_cli.read)) == whole


def test_a_message_is_one_call_however_often_it_is_written(tmp_path: Path) -> None:
    """Tokens and tools arrive later; a checkpoint repeats all; what was taken back was paid for."""
    without, with_tokens = message("m1"), message("m1", tokens=TOKENS)
    running = message("m1", tokens=TOKENS, toolCalls=[tool("t1", status="executing")])
    done = message("m1", tokens=TOKENS, toolCalls=[tool("t1")])
    file = made(
        tmp_path / "session-x.jsonl",
        *(FIRST, without, with_tokens, running, done, {"$set": {"messages": [done, message("u1", "user")]}}),
        *({"$rewindTo": "m1"}, {"$set": {"lastUpdated": "x"}}, done, b'{"id": "m2", "type": "gem'),
    )
    assert roles(file) == [MODEL_CALL, TOOL_RUN, PROMPT]
    call, run, _ = told(file)
    assert call.meaning is not None and run.meaning is not None
    assert call.meaning.usage == Usage(input_uncached=400, cache_read=600, output=250, reasoning=200)
    assert run.meaning.duration_ns == 3_000_000_000 and not run.meaning.is_error


def test_read_again_it_is_the_same_call(tmp_path: Path) -> None:
    """A chat that was rewritten is read from its start, and the ledger knows its calls."""
    one = gemini_cli.read(made(tmp_path / "session-a.jsonl", FIRST, message("m1", tokens=TOKENS)), "")[0]
    later = message("m1", tokens=TOKENS, toolCalls=[tool("t1")], timestamp="2026-11-21T00:12:09.000Z")
    two = gemini_cli.read(made(tmp_path / "session-b.jsonl", FIRST, later), "")[0]
    assert calls(one, two) == 1


def test_what_tools_put_into_the_prompt_stands_beside_it(tmp_path: Path) -> None:
    beside = {"input": 10, "output": 5, "cached": 0, "thoughts": 1, "tool": 4, "total": 20}
    within = {**beside, "total": 16}
    file = made(tmp_path / "session-x.jsonl", FIRST, message("a", tokens=beside), message("b", tokens=within))
    totals = [e.meaning.usage.input_total for e in told(file) if e.meaning is not None and e.meaning.usage is not None]
    assert totals == [14, 10]


def test_subagents_belong_to_the_session_they_work_for(tmp_path: Path) -> None:
    folder = tmp_path / "tmp" / "shop" / "chats" / "s-1"
    folder.mkdir(parents=True)
    first = {**FIRST, "sessionId": "helper-9", "kind": "subagent"}
    lines = (first, message("u", "user", content="task"), message("m", tokens=TOKENS))
    task, call = told(made(folder / "helper-9.jsonl", *lines))
    assert task.meaning is not None and call.meaning is not None
    assert (task.meaning.role, call.meaning.role) == (STEP, MODEL_CALL)
    for meaning in (task.meaning, call.meaning):
        assert (meaning.session_id, meaning.subagent, meaning.project) == ("s-1", "helper-9", "shop")


def test_errors(tmp_path: Path) -> None:
    failed = tool("t1", status="error", resultDisplay="no such file")
    silent = tool("t2", status="cancelled", result=[{"functionResponse": {"response": {"error": "stopped"}}}])
    lines = (FIRST, message("m", toolCalls=[failed, silent]), message("e", "error", content="quota"))
    found = [e.meaning.error_message for e in told(made(tmp_path / "session-x.jsonl", *lines)) if e.meaning is not None]
    assert found == ["no such file", "stopped", "quota"]


def test_old_chats_are_one_object(tmp_path: Path) -> None:
    """Rewritten as a whole, also over several lines; half of one tells nothing yet."""
    file = tmp_path / "session-2025-01-01T00-00-abcdef01.json"
    chat: dict[str, Any] = {**FIRST, "messages": [message("u", "user"), message("m1", tokens=TOKENS)]}
    file.write_text(json.dumps(chat, indent=2), encoding="utf-8")
    found = registry.files_of(file)
    assert found is not None and found.read is gemini_cli.read
    batch, position = gemini_cli.read(file, "")
    assert [e.name for e in batch.events] == ["user", "gemini"] and batch.positions == {str(file): position}
    assert gemini_cli.read(file, position)[1] == position
    file.write_text(json.dumps(chat)[:200], encoding="utf-8")
    assert gemini_cli.read(file, position)[1] == position
    file.write_text(
        json.dumps({**chat, "messages": [*chat["messages"], message("m2", tokens=TOKENS)]}), encoding="utf-8"
    )
    batch, _ = gemini_cli.read(file, position)
    assert [e.attributes["id"] for e in batch.events] == ["m2"]


def test_discovered(tmp_path: Path) -> None:
    chats = tmp_path / ".gemini" / "tmp" / "shop" / "chats"
    (chats / "s-1").mkdir(parents=True)
    files = [chats / "session-a.jsonl", chats / "session-b.json", chats / "s-1" / "helper.jsonl"]
    for file in [*files, chats / "session-a.json", chats / "notes.txt"]:
        file.touch()
    assert sorted(gemini_cli.discover(Surroundings(tmp_path, {}, tmp_path))) == sorted(files)
    moved = Surroundings(tmp_path / "else", {"GEMINI_CLI_HOME": str(tmp_path)}, tmp_path)
    assert sorted(gemini_cli.discover(moved)) == sorted(files)
    assert not list(gemini_cli.discover(Surroundings(tmp_path / "else", {}, tmp_path)))


@settings(max_examples=150)
@given(
    st.lists(
        st.fixed_dictionaries(
            {},
            optional={
                "id": ANYTHING,
                "type": st.sampled_from(["user", "gemini", "error", 3]),
                "timestamp": ANYTHING,
                "content": ANYTHING,
                "tokens": ANYTHING | st.dictionaries(st.sampled_from(sorted(TOKENS)), ANYTHING),
                "$set": ANYTHING,
                "toolCalls": ANYTHING,
                "thoughts": ANYTHING,
                "model": ANYTHING,
                "sessionId": ANYTHING,
                "projectHash": ANYTHING,
                "kind": ANYTHING,
                "directories": ANYTHING,
            },
        ),
        max_size=6,
    )
)
def test_any_values(tmp_path_factory: pytest.TempPathFactory, rows: list[dict[str, Any]]) -> None:
    folder = tmp_path_factory.mktemp("fuzz")
    batch, position = gemini_cli.read(made(folder / "session-x.jsonl", *rows), "")
    gemini_cli.read(folder / "session-x.jsonl", position)
    (folder / "session-x.json").write_text(json.dumps({**FIRST, "messages": rows}), encoding="utf-8")
    whole = gemini_cli.read(folder / "session-x.json", "")[0]
    reports_of(batch, whole)
    for event in [*batch.events, *whole.events]:
        assert 0 <= event.time_ns < 2**63 and event.meaning is not None


@given(st.binary(max_size=200))
def test_any_bytes(tmp_path_factory: pytest.TempPathFactory, noise: bytes) -> None:
    file = tmp_path_factory.mktemp("noise") / "session-x.json"
    file.write_bytes(noise)
    batch, _ = gemini_cli.read(file, "")
    assert isinstance(batch, Batch)
    with pytest.raises(Rejected):
        gemini_cli.read(file.parent, "")
