"""Agents of the command line, run for real: a fresh home, a scripted model, and a server on free ports."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import programs

Json = dict[str, Any]

LISTING = {"command": "ls -1", "description": "list the files"}
PROMPT = "LOOK-AROUND please say which files are here"
_SHELL_TOOLS = ["Bash", "bash", "exec_command", "shell_command", "shell", "run_shell_command"]
_INPUTS: Json = {
    "exec_command": {"cmd": "ls -1"},
    "shell_command": {"command": "ls -1"},
    "shell": {"command": ["bash", "-lc", "ls -1"]},
}
SCENARIO: Json = {
    "match": {
        "LOOK-AROUND": [
            {
                "text": "I list the files.",
                "tools": [{"names": _SHELL_TOOLS, "input": LISTING, "inputs": _INPUTS}],
            },
            {"text": "There is one file, README.md."},
        ]
    },
}


class Agent(NamedTuple):
    """One agent: its package, the command that asks it something, and what makes it talk to our model."""

    name: str
    package: str
    program: str
    command: str
    variables: Callable[[str], dict[str, str]]
    settings: Callable[[Path, str], None] = lambda home, url: None

    @property
    def folder(self) -> str:
        """What its installation is called."""
        return self.package.rpartition("/")[2].replace("@", "-")


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def _claude(url: str) -> dict[str, str]:
    return {
        "ANTHROPIC_BASE_URL": url,
        "ANTHROPIC_API_KEY": "sk-ant-scripted",
        "DISABLE_AUTOUPDATER": "1",
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
    }


def _codex_settings(home: Path, url: str) -> None:
    _write(
        home / ".codex" / "config.toml",
        f'# mine\nmodel = "gpt-5.1-codex"\nmodel_provider = "scripted" # ours\n\n[model_providers.scripted]\n'
        f'name = "Scripted"\nbase_url = "{url}/v1"\nenv_key = "SCRIPTED_KEY"\nwire_api = "responses"\n',
    )


def _gemini_settings(home: Path, url: str) -> None:
    _write(
        home / ".gemini" / "settings.json",
        '{\n  // mine\n  "security": { "auth": { "selectedType": "gemini-api-key" } },\n'
        '  "general": { "enableAutoUpdate": false }\n}\n',
    )


def _gemini(url: str) -> dict[str, str]:
    return {"GEMINI_API_KEY": "scripted", "GOOGLE_GEMINI_BASE_URL": url, "GEMINI_CLI_TRUST_WORKSPACE": "true"}


def _copilot(url: str) -> dict[str, str]:
    return {
        "COPILOT_OFFLINE": "true",
        "COPILOT_AUTO_UPDATE": "false",
        "COPILOT_PROVIDER_BASE_URL": f"{url}/v1",
        "COPILOT_PROVIDER_TYPE": "openai",
        "COPILOT_PROVIDER_API_KEY": "scripted",
        "COPILOT_MODEL": "gpt-5.4",
    }


def _opencode_settings(home: Path, url: str) -> None:
    provider = {
        "npm": "@ai-sdk/openai-compatible",
        "name": "Scripted",
        "options": {"baseURL": f"{url}/v1", "apiKey": "scripted"},
        "models": {"gpt-5.1": {"name": "large"}, "gpt-4o-mini": {"name": "small"}},
    }
    settings = {
        "autoupdate": False,
        "share": "disabled",
        "model": "scripted/gpt-5.1",
        "small_model": "scripted/gpt-4o-mini",
        "provider": {"scripted": provider},
        "permission": {"*": "allow"},
    }
    _write(home / ".config" / "opencode" / "opencode.json", json.dumps(settings))


def _opencode(url: str) -> dict[str, str]:
    names = ("AUTOUPDATE", "MODELS_FETCH", "LSP_DOWNLOAD", "SHARE")
    return {f"OPENCODE_DISABLE_{name}": "1" for name in names}


AGENTS = (
    Agent(
        "claude-code",
        "@anthropic-ai/claude-code@2.1.329",
        "claude",
        f'claude -p "{PROMPT}" --allowedTools Bash Read --model claude-sonnet-4-5-20250929',
        _claude,
        lambda home, url: _write(home / ".claude" / "settings.json", '{\n  "cleanupPeriodDays": 30\n}\n'),
    ),
    Agent(
        "codex",
        "@openai/codex@0.169.0",
        "codex",
        f'codex exec --skip-git-repo-check --sandbox danger-full-access "{PROMPT}"',
        lambda url: {"SCRIPTED_KEY": "scripted"},
        _codex_settings,
    ),
    Agent(
        "gemini",
        "@google/gemini-cli@0.61.0",
        "gemini",
        f'gemini -y -m gemini-2.5-pro -p "{PROMPT}"',
        _gemini,
        _gemini_settings,
    ),
    Agent(
        "copilot",
        "@github/copilot@1.0.102",
        "copilot",
        f'copilot -p "{PROMPT}" --allow-all-tools',
        _copilot,
    ),
    Agent(
        "opencode",
        "opencode-ai@1.18.33",
        "opencode",
        f'opencode run "{PROMPT}"',
        _opencode,
        _opencode_settings,
    ),
)


class Place:
    """A user's home with one agent in it, a project, and Tachograph as that user would run it."""

    def __init__(self, agent: Agent, folder: Path, url: str) -> None:
        self.agent = agent
        self.home = folder / "user"
        self.project = folder / "project"
        for made in (self.home, self.project, folder / "tmp"):
            made.mkdir(parents=True)
        (self.project / "README.md").write_text("# a project\n", encoding="utf-8")
        (self.home / ".bashrc").write_text("# mine\n", encoding="utf-8")
        installed = programs.npm(agent.folder, agent.package) / "node_modules" / ".bin"
        node = shutil.which("node")
        if node is None:
            programs.unavailable("node is not installed")
        agent.settings(self.home, url)
        self.environment = {
            "HOME": str(self.home),
            "PATH": os.pathsep.join((str(installed), str(Path(str(node)).parent), os.defpath)),
            "SHELL": "/bin/bash",
            "TMPDIR": str(folder / "tmp"),
            "LANG": "C.UTF-8",
            **agent.variables(url),
        }

    def tachograph(self, *words: str, code: int = 0) -> str:
        """What a command says."""
        done = subprocess.run(
            [sys.executable, "-m", "tachograph", *words],
            env=self.environment,
            cwd=self.project,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == code, f"tachograph {' '.join(words)}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def answer(self, *words: str, code: int = 0) -> Any:
        """What a command says as JSON."""
        return json.loads(self.tachograph(*words, "--json", code=code))

    def run(self) -> subprocess.CompletedProcess[str]:
        """Ask the agent, in a shell as its user has it."""
        return subprocess.run(
            ["bash", "-c", f". ~/.bashrc; {self.agent.command} </dev/null"],
            env=self.environment,
            cwd=self.project,
            capture_output=True,
            text=True,
            check=False,
        )

    @contextmanager
    def server(self) -> Iterator[None]:
        """Tachograph with every door on a free port."""
        words = [sys.executable, "-m", "tachograph", "up", "--otlp-http", "0", "--otlp-grpc", "0", "--web", "0"]
        with subprocess.Popen(words, env=self.environment, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            for line in process.stdout:
                if line.startswith("Connect an agent"):
                    break
            try:
                yield
            finally:
                process.send_signal(signal.SIGINT)
                process.communicate()

    def files(self) -> dict[str, bytes]:
        """The settings files that connecting may change, and what lies beside them."""
        folders = (".claude", ".codex", ".gemini", ".config/opencode", ".bashrc")
        found = {}
        for name in folders:
            path = self.home / name
            for file in [path] if path.is_file() else sorted(path.glob("*")):
                if (
                    file.is_file()
                    and file.suffix in (".json", ".jsonc", ".toml", ".bashrc", "")
                    and file.stat().st_size
                ):
                    found[str(file.relative_to(self.home))] = file.read_bytes()
        return found
