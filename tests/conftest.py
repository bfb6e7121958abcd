"""What every test shares: homes of its own, where no agent has written, and Hypothesis without a stopwatch."""

from __future__ import annotations

import atexit
import os
import shutil
import signal
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# No test depends on timing: a busy machine must not turn a true property into a failure.
settings.register_profile("tachograph", deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True)
settings.register_profile("repeatable", settings.get_profile("tachograph"), derandomize=True, database=None)
settings.load_profile("tachograph")


# Run in the background, a shell lets its children ignore Ctrl-C, and these theirs: the tests send it to some.
signal.signal(signal.SIGINT, signal.default_int_handler)


# Where agents write, and what moves it: a test must never read what the developer's own agents have written.
_AGENTS = (
    "CLAUDE_",
    "CODEX_",
    "PI_",
    "GEMINI_",
    "COPILOT_",
    "OPENCODE_",
    "OPENCLAW_",
    "CLAWDBOT_",
    "MOLTBOT_",
    "OTEL_",
    "LANGFUSE_",
    "POSTHOG_",
)
_HOMES = ("HOME", "USERPROFILE")
_BESIDE_HOMES = ("XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME", "APPDATA", "LOCALAPPDATA")

# For the whole run at first, as fixtures of a wider scope start before those of a test.
_nobody = tempfile.mkdtemp(prefix="tachograph-tests-")
atexit.register(shutil.rmtree, _nobody, ignore_errors=True)
for _name in list(os.environ):
    if _name.startswith(_AGENTS) or _name in _BESIDE_HOMES:
        del os.environ[_name]
os.environ.update(dict.fromkeys(_HOMES, _nobody))


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """One more than there are processors: many tests wait for a server or a disk."""
    return (os.cpu_count() or 1) + 1


@pytest.fixture(autouse=True)
def user_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's home folder of the test's own; agents would write below it."""
    folder = tmp_path / "user"
    folder.mkdir()
    for name in _HOMES:
        monkeypatch.setenv(name, str(folder))
    return folder


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Point TACHOGRAPH_HOME at a fresh folder and take every other setting away, so no test meets the user's own."""
    for name in [name for name in os.environ if name.startswith("TACHOGRAPH_") and name != "TACHOGRAPH_GOLDEN"]:
        monkeypatch.delenv(name)
    folder = tmp_path / "tachograph-home"
    monkeypatch.setenv("TACHOGRAPH_HOME", str(folder))
    return folder
