"""Every agent is connected and let go again: what was there stays, to the byte."""

from __future__ import annotations

import json
import os
import re
import shutil
import stat
import subprocess
import tomllib
from pathlib import Path

import pytest

from tachograph.config import Surroundings
from tachograph.connections import applying, files, plugin
from tachograph.connections.contract import Connection, Target
from tachograph.connections.edits import JSON_5
from tachograph.errors import Busy, ConfigError
from tachograph.registry import CONNECTIONS

BY_NAME = {connection.name: connection for connection in CONNECTIONS}
TOKEN = "0123456789abcdef"
SETTINGS = {
    "pi": ".pi/agent/settings.json",
    "openclaw": ".openclaw/openclaw.json",
    "claude-code": ".claude/settings.json",
    "codex": ".codex/config.toml",
    "gemini": ".gemini/settings.json",
    "copilot": ".config/Code/User/settings.json",
    "opencode": ".config/opencode/opencode.json",
}
WRITTEN = {
    "pi": '{\n\t"packages": ["npm:@x/y@1.0.0"],\n\t"defaultModel": "x"\n}\n',
    "openclaw": "{\n  // mine\n  gateway: { port: 18789 },\n  plugins: { entries: { irc: { enabled: true } } },\n}\n",
    "claude-code": '{\r\n    "model": "opus",\r\n    "env": {\r\n        "A": "b"\r\n    }\r\n}\r\n',
    "codex": '# mine\nmodel = "gpt-5" # best\n\n[tools]\nweb = true\n',
    "gemini": '{\n  // mine\n  "ui": { "theme": "x" }\n}\n',
    "copilot": '{\n    "editor.tabSize": 2, // mine\n}',
    "opencode": '{"$schema":"https://opencode.ai/config.json","model":"a/b"}',
}
each = pytest.mark.parametrize("name", SETTINGS)


@pytest.fixture
def where(tmp_path: Path) -> Surroundings:
    """A user's home with a shell, an editor and nothing else."""
    user = tmp_path / "user"
    (user / ".config/Code/User").mkdir(parents=True)
    (user / ".bashrc").write_text("alias ll='ls -l'")
    return Surroundings(user, {"SHELL": "/bin/bash"}, tmp_path / "home" / "spool")


@pytest.fixture
def target(where: Surroundings) -> Target:
    return Target("http://127.0.0.1:4318", where.spool.parent)


def settings_of(where: Surroundings, name: str, written: str | None = None) -> Path:
    """The settings file of an agent, with what was written into it."""
    path = where.user_home / SETTINGS[name]
    if written is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(written.encode())
    return path


def tree(folder: Path) -> dict[str, bytes]:
    """All files below a folder and what is in them."""
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def connect(connection: Connection, where: Surroundings, target: Target, is_forced: bool = False) -> list[str]:
    """Connect; the files that changed."""
    if connection.plugin:
        need_plugin(connection.plugin)
    changes = applying.plan(connection, where, target, is_forced)
    applying.carry_out(connection, target, changes)
    return [change.edit.path.name for change in changes if change.is_change]


def undo(connection: Connection, where: Surroundings, target: Target) -> None:
    applying.carry_out(connection, target, applying.plan_undo(connection, where, target), is_undo=True)


def need_plugin(name: str) -> None:
    try:
        plugin.shipped(name)
    except ConfigError:
        pytest.skip(f"the plug-in for {name} is not built yet")


@each
@pytest.mark.parametrize("is_new", [True, False])
@pytest.mark.parametrize("token", ["", TOKEN])
def test_there_and_back(name: str, is_new: bool, token: str, where: Surroundings, target: Target) -> None:
    connection, target = BY_NAME[name], Target(target.otlp_http, target.home, token=token)
    settings_of(where, name, None if is_new else WRITTEN[name])
    before = tree(where.user_home)
    assert not applying.state(connection, where, target).is_connected
    assert connect(connection, where, target)
    after = tree(where.user_home)
    assert after != before
    state = applying.state(connection, where, target)
    assert state.is_connected
    assert state.since_ns
    assert connect(connection, where, target) == []
    assert tree(where.user_home) == after
    undo(connection, where, target)
    assert tree(where.user_home) == before
    assert tree(target.home) == {}
    assert not applying.state(connection, where, target).is_connected


