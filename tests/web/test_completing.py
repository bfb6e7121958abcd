"""What the filter box offers over HTTP: fields with what they mean, values as the store holds them."""

from __future__ import annotations

import pytest
from starlette.testclient import TestClient

import filled


def offers(browser: TestClient, query: str, table: str = "sessions") -> list[dict[str, str]]:
    answer = browser.get("/complete", params={"q": query, "table": table})
    assert answer.status_code == 200 and answer.headers["content-type"] == "application/json"
    found: list[dict[str, str]] = answer.json()["offers"]
    return found


def test_fields_come_with_what_they_mean(browser: TestClient) -> None:
    assert offers(browser, "error:true -mod") == [
        {"text": "error:true -model:", "shown": "-model:", "what": "a part of a model's name"}
    ]
    assert {"ttft:", "duration:"} <= {
        one["shown"] for one in offers(browser, "", "calls") + offers(browser, "t", "calls")
    }
    assert "ttft:" not in {one["shown"] for one in offers(browser, "t")}


def test_values_come_from_the_store(browser: TestClient) -> None:
    assert {"text": "agent:codex ", "shown": "agent:codex", "what": ""} in offers(browser, "agent:co")


def test_a_hostile_name_is_one_term_that_finds_itself(browser: TestClient) -> None:
    offered = next(one for one in offers(browser, "agent:") if "script" in one["shown"])
    page = browser.get("/sessions", params={"q": offered["text"]}).text
    assert "filter: character" not in page
    assert page.count('name="id"') == 1
    assert filled.EVIL not in page


@pytest.mark.parametrize(
    "query", ['"', "agent:\\", "a" * 5000, "agent:(", "\x00", "tool:[", 'agent:"x\\"', "q=&table="]
)
def test_anything_may_be_written(browser: TestClient, query: str) -> None:
    assert isinstance(offers(browser, query, "calls"), list)
    assert isinstance(offers(browser, query, "no such table"), list)
