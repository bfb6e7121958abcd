"""`tachograph connect` as people run it, on a home folder with agents' settings in it."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from recordings import CAPTURES
from tachograph.cli import main

SECRET = "sk-ant-api03-" + "abcdefghijklmnopqrstuvwxyz0123456789"
TOKEN = "ingest-0123456789abcdef"
SETTINGS = json.dumps({"env": {"ANTHROPIC_API_KEY": SECRET}}, indent=2) + "\n"

Run = Callable[..., str]


@pytest.fixture
def user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user with Claude Code on the PATH, in a package that says its version."""
    folder = tmp_path / "somebody"
    package = folder / "node_modules" / "claude-code"
    (package / "bin").mkdir(parents=True)
    (package / "package.json").write_text('{"version": "2.1.329"}')
    (package / "bin" / "claude").write_text("#!/bin/sh\n")
    (package / "bin" / "claude").chmod(0o755)
    (folder / ".claude").mkdir()
    (folder / ".claude" / "settings.json").write_text(SETTINGS)
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.setenv("USERPROFILE", str(folder))
    monkeypatch.setenv("PATH", str(package / "bin"))
    monkeypatch.setenv("SHELL", "/bin/bash")
    for name in ("CLAUDE_CONFIG_DIR", "CODEX_HOME", "XDG_CONFIG_HOME", "GEMINI_CLI_HOME"):
        monkeypatch.delenv(name, raising=False)
    return folder