@each
def test_later_edits_stay(name: str, where: Surroundings, target: Target) -> None:
    path = settings_of(where, name, WRITTEN[name])
    connect(BY_NAME[name], where, target)
    mine = "mine = 1\n" if path.suffix == ".toml" else ""
    text = path.read_text("utf-8")
    path.write_text(mine + text if mine else text.replace("{", '{"mine": 1,', 1), "utf-8")
    undo(BY_NAME[name], where, target)
    left = path.read_text("utf-8")
    assert left.replace(mine, "") == WRITTEN[name].replace("\r\n", "\n") if mine else '"mine": 1' in left
    assert "4318" not in left
    assert "tachograph" not in left
    if not mine:
        assert JSON_5.parse(left, "x") == {"mine": 1} | JSON_5.parse(WRITTEN[name], "x")


@each
def test_another_port_and_back(name: str, where: Surroundings, target: Target) -> None:
    connection = BY_NAME[name]
    settings_of(where, name, WRITTEN[name])
    before = tree(where.user_home)
    connect(connection, where, Target("http://127.0.0.1:5001", target.home, "none"))
    connect(connection, where, target)
    assert applying.state(connection, where, target).is_connected
    undo(connection, where, Target("http://127.0.0.1:7777", target.home, "full", TOKEN))
    assert tree(where.user_home) == before


@each
def test_what_cannot_be_read_is_not_touched(name: str, where: Surroundings, target: Target) -> None:
    path = settings_of(where, name, '{"a": 1\n= [' if name != "codex" else "a = [\n")
    before = tree(where.user_home)
    if BY_NAME[name].plugin:
        need_plugin(BY_NAME[name].plugin)
    with pytest.raises(ConfigError, match=str(path)):
        connect(BY_NAME[name], where, target)
    assert tree(where.user_home) == before
    assert applying.state(BY_NAME[name], where, target).trouble
    path.write_bytes(b"\xff\xfe{\x00}\x00")
    with pytest.raises(ConfigError, match=f"{path}:1: got bytes that are not UTF-8"):
        connect(BY_NAME[name], where, target)


OTHERS = {
    "claude-code": '{"env": {"OTEL_EXPORTER_OTLP_ENDPOINT": "https://corp.example", "OTEL_LOGS_EXPORTER": "otlp"}}',
    "codex": '[otel]\nexporter = { otlp-grpc = { endpoint = "https://otel.corp.example" } }\n',
    "gemini": '{"telemetry": {"enabled": true, "target": "gcp"}}',
    "copilot": '{"github.copilot.chat.otel.otlpEndpoint": "https://otel.corp.example"}',
    "opencode": '{"experimental": {"openTelemetry": false}}',
}


@pytest.mark.parametrize("name", OTHERS)
def test_other_plans_are_not_overwritten(name: str, where: Surroundings, target: Target) -> None:
    path = settings_of(where, name, OTHERS[name])
    before = tree(where.user_home)
    with pytest.raises(ConfigError, match="has other plans there; nothing was changed") as told:
        connect(BY_NAME[name], where, target)
    assert "--force" in told.value.hint
    assert tree(where.user_home) == before
    assert applying.state(BY_NAME[name], where, target).others
    undo(BY_NAME[name], where, target)
    assert tree(where.user_home) == before
    connect(BY_NAME[name], where, target, is_forced=True)
    assert applying.state(BY_NAME[name], where, target).is_connected
    # With an edit of the user in between, undoing goes setting by setting and still brings theirs back.
    text = path.read_text()
    path.write_text("# later\n" + text if name == "codex" else text.replace("{", '{"later": 1, ', 1))
    undo(BY_NAME[name], where, target)
    left, was = path.read_text(), OTHERS[name]
    if name == "codex":
        assert tomllib.loads(left) == tomllib.loads(was)
    else:
        assert json.loads(left) == {"later": 1} | json.loads(was)


def test_settings_that_only_look_like_ours_stay(where: Surroundings, target: Target) -> None:
    path = settings_of(where, "claude-code", '{"env": {"OTEL_LOGS_EXPORTER": "otlp", "OTEL_TRACES_EXPORTER": "otlp"}}')
    before = path.read_text()
    undo(BY_NAME["claude-code"], where, target)
    assert path.read_text() == before


def test_what_the_user_chose_about_texts_stays(where: Surroundings, target: Target) -> None:
    path = settings_of(where, "claude-code", '{"env": {"OTEL_LOG_USER_PROMPTS": "0"}}')
    connect(BY_NAME["claude-code"], where, target)
    assert json.loads(path.read_text())["env"]["OTEL_LOG_USER_PROMPTS"] == "0"
    assert applying.state(BY_NAME["claude-code"], where, target).is_connected


