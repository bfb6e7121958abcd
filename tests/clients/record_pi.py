"""Records the spools and session files of real Pi runs into the tests' data: `python record_pi.py 0.87.1 [run ...]`."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pi_runs
import programs
from fake_llm import FakeLlm
from pi_runs import Json, Pi

CAPTURES = Path(__file__).parents[1] / "data" / "captures"
_RUNS: dict[str, Callable[[Pi, FakeLlm], None]] = {
    "print": lambda pi, llm: pi_runs.print_run(pi),
    "subagent": lambda pi, llm: pi_runs.subagent_run(pi),
    "rpc": pi_runs.rpc_run,
    "sigint": lambda pi, llm: pi_runs.killed_run(pi, signal.SIGINT),
    "sigkill": lambda pi, llm: pi_runs.killed_run(pi, signal.SIGKILL),
}


def truth(llm: FakeLlm) -> Json:
    """What the server answered. Of a broken stream the client knows the tokens only where they come first."""
    calls = []
    for record in llm.billed:
        is_told = record["status"] == 200 or (record["status"] == "gone" and record["api"] == "anthropic")
        usage = record.get("usage") or {}
        given = usage["input"] + usage["cache_read"] + usage["cache_write"] if is_told else None
        kept = {key: record.get(key) for key in ("api", "model", "status", "response_id")}
        calls.append({**kept, "input_tokens_total": given, "tool_calls": record.get("tools") or []})
    succeeded = sum(call["status"] == 200 for call in calls)
    return {
        "llm_calls_ok": succeeded,
        "llm_calls_failed": len(calls) - succeeded,
        "input_tokens_incl_cache": sum(call["input_tokens_total"] or 0 for call in calls),
        "calls": calls,
    }


def neutral(text: str, folder: Path) -> str:
    """The text without what belongs to this machine."""
    escaped = str(folder).strip("/").replace("/", "-")
    text = text.replace(str(folder), "/home/dev/pi").replace(escaped, "home-dev-pi")
    text = text.replace(str(pi_runs.EXTENSION.parents[1]), "/home/dev/tachograph")
    text = text.replace(str(programs.cache()), "/home/dev/programs")
    return text.replace(f'"host":{json.dumps(os.uname().nodename)}', '"host":"laptop"').replace(
        f'"user":{json.dumps(os.environ.get("USER") or "root")}', '"user":"dev"'
    )


def record(version: str, name: str) -> None:
    """Make one run and keep what it left."""
    target = CAPTURES / f"pi-spool-{''.join(version.split('.')[:2])}-{name}"
    folder = Path(tempfile.mkdtemp(prefix="pi-"))
    try:
        with FakeLlm(pi_runs.SCENARIO) as llm:
            pi = Pi(version, folder, llm)
            _RUNS[name](pi, llm)
        shutil.rmtree(target, ignore_errors=True)
        for place, files in (("spool", pi.files()), ("transcript", pi.sessions())):
            (target / place).mkdir(parents=True)
            for file in files:
                text = neutral(file.read_text(encoding="utf-8"), folder)
                (target / place / neutral(file.name, folder)).write_text(text, encoding="utf-8")
        (target / "truth.json").write_text(json.dumps(truth(llm), indent=1) + "\n", encoding="utf-8")
    finally:
        shutil.rmtree(folder)
    print(target.name, sum(file.stat().st_size for file in target.rglob("*.json*")))


if __name__ == "__main__":
    # Started in the background, a shell would let Pi ignore it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for wanted in sys.argv[2:] or _RUNS:
        record(sys.argv[1], wanted)
