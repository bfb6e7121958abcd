"""Transcripts: read in any pieces they give the same events, and nothing in them raises."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recordings import CAPTURES
from tachograph import ledger, lines, registry
from tachograph.errors import Rejected
from tachograph.ledger.working import calls_of
from tachograph.model import MODEL_CALL, PROMPT, TOOL_RUN, Batch, Event, Report
from tachograph.transcripts import claude_code, codex, pi

FILES = sorted(path for path in CAPTURES.rglob("*.jsonl") if registry.files_of(path) is not None)
# One of each kind and shape: the reading of every file in every piece would take minutes.
CHOSEN = (
    "claude-code-old-10",
    "claude-code-old-197",
    "codex-tools",
    "codex-mcp",
    "pi152-rpc",
    "pi073-compact",
    "pi152-compact",
)
SOME = [path for path in FILES if any(name in path.parts for name in CHOSEN)]
Reader = Callable[[Path, str], tuple[Batch, str]]


def reader_of(path: Path) -> Reader:
    """Who reads a file."""
    found = registry.files_of(path)
    assert found is not None
    return found.read


def plain(events: list[Event]) -> list[Any]:
    """Events as plain values, to compare what they say."""
    return [
        (e.name, e.time_ns, e.attributes, e.meaning, msgspec.to_builtins(e.contents), e.source.resource) for e in events
    ]


def in_pieces(path: Path, source: bytes, cuts: list[int], read: Reader) -> list[Event]:
    """The events of a file that grew to each of `cuts` in turn and was read each time."""
    events: list[Event] = []
    position = ""
    for cut in [*cuts, len(source)]:
        path.write_bytes(source[:cut])
        batch, position = read(path, position)
        events += batch.events
    return events


def made(path: Path, *entries: dict[str, Any] | bytes, spaced: bool = False) -> Path:
    """A file of these lines."""
    separators = (", ", ": ") if spaced else (",", ":")
    rows = [e if isinstance(e, bytes) else json.dumps(e, separators=separators).encode() for e in entries]
    path.write_bytes(b"".join(row + b"\n" for row in rows))
    return path


def reports_of(*batches: Batch) -> list[Report]:
    """What the ledger gets of some batches."""
    found: list[Report] = []
    for batch in batches:
        ledger.report(batch)
        found += batch.reports
    return found


def calls(*batches: Batch) -> int:
    """How many calls the ledger makes of some batches."""
    reports = reports_of(*batches)
    return len(calls_of(reports, {r.report_id: r.meaning.session_id for r in reports}, {}))


def test_there_are_files_of_every_kind() -> None:
    assert {reader_of(path) for path in SOME} == {claude_code.read, codex.read, pi.read}


@pytest.mark.parametrize("path", SOME, ids=lambda path: path.name[-24:])
def test_a_file_read_from_each_line_boundary(path: Path, tmp_path: Path) -> None:
    """The position carries all that the next reading needs: half and half is the same as whole."""
    source = path.read_bytes()
    read = reader_of(path)
    whole = plain(read(path, "")[0].events)
    assert whole
    boundaries = [at + 1 for at, byte in enumerate(source) if byte == 10]
    grown = tmp_path / path.name
    for cut in boundaries:
        assert plain(in_pieces(grown, source, [cut], read)) == whole
    assert plain(in_pieces(grown, source, boundaries, read)) == whole


@settings(max_examples=60)
@given(st.data())
def test_a_file_read_at_any_byte(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    """A line that is still being written is read when it is whole."""
    path = data.draw(st.sampled_from(SOME))
    source = path.read_bytes()
    cuts = sorted(data.draw(st.lists(st.integers(0, len(source)), max_size=6)))
    grown = tmp_path_factory.mktemp("grown") / path.name
    read = reader_of(path)
    assert plain(in_pieces(grown, source, cuts, read)) == plain(read(path, "")[0].events)


PI_HEAD = {"type": "session", "version": 3, "id": "s-1", "timestamp": "2026-11-20T10:00:00.000Z", "cwd": "/w/shop"}


def pi_answer(id_: str, second: int, **more: Any) -> dict[str, Any]:
    """An entry of a Pi session with an answer in it."""
    usage = {"input": 5, "output": 20, "cacheRead": 900, "cacheWrite": 100, "cost": {"total": 0.00096}}
    message = {"role": "assistant", "provider": "anthropic", "model": "claude-sonnet-4-5", "usage": usage, **more}
    return {"type": "message", "id": id_, "timestamp": f"2026-11-20T10:00:{second:02}.000Z", "message": message}


@pytest.mark.parametrize("spaced", [False, True])
def test_both_spacings_of_json(tmp_path: Path, spaced: bool) -> None:
    path = made(tmp_path / "a.jsonl", PI_HEAD, pi_answer("b1", 1), spaced=spaced)
    (event,) = pi.read(path, "")[0].events
    assert event.meaning is not None and event.meaning.usage is not None
    assert event.meaning.usage.input_total == 1005
    assert (event.meaning.session_id, event.meaning.project, event.meaning.cost_nanousd) == ("s-1", "shop", 960_000)


def test_lines_that_are_nothing_known(tmp_path: Path) -> None:
    odd: tuple[bytes, ...] = (b"", b"not JSON", b"[1,2]", b"7", b'"text"', b"\xff\xfe", b'{"type":"later"}', b"{}")
    path = made(tmp_path / "a.jsonl", PI_HEAD, *odd, b"[" * 100_000, pi_answer("b1", 1))
    batch, _ = pi.read(path, "")
    assert len(batch.events) == 1
    assert batch.rejected == 3
    assert batch.reasons


def test_a_last_line_without_its_end_waits(tmp_path: Path) -> None:
    path = made(tmp_path / "a.jsonl", PI_HEAD, pi_answer("b1", 1))
    source = path.read_bytes()
    path.write_bytes(source[:-1])
    batch, position = pi.read(path, "")
    assert not batch.events
    path.write_bytes(source)
    batch, position = pi.read(path, position)
    assert len(batch.events) == 1
    assert pi.read(path, position)[0].digest == ""


@pytest.mark.parametrize("lines_before", [1, 20])
def test_a_rewritten_file_is_read_again(tmp_path: Path, lines_before: int) -> None:
    """Even one so short that not all of its beginning was known."""
    path = made(tmp_path / "a.jsonl", PI_HEAD, *(pi_answer(f"b{n}", n) for n in range(lines_before)))
    position = pi.read(path, "")[1]
    made(path, {**PI_HEAD, "id": "s-2"}, *(pi_answer(f"c{n}", n) for n in range(lines_before + 1)))
    batch, _ = pi.read(path, position)
    assert len(batch.events) == lines_before + 1
    assert {e.meaning.session_id for e in batch.events if e.meaning} == {"s-2"}


def test_a_truncated_file_is_read_again(tmp_path: Path) -> None:
    path = made(tmp_path / "a.jsonl", PI_HEAD, *(pi_answer(f"b{n}", n) for n in range(5)))
    position = pi.read(path, "")[1]
    made(path, PI_HEAD, pi_answer("b0", 0))
    assert len(pi.read(path, position)[0].events) == 1


def test_a_position_of_another_shape_starts_anew(tmp_path: Path) -> None:
    path = made(tmp_path / "a.jsonl", PI_HEAD, pi_answer("b1", 1))
    assert len(pi.read(path, '{"offset":"far"}')[0].events) == 1
    assert len(pi.read(path, "garbage")[0].events) == 1


def test_two_pieces_alike_are_two(tmp_path: Path) -> None:
    """The same line twice in one file is no re-send of the first."""
    path = made(tmp_path / "a.jsonl", pi_answer("b1", 1))
    first, position = pi.read(path, "")
    made(path, pi_answer("b1", 1), pi_answer("b1", 1))
    second, _ = pi.read(path, position)
    assert first.digest and second.digest and first.digest != second.digest


def test_a_file_that_is_not_there_is_rejected(tmp_path: Path) -> None:
    with pytest.raises(Rejected):
        pi.read(tmp_path / "none.jsonl", "")


def test_a_fork_of_pi_counts_its_history_once(tmp_path: Path) -> None:
    """Even what has no response id: failed attempts, and compaction."""
    parent_id = "01a1fb6a-5343-7481-9aa4-0689015af06d"
    head = {**PI_HEAD, "id": parent_id}
    failed = pi_answer("b2", 2, stopReason="error", errorMessage="429 slow down", usage={"input": 0, "output": 0})
    usage = {"input": 7, "output": 3}
    summary = {"type": "compaction", "id": "b3", "timestamp": "2026-11-20T10:00:03.000Z", "usage": usage}
    history = [pi_answer("b1", 1, responseId="chatcmpl-1"), failed, summary]
    parent = made(tmp_path / f"x_{parent_id}.jsonl", head, *history)
    fork_head = {
        **PI_HEAD,
        "id": "01a1fb6a-6bf8-7481-9aa4-068b2a1c2bec",
        "timestamp": "2026-11-20T11:00:00.000Z",
        "parentSession": f"/home/dev/sessions/2026-11-20T10-00-00-000Z_{parent_id}.jsonl",
    }
    new = {**pi_answer("b9", 9, responseId="chatcmpl-1"), "timestamp": "2026-11-20T11:00:09.000Z"}
    fork = made(tmp_path / "y.jsonl", fork_head, *history, new)
    assert calls(pi.read(parent, "")[0]) == 3
    assert calls(pi.read(parent, "")[0], pi.read(fork, "")[0]) == 4
    assert calls(pi.read(fork, "")[0]) == 4


def claude_answer(message_id: str, request_id: str, output: int, **more: Any) -> dict[str, Any]:
    """A line of Claude Code with an answer in it."""
    usage = {
        "input_tokens": 5,
        "output_tokens": output,
        "cache_read_input_tokens": 900,
        "cache_creation_input_tokens": 100,
        "cache_creation": {"ephemeral_5m_input_tokens": 40, "ephemeral_1h_input_tokens": 60},
    }
    message = {"id": message_id, "model": "claude-opus-4-8", "stop_reason": None, "usage": usage}
    line = {"type": "assistant", "sessionId": "S", "timestamp": "2026-11-20T10:00:00.000Z", "requestId": request_id}
    return {**line, "message": message, **more}


def test_claude_code_counts_an_answer_once(tmp_path: Path) -> None:
    """One line for each block, of which the last knows the output; copied into a fork and into a sub-agent's file."""
    message, request = "msg_01RnqDneN5jv93Vgrn7YCL5f", "req_011C8PFjf4FtBWCQmdTTSkB8"
    first, last = claude_answer(message, request, 1), claude_answer(message, request, 200)
    main = made(tmp_path / "S.jsonl", first, last)
    fork = made(tmp_path / "F.jsonl", {**last, "sessionId": "F"})
    side = made(tmp_path / "agent-1.jsonl", {**last, "isSidechain": True, "agentId": "1", "requestId": "req_9"})
    reports = reports_of(*(claude_code.read(path, "")[0] for path in (main, fork, side)))
    (call,) = calls_of(reports, {r.report_id: r.meaning.session_id for r in reports}, {})
    usage = call.meaning.usage
    assert usage is not None
    assert (usage.input_total, usage.cache_write_1h, usage.output) == (1005, 60, 200)