@pytest.fixture
def run(user: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a command; returns what it wrote, checks its exit code."""

    def run_(*words: str, code: int = 0) -> str:
        capsys.readouterr()
        assert main(list(words)) == code
        written = capsys.readouterr()
        return written.err if code == 2 else written.out

    return run_


def answer(run: Run, *words: str, code: int = 0) -> Any:
    return json.loads(run(*words, "--json", code=code))


def test_what_is_here(run: Run, home: Path) -> None:
    told = {one["agent"]: one for one in answer(run, "connect")["agents"]}
    assert set(told) == {"pi", "openclaw", "claude-code", "codex", "gemini", "copilot", "opencode"}
    claude = told["claude-code"]
    assert (claude["installed"], claude["version"], claude["connected"]) == (True, "2.1.329", False)
    assert claude["by"] == "its files"
    assert not told["codex"]["installed"]
    assert "to connect: tachograph connect claude-code" in run("connect")
    assert not list(home.glob("*")), "looking makes no store"


def test_connect_says_what_changed_and_undo_brings_it_back(run: Run, user: Path) -> None:
    settings = user / ".claude" / "settings.json"
    dry = run("connect", "claude-code", "--dry-run")
    assert settings.read_text() == SETTINGS
    assert "nothing changed" in dry
    said = run("connect", "claude-code")
    assert '+    "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318"' in said
    assert "claude-code: connected" in said
    assert "next: tachograph up; start Claude Code anew" in said
    assert SECRET not in said + dry
    assert json.loads(settings.read_text())["env"]["ANTHROPIC_API_KEY"] == SECRET
    assert "connected already" in run("connect", "claude-code")
    (told,) = answer(run, "connect", "claude-code", "--status")["agents"]
    assert (told["state"], told["by"], told["connected"]) == ("connected", "settings, its files", True)
    assert told["since_ns"]
    assert SECRET not in run("connect", "claude-code", "--undo")
    assert settings.read_text() == SETTINGS
    assert [path.name for path in settings.parent.iterdir()] == ["settings.json"]
    assert "was not connected" in run("connect", "claude-code", "--undo")


def test_the_token_is_written_and_never_shown(run: Run, user: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TACHOGRAPH_INGEST_TOKEN", TOKEN)
    for agent in ("claude-code", "codex", "gemini", "copilot", "opencode"):
        said = run("connect", agent, "--dry-run") + run("connect", agent) + run("connect", agent, "--status")
        said += run("connect", agent, "--undo", "--dry-run") + str(answer(run, "connect", agent))
        assert TOKEN not in said, agent
        assert any(
            TOKEN in path.read_text() for path in user.rglob("*") if path.is_file() and "backup" not in path.name
        ), agent
        run("connect", agent, "--undo")
    assert not any(TOKEN in path.read_text() for path in user.rglob("*") if path.is_file())


def test_as_json(run: Run, user: Path) -> None:
    (done,) = answer(run, "connect", "claude-code")["agents"]
    assert (done["agent"], done["changed"]) == ("claude-code", True)
    (file,) = done["files"]
    assert file["path"] == str(user / ".claude" / "settings.json")
    assert Path(file["backup"]).read_text() == SETTINGS
    assert SECRET not in json.dumps(done)
    (done,) = answer(run, "connect", "claude-code")["agents"]
    assert (done["changed"], done["files"]) == (False, [])


def test_status_of_one_that_is_not_connected(run: Run) -> None:
    assert "not connected" in run("connect", "codex", "--status", code=1)


def test_the_agents_own_name_will_do(run: Run, user: Path) -> None:
    run("connect", "gemini-cli")
    assert json.loads((user / ".gemini" / "settings.json").read_text())["telemetry"]["enabled"] is True


def test_where_it_cannot_be_done(run: Run, user: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert 'AGENT: got "nobody"; expected one of pi, ' in run("connect", "nobody", code=2)
    assert "AGENT: got none" in run("connect", "--undo", code=2)
    settings = user / ".claude" / "settings.json"
    settings.write_text('{"env": {"OTEL_EXPORTER_OTLP_ENDPOINT": "https://corp.example"}}')
    told = run("connect", "claude-code", code=2)
    assert 'env.OTEL_EXPORTER_OTLP_ENDPOINT is "https://corp.example"' in told
    assert "set to something else" in run("connect", "claude-code", "--status", code=1)
    run("connect", "claude-code", "--force")
    settings.write_text("{\n  oops")
    told = run("connect", "claude-code", "--undo", code=2)
    assert "settings.json:2: got 'o'; expected a name in double quotes" in told
    assert settings.read_text() == "{\n  oops"
    assert "unreadable settings" in run("connect")
    monkeypatch.setenv("TACHOGRAPH_OTLP_HTTP", "off")
    assert "expected a door to connect to" in run("connect", "codex", code=2)


def test_one_that_cannot_be_connected_is_in_nobodys_way(user: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (user / ".claude" / "settings.json").write_text("{ oops")
    (user / ".codex").mkdir()
    (user / ".codex" / "config.toml").write_text("[otel\n")
    capsys.readouterr()
    assert main(["connect", "pi", "claude-code", "codex", "gemini"]) == 2
    written = capsys.readouterr()
    assert "\npi: connected\n" in written.out
    assert "\ngemini: connected\n" in written.out
    assert written.err.count("error: ") == 2
    assert "settings.json:1: " in written.err
    assert "config.toml:" in written.err
    assert main(["connect", "claude-code", "gemini", "--json"]) == 2
    (told,) = json.loads(capsys.readouterr().out)["agents"]
    assert (told["agent"], told["changed"]) == ("gemini", False)


def test_variables_that_win_are_named(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GEMINI_TELEMETRY_TARGET", "gcp")
    assert "GEMINI_TELEMETRY_TARGET is set in this environment and wins" in run("connect", "gemini")


def test_a_home_that_is_not_the_usual_one_has_to_be_told(run: Run, home: Path) -> None:
    said = run("connect", "pi")
    assert f"Pi has to be started with TACHOGRAPH_HOME={home}" in said
    assert (home / "integrations" / "pi" / "package.json").is_file()


def test_a_version_is_not_asked_of_the_program(run: Run, user: Path) -> None:
    """No agent is started: that would take seconds, and some write files when they start."""
    program = user / "node_modules" / "claude-code" / "bin" / "claude"
    program.write_text(f"#!/bin/sh\ntouch {user}/started\n")
    run("connect")
    assert not (user / "started").exists()
    subprocess.run([program], check=True, env={"PATH": "/usr/bin:/bin"})
    assert (user / "started").exists()


def test_doctor_proves_it(run: Run, user: Path, home: Path) -> None:
    run("connect", "claude-code")
    assert "waiting for its first data: start Claude Code anew" in run("doctor")
    (waiting,) = answer(run, "doctor")["connections"]
    assert (waiting["agent"], waiting["connected"], waiting["first_ns"]) == ("claude-code", True, None)
    run("replay", str(CAPTURES / "claude-code-content"))
    assert "waiting" in run("doctor"), "what came before it was connected proves nothing"
    os.utime(user / ".claude" / "settings.json.tachograph-backup", (1_700_000_000, 1_700_000_000))
    (arrived,) = answer(run, "doctor")["connections"]
    first = min(span["start_ns"] for span in answer(run, "sql", "select start_ns from spans"))
    assert abs(arrived["first_ns"] - first) < 60_000_000_000
    assert "claude-code: connected 1" in run("doctor")
    assert ", first data arrived 2026-11-" in run("doctor", "--timezone", "UTC")


def test_doctor_names_what_could_be_connected(run: Run, user: Path) -> None:
    (user / ".codex").mkdir()
    said = run("doctor")
    assert "not connected: claude-code, codex\n    tachograph connect claude-code codex" in said
    assert "to connect an agent" in said
    run("connect", "claude-code", "codex")
    assert "not connected" not in run("doctor")
    (user / ".codex" / "config.toml").write_text("= broken")
    assert "codex: " in run("doctor")
    assert "not valid TOML" in run("doctor")