def test_no_texts_where_none_are_kept(where: Surroundings, target: Target) -> None:
    path = settings_of(where, "claude-code")
    codex = settings_of(where, "codex")
    without = Target(target.otlp_http, target.home, "none")
    for name in ("claude-code", "codex"):
        connect(BY_NAME[name], where, target)
    assert json.loads(path.read_text())["env"]["OTEL_LOG_USER_PROMPTS"] == "1"
    assert tomllib.loads(codex.read_text())["otel"]["log_user_prompt"] is True
    for name in ("claude-code", "codex"):
        connect(BY_NAME[name], where, without)
    assert not [key for key in json.loads(path.read_text())["env"] if key.startswith("OTEL_LOG_")]
    assert tomllib.loads(codex.read_text())["otel"]["log_user_prompt"] is False


def test_a_setting_that_is_no_object_is_not_replaced(where: Surroundings, target: Target) -> None:
    path = settings_of(where, "claude-code", '{"env": "x"}')
    with pytest.raises(ConfigError, match='env: got "x"; expected settings within it'):
        connect(BY_NAME["claude-code"], where, target, is_forced=True)
    assert path.read_text() == '{"env": "x"}'


def test_links_modes_and_marks_are_kept(where: Surroundings, target: Target, tmp_path: Path) -> None:
    dotfiles = tmp_path / "dotfiles" / "claude.json"
    dotfiles.parent.mkdir()
    dotfiles.write_bytes(b"\xef\xbb\xbf{}\n")
    dotfiles.chmod(0o640)
    path = settings_of(where, "claude-code")
    path.parent.mkdir()
    path.symlink_to(dotfiles)
    connect(BY_NAME["claude-code"], where, target)
    assert path.is_symlink()
    assert dotfiles.read_bytes().startswith(b"\xef\xbb\xbf{")
    assert b"4318" in dotfiles.read_bytes()
    assert stat.S_IMODE(dotfiles.stat().st_mode) == 0o640
    backup = path.with_name("settings.json.tachograph-backup")
    assert stat.S_IMODE(backup.stat().st_mode) == 0o600
    assert not (dotfiles.parent / backup.name).exists()
    undo(BY_NAME["claude-code"], where, target)
    assert path.is_symlink()
    assert dotfiles.read_bytes() == b"\xef\xbb\xbf{}\n"
    assert stat.S_IMODE(dotfiles.stat().st_mode) == 0o640


def test_a_file_changed_meanwhile_is_not_overwritten(where: Surroundings, target: Target) -> None:
    path = settings_of(where, "claude-code", "{}")
    changes = applying.plan(BY_NAME["claude-code"], where, target)
    path.write_text('{"a": 1}')
    with pytest.raises(Busy):
        applying.carry_out(BY_NAME["claude-code"], target, changes)
    assert path.read_text() == '{"a": 1}'


def test_folders_that_agents_are_told(where: Surroundings, target: Target, tmp_path: Path) -> None:
    folder = str(tmp_path / "elsewhere")
    variables = {
        "CLAUDE_CONFIG_DIR": folder,
        "CODEX_HOME": folder,
        "GEMINI_CLI_HOME": folder,
        "PI_CODING_AGENT_DIR": folder,
        "XDG_CONFIG_HOME": folder,
        "OPENCLAW_CONFIG_PATH": folder + "/claw.json",
    }
    told = Surroundings(where.user_home, variables, where.spool)
    for name in ("claude-code", "codex", "gemini", "pi", "opencode", "openclaw"):
        paths = [edit.path for edit in BY_NAME[name].edits(told, target)]
        assert str(paths[0]).startswith(folder), name


def test_an_allowlist_lets_the_plugin_in(where: Surroundings, target: Target) -> None:
    path = settings_of(where, "openclaw", '{ plugins: { allow: ["telegram"] } }')
    connect(BY_NAME["openclaw"], where, target)
    assert JSON_5.parse(path.read_text(), "x")["plugins"]["allow"] == ["telegram", "tachograph"]


def test_a_list_that_is_no_list(where: Surroundings, target: Target) -> None:
    path = settings_of(where, "pi", '{"packages": "x"}')
    with pytest.raises(ConfigError, match="packages"):
        connect(BY_NAME["pi"], where, target)
    assert path.read_text() == '{"packages": "x"}'