def test_claude_code_says_who_answered_and_what_old_versions_charged(tmp_path: Path) -> None:
    path = made(
        tmp_path / "S.jsonl",
        claude_answer("msg_bdrk_01", "req_1", 1),
        claude_answer("msg_vrtx_01", "req_2", 1, costUSD=0.0125),
        claude_answer("msg_01", "req_3", 1, isApiErrorMessage=True),
    )
    events = claude_code.read(path, "")[0].events
    told = [(e.meaning.provider, e.meaning.cost_nanousd, e.meaning.is_call) for e in events if e.meaning]
    assert told == [("aws.bedrock", None, True), ("gcp.vertex_ai", 12_500_000, True), ("", None, False)]


def test_a_sub_agent_of_claude_code_is_no_prompt(tmp_path: Path) -> None:
    folder = CAPTURES / "claude-code-subagent" / "transcript"
    (path,) = folder.rglob("agent-*.jsonl")
    events = claude_code.read(path, "")[0].events
    assert {e.meaning.session_id for e in events if e.meaning} == {"0875cf19-cb38-4331-a970-8ac9fe07a39f"}
    assert {e.meaning.subagent for e in events if e.meaning} == {"general-purpose"}
    started_by = {e.meaning.parent_tool_call_id for e in events if e.meaning}
    assert started_by == {"toolu_01GSafzhKuBP6meb7AM9Usdq"}
    assert PROMPT not in {e.meaning.role for e in events if e.meaning}
    assert {MODEL_CALL, TOOL_RUN} <= {e.meaning.role for e in events if e.meaning}


