"""The commands as people and programs run them, on recorded sessions of real agents."""

from __future__ import annotations

import csv
import io
import json
import os
import pty
import shlex
import shutil
import struct
import subprocess
import sys
import termios
from collections.abc import Callable
from fcntl import ioctl
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from recordings import CAPTURES, MANIFEST
from tachograph.cli import COMMANDS, build_parser, main
from tachograph.receivers import otlp

SETS = ("claude-code-content", "codex-errors", "py-pydantic-ai")
CLAUDE_SESSION = "692b79b9-502e-4540-825f-cc677ce03b1a"

TOKENS = ("input", "output")

Run = Callable[..., str]


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with three recordings replayed into it, only to be read."""
    home = tmp_path_factory.mktemp("filled")
    assert main(["replay", *(str(CAPTURES / name) for name in SETS), "--home", str(home)]) == 0
    return home


@pytest.fixture
def run(filled: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a command on that home; returns its stdout, checks its exit code and that stderr is quiet."""

    def run_(*words: str, code: int = 0) -> str:
        capsys.readouterr()
        assert main([*words, "--home", str(filled)]) == code
        written = capsys.readouterr()
        assert code == 2 or not written.err
        return written.err if code == 2 else written.out

    return run_


def answer(run: Run, *words: str, code: int = 0) -> Any:
    return json.loads(run(*words, "--json", code=code))


# -- otlp ------------------------------------------------------------------------------------------------------------


def test_otlp_says_each_call_once_with_the_tokens_of_the_ledger(run: Run) -> None:
    totals = answer(run, "usage")["totals"]
    spans = otlp.decode("traces", run("otlp", "traces").encode(), "application/json").spans
    assert len(spans) == totals["calls"] + totals["failed_calls"]
    told = sum(span.attributes.get("gen_ai.usage.input_tokens", 0) for span in spans)
    assert told == totals["input_tokens"]
    cost = sum(span.attributes.get("tachograph.cost.usd", 0) for span in spans)
    assert cost == pytest.approx(totals["cost_usd"])
    assert sum(span.status_code == 2 for span in spans) == totals["failed_calls"]
    assert {span.source.resource["service.name"] for span in spans} >= {"claude-code", "codex"}
    points = otlp.decode("metrics", run("otlp", "metrics").encode(), "application/json").points
    used = [point for point in points if point.name == "gen_ai.client.token.usage"]
    by_type = {kind: sum(p.sum or 0 for p in used if p.attributes["gen_ai.token.type"] == kind) for kind in TOKENS}
    assert by_type == {kind: totals[f"{kind}_tokens"] for kind in TOKENS}
    for point in points:
        assert point.count == sum(point.buckets["counts"]) and point.temporality == 2 if point.buckets else False


