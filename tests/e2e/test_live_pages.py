"""An open page hears of what comes in, also after the server was away."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Browser, expect

from served import Served
from watched import Tab


@pytest.fixture
def empty(tmp_path: Path) -> Iterator[Served]:
    """A server of the test's own, without data."""
    home = tmp_path / "live-home"
    home.mkdir()
    server = Served(home)
    yield server
    assert server.stop() == 0, server.log()


def send(server: Served, session: str) -> None:
    """One model call of a session, as an OpenTelemetry SDK would send it."""
    now_ns = time.time_ns()
    told = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "gpt-5.1",
        "gen_ai.response.model": "gpt-5.1",
        "gen_ai.conversation.id": session,
        "gen_ai.agent.name": "newcomer",
    }
    attributes: list[dict[str, object]] = [{"key": key, "value": {"stringValue": value}} for key, value in told.items()]
    for kind, count in (("input", 1200), ("output", 34)):
        attributes.append({"key": f"gen_ai.usage.{kind}_tokens", "value": {"intValue": str(count)}})
    span = {
        "traceId": f"{now_ns:032x}", "spanId": f"{now_ns:016x}", "name": "chat gpt-5.1", "kind": 3,
        "startTimeUnixNano": str(now_ns - 10**9), "endTimeUnixNano": str(now_ns), "attributes": attributes,
    }  # fmt: skip
    body = {"resourceSpans": [{"resource": {"attributes": []}, "scopeSpans": [{"scope": {}, "spans": [span]}]}]}
    answer = httpx.post(
        f"{server.otlp}/v1/traces", content=json.dumps(body), headers={"Content-Type": "application/json"}
    )
    assert answer.status_code == 200, answer.text


def test_what_comes_in_appears(empty: Served, chromium: Browser) -> None:
    send(empty, "first-of-all")
    with Tab(chromium, empty.web) as tab:
        page = tab.open("/sessions")
        expect(page.get_by_text("first-of-all").first).to_be_visible()
        send(empty, "came-later")
        expect(page.get_by_text("came-later").first).to_be_visible()
        tab.assert_clean()


def test_a_page_survives_a_restart(empty: Served, chromium: Browser) -> None:
    send(empty, "before-the-restart")
    with Tab(chromium, empty.web) as tab:
        page = tab.open("/sessions")
        expect(page.get_by_text("before-the-restart").first).to_be_visible()
        tab.assert_clean()
        assert empty.stop() == 0
        expect(page.locator("#live-state")).to_have_attribute("data-state", "off")
        empty.start()
        expect(page.locator("#live-state")).to_have_attribute("data-state", "on")
        send(empty, "after-the-restart")
        expect(page.get_by_text("after-the-restart").first).to_be_visible()
