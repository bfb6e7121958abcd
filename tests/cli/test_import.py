"""What agents have written, imported: all of it once, with and without a server, and said honestly."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from recordings import CAPTURES, MANIFEST
from tachograph.cli import main
from tachograph.cli.reading import open_desk
from tachograph.config import load
from tachograph.pipeline import history
from tachograph.registry import TRANSCRIPTS, AgentFiles

RECORDING = "claude-code-content"
TRUTH = MANIFEST[RECORDING]["truth"]


@pytest.fixture
def claude(user_home: Path) -> Path:
    """A home in which Claude Code has been used."""
    folder = user_home / ".claude" / "projects" / "p"
    folder.mkdir(parents=True)
    for path in (CAPTURES / RECORDING).rglob("*.jsonl"):
        shutil.copy(path, folder / path.name)
    assert list(folder.iterdir())
    return folder


@pytest.fixture
def server(claude: Path, home: Path) -> Iterator[subprocess.Popen[str]]:
    """A real server on free ports that reads no files by itself."""
    doors = ["--otlp-http", "0", "--otlp-grpc", "off", "--web", "0"]
    words = [sys.executable, "-m", "tachograph", "up", *doors, "--follow", "off"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("Connect an agent"):
                break
        yield process
        process.send_signal(signal.SIGINT)
        process.communicate()


def told(capsys: pytest.CaptureFixture[str], *words: str, code: int = 0) -> dict[str, dict[str, Any]]:
    capsys.readouterr()
    assert main(["import", *words, "--json"]) == code
    return {agent["agent"]: agent for agent in json.loads(capsys.readouterr().out)["agents"]}


def totals(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    capsys.readouterr()
    assert main(["usage", "--json"]) == 0
    answer: dict[str, Any] = json.loads(capsys.readouterr().out)["totals"]
    return answer


def test_once_and_then_nothing(claude: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = len(list(claude.iterdir()))
    first = told(capsys)["claude-code"]
    assert (first["files"], first["files_read"]) == (files, files)
    assert first["calls"] == TRUTH["llm_calls_ok"]
    assert first["sessions"] >= 1
    assert first["cost_usd"] > 0
    assert totals(capsys)["input_tokens"] == TRUTH["input_tokens_incl_cache"]
    again = told(capsys)["claude-code"]
    assert (again["files"], again["files_read"], again["read_bytes"], again["calls"]) == (files, 0, 0, 0)
    assert totals(capsys)["calls"] == TRUTH["llm_calls_ok"]


def test_in_processes_of_their_own(claude: Path, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    done = 0

    def notice(more: int) -> None:
        nonlocal done
        done += more

    (claude / "folder.jsonl").mkdir()
    with open_desk(load(), is_staged=True) as desk:
        files = [history.HistoryFile(0, path, path.stat().st_size, "") for path in claude.iterdir()]
        kinds = (claude_files(),)
        history.Import(kinds, desk.sink, desk.content, notice, lambda *_: None, lambda _: None, alone_bytes=0).run(
            files
        )
    assert done == sum(file.size_bytes for file in files)
    assert {file.path.name: bool(file.refused) for file in files if file.refused} == {"folder.jsonl": True}
    assert totals(capsys)["calls"] == TRUTH["llm_calls_ok"]
    assert totals(capsys)["input_tokens"] == TRUTH["input_tokens_incl_cache"]


KILLED = """
import os, signal
from tachograph.pipeline.history import Readers
if __name__ == "__main__":
    assert Readers((), None, is_alone=False).submit([]).result() == []
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL")
def test_readers_end_with_an_import_that_was_killed(tmp_path: Path) -> None:
    script = tmp_path / "killed.py"
    script.write_text(KILLED)
    # The pipes are open for as long as a reader lives.
    done = subprocess.run([sys.executable, str(script)], capture_output=True, timeout=60, check=False)
    assert done.returncode == -signal.SIGKILL


def claude_files() -> AgentFiles:
    return next(kind for kind in TRANSCRIPTS if kind.agent == "claude-code")


def test_into_a_running_server(server: subprocess.Popen[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert totals(capsys)["calls"] == 0, "the server reads nothing by itself"
    assert told(capsys, "claude-code")["claude-code"]["calls"] == TRUTH["llm_calls_ok"]
    assert totals(capsys)["input_tokens"] == TRUTH["input_tokens_incl_cache"]
    assert told(capsys)["claude-code"]["files_read"] == 0


def test_what_telemetry_has_told_is_no_new_call(claude: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["replay", str(CAPTURES / RECORDING)]) == 0
    assert told(capsys)["claude-code"]["calls"] == 0
    assert totals(capsys)["calls"] == TRUTH["llm_calls_ok"]


def test_only_what_is_asked_for(claude: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert told(capsys, "pi") == {}
    for path in claude.iterdir():
        os.utime(path, (1_000_000_000, 1_000_000_000))
    old = told(capsys, "--since", "30d")["claude-code"]
    assert old["files_older"] == old["files"] > 0
    assert old["files_read"] == 0
    assert totals(capsys)["calls"] == 0


def test_dry_run_reads_nothing(claude: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = told(capsys, "--dry-run")["claude-code"]
    assert found["read_bytes"] == found["size_bytes"] == sum(path.stat().st_size for path in claude.iterdir())
    assert totals(capsys)["calls"] == 0
    assert main(["import", "--dry-run"]) == 0
    assert "claude-code" in capsys.readouterr().out


def test_a_file_that_cannot_be_read_is_named(claude: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (claude / "folder.jsonl").mkdir()
    told_ = told(capsys, code=1)["claude-code"]
    assert list(told_["refused"]) == [str(claude / "folder.jsonl")]
    assert told_["calls"] == TRUTH["llm_calls_ok"]
    assert main(["import"]) == 1
    out = capsys.readouterr().out
    assert "not read" in out
    assert "folder.jsonl" in out


def test_a_partial_last_line_waits(claude: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = told(capsys)["claude-code"]
    (claude / "t.jsonl").write_bytes(b'{"type": "user", "sessionId": "s')
    for _ in range(2):
        assert told(capsys)["claude-code"]["calls"] == 0
    assert before["calls"] == TRUTH["llm_calls_ok"]


def test_nothing_here(capsys: pytest.CaptureFixture[str]) -> None:
    assert told(capsys) == {}
    assert main(["import"]) == 0
    assert "no files of agents" in capsys.readouterr().out


def test_an_agent_nobody_knows(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["import", "emacs"]) == 2
    assert 'got "emacs"; expected some of' in capsys.readouterr().err


def test_doctor_says_how_far_the_files_are_read(claude: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def said() -> dict[str, Any]:
        capsys.readouterr()
        assert main(["doctor", "--json"]) in (0, 1)
        (files,) = json.loads(capsys.readouterr().out)["files"]
        return dict(files)

    files = len(list(claude.iterdir()))
    before = said()
    assert (before["files"], before["unread"], before["read_ns"], before["is_live"]) == (files, files, 0, False)
    told(capsys)
    after = said()
    assert (after["files"], after["unread"]) == (files, 0)
    assert after["read_ns"] == after["written_ns"] == max(path.stat().st_mtime_ns for path in claude.iterdir())
    assert main(["doctor"]) in (0, 1)
    assert "tachograph up reads them" in capsys.readouterr().out