def test_otlp_that_comes_back_is_the_same_calls(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A loop, by a collector that sends everything back, must not make the calls anew."""
    body = run("otlp", "traces").encode()
    home = ["--home", str(tmp_path / "home")]
    (tmp_path / "001-traces.bin").write_bytes(body)
    (tmp_path / "001-traces.headers.json").write_text('{"content-type": "application/json"}')
    assert main(["replay", *(str(CAPTURES / name) for name in SETS), str(tmp_path), *home]) == 0
    capsys.readouterr()
    assert main(["usage", "--json", *home]) == 0
    again = json.loads(capsys.readouterr().out)["totals"]
    assert again == answer(run, "usage")["totals"]


# -- usage -----------------------------------------------------------------------------------------------------------


def test_otlp_of_a_trace_is_its_spans_with_their_texts(run: Run) -> None:
    asked = "SELECT trace_id, count(DISTINCT span_id) AS n FROM spans GROUP BY trace_id ORDER BY n DESC LIMIT 1"
    (most,) = answer(run, "sql", asked)
    lines = run("otlp", "traces", "--trace", most["trace_id"]).splitlines()
    spans = [span for line in lines for span in otlp.decode("traces", line.encode(), "application/json").spans]
    assert len(spans) == most["n"] and {span.trace_id for span in spans} == {most["trace_id"]}


@pytest.mark.parametrize("words", [["metrics", "--trace", "a"], ["traces", "--trace", "0" * 32]])
def test_otlp_of_no_trace(run: Run, words: list[str]) -> None:
    run("otlp", *words, code=2)


def test_models_are_those_of_usage(run: Run) -> None:
    told = answer(run, "models")["models"]
    rows = answer(run, "usage", "--by", "model")["rows"]
    assert {row["model"]: row["calls"] for row in told} == {row["model"]: row["calls"] for row in rows}
    assert any(row["p95_ns"] for row in told) and all((row["p50_ns"] or 0) <= (row["p99_ns"] or 0) for row in told)
    table = run("models").splitlines()
    assert table[0].split()[:2] == ["model", "calls"] and len(table) > len(told)
    assert answer(run, "models", "--where", "agent:codex", "--since", "2020-01-01", "--until", "2020-01-02") == {
        "models": [],
        "fallbacks": [],
    }


def test_usage_is_the_truth(run: Run) -> None:
    totals = answer(run, "usage")["totals"]
    truth = [MANIFEST[name]["truth"] for name in SETS]
    assert totals["calls"] == sum(one["llm_calls_ok"] for one in truth)
    assert totals["failed_calls"] == sum(one["llm_calls_failed"] for one in truth)
    assert totals["input_tokens"] == sum(one["input_tokens_incl_cache"] for one in truth)
    assert set(totals) >= {
        "calls",
        "failed_calls",
        "partial",
        "input_tokens",
        "cache_read_tokens",
        "cache_write_tokens",
        "output_tokens",
        "reasoning_tokens",
        "cost_usd",
        "unpriced_calls",
    }


def test_usage_of_one_agent(run: Run) -> None:
    told = answer(run, "usage", "--by", "agent,day", "--where", "agent=claude-code", "--timezone", "UTC")
    assert told["by"] == ["agent", "day"]
    (row,) = told["rows"]
    assert (row["agent"], row["day"], row["calls"]) == ("claude-code", "2026-11-21", 5)
    assert row["input_tokens"] == MANIFEST["claude-code-content"]["truth"]["input_tokens_incl_cache"]


def test_usage_in_a_period_without_calls(run: Run) -> None:
    assert answer(run, "usage", "--until", "2020-01-01")["totals"]["calls"] == 0
    assert "no model calls" in run("usage", "--until", "2020-01-01")


def test_usage_as_a_table(run: Run) -> None:
    lines = run("usage", "--by", "model").splitlines()
    assert lines[0].split()[:3] == ["model", "calls", "failed"]
    assert any(line.startswith("total") and "117,541" not in line for line in lines)
    assert any(line.startswith("claude-sonnet-4-5") and "117,541" in line for line in lines)
    assert any(line.startswith("cost: ") for line in lines)


def test_limit_keeps_the_totals(run: Run) -> None:
    told = answer(run, "usage", "--by", "model", "--limit", "1")
    assert len(told["rows"]) == 1
    assert told["totals"]["calls"] > told["rows"][0]["calls"]


# -- sessions, show, explain, search, tail, sql, doctor ----------------------------------------------------------------


def test_sessions(run: Run) -> None:
    found = answer(run, "sessions", "readme")["sessions"]
    assert CLAUDE_SESSION in [row["session_id"] for row in found]
    (row,) = answer(run, "sessions", "--where", "agent=claude-code")["sessions"]
    assert (row["calls"], row["tool_runs"]) == (5, 5)
    assert row["cost_usd"] == row["cost_nanousd"] / 1e9
    assert CLAUDE_SESSION in run("sessions")
    assert "no sessions" in run("sessions", "nobody ever said this")


def test_sessions_by_cost(run: Run) -> None:
    costs = [row["cost_nanousd"] or 0 for row in answer(run, "sessions", "--sort", "cost")["sessions"]]
    assert costs == sorted(costs, reverse=True)


def test_show_draws_the_tree(run: Run) -> None:
    shown = run("show", CLAUDE_SESSION[:6])
    assert shown.startswith(f"session {CLAUDE_SESSION}")
    assert "└ prompt “" in shown
    assert shown.count("call claude-sonnet-4-5-20250929") == 5
    assert "tool Bash" in shown
    assert "5 calls, 5 tools" in shown
    assert "Ran out" not in shown


def test_show_as_json_is_flat_and_whole(run: Run) -> None:
    told = answer(run, "show", CLAUDE_SESSION)
    assert told["session"]["session_id"] == CLAUDE_SESSION
    calls = [node for node in told["tree"]["nodes"] if node["call_id"]]
    assert len(calls) == 5
    assert sum(node["input_tokens"] for node in calls) == told["tree"]["totals"]["input_tokens"]


def test_show_of_a_trace_and_with_less_depth(run: Run) -> None:
    (trace,) = answer(run, "sql", f"select distinct trace_id from trace_sessions where session_id = '{CLAUDE_SESSION}'")
    shown = run("show", trace["trace_id"])
    assert shown.startswith("trace ")
    assert len(run("show", trace["trace_id"], "--depth", "1").splitlines()) < len(shown.splitlines())


def test_show_of_nothing(run: Run) -> None:
    assert "got an id that nothing has" in run("show", "nothing", code=2)


def test_explain_says_where_numbers_come_from(run: Run) -> None:
    sql = "select call_id from calls where agent = 'claude-code' order by start_ns limit 1"
    call_id = answer(run, "sql", sql)[0]["call_id"]
    told = answer(run, "explain", call_id)
    assert {report["origin"] for report in told["reports"]} == {"span", "log", "transcript"}
    assert [shared["id"] for shared in told["shared"]]
    text = run("explain", call_id)
    assert f"call {call_id}" in text
    assert "the provider's request id" in text
    assert "input_uncached_tokens" in text
    assert "price" in text


def test_search(run: Run) -> None:
    hits = answer(run, "search", "readme.md", "--limit", "3")["hits"]
    assert len(hits) == 3
    assert all("readme.md" in hit["excerpt"].lower() for hit in hits)
    assert "not found" in run("search", "nobody ever said this")


def test_tail_of_what_is_there(run: Run) -> None:
    lines = [json.loads(line) for line in run("tail", "--no-follow", "--lines", "7", "--json").splitlines()]
    assert len(lines) == 7
    assert {line["kind"] for line in lines} == {"call", "tool"}
    assert [line["start_ns"] for line in lines] == sorted(line["start_ns"] for line in lines)
    assert len(run("tail", "--no-follow", "--lines", "2").splitlines()) == 2
    assert run("tail", "--no-follow", "--lines", "0") == ""


def test_tail_needs_a_server_to_follow(run: Run) -> None:
    assert "tachograph: try: tachograph up" in run("tail", code=2)


def test_sql_in_three_forms(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    query = "select agent, count(*) as n from calls group by all order by agent"
    rows = answer(run, "sql", query)
    assert [row["agent"] for row in rows] == sorted(row["agent"] for row in rows)
    read = list(csv.reader(io.StringIO(run("sql", "--csv", query))))
    assert read[0] == ["agent", "n"]
    assert [row[0] for row in read[1:]] == [row["agent"] for row in rows]
    assert run("sql", query).splitlines()[0].split() == ["agent", "n"]


def test_sql_says_that_there_is_more(filled: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sql", "select * from spans", "--limit", "2", "--json", "--home", str(filled)]) == 0
    written = capsys.readouterr()
    assert len(json.loads(written.out)) == 2
    assert "the first 2 rows" in written.err


@pytest.mark.parametrize("query", ["selec 1", "select nothing from calls", "drop table calls", "  "])
def test_sql_that_is_none(run: Run, query: str) -> None:
    assert run("sql", query, code=2).startswith("tachograph: error: ")


def test_doctor_names_who_sends_and_what_is_missing(run: Run) -> None:
    told = answer(run, "doctor", code=1)
    services = {arrival["service"]: arrival for arrival in told["arrivals"]}
    assert set(services["claude-code"]["signals"]) == {"traces", "logs", "metrics", "transcripts"}
    assert told["server"] is None
    assert "codex-traces" in [finding["rule"] for finding in told["findings"]]
    text = run("doctor", "--connect", code=1)
    assert "trace_exporter" in text
    assert "claude-code: tachograph connect claude-code" in text
    assert '"CLAUDE_CODE_ENHANCED_TELEMETRY_BETA": "1"' in text


def test_doctor_on_an_empty_home(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor"]) == 0
    assert "nothing has arrived yet" in capsys.readouterr().out


def test_doctor_tells_the_addresses_that_are_set(
    home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TACHOGRAPH_OTLP_HTTP", "5555")
    assert main(["doctor"]) == 0
    assert "http://127.0.0.1:5555" in capsys.readouterr().out


# -- replay, backup, restore -------------------------------------------------------------------------------------------


def test_replaying_twice_changes_nothing(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = str(CAPTURES / "claude-code-content")
    assert main(["replay", folder]) == 0
    assert main(["usage", "--json"]) == 0
    first = capsys.readouterr().out.partition("\n")[2]
    assert main(["replay", folder, folder, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["files"] == {"traces": 2, "logs": 2, "metrics": 2, "transcripts": 2}
    assert main(["usage", "--json"]) == 0
    assert capsys.readouterr().out == first


def test_replay_of_nothing(home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["replay", str(tmp_path / "nothing")]) == 2
    assert "no such folder" in capsys.readouterr().err
    (tmp_path / "empty").mkdir()
    assert main(["replay", str(tmp_path / "empty")]) == 2
    assert "without recordings" in capsys.readouterr().err


def test_replay_goes_on_after_a_broken_file(home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "some"
    shutil.copytree(CAPTURES / "py-pydantic-ai", folder)
    (folder / "000-traces.bin").write_bytes(b"\xff\xff\xff")
    assert main(["replay", str(folder), "--json"]) == 1
    told = json.loads(capsys.readouterr().out)
    assert list(told["rejected"]) == [str(folder / "000-traces.bin")]
    assert main(["usage", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["totals"]["calls"] == 3


def test_a_backup_can_be_restored(
    filled: Path, home: Path, tmp_path: Path, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    before = run("usage", "--json")
    target = tmp_path / "backup"
    assert "to bring it back" in run("backup", str(target))
    assert "is there already" in run("backup", str(target), code=2)
    assert main(["restore", str(target)]) == 0
    capsys.readouterr()
    assert main(["usage", "--json"]) == 0
    assert capsys.readouterr().out == before
    assert main(["restore", str(target)]) == 2
    assert main(["restore", str(tmp_path / "nothing")]) == 2


# -- what holds for every command --------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", COMMANDS)
def test_help_ends_with_two_examples(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command, "--help"]) == 0
    last = capsys.readouterr().out.rstrip().splitlines()[-3:]
    assert last[0] == "examples:"
    assert all(line.strip().startswith(f"tachograph {command}") for line in last[1:])


# Servers, and what becomes another program: they run in tests of their own.
APART = ("up", "relay", "run")


@pytest.mark.parametrize("command", [name for name in COMMANDS if name not in APART])
def test_examples_run(
    command: str, filled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    for name, folder in (("codex", "codex-errors"), ("claude-code", "claude-code-content"), ("pi", "pi")):
        shutil.copytree(CAPTURES / folder, tmp_path / "recordings" / name)
    reads = command in ("usage", "models", "sessions", "show", "explain", "search", "sql", "otlp", "doctor", "tail")
    reads = reads or command in ("backup", "export", "forward")
    if command == "forward":
        filled = shutil.copytree(filled, tmp_path / "forwarding")
        (filled / "tachograph.toml").write_text('[forwarders.acme]\nkind = "otlp"\nendpoint = "http://127.0.0.1:9"\n')
    if command == "restore":
        for target in ("tachograph-backup", "tachograph-2026-11-21"):
            assert main(["backup", target, "--home", str(filled)]) == 0
    for example in import_module(f"tachograph.cli.{command}").EXAMPLES:
        words = shlex.split(example.partition(" > ")[0])[1:]
        arguments = build_parser().parse_args(words)
        if words == ["tail"]:
            continue  # follows a server for ever
        place = ["--home", str(filled)] if reads and arguments.home is None else []
        assert main([*words, *place]) == (1 if command == "doctor" else 0)
    assert not capsys.readouterr().err


@pytest.mark.parametrize("command", APART)
def test_the_other_examples_parse(command: str) -> None:
    for example in import_module(f"tachograph.cli.{command}").EXAMPLES:
        assert build_parser().parse_args(shlex.split(example)[1:]).command == command


@pytest.mark.parametrize(
    "words",
    [
        ["usge"],
        ["usage", "--bye", "day"],
        ["usage", "--by", "colour"],
        ["usage", "--since", "whenever"],
        ["usage", "--since", "today", "--until", "yesterday"],
        ["usage", "--timezone", "Mars/Olympus"],
        ["usage", "--where", "agent:"],
        ["usage", "--where", '"no end'],
        ["usage", "--where", "output_tokens>many"],
        ["usage", "--where", "colour=red"],
        ["usage", "--limit", "-1"],
        ["sessions", "--limit", "0"],
        ["search", "a text", "--limit", "²"],
        ["explain", "nothing"],
        ["up", "--content", "some"],
    ],
)
def test_what_the_user_got_wrong_is_said_in_a_line(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 2
    written = capsys.readouterr()
    assert written.out == ""
    lines = written.err.splitlines()
    assert lines[0].startswith("tachograph: error: ")
    assert all(line.startswith(("tachograph: error: ", "tachograph: try: ")) for line in lines)


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["usge"], "tachograph usage"),
        (["usage", "--sinc", "7d"], "tachograph usage --since"),
        (["forward", "statu"], "tachograph forward status"),
        (["otlp", "trace"], "tachograph otlp traces"),
        (["usage", "--colour"], "tachograph usage --help"),
        (["nonsense"], "tachograph --help"),
    ],
)
def test_a_wrong_word_gets_the_nearest_right_one(
    words: list[str], hint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 2
    assert capsys.readouterr().err.splitlines()[1] == f"tachograph: try: {hint}"


def test_no_command_gets_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert "usage: tachograph" in capsys.readouterr().err
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("tachograph ")


def test_help_imports_nothing_heavy() -> None:
    program = (
        "import sys; from tachograph.cli import main; main(['--help']);"
        "heavy = {'duckdb', 'rich', 'grpc', 'starlette', 'msgspec', 'google.protobuf'};"
        "print(*heavy & set(sys.modules), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert done.stderr.split() == []


def test_a_reader_that_leaves_early_is_no_error(filled: Path) -> None:
    words = [sys.executable, "-m", "tachograph", "sql", "select * from spans, series", "--limit", "100000"]
    environment = os.environ | {"TACHOGRAPH_HOME": str(filled)}
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait() == 0


@pytest.mark.parametrize("columns", [40, 60, 80, 120])
@pytest.mark.parametrize("words", [["usage", "--by", "day,model"], ["sessions"], ["show", "last"], ["explain", "last"]])
def test_tables_fit_the_terminal(filled: Path, columns: int, words: list[str]) -> None:
    text = _on_terminal(filled, columns, words, {"NO_COLOR": "1", "TERM": "xterm"})
    assert max(len(line) for line in text.splitlines()) <= columns
    assert "\x1b" not in text


@pytest.mark.parametrize("columns", [30, 80])
def test_what_is_copied_is_whole_on_every_terminal(filled: Path, columns: int) -> None:
    plain = {"NO_COLOR": "1", "TERM": "xterm"}
    assert "export OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT=SPAN_ONLY\n" in _on_terminal(
        filled, columns, ["env"], plain
    )
    told = _on_terminal(filled, columns, ["usage"], plain)
    assert "…" not in told
    assert "computed from list prices" in " ".join(told.split())


def test_models_are_told_apart_on_a_narrow_terminal(filled: Path) -> None:
    told = _on_terminal(filled, 60, ["usage", "--by", "day,model"], {"NO_COLOR": "1", "TERM": "xterm"})
    names = {line.split()[1] for line in told.splitlines() if line.startswith("20")}
    assert {name[:17] for name in names} >= {"claude-sonnet-4-5", "gpt-4o-mini", "gpt-4o-mini-2024-"}


def test_an_id_is_found_as_a_narrow_terminal_shows_it(run: Run) -> None:
    assert run("show", f"{CLAUDE_SESSION[:12]}…") == run("show", CLAUDE_SESSION)


def test_colour_is_left_out_where_it_is_not_wanted(filled: Path) -> None:
    assert "\x1b[" in _on_terminal(filled, 80, ["usage"], {"TERM": "xterm-256color"})
    assert "\x1b" not in _on_terminal(filled, 80, ["usage"], {"TERM": "dumb"})


def _on_terminal(home: Path, columns: int, words: list[str], variables: dict[str, str]) -> str:
    """What a command writes to a terminal of that width."""
    ours, theirs = pty.openpty()
    ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
    plain = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES", "NO_COLOR", "TERM")}
    environment = plain | {"TACHOGRAPH_HOME": str(home), "PYTHONIOENCODING": "utf-8"} | variables
    program = [sys.executable, "-m", "tachograph", *words]
    with subprocess.Popen(program, stdin=theirs, stdout=theirs, stderr=subprocess.PIPE, env=environment) as process:
        os.close(theirs)
        written = b""
        while True:
            try:
                part = os.read(ours, 65536)
            except OSError:  # Linux says so when the other side has closed
                break
            if not part:
                break
            written += part
        assert process.stderr is not None
        assert process.stderr.read() == b""
        assert process.wait() == 0
    os.close(ours)
    return written.decode().replace("\r\n", "\n")