@pytest.mark.parametrize(
    "first",
    [
        {"type": "summary", "summary": "Fixed it", "leafUuid": "u-1"},
        {"type": "file-history-snapshot", "messageId": "m-1", "snapshot": {}},
        {"type": "user", "sessionId": "S"},
    ],
)
def test_claude_code_is_known_by_any_first_line(tmp_path: Path, first: dict[str, Any]) -> None:
    found = registry.files_of(made(tmp_path / "a.jsonl", first))
    assert found is not None
    assert found.read is claude_code.read


def codex_line(type_: str, second: float, **payload: Any) -> dict[str, Any]:
    """A line of a Codex rollout."""
    return {"timestamp": f"2026-11-20T10:00:{second:06.3f}Z", "type": type_, "payload": payload}


def codex_count(second: float, total: int, **last: Any) -> dict[str, Any]:
    """A token count: the running total, and the last response where it says so."""
    info = {"total_token_usage": {"input_tokens": total, "output_tokens": total // 10}, **last}
    return codex_line("event_msg", second, type="token_count", info=info)


def test_codex_totals(tmp_path: Path) -> None:
    """Older files: the last response where it stands, else the growth of the total; a repeated total is nothing."""
    last = {"last_token_usage": {"input_tokens": 1000, "output_tokens": 100}}
    path = made(
        tmp_path / "rollout.jsonl",
        codex_line("session_meta", 0, id="t-1", cwd="/w/shop", source="cli"),
        codex_line("turn_context", 1, model="gpt-5.3-codex", turn_id="u-1"),
        codex_line("event_msg", 2, type="token_count", info=None),
        codex_count(3, 1000, **last),
        codex_count(4, 1000, **last),
        codex_count(5, 1700),
        codex_count(6, 300),
    )
    events = codex.read(path, "")[0].events
    told = [e.meaning.usage.input_total for e in events if e.meaning and e.meaning.usage]
    assert told == [1000, 700, 0]


@pytest.mark.parametrize("begin", [{"source": {"subagent": {}}}, {"source": "cli", "forked_from_id": "t-0"}])
def test_codex_leaves_out_what_a_file_repeats_of_its_origin(tmp_path: Path, begin: dict[str, Any]) -> None:
    last = {"last_token_usage": {"input_tokens": 1000, "output_tokens": 100}}
    path = made(
        tmp_path / "rollout.jsonl",
        codex_line("session_meta", 0, id="t-2", **begin),
        codex_count(0.1, 5000, **last),
        codex_count(0.2, 6000, **last),
        codex_count(9, 7000, **last),
    )
    assert len(codex.read(path, "")[0].events) == 1


ANYTHING: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=20)
    | st.sampled_from(
        ["", "9" * 400, "2026-13-45T99:99:99Z", "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00"]
    ),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=5,
)


