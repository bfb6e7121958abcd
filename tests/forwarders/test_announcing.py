"""What is said of a destination on stderr: what changes, once, and not too often."""

from __future__ import annotations

import pytest

from tachograph.pipeline.announcing import PAUSE_NS, Announcer
from tachograph.pipeline.progress import State


def test_what_changes_is_said_once(capsys: pytest.CaptureFixture[str]) -> None:
    now_ns = [10 * PAUSE_NS]
    news = Announcer("acme", State(refused=8), lambda: now_ns[0])

    def said(state: State) -> list[str]:
        news.look(state)
        return capsys.readouterr().err.splitlines()

    busy = State(failures=1, answer="answered 503", retry_ns=now_ns[0] + 7_000_000_000, refused=8)
    assert said(State(refused=8)) == []
    (line,) = said(busy)
    assert line.startswith("tachograph: warning: forward acme: ") and "answered 503; tried again in 7 s" in line
    assert said(busy) == []
    (line,) = said(State(failures=2, is_refusing=True, answer="answered 401", refused=8))
    assert "until somebody acts: answered 401" in line
    works, aside = said(State(refused=13))
    assert works.endswith("works again") and "set aside: 5 of" in aside
    busy.refused = 13
    assert said(busy) == [], "it was said less than a minute ago"
    now_ns[0] += PAUSE_NS
    assert len(said(busy)) == 1
    aside, lost = said(State(refused=14, lost=40, failures=1))
    assert "set aside: 1 of" in aside and "sent: 40 records" in lost
