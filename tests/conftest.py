"""What every test shares: a home folder of its own, and Hypothesis without a stopwatch."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# No test depends on timing: a busy machine must not turn a true property into a failure.
settings.register_profile("tachograph", deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True)
settings.load_profile("tachograph")


# Run in the background, a shell lets its children ignore Ctrl-C, and these theirs: the tests send it to some.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Point TACHOGRAPH_HOME at a fresh folder and take every other setting away, so no test meets the user's own."""
    for name in [name for name in os.environ if name.startswith("TACHOGRAPH_") and name != "TACHOGRAPH_GOLDEN"]:
        monkeypatch.delenv(name)
    folder = tmp_path / "tachograph-home"
    monkeypatch.setenv("TACHOGRAPH_HOME", str(folder))
    return folder
