"""Sessions side by side: the numbers are those of the sessions, the changes against the first."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from contextlib import closing

import pytest
from starlette.testclient import TestClient

import filled
from fillings import NOON, SECOND, Filling
from tachograph.model import PROMPT, TOOL_RUN, Content, Meaning, Usage
from tachograph.scan import Scan
from tachograph.store.duckdb import DuckStore, open_store


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DuckStore]:
    """Two sessions: the second costs three times as much, and has another tool and one prompt more."""
    folder = tmp_path_factory.mktemp("pair")
    with closing(open_store(folder, lambda: filled.NOW_NS)) as kept:
        filling = Filling(kept)
        for session, calls in (("one", 1), ("two", 3)):
            for number in range(calls):
                at_ns = NOON + number * 60 * SECOND
                cost = {"cost_nanousd": SECOND, "cost_kind": "billed"}
                filling.call("big", at_ns, Usage(input_uncached=100, output=10), session_id=session, agent="pi", **cost)
            for number in range(1 if session == "one" else 2):
                said = [Content("prompt", "", [f"prompt {number} of <b>{session}</b>"])]
                meaning = Meaning(role=PROMPT, session_id=session, agent="pi", prompt_id=f"{session}{number}")
                filling.event("user", meaning, said, at_ns=NOON - SECOND + number * 60 * SECOND)
            tool = Meaning(role=TOOL_RUN, session_id=session, agent="pi", tool_name=f"tool-of-{session}")
            filling.event("tool", tool, at_ns=NOON + SECOND)
        filling.done()
        yield kept


def row(page: str, label: str) -> list[str]:
    found = re.search(rf"<tr><th scope=\"row\"[^>]*>(?:<bdi[^>]*>)?{label}(?:</bdi>)?</th>(.*?)</tr>", page, re.DOTALL)
    assert found is not None, label
    cells = re.findall(r"<td[^>]*>(.*?)</td>", found[1], re.DOTALL)
    return [" ".join(html.unescape(re.sub(r"<[^>]+>", " ", cell)).split()) for cell in cells]


def test_numbers_stand_against_the_first(pair: DuckStore) -> None:
    page = filled.client(pair).get("/compare/sessions?id=one&id=two").text
    assert row(page, "Cost") == ["$1.00 billed", "$3.00 billed ×3.0"]
    assert row(page, "Calls") == ["1", "3 ×3.0"]
    assert row(page, "Prompts") == ["1", "2 ×2.0"]
    assert row(page, "Cost a prompt") == ["$1.00 billed", "$1.50 billed +50 %"]
    assert row(page, "From the cache") in (["unknown", "unknown"], ["0 %", "0 %"])
    assert row(page, "big") == ["$1.00 billed 1 call", "$3.00 billed 3 calls"]
    assert row(page, "tool-of-two")[0] == "–" and row(page, "tool-of-two")[1].startswith("1")
    assert "data-plot" in page


def test_prompts_of_the_same_number_stand_beside_each_other(pair: DuckStore) -> None:
    page = filled.client(pair).get("/compare/sessions?a=one&b=two").text
    prompts = page.partition("Prompts of the same number")[2]
    first, second = row(prompts, "1"), row(prompts, "2")
    assert first[0].startswith("prompt 0 of <b>one</b>") and first[1].startswith("prompt 0 of <b>two</b>")
    assert second[0] == "–" and second[1].startswith("prompt 1 of <b>two</b>")
    assert "<b>one" not in page
    links = re.findall(r'<a href="(/sessions/[^"]+#prompt-\d+)"', html.unescape(prompts))
    assert len(links) == 3 and all(filled.client(pair).get(one).status_code == 200 for one in links)


def test_too_few_or_unknown_sessions_are_told(pair: DuckStore) -> None:
    browser = filled.client(pair)
    assert "takes two to 5 sessions" in browser.get("/compare/sessions").text
    assert "takes two to 5 sessions" in browser.get("/compare/sessions?id=one&id=one").text
    page = browser.get("/compare/sessions?id=one&id=<script>").text
    assert "Not kept: <bdi>&lt;script&gt;</bdi>" in page


def test_recorded_sessions_compare(browser: TestClient, store: DuckStore) -> None:
    ids = store.scan(Scan("sessions", {"id": "session_id"})).data["id"]
    for start in range(0, len(ids) - 1, 3):
        answer = browser.get("/compare/sessions", params=[("id", one) for one in ids[start : start + 5]])
        assert answer.status_code == 200
        assert "<script>alert" not in answer.text
