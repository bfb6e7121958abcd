"""What sessions without a title are called."""

from __future__ import annotations

from typing import Any

import pytest

from tachograph.web.naming import session_name, short_id

TRACE = "trace:bc1b4bd6066cb9b4ce8755c826c861bd"
UUID = "ce1a504b-150d-2908-d4f0-0123456789ab"


def row(session_id: str, title: str = "", **more: Any) -> dict[str, Any]:
    known = {"agent": "openclaw", "models": ["gpt-5.1"], "calls": 4, "failed_calls": 0, "tool_runs": 2}
    return {"session_id": session_id, "title": title} | known | more


@pytest.mark.parametrize(
    ("told", "name"),
    [
        (row(TRACE, "Fix the build"), "Fix the build"),
        (row(TRACE), "openclaw · gpt-5.1 · 4 calls"),
        (row(UUID, calls=1), "openclaw · gpt-5.1 · 1 call"),
        (row(UUID.upper(), models=["a", "b", "c"]), "openclaw · a +2 · 4 calls"),
        (row("0" * 32, agent="", models=None, calls=0, failed_calls=3), "unknown agent · 3 failed calls"),
        (row(TRACE, models=[], calls=0), "openclaw · 2 tool runs"),
        (row("trace:", models=[], calls=0, tool_runs=0), "openclaw · no model call"),
        (row("agent:main:slack:42"), "agent:main:slack:42"),
        (row("nightly"), "nightly"),
    ],
)
def test_a_session_is_called_by_what_people_know_of_it(told: dict[str, Any], name: str) -> None:
    assert session_name(told) == name


def test_an_id_is_short_enough_to_stand_beside_others() -> None:
    assert short_id(TRACE) == "bc1b4bd6…"
    assert short_id(UUID) == "ce1a504b…"
    assert short_id("nightly") == "nightly"