def places(value: Any, way: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The ways to every value inside a JSON value."""
    inner: list[tuple[Any, Any]] = []
    if isinstance(value, dict):
        inner = list(value.items())
    elif isinstance(value, list):
        inner = list(enumerate(value))
    return [found for key, one in inner for found in ((*way, key), *places(one, (*way, key)))]


def replaced(value: Any, way: tuple[Any, ...], new: Any) -> None:
    """Put another value in a place."""
    for key in way[:-1]:
        value = value[key]
    value[way[-1]] = new


SHORT = {path: [line for line in path.read_bytes().splitlines() if len(line) < 4000] for path in SOME}


@settings(max_examples=250)
@given(st.data())
def test_values_of_any_type_anywhere(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    """Recorded lines with values replaced by anything: events or nothing, never an exception, no absurd amount."""
    path = data.draw(st.sampled_from(SOME))
    rng = random.Random(data.draw(st.integers(0, 2**32)))
    rows = [json.loads(line) for line in rng.sample(SHORT[path], min(8, len(SHORT[path])))]
    for row in rows:
        ways = places(row)
        for _ in range(data.draw(st.integers(0, 3))):
            way = rng.choice(ways)
            new = data.draw(ANYTHING)
            try:
                replaced(row, way, new)
            except (KeyError, IndexError, TypeError):
                continue  # an earlier replacement took the place away
    file = made(tmp_path_factory.mktemp("fuzz") / "f.jsonl", *rows)
    batch, position = reader_of(path)(file, "")
    reader_of(path)(file, position)
    registry.files_of(file)
    for event in batch.events:
        assert event.meaning is not None
        msgspec.convert(msgspec.to_builtins(event.meaning), type(event.meaning), strict=True)
        amounts = [event.meaning.duration_ns, event.meaning.cost_nanousd, event.time_ns]
        amounts += msgspec.structs.astuple(event.meaning.usage) if event.meaning.usage else ()
        assert all(amount is None or 0 <= amount < 2**63 for amount in amounts)
    reports_of(batch)


@settings(max_examples=100)
@given(st.binary(max_size=300), st.sampled_from([pi.read, codex.read, claude_code.read]))
def test_any_bytes(tmp_path_factory: pytest.TempPathFactory, noise: bytes, read: Reader) -> None:
    path = tmp_path_factory.mktemp("noise") / "f.jsonl"
    path.write_bytes(noise + b"\n")
    batch, position = read(path, "")
    assert isinstance(batch.events, list)
    assert read(path, position)[1] == position


@given(ANYTHING)
def test_time_of_anything(value: Any) -> None:
    assert 0 <= lines.time_ns(value) < 2**63
