"""Real Pi with the extension, against a provider that keeps what it billed: the spool, and the ledger made of it.

Pi 0.87 runs wherever npm is; the versions before and after it run in `make test-clients`.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import pi_runs
from fake_llm import FakeLlm
from pi_runs import Json, Pi, Rpc
from record_pi import truth
from recordings import prepared
from tachograph import ledger, questions, registry
from tachograph.pricing import Prices
from tachograph.scan import Match, Scan
from tachograph.store.contract import Store
from tachograph.store.duckdb import open_store

NOW_NS = 1_795_300_000_000_000_000
CANARY = "CANARY-7f3a"
VERSIONS = [
    pytest.param("0.87.1"),
    pytest.param("1.5.2", marks=pytest.mark.clients),
    pytest.param("0.73.1", marks=pytest.mark.clients),
]

every_version = pytest.mark.parametrize("version", VERSIONS)


@pytest.fixture
def llm() -> Iterator[FakeLlm]:
    """A provider of its own for each test."""
    with FakeLlm(pi_runs.SCENARIO) as server:
        yield server


@pytest.fixture
def pi(version: str, tmp_path: Path, llm: FakeLlm) -> Pi:
    """Pi in a home of its own."""
    return Pi(version, tmp_path / "pi", llm)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """An empty store."""
    opened = open_store(tmp_path / "store", lambda: NOW_NS)
    yield opened
    opened.close()


def read_into(store: Store, files: list[Path]) -> None:
    """What files of agents tell, down the road and settled."""
    for path in files:
        kind = registry.files_of(path)
        assert kind is not None, path
        position, batch_count = "", 0
        while True:
            batch, after = kind.read(path, position)
            if after == position:
                break
            store.commit([prepared(batch)])
            position, batch_count = after, batch_count + 1
        assert batch_count, path
    prices = Prices(None)
    while ledger.settle(store, prices.price):
        pass


def told(store: Store) -> tuple[int, int, int]:
    """Calls that succeeded, calls that failed, input tokens."""
    totals = questions.usage(store, "agent")["totals"]
    return totals["calls"], totals["failed_calls"], totals["input_tokens"] or 0


def billed(llm: FakeLlm) -> tuple[int, int, int]:
    """The same as the provider has it. A compaction may take two requests, of which Pi tells the sum."""
    known = truth(llm)
    joined = max(0, len(summaries(llm)) - 1)
    return known["llm_calls_ok"] - joined, known["llm_calls_failed"], known["input_tokens_incl_cache"]


def summaries(llm: FakeLlm) -> list[Json]:
    """Requests of compaction: no tools are offered in them."""
    return [record for record in llm.billed if not record["offered"]]


def events(lines: list[Json], *names: str) -> list[Json]:
    """The lines of these events."""
    return [line for line in lines if line["e"] in names]


def tokens(llm: FakeLlm) -> list[int]:
    """Input, cache read, cache write, output and reasoning of all calls that went well."""
    return [
        sum(column) for column in zip(*(r["usage"].values() for r in llm.billed if r["status"] == 200), strict=True)
    ]


def spooled_tokens(lines: list[Json]) -> list[int]:
    """The same as the spool has them."""
    used = [line["usage"] for line in events(lines, "message_end", "compact_end") if line.get("stop") not in _BROKEN]
    names = ("input", "cacheRead", "cacheWrite", "output", "reasoning")
    return [sum(usage.get(name, 0) for usage in used) for name in names]


_BROKEN = ("error", "aborted")


# -- what happened --------------------------------------------------------------------------------------------------


@every_version
def test_tools_and_retries(pi: Pi, llm: FakeLlm, version: str, store: Store) -> None:
    pi_runs.print_run(pi)
    lines = pi.spool()
    opened = lines[0]
    assert (opened["e"], opened["v"], opened["part"], opened["pi"]) == ("open", 1, 1, version)
    assert (opened["mode"], opened["cwd"], opened["model"]["id"]) == ("print", str(pi.work), "fake-large")
    assert lines[-1]["e"] == "session_shutdown"
    assert [line["t"] for line in lines] == sorted(line["t"] for line in lines)
    assert len({line["s"] for line in lines}) == 1
    assert len(events(lines, "input")) == 5

    ends = events(lines, "message_end")
    answered = [r["response_id"] for r in llm.billed if r["status"] == 200]
    assert [line["responseId"] for line in ends if line["stop"] not in _BROKEN] == answered
    statuses = [line["status"] for line in events(lines, "http") if line["phase"] == "headers"]
    assert statuses == [200 if r["status"] == "dropped" else r["status"] for r in llm.billed]
    # A connection that is reset may take with it what was sent before: of a dropped answer Pi saw a piece, or none.
    whole, dropped = (sum(r["status"] == status for r in llm.billed) for status in (200, "dropped"))
    assert whole <= len(events(lines, "first")) <= whole + dropped
    if version != "0.73.1":  # its SDK repeats refused requests by itself, and it counts cache writes as input
        assert [line["error"][:3] for line in ends if line["stop"] == "error"][:3] == ["429", "503", "503"]
        assert spooled_tokens(lines) == tokens(llm)
    tools = events(lines, "tool_end")
    assert [(line["name"], line["isError"]) for line in tools if line["isError"]] == [
        ("bash", True),
        ("read", True),
        ("no_such_tool", True),
    ]
    assert {line["id"] for line in tools} == {line["id"] for line in events(lines, "tool_start")}
    entries = {line["id"] for line in map(json.loads, pi.sessions()[0].read_text().splitlines())}
    assert {line["entry"] for line in events(lines, "message_entry")} < entries
    assert len(events(lines, "message_entry")) == len(ends)

    read_into(store, pi.files())
    assert told(store) == billed(llm)
    read_into(store, [*pi.sessions(), *pi.files()])
    assert told(store) == billed(llm)


@every_version
def test_a_long_conversation_in_rpc_mode(pi: Pi, llm: FakeLlm, version: str, store: Store) -> None:
    pi_runs.rpc_run(pi, llm)
    lines = pi.spool()
    sessions = list(dict.fromkeys(line["s"] for line in lines))
    assert len(sessions) == 3
    started = [(line["s"], line["reason"]) for line in events(lines, "session_start")]
    assert list(dict.fromkeys(started)) == [
        (sessions[0], "startup"),
        (sessions[0], "reload"),
        (sessions[1], "fork"),
        (sessions[2], "new"),
        (sessions[0], "resume"),
    ]
    forked = next(line for line in events(lines, "session_start") if line["reason"] == "fork")
    assert sessions[0] in forked["parent_session"]
    chosen = [line["model"]["id"] for line in events(lines, "model_select")]
    assert [chosen[0], chosen[-1]] == ["fake-claude", "fake-large"]
    assert events(lines, "thinking_level_select")
    assert [line["stop"] for line in events(lines, "message_end")].count("aborted") == 2
    assert [line["exitCode"] for line in events(lines, "user_bash_end")] == [0]
    assert len(events(lines, "compact_start")) == len(events(lines, "compact_end")) == 1
    if version != "0.73.1":  # has no events for these, nor tells what compaction used
        assert [line.get("behavior") for line in events(lines, "input")][2:5] == [None, "steer", "followUp"]
        assert spooled_tokens(lines) == tokens(llm)
        named = events(lines, "session_info_changed")
        assert [line["name"] for line in named] == ["a long talk"]

    read_into(store, [*pi.sessions(), *pi.files()])
    calls, failed, given = billed(llm)
    if version == "0.73.1":
        given -= sum(sum(list(record["usage"].values())[:3]) for record in summaries(llm))
    assert told(store) == (calls, failed, given)


@every_version
def test_a_subagent_knows_where_it_comes_from(pi: Pi, llm: FakeLlm, store: Store) -> None:
    pi_runs.subagent_run(pi)
    lines = pi.spool()
    parent, child = events(lines, "open")
    delegated = next(line for line in events(lines, "tool_start") if line["name"] == "subagent")
    assert (
        child["parent"]
        == f"{parent['s']};{delegated['id']};{parent['t']:.3f}".rstrip("0").rstrip(".") + f";{parent['pid']}"
    )
    assert child["parent_alive"] is True
    assert (child["subagent"], child["mode"]) == ("scout", "json")
    assert "parent" not in parent
    ended = next(line for line in events(lines, "tool_end") if line["name"] == "subagent")
    assert [one["agent"] for one in ended["subagents"]] == ["scout"]
    assert "messages" not in json.dumps(ended["subagents"])
    assert all(start["s"] != child["s"] for start in events(lines, "tool_start") if start["name"] == "subagent")

    read_into(store, pi.files())
    assert told(store) == billed(llm)
    rows = store.scan(Scan("sessions", {"id": "session_id"}, (Match("agent", "=", "pi"),)))
    assert set(rows.data["id"]) == {parent["s"], child["s"]}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL], ids=["Ctrl-C", "kill -9"])
@every_version
def test_a_signal_loses_nothing(pi: Pi, llm: FakeLlm, number: int, store: Store) -> None:
    pi_runs.killed_run(pi, number)
    lines = pi.spool()
    assert lines[-1]["e"] == "tool_start"
    assert pi.files()[0].read_bytes().endswith(b"\n")
    read_into(store, pi.files())
    assert told(store) == billed(llm)
    assert told(store)[0] == 5


@every_version
def test_an_abort_by_the_rules(pi: Pi, llm: FakeLlm) -> None:
    """SIGTERM ends a running answer; the line that says so may be missing, all before it is there."""
    process = pi.start("-p", "ENDLESS please")
    assert process.stdin is not None
    process.stdin.close()
    pi.wait_for(lambda line: line["e"] == "first")
    process.send_signal(signal.SIGTERM)
    process.wait()
    for pipe in (process.stdout, process.stderr):
        assert pipe is not None
        pipe.close()
    assert pi.spool()[-1]["e"] == "session_shutdown"


# -- what is kept private -------------------------------------------------------------------------------------------


def script(pi: Pi) -> str:
    """A prompt whose every part holds the canary, answered and failed."""
    (pi.work / "secret.txt").write_text(CANARY, encoding="utf-8")
    steps: list[Json] = [
        {"thinking": f"{CANARY} thought", "text": f"{CANARY} said", "tools": [_bash(f"echo {CANARY}; false")]},
        {"tools": [{"name": "read", "input": {"path": "secret.txt"}}]},
        {"error": {"status": 400, "times": 1, "body": {"error": {"message": f"{CANARY} refused"}}}},
    ]
    return "SCRIPT:" + json.dumps(steps)


def _bash(command: str) -> Json:
    return {"name": "bash", "input": {"command": command}}


def spooled(pi: Pi) -> bytes:
    """All bytes of the spool."""
    return b"".join(file.read_bytes() for file in pi.files())


@every_version
def test_without_content_no_text_reaches_the_disk(pi: Pi) -> None:
    pi.environment["TACHOGRAPH_CONTENT"] = "none"
    pi.run("-p", script(pi))
    lines = pi.spool()
    assert CANARY.encode() not in spooled(pi)
    assert len(events(lines, "tool_end")) == 2
    assert [line.get("error") for line in events(lines, "message_end")][2] == "400"
    for line in lines:
        assert not {"text", "content", "args", "result", "system"} & set(line) or line["e"] == "open"
    assert lines[0]["content"] == "none"


@pytest.mark.parametrize(
    ("settings", "content"),
    [
        ('content = "none"\n', "none"),
        ("content = 'full' # all of it\n[server]\n", "full"),
        ('[other]\ncontent = "none"\n', "redacted"),
        ('content = "nothing"\n', "none"),
    ],
)
@pytest.mark.parametrize("version", VERSIONS[:1])
def test_the_settings_file_says_what_is_kept(pi: Pi, settings: str, content: str) -> None:
    pi.home.mkdir()
    (pi.home / "tachograph.toml").write_text(settings, encoding="utf-8")
    pi.run("-p", script(pi))
    assert pi.spool()[0]["content"] == content
    assert (CANARY.encode() in spooled(pi)) == (content != "none")


@pytest.mark.parametrize("version", VERSIONS[:1])
def test_only_the_user_may_read(pi: Pi) -> None:
    pi.run("-p", "HELLO")
    (file,) = pi.files()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert [stat.S_IMODE(folder.stat().st_mode) for folder in list(file.parents)[:3]] == [0o700] * 3


# -- what must not disturb ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", VERSIONS[:1])
def test_disabled_does_nothing(pi: Pi) -> None:
    pi.environment["TACHOGRAPH_DISABLED"] = "1"
    assert pi.run("-p", "HELLO").returncode == 0
    assert not pi.home.exists()


@every_version
def test_a_disk_that_refuses_is_not_pis_problem(pi: Pi) -> None:
    pi.home.mkdir()
    (pi.home / "spool").write_text("not a folder", encoding="utf-8")
    done = pi.run("-p", "MAIN please")
    assert done.returncode == 0
    assert done.stderr.strip() == b""


@pytest.mark.parametrize("version", VERSIONS[:1])
def test_installed_twice_it_tells_once(pi: Pi, tmp_path: Path, llm: FakeLlm) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(pi_runs.EXTENSION, copy)
    pi.run("-e", str(copy), "-p", "MAIN please")
    lines = pi.spool()
    assert len(events(lines, "message_end")) == len(llm.billed)
    assert len(events(lines, "session_start")) == len(events(lines, "session_shutdown")) == 1
    assert len(events(lines, "http")) == 3 * len(llm.billed)


@pytest.mark.parametrize("version", VERSIONS[:1])
def test_a_deleted_file_is_begun_anew(pi: Pi) -> None:
    rpc = Rpc(pi)
    rpc.prompt("HELLO first")
    pi.files()[0].unlink()
    rpc.prompt("HELLO second")
    assert rpc.close() == 0
    lines = pi.spool()
    assert [line["text"] for line in events(lines, "input")] == ["HELLO second"]
    assert lines[0]["part"] == 2
    assert lines[0]["carry"]["prompts"] == 1


# -- the relay ------------------------------------------------------------------------------------------------------


def stub(folder: Path) -> Path:
    """A `tachograph` on the PATH that notes how it was called."""
    folder.mkdir()
    notes = folder / "called"
    program = folder / "tachograph"
    program.write_text(f'#!/bin/sh\necho "$@ ${{TACHOGRAPH_PARENT-none}}" >> {notes}.new; mv {notes}.new {notes}\n')
    program.chmod(0o755)
    return notes


@pytest.mark.parametrize("version", VERSIONS[:1])
def test_the_relay_is_started_once(pi: Pi, tmp_path: Path) -> None:
    notes = stub(tmp_path / "bin")
    pi.environment["PATH"] += f"{os.pathsep}{notes.parent}"
    pi_runs.subagent_run(pi)
    pi_runs.wait_until(notes.exists)
    assert notes.read_text() == "relay none\n"  # not by the sub-agent, and not as a child of the session


@pytest.mark.parametrize("why", ["server.json", "off"], ids=["a server runs", "switched off"])
@pytest.mark.parametrize("version", VERSIONS[:1])
def test_the_relay_is_not_started(pi: Pi, tmp_path: Path, why: str) -> None:
    notes = stub(tmp_path / "bin")
    pi.environment["PATH"] += f"{os.pathsep}{notes.parent}"
    pi.home.mkdir()
    if why == "off":
        pi.environment["TACHOGRAPH_RELAY"] = "off"
    else:
        (pi.home / why).write_text(json.dumps({"pid": os.getpid()}), encoding="utf-8")
    pi.run("-p", "HELLO")
    assert pi.spool()
    assert not list(notes.parent.glob("called*"))


@pytest.mark.parametrize("told", [b"{", b'{"pid": 99999999}', b'{"pid": "x"}'])
@pytest.mark.parametrize("version", VERSIONS[:1])
def test_a_server_that_is_gone_does_not_count(pi: Pi, tmp_path: Path, told: bytes) -> None:
    notes = stub(tmp_path / "bin")
    pi.environment["PATH"] += f"{os.pathsep}{notes.parent}"
    pi.home.mkdir()
    (pi.home / "server.json").write_bytes(told)
    pi.run("-p", "HELLO")
    pi_runs.wait_until(notes.exists)


def test_the_package_is_complete() -> None:
    """What `pi install` needs is there, and nothing it would have to fetch."""
    package: dict[str, Any] = json.loads((pi_runs.EXTENSION / "package.json").read_text(encoding="utf-8"))
    assert not {"dependencies", "peerDependencies", "scripts"} & set(package)
    assert "pi-package" in package["keywords"]
    for path in (*package["pi"]["extensions"], *package["files"]):
        assert (pi_runs.EXTENSION / path).exists(), path