@each
def test_by_hand_is_what_the_command_would_write(name: str, where: Surroundings, target: Target) -> None:
    told = applying.by_hand(BY_NAME[name], where, target)
    for plug in re.findall(r'"([^"]*integrations[^"]*)"', told[0][1]):
        assert (Path(plug) / "package.json").is_file(), "a folder that is there before anything was copied"
    connect(BY_NAME[name], where, target)
    by_hand = applying.by_hand(BY_NAME[name], where, target)
    assert (where.user_home / SETTINGS[name]).read_text("utf-8") == by_hand[0][1]


# --- shells ----------------------------------------------------------------------------------------------------------


def test_the_shell_sets_variables_for_the_agent_alone(where: Surroundings, target: Target, tmp_path: Path) -> None:
    connect(BY_NAME["copilot"], where, target)
    profile = where.user_home / ".bashrc"
    program = tmp_path / "bin" / "copilot"
    program.parent.mkdir()
    program.write_text('#!/bin/sh\necho "$OTEL_EXPORTER_OTLP_ENDPOINT $1"\n')
    program.chmod(0o755)
    script = f'. {profile}; copilot "a b"; echo "[$OTEL_EXPORTER_OTLP_ENDPOINT]"'
    shells = [shell for shell in ("bash", "zsh") if shutil.which(shell)]
    assert shells
    for shell in shells:
        done = subprocess.run(
            [shell, "-c", script],
            capture_output=True,
            text=True,
            env={"PATH": f"{program.parent}:{os.defpath}"},
            check=True,
        )
        assert done.stdout == "http://127.0.0.1:4318 a b\n[]\n"


def test_two_agents_share_a_profile(where: Surroundings, target: Target) -> None:
    before = tree(where.user_home)
    for first, second in (("copilot", "opencode"), ("opencode", "copilot")):
        connect(BY_NAME["copilot"], where, target)
        connect(BY_NAME["opencode"], where, target)
        undo(BY_NAME[first], where, target)
        assert applying.state(BY_NAME[second], where, target).is_connected
        undo(BY_NAME[second], where, target)
        left = tree(where.user_home)
        left[".bashrc"] = left[".bashrc"].removesuffix(b"\n")  # the line end that the block needed before it
        assert left == before


@pytest.mark.parametrize("line", ["copilot() { :; }", "function copilot { :; }", "alias copilot='npx copilot'"])
def test_a_function_of_the_user_is_not_shadowed(line: str, where: Surroundings, target: Target) -> None:
    (where.user_home / ".bashrc").write_text(line + "\n")
    with pytest.raises(ConfigError, match="copilot is defined already"):
        connect(BY_NAME["copilot"], where, target)


def test_marks_that_do_not_belong_together(where: Surroundings, target: Target) -> None:
    (where.user_home / ".bashrc").write_text("# >>> tachograph: copilot >>>\n")
    with pytest.raises(ConfigError, match="do not belong together"):
        connect(BY_NAME["copilot"], where, target)


def test_a_shell_that_is_not_known(where: Surroundings, target: Target) -> None:
    other = Surroundings(where.user_home, {"SHELL": "/bin/sh"}, where.spool)
    (where.user_home / ".bashrc").unlink()
    (where.user_home / ".config/Code/User").rmdir()
    with pytest.raises(ConfigError, match="expected a start-up file of bash, zsh or fish"):
        connect(BY_NAME["copilot"], other, target)
    assert not applying.state(BY_NAME["copilot"], other, target).is_connected


def test_fish(where: Surroundings, target: Target) -> None:
    fish = Surroundings(where.user_home, {"SHELL": "/usr/bin/fish"}, where.spool)
    connect(BY_NAME["copilot"], fish, target)
    told = (where.user_home / ".config/fish/config.fish").read_text()
    assert "function copilot\n    env OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:4318 " in told


# --- files and plug-ins ----------------------------------------------------------------------------------------------


def test_a_folder_in_the_place_of_a_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        files.read(tmp_path)
    assert files.read(tmp_path / "not" / "there") is None


@pytest.mark.parametrize("name", ["pi", "openclaw"])
def test_plugins_are_copied_whole(name: str, tmp_path: Path) -> None:
    need_plugin(name)
    assert not plugin.is_current(tmp_path, name)
    plugin.copy(tmp_path, name)
    assert plugin.is_current(tmp_path, name)
    copied = plugin.place(tmp_path, name)
    assert (copied / "package.json").is_file()
    (copied / "package.json").write_text("{}")
    assert not plugin.is_current(tmp_path, name)
    plugin.copy(tmp_path, name)
    assert plugin.is_current(tmp_path, name)
    plugin.discard(tmp_path, name)
    assert not (tmp_path / plugin.FOLDER).exists()
