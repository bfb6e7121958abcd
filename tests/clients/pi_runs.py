"""Runs of real Pi against a scripted model provider, with the extension loaded and everything else switched off."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import programs
from fake_llm import FakeLlm

Json = dict[str, Any]

EXTENSION = Path(__file__).parents[2] / "integrations" / "pi"
# USD for a million tokens: input, output, cache read, cache write.
PRICES: dict[str, tuple[float, float, float, float]] = {
    "fake-large": (3, 15, 0.3, 3.75),
    "fake-small": (0.5, 1.5, 0.05, 0.6),
    "fake-claude": (5, 25, 0.5, 6.25),
}
PROVIDERS = {
    "fake-openai": ("/v1", "openai-completions", ("fake-large", "fake-small")),
    "fake-anthropic": ("", "anthropic-messages", ("fake-claude",)),
}
_LOOK_S = 0.02

_SCOUT = """---
name: scout
description: looks around
tools: bash
model: fake-openai/fake-small
---
You look around.
"""
# The one thing that RPC has no command for.
_RELOAD = """export default (pi) => {
  pi.registerCommand("again", { description: "reload", handler: (_, ctx) => ctx.reload() });
};
"""
# Runs until the test removes the file: nothing is left behind when Pi is killed.
_WAITING = "touch waiting; while [ -e waiting ]; do sleep 0.1; done"
BASH_AND_READ = [
    {"name": "bash", "input": {"command": "echo listing; ls"}},
    {"name": "read", "input": {"path": "hello.py"}},
]
EDIT = {"path": "hello.py", "edits": [{"oldText": 'print("hello")', "newText": 'print("hello, world")'}]}
SCENARIO: Json = {
    "match": {
        "MAIN": [
            {"thinking": "I should look around first.", "text": "Let me look at the project.", "tools": BASH_AND_READ},
            {"text": "Now I will edit the greeting.", "tools": [{"name": "edit", "input": EDIT}]},
            {"text": "This fails.", "tools": [{"name": "bash", "input": {"command": "echo oops >&2; exit 3"}}]},
            {"text": "Done: the greeting was changed; the failing command exited with 3.", "chunks": 8},
        ],
        "MISSING": [
            {"tools": [{"name": "read", "input": {"path": "does-not-exist.txt"}}]},
            {"tools": [{"name": "no_such_tool", "is_unknown": True, "input": {"x": 1}}]},
            {"text": "Neither exists."},
        ],
        "RETRY429": [
            {
                "error": {"status": 429, "times": 1, "headers": {"retry-after": "1"}},
                "text": "Recovered after a 429.",
            }
        ],
        "RETRY503": [{"error": {"status": 503, "times": 2}, "text": "Recovered after two 503s."}],
        "DROP": [{"error": {"drop_after": 3, "times": 1}, "text": "Recovered after a dropped stream", "chunks": 6}],
        "SLOW": [{"text": "slow words " * 4, "chunks": 4, "hold": "slow"}],
        "ENDLESS": [{"text": "endless words " * 4, "chunks": 4, "hold": "never"}],
        "WAIT": [{"text": "Waiting.", "tools": [{"name": "bash", "input": {"command": _WAITING}}]}],
        "HELLO": [{"text": "Hello."}],
        "SUB-SCAN": [
            {"tools": [{"name": "bash", "input": {"command": "ls"}}]},
            {"text": "There is one file."},
        ],
        "DELEGATE": [
            {
                "text": "I ask a scout.",
                "tools": [
                    {
                        "name": "subagent",
                        "input": {"agent": "scout", "task": "SUB-SCAN the files", "agentScope": "user"},
                    }
                ],
            },
            {"text": "The scout found one file."},
        ],
    },
    "default": [{"text": "You said something."}],
    "aux_text": "## Goal\nscripted summary\n## Progress\nthings were done",
}


class Pi:
    """One version of Pi, with a home of its own; `spool()` is what its extension has written there."""

    def __init__(self, version: str, folder: Path, llm: FakeLlm, environment: dict[str, str] | None = None) -> None:
        self.version = version
        self.folder = folder
        self.work = folder / "work"
        self.home = folder / "tachograph"
        self.agent = folder / "agent"
        for made in (self.work, self.agent, folder / "user"):
            made.mkdir(parents=True)
        (self.work / "hello.py").write_text('print("hello")\n', encoding="utf-8")
        self._configure(llm)
        self.command, self.package = program(version)
        self.environment = {
            "PATH": f"{Path(self.command[0]).parent}{os.pathsep}{os.defpath}",
            "HOME": str(folder / "user"),
            "PI_CODING_AGENT_DIR": str(self.agent),
            "PI_OFFLINE": "1",
            "PI_TELEMETRY": "0",
            "PI_SKIP_VERSION_CHECK": "1",
            "TACHOGRAPH_HOME": str(self.home),
            **(environment or {}),
        }

    def _configure(self, llm: FakeLlm) -> None:
        providers = {}
        for name, (path, api, models) in PROVIDERS.items():
            listed = [_model(model) for model in models]
            providers[name] = {"baseUrl": llm.url + path, "api": api, "apiKey": "fake-key", "models": listed}
        settings = {
            "defaultProvider": "fake-openai",
            "defaultModel": "fake-large",
            "enableInstallTelemetry": False,
            "quietStartup": True,
            "packages": [str(EXTENSION)],
            "retry": {"enabled": True, "maxRetries": 3, "baseDelayMs": 50},
            "compaction": {"enabled": False, "keepRecentTokens": 20},
        }
        (self.agent / "models.json").write_text(json.dumps({"providers": providers}), encoding="utf-8")
        (self.agent / "settings.json").write_text(json.dumps(settings), encoding="utf-8")

    def add_subagents(self) -> None:
        """Install Pi's own example of a sub-agent tool, with one agent."""
        shutil.copytree(self.package / "examples/extensions/subagent", self.agent / "extensions/subagent")
        (self.agent / "agents").mkdir()
        (self.agent / "agents/scout.md").write_text(_SCOUT, encoding="utf-8")

    def add_reload(self) -> None:
        """Install a command that reloads all extensions: /again."""
        (self.agent / "extensions").mkdir(exist_ok=True)
        (self.agent / "extensions/again.ts").write_text(_RELOAD, encoding="utf-8")

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        """Start Pi with these arguments; its stdin is open."""
        return subprocess.Popen(
            [*self.command, *arguments],
            cwd=self.work,
            env=self.environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def run(self, *arguments: str) -> subprocess.CompletedProcess[bytes]:
        """Run Pi to its end."""
        process = self.start(*arguments)
        out, err = process.communicate()
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    def files(self) -> list[Path]:
        """The files of the spool."""
        return sorted((self.home / "spool" / "pi").glob("*.jsonl"))

    def spool(self) -> list[Json]:
        """All lines of the spool that are whole, file by file."""
        lines = [line for file in self.files() for line in file.read_bytes().splitlines(keepends=True)]
        return [json.loads(line) for line in lines if line.endswith(b"\n")]

    def wait_for(self, is_there: Callable[[Json], bool]) -> Json:
        """Wait until the spool has such a line."""
        while True:
            found = next(filter(is_there, self.spool()), None)
            if found is not None:
                return found
            time.sleep(_LOOK_S)

    def sessions(self) -> list[Path]:
        """The session files that Pi wrote."""
        return sorted(self.agent.glob("sessions/*/*.jsonl"))


def wait_until(is_so: Callable[[], bool]) -> None:
    """Wait for something another process does."""
    while not is_so():
        time.sleep(_LOOK_S)


def _model(name: str) -> Json:
    cost = dict(zip(("input", "output", "cacheRead", "cacheWrite"), PRICES[name], strict=True))
    limits = {"contextWindow": 128_000, "maxTokens": 8192}
    return {"id": name, "name": name, "input": ["text"], "reasoning": name != "fake-small", "cost": cost, **limits}


class Rpc:
    """Pi in RPC mode, driven command by command."""

    def __init__(self, pi: Pi) -> None:
        self.pi = pi
        self.process = pi.start("--mode", "rpc")
        self._number = 0

    def ask(self, kind: str, **given: Any) -> Json:
        """Send a command and wait for its answer."""
        number = self.send(kind, **given)
        return self.wait(lambda told: told.get("type") == "response" and told.get("id") == number)

    def send(self, kind: str, **given: Any) -> str:
        """Send a command; its id."""
        self._number += 1
        line = json.dumps({"id": str(self._number), "type": kind, **given}) + "\n"
        assert self.process.stdin is not None
        self.process.stdin.write(line.encode())
        self.process.stdin.flush()
        return str(self._number)

    def wait(self, is_it: Callable[[Json], bool]) -> Json:
        """Read what Pi tells until this comes."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            told: Json = json.loads(line)
            if is_it(told):
                return told
        assert self.process.stderr is not None
        raise AssertionError(self.process.stderr.read().decode()[-2000:])

    def prompt(self, text: str) -> None:
        """Give a prompt and wait until it is finished, retries included."""
        self.ask("prompt", message=text)
        self.settled()

    def settled(self) -> None:
        """Wait until the running prompt is finished."""
        last = "agent_end" if self.pi.version.startswith("0.7") else "agent_settled"
        self.wait(lambda told: told.get("type") == last)

    def close(self) -> int:
        """Close stdin, as a client that goes away, and wait for the end."""
        self.process.communicate()
        return self.process.returncode


def program(version: str) -> tuple[list[str], Path]:
    """How to start this version of Pi, and the folder of its package; installs it where it is missing."""
    node = str(programs.node(22))
    if version.startswith("0.7"):
        package = programs.npm(f"pi-{version}", f"@mariozechner/pi-coding-agent@{version}")
        package /= "node_modules/@mariozechner/pi-coding-agent"
        return [node, str(package / "dist/cli.js")], package
    name = f"@earendil-works/pi-coding-agent@{version}"
    if version.startswith("0."):
        package = programs.npm(f"pi-{version}", name) / "node_modules/@earendil-works/pi-coding-agent"
    else:
        # The bundle holds what it needs, but for these.
        beside = ("jiti@2.7.0", "typebox", "@silvia-odwyer/photon-node@0.3.4")
        package = programs.npm(f"pi-{version}", *beside, unpack=name) / "package"
    return [node, str(package / "dist/bundle/cli.js")], package


def print_run(pi: Pi) -> None:
    """Tools, failing tools, refused, failing and broken attempts, each in a prompt of its own."""
    done = pi.run("-p", "MAIN please", "MISSING please", "RETRY429 please", "RETRY503 please", "DROP please")
    assert done.returncode == 0, done.stderr.decode()


def subagent_run(pi: Pi) -> None:
    """A prompt that is handed to a sub-agent, a process of its own."""
    pi.add_subagents()
    done = pi.run("-p", "DELEGATE please")
    assert done.returncode == 0, done.stderr.decode()


def rpc_run(pi: Pi, llm: FakeLlm) -> None:
    """Model switch, thinking level, steering, abort, user bash, compaction, name, reload, fork, new session, resume."""
    pi.add_reload()
    rpc = Rpc(pi)
    rpc.prompt("MAIN please")
    rpc.ask("set_model", provider="fake-anthropic", modelId="fake-claude")
    rpc.ask("set_thinking_level", level="high")
    rpc.prompt("MISSING please")
    rpc.ask("prompt", message="SLOW please")
    rpc.wait(lambda told: told.get("type") == "message_update")
    rpc.ask("steer", message="MISSING instead")
    rpc.ask("follow_up", message="HELLO afterwards")
    llm.release("slow")
    rpc.settled()
    rpc.ask("bash", command="echo by the user")
    for provider, model in (("fake-anthropic", "fake-claude"), ("fake-openai", "fake-large")):
        rpc.ask("set_model", provider=provider, modelId=model)
        rpc.ask("prompt", message="ENDLESS please")
        rpc.wait(lambda told: told.get("type") == "message_update")
        rpc.send("abort")
        rpc.settled()
    rpc.ask("compact")
    rpc.ask("set_session_name", name="a long talk")
    rpc.ask("prompt", message="/again")
    rpc.prompt("HELLO once more")
    first = rpc.ask("get_fork_messages")["data"]["messages"]
    old = rpc.ask("get_state")["data"]["sessionFile"]
    rpc.ask("fork", entryId=first[-1]["entryId"])
    rpc.prompt("HELLO in the fork")
    rpc.ask("new_session")
    rpc.prompt("HELLO in a new session")
    rpc.ask("switch_session", sessionPath=old)
    rpc.prompt("HELLO again")
    assert rpc.close() == 0


def killed_run(pi: Pi, number: int) -> None:
    """A run that a signal ends in the middle of its second prompt's tool."""
    process = pi.start("-p", "MAIN please", "WAIT please")
    assert process.stdin is not None
    process.stdin.close()  # Pi reads all of it before it begins
    pi.wait_for(lambda line: line["e"] == "tool_start" and line.get("args", {}).get("command") == _WAITING)
    wait_until((pi.work / "waiting").exists)
    process.send_signal(number)
    process.wait()
    (pi.work / "waiting").unlink()
    for pipe in (process.stdout, process.stderr):
        if pipe is not None:
            pipe.close()
