"""Agents of the command line, run for real: a fresh home, a scripted model, and a server on free ports."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import programs
from tachograph.cli import running

Json = dict[str, Any]
_LOOK_S = 0.1

LISTING = {"command": "ls -1", "description": "list the files"}
PROMPT = "LOOK-AROUND please say which files are here"
REFUSED = "TRY-AGAIN please read a file that is not there"
_SHELL_TOOLS = ["Bash", "bash", "exec_command", "shell_command", "shell", "run_shell_command", "exec"]
_INPUTS: Json = {
    "exec_command": {"cmd": "ls -1"},
    "shell_command": {"command": "ls -1"},
    "shell": {"command": ["bash", "-lc", "ls -1"]},
}
_FAILING = {"command": "cat nothing.txt", "description": "read a file that is not there"}
_FAILING_INPUTS: Json = {
    "exec_command": {"cmd": "cat nothing.txt"},
    "shell_command": {"command": "cat nothing.txt"},
    "shell": {"command": ["bash", "-lc", "cat nothing.txt"]},
}
SCENARIO: Json = {
    "match": {
        "LOOK-AROUND": [
            {
                "text": "I list the files.",
                "tools": [{"names": _SHELL_TOOLS, "input": LISTING, "inputs": _INPUTS}],
            },
            {"text": "There is one file, README.md."},
        ],
        # The first attempt is refused, then a tool fails.
        "TRY-AGAIN": [
            {
                "error": {"status": 429, "times": 1, "headers": {"retry-after": "1"}},
                "text": "I look for it.",
                "tools": [{"names": _SHELL_TOOLS, "input": _FAILING, "inputs": _FAILING_INPUTS}],
            },
            {"text": "It is not there."},
        ],
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
    node: int = 0  # the major version of Node that it needs, 0 = whichever is installed

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
        "$schema": "https://opencode.ai/config.json",  # it would add this itself
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


def _pi_settings(home: Path, url: str) -> None:
    model = {"id": "fake-large", "name": "large", "input": ["text"], "contextWindow": 128_000, "maxTokens": 8192}
    provider = {"baseUrl": f"{url}/v1", "api": "openai-completions", "apiKey": "scripted", "models": [model]}
    _write(home / ".pi" / "agent" / "models.json", json.dumps({"providers": {"scripted": provider}}))
    settings = {"defaultProvider": "scripted", "defaultModel": "fake-large", "quietStartup": True}
    _write(home / ".pi" / "agent" / "settings.json", json.dumps(settings, indent=4))


def _openclaw_settings(home: Path, url: str) -> None:
    _write(
        home / ".openclaw" / "openclaw.json",
        f"""// mine
{{
  gateway: {{ mode: "local", bind: "loopback", auth: {{ mode: "token", token: "scripted-0123456789" }} }},
  agents: {{
    defaults: {{ model: {{ primary: "scripted/gpt-5.1" }}, skipBootstrap: true, heartbeat: {{ every: "0m" }} }},
  }},
  tools: {{ toolSearch: false }},
  models: {{
    mode: "replace",
    providers: {{
      scripted: {{
        baseUrl: "{url}/v1", apiKey: "scripted", api: "openai-completions",
        models: [{{ id: "gpt-5.1", name: "gpt-5.1", input: ["text"], contextWindow: 200000, maxTokens: 8192 }}],
      }},
    }},
  }},
}}
""",
    )


AGENTS = (
    Agent(
        "openclaw",
        "openclaw@2026.9.6",
        "openclaw",
        f'openclaw agent --local --agent main --session-id look --message "{PROMPT}"',
        lambda url: {"OPENCLAW_DISABLE_BONJOUR": "1", "OPENCLAW_SKIP_CHANNELS": "1"},
        _openclaw_settings,
        node=24,
    ),
    Agent(
        "pi",
        "@earendil-works/pi-coding-agent@0.87.1",
        "pi",
        f'pi -p "{PROMPT}"',
        lambda url: {"PI_OFFLINE": "1", "PI_TELEMETRY": "0", "PI_SKIP_VERSION_CHECK": "1", "TACHOGRAPH_RELAY": "off"},
        _pi_settings,
        node=22,
    ),
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
        self.store = folder / "store"
        for made in (self.home, self.project, folder / "tmp"):
            made.mkdir(parents=True)
        (self.project / "README.md").write_text("# a project\n", encoding="utf-8")
        (self.home / ".bashrc").write_text("# mine\n", encoding="utf-8")
        installed = programs.npm(agent.folder, agent.package) / "node_modules" / ".bin"
        node = str(programs.node(agent.node)) if agent.node else shutil.which("node")
        if node is None:
            programs.unavailable("node is not installed")
        agent.settings(self.home, url)
        self.environment = {
            "HOME": str(self.home),
            "PATH": os.pathsep.join((str(Path(str(node)).parent), str(installed), os.defpath)),
            "SHELL": "/bin/bash",
            "TACHOGRAPH_HOME": str(self.store),
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

    def doctor(self) -> Any:
        """What `doctor` says, whether or not it finds something missing."""
        words = [sys.executable, "-m", "tachograph", "doctor", "--json"]
        done = subprocess.run(words, env=self.environment, capture_output=True, check=False)
        assert done.returncode in (0, 1), done.stderr.decode()
        return json.loads(done.stdout)

    def run(self, prompt: str = PROMPT) -> subprocess.CompletedProcess[str]:
        """Ask the agent, in a shell as its user has it."""
        return subprocess.run(
            ["bash", "-c", f". ~/.bashrc; {self.agent.command.replace(PROMPT, prompt)} </dev/null"],
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
        with subprocess.Popen(words, env=self.environment, stdout=subprocess.DEVNULL) as process:
            while running.find(self.store) is None:
                assert process.poll() is None, "the server ended"
                time.sleep(_LOOK_S)
            try:
                yield
            finally:
                process.send_signal(signal.SIGINT)
                process.wait()

    def files(self) -> dict[str, bytes]:
        """The settings files that connecting may change, and what lies beside them."""
        folders = (".openclaw", ".pi/agent", ".claude", ".codex", ".gemini", ".config/opencode", ".bashrc")
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
