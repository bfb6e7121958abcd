"""The list of sessions: sub-agents with their parents, what is chosen, the context call by call."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

import filled
from fillings import NOON, SECOND, Filling
from tachograph.model import Usage
from tachograph.questions import sessions as list_sessions
from tachograph.questions.contexts import contexts
from tachograph.scan import Match
from tachograph.store.duckdb import DuckStore, open_store
from tachograph.web.sparks import context_line

CALLS = 250  # more than are read one by one


@pytest.fixture(scope="module")
def family(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DuckStore]:
    """A parent with a sub-agent's session, a sub-agent without a kept parent, a long session and a lone trace."""
    folder = tmp_path_factory.mktemp("family")
    with closing(open_store(folder, lambda: filled.NOW_NS)) as kept:
        filling = Filling(kept)
        for at, tokens in enumerate((100, 900, 300)):
            filling.call(
                "m", NOON + at * SECOND, Usage(input_uncached=tokens, output=1), session_id="parent", agent="pi"
            )
        filling.call("m", NOON, Usage(input_uncached=7777, output=1), session_id="parent", agent="pi", subagent="scout")
        child = {"lineage": "subagent", "agent": "pi", "subagent": "scout"}
        filling.call("m", NOON, Usage(input_uncached=50, output=1), session_id="child", parent_session_id="parent",
                     cost_nanousd=2 * SECOND, cost_kind="billed", **child)  # fmt: skip
        filling.call(
            "m", NOON, Usage(input_uncached=50, output=1), session_id="orphan", parent_session_id="gone", **child
        )
        for at in range(CALLS):
            filling.call(
                "m", NOON + at * SECOND, Usage(input_uncached=1000 + at, output=1), session_id="long", agent="x"
            )
        filling.call("m", NOON, Usage(input_uncached=42, output=1), trace_id="f" * 32, agent="script", request_id="r")
        filling.done()
        yield kept


def listed(store: DuckStore, address: str) -> list[str]:
    page = html.unescape(filled.client(store).get(address).text)
    return sorted(re.findall(r'<td class="[^"]*main">\s*<a href="/sessions/([^"]+)"', page))


def test_a_sub_agents_session_stands_with_its_parent(family: DuckStore) -> None:
    assert listed(family, "/sessions") == sorted(["parent", "orphan", "long", "trace%3A" + "f" * 32])
    assert "child" in listed(family, "/sessions?subagents=yes")
    page = html.unescape(filled.client(family).get("/sessions").text)
    assert "4 sessions" in page and "5 with sub-agents" in page
    told = re.search(r'<a href="([^"]+)"><bdi>\+\$2\.00 in 1 sub-agent</bdi>', page)
    assert told is not None
    assert listed(family, told[1]) == ["child"]


def test_who_asks_for_a_sub_agent_finds_it(family: DuckStore) -> None:
    for query in ("lineage:subagent", "session:chi", "parent_session_id:parent"):
        assert "child" in listed(family, f"/sessions?q={query}"), query
    assert listed(family, "/sessions?q=cost>1") == []


def test_what_is_chosen_is_exported(family: DuckStore) -> None:
    answer = filled.client(family).get("/sessions?id=child&id=long&format=jsonl")
    assert sorted(json.loads(line)["session_id"] for line in answer.text.splitlines()) == ["child", "long"]
    page = filled.client(family).get("/sessions").text
    assert page.count('form="choose" name="id"') == 4


def test_a_context_is_that_of_the_sessions_own_calls_in_order(family: DuckStore) -> None:
    found = contexts(family, list_sessions(family))
    assert found["parent"] == [100, 900, 300]  # not the sub-agent's within it
    assert found["child"] == [50]
    assert found["trace:" + "f" * 32] == [42]
    assert found["long"] == sorted(found["long"])
    assert found["long"][-1] == 1000 + CALLS - 1 and 64 <= len(found["long"]) <= 512


def test_contexts_of_nothing_are_nothing(family: DuckStore, tmp_path: Path) -> None:
    assert contexts(family, []) == {}
    with closing(open_store(tmp_path, lambda: NOON)) as empty:
        assert contexts(empty, list_sessions(empty, where=(Match("agent", "=", "x"),))) == {}


def test_a_line_shows_its_peak_and_stays_small() -> None:
    assert context_line([]) == ""
    assert "1.00k" in context_line([1, 1000, 2])
    assert "<svg" not in context_line([5]), "one call is no course"
    assert "NaN" not in context_line([0, 0]) and 'd="M0 50L400 50"' in context_line([0, 0])
    assert 'd="M0 50L400 50"' in context_line([10_000, 10_100]), "a change of 1 % is none"
    assert 'd="M0 88L400 10"' in context_line([10_000, 10_400]), "from the least to the largest"
    long = context_line([*range(10_000), 99_999, 1])
    assert len(long) < 1500 and "100k" in long
