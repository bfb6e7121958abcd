"""The page of a session and its files: what happened is shown, runs are readable, and nothing in them acts."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import pytest
from starlette.testclient import TestClient

import filled
from tachograph.model import Batch, Content, Event, Meaning, Source, Span, Usage
from tachograph.questions import course
from tachograph.questions import session as find_session
from tachograph.scan import Scan
from tachograph.store.duckdb import DuckStore, open_store
from tachograph.tree import prompts_of, session_tree
from tachograph.web import conversation, reading
from tachograph.web.reading import part
from tachograph.web.rendering import path_of

S = 1_000_000_000
START = filled.NOW_NS - 3_600 * S
SOURCE = Source({"service.name": "pi"})
SECRET = "sk-ant-api03-" + "Ab3dE5" * 14
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="


def prompts(count: int, name: str = "long", calls: int = 2) -> Batch:
    """A session of many prompts, each with calls and a command."""
    spans = []
    for number in range(count):
        trace, at = f"{number + 1:032x}", START + number * (calls + 8) * S
        of: dict[str, Any] = {"session_id": name, "agent": "pi", "prompt_id": f"p{number}"}
        text = [Content("prompt", "p", [f"do {number}"])]
        root = f"{number * 100 + 1:016x}"
        spans.append(
            Span(SOURCE, trace, root, "", "prompt", 1, at, at + (calls + 6) * S, {},
                 meaning=Meaning(role="prompt", **of), contents=text)
        )  # fmt: skip
        for call in range(calls):
            begun = at + (call + 1) * S
            usage = Usage(input_uncached=100, cache_read=5_000 + number, output=10)
            meaning = Meaning(
                role="model_call", is_call=True, usage=usage, provider="anthropic", response_model="claude-sonnet-4-5",
                response_id=f"{name}.{number}.{call}", **of,
            )  # fmt: skip
            id_ = f"{number * 100 + 2 + call:016x}"
            spans.append(Span(SOURCE, trace, id_, root, "chat", 1, begun, begun + S // 2, {}, meaning=meaning))
        ran = Meaning(role="tool_run", tool_name="bash", tool_call_id=f"t{number}", **of)
        texts = [Content("arguments", "a", ['{"command": "ls"}']), Content("result", "r", ["a\nexit code 0"])]
        begun = at + (calls + 1) * S
        id_ = f"{number * 100 + 90:016x}"
        spans.append(Span(SOURCE, trace, id_, root, "bash", 1, begun, begun + S, {}, meaning=ran, contents=texts))
    return Batch(spans=spans)


def told() -> Batch:
    """A session in which everything happens that a page shows."""
    of: dict[str, Any] = {"session_id": "told", "agent": "pi", "prompt_id": "p"}
    image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PIXEL}}
    edit = json.dumps({"path": "a.py", "edits": [{"oldText": "teh <b>", "newText": f"the {SECRET}"}]})
    todo = json.dumps({"todos": [{"content": "look", "status": "completed"}, {"content": "act", "status": "pending"}]})
    runs = [
        ("edit", edit, "ok"),
        ("TodoWrite", todo, "ok"),
        ("bash", '{"command": "false"}', "oops\nCommand exited with code 3"),
        ("read", '{"path": "x.png"}', json.dumps([image])),
    ]
    calls = [
        ("m-one", Usage(input_uncached=10, cache_write=4_000, output=5), False, 0),
        ("m-one", Usage(input_uncached=5_000, output=5), False, 0),
        ("m-one", Usage(), True, 529),
        ("m-two", Usage(input_uncached=600, output=5), False, 0),
    ]
    spans = []
    asked = [Content("prompt", "p", [f"# Hello\nuse {SECRET}"])]
    spans.append(
        Span(SOURCE, "a" * 32, "1" * 16, "", "prompt", 1, START, START + 60 * S, {},
             meaning=Meaning(role="prompt", **of), contents=asked)
    )  # fmt: skip
    for number, (model, usage, failed, status) in enumerate(calls):
        at = START + (number + 1) * S
        meaning = Meaning(
            role="model_call", is_call=True, usage=usage, provider="fake", response_model=model,
            response_id=f"told.{number}",
            is_error=failed, http_status=status or None, error_message="busy" if failed else "",
            attempt=2 if number == 3 else 1, **of,
        )  # fmt: skip
        spans.append(Span(SOURCE, "a" * 32, f"{number + 2:016x}", "1" * 16, "chat", 1, at, at + S // 2, {},
                          meaning=meaning))  # fmt: skip
    for number, (tool, given, got) in enumerate(runs):
        at = START + (number + 10) * S
        meaning = Meaning(role="tool_run", tool_name=tool, tool_call_id=f"t{number}", is_error=tool == "bash", **of)
        texts = [Content("arguments", "a", [given]), Content("result", "r", [got])]
        spans.append(Span(SOURCE, "a" * 32, f"{number + 20:016x}", "1" * 16, tool, 1, at, at + S // 4, {},
                          meaning=meaning, contents=texts))  # fmt: skip
    summary = [Content("response", "r", ["what was said before"])]
    events = [
        Event(SOURCE, START + 20 * S, "compaction", {"tokens_before": 5_000, "tokens_after": 700}, origin="transcript",
              meaning=Meaning(role="", **of), contents=summary),
        Event(SOURCE, START + 21 * S, "user_bash", {"exitCode": 0}, origin="transcript", meaning=Meaning(role="", **of),
              contents=[Content("arguments", "a", ["git status"]), Content("result", "r", ["clean"])]),
        Event(SOURCE, START + 22 * S, "agent.aborted", {}, origin="hook", meaning=Meaning(role="", **of)),
    ]  # fmt: skip
    return Batch(spans=spans, events=events)


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DuckStore]:
    """The two sessions, kept with their secrets as `content = "full"` would."""
    folder = tmp_path_factory.mktemp("session")
    store = open_store(folder, lambda: filled.NOW_NS)
    filled.keep(store, folder, [prompts(400), told()], is_understood=True)
    yield store
    store.close()


@pytest.fixture
def page(kept: DuckStore) -> str:
    """The page of the session where everything happens."""
    answer = filled.client(kept).get("/sessions/told")
    assert answer.status_code == 200
    return answer.text


def test_what_happened_between_the_calls_is_shown_where_it_happened(page: str, kept: DuckStore) -> None:
    assert [one.kind for one in course(kept, "told").happenings] == [
        "cache", "retry", "model", "retry", "compaction", "bash", "aborted",
    ]  # fmt: skip
    text = html.unescape(re.sub(r"<[^>]+>", " ", page))
    words = re.sub(r"\s+", " ", text)
    for said in (
        "cache break 0 of 4,000 cached tokens read, 0 s after the last call",
        "model switch m-one → m-two",
        "failed 529",
        "attempt 2",
        "context compacted 5,000 → 700 tokens",
        "what was said before",
        "the user ran git status",
        "1 abort",
    ):
        assert said in words, said
    assert words.index("cache break 0") < words.index("model switch m-one") < words.index("context compacted")


def test_runs_are_shown_as_what_they_are(page: str) -> None:
    assert re.search(r'<span class="d-del"><i>−</i>teh &lt;b&gt;', page)
    assert re.search(r'<span class="d-add"><i>\+</i>the ', page)
    assert re.search(r'<span class="ask">\$</span> false</pre>', page)
    assert '<span class="exit bad" title="exit code">exit 3</span>' in page
    assert "1 of 2 done" in page
    assert re.search(r'<li class="done">.*?<bdi>look</bdi>', page)
    assert re.search(r'<li class="open">.*?<bdi>act</bdi>', page)


def test_an_image_comes_from_what_is_kept_as_what_it_is(page: str, kept: DuckStore) -> None:
    address = re.search(r'src="(/texts/[^"]+/images/0)"', page)
    assert address
    browser = filled.client(kept)
    answer = browser.get(address[1])
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "image/png"
    assert answer.content.startswith(b"\x89PNG")
    assert browser.get(address[1].replace("/0", "/1")).status_code == 404
    assert browser.get("/texts/nothing/images/0").status_code == 404


@pytest.mark.parametrize("form", ["md", "html"])
def test_a_file_holds_the_session_and_no_secret(kept: DuckStore, form: str) -> None:
    answer = filled.client(kept).get(f"/sessions/told/export.{form}")
    assert answer.status_code == 200
    assert answer.headers["content-disposition"] == f'attachment; filename="session-told.{form}"'
    for said in ("Hello", "git status", "oops", "m-two", "the "):
        assert said in answer.text, said
    assert SECRET not in answer.text
    assert "[redacted" in answer.text
    if form == "html":
        assert "<script" not in answer.text
        assert "<link" not in answer.text
        assert not re.search(r'(?:src|href)="(?!data:image/png;base64,|#prompt-)', answer.text)
        assert f"data:image/png;base64,{PIXEL}" in answer.text
    else:
        assert "```diff\n-teh <b>\n+the " in answer.text
    assert filled.client(kept).get(f"/sessions/none/export.{form}").status_code == 404
    assert filled.client(kept).get("/sessions/told/export.pdf").status_code == 404


@pytest.mark.parametrize("form", ["md", "html"])
def test_a_file_holds_long_texts_whole(tmp_path: Path, form: str) -> None:
    store = open_store(tmp_path, lambda: filled.NOW_NS)
    batch = prompts(1)
    for span in batch.spans:
        for content in span.contents or ():
            content.pieces = ["word " * 8_000 + f"the end of the {content.slot}"]
    filled.keep(store, tmp_path, [batch], is_understood=True)
    page = filled.client(store).get("/sessions/long").text
    assert "the end of the prompt" not in page and "the end of the result" not in page
    text = filled.client(store).get(f"/sessions/long/export.{form}").text
    assert "the end of the prompt" in text and "the end of the result" in text
    assert "(cut)" not in text and "cut here" not in text
    store.close()


def test_every_recorded_session_can_be_written(browser: TestClient, store: DuckStore) -> None:
    ids = store.scan(Scan("sessions", {"id": "session_id"})).data["id"]
    assert len(ids) > 10
    for id_ in ids:
        if id_.startswith(filled.EVIL[:5]):
            continue  # its id ends like a path
        for form in ("md", "html"):
            answer = browser.get(path_of("sessions", id_, f"export.{form}"))
            assert answer.status_code == 200, id_
            assert "<script>alert" not in answer.text


def test_a_long_session_is_read_in_parts_that_meet(kept: DuckStore) -> None:
    row = find_session(kept, "long")
    assert row is not None
    went = course(kept, "long")
    whole = conversation.sections(session_tree(kept, "long"))
    assert [one.id for one in prompts_of(kept, "long")] == [one.node.id for one in whole if one.node]
    shown: list[tuple[int, list[str]]] = []
    at: int | None = 0
    while at is not None:
        one = part(kept, row, went, str(at))
        assert one.is_part
        assert one.first == at
        assert len(one.sections) <= reading.PROMPTS_SHOWN
        shown += [(each.number, [step.node.id for step in each.steps]) for each in one.sections]
        at = one.later
    assert shown == [(each.number, [step.node.id for step in each.steps]) for each in whole]
    newest = part(kept, row, went, "")
    assert newest.sections[-1].number == 400
    assert newest.later is None
    assert newest.earlier == 400 - 2 * reading.PROMPTS_SHOWN


def test_prompts_with_many_calls_make_shorter_parts(tmp_path: Path) -> None:
    store = open_store(tmp_path, lambda: filled.NOW_NS)
    filled.keep(store, tmp_path, [prompts(36, "wide", calls=40)], is_understood=True)
    row = find_session(store, "wide")
    assert row is not None
    one = part(store, row, course(store, "wide"), "")
    assert len(one.sections) < 6
    assert one.sections[-1].number == 36
    assert filled.client(store).get("/sessions/wide").status_code == 200
    store.close()


def by_steps(store: DuckStore, name: str) -> list[reading.Part]:
    """The parts of a long session that has no prompts to tell them by."""
    row = find_session(store, name)
    assert row is not None
    went = course(store, name)
    parts = [part(store, row, went, "")]
    while parts[-1].later is not None:
        parts.append(part(store, row, went, "", str(parts[-1].later)))
        assert parts[-1].earlier is not None
    assert all(one.is_by_step and one.is_part for one in parts)
    assert [one.first for one in parts] == [number * reading.STEPS_SHOWN for number in range(len(parts))]
    return parts


@pytest.mark.parametrize("has_prompt", [True, False])
def test_a_long_session_of_one_prompt_or_none_is_read_by_its_steps(tmp_path: Path, has_prompt: bool) -> None:
    store = open_store(tmp_path, lambda: filled.NOW_NS)
    batch = prompts(1, "one", calls=1_600)
    batch.spans[-1].span_id = "f" * 16  # one of its calls has the id that it would have
    for span in batch.spans if not has_prompt else ():
        assert span.meaning is not None
        span.meaning.prompt_id = ""
    filled.keep(store, tmp_path, [Batch(spans=batch.spans[0 if has_prompt else 1 :])], is_understood=True)
    whole = conversation.sections(session_tree(store, "one"), 10_000)
    parts = by_steps(store, "one")
    assert len(parts) == 7 and parts[0].total == 1_601
    steps = [step.node.id for one in parts for section in one.sections for step in section.steps]
    assert steps == [step.node.id for section in whole for step in section.steps]
    browser = filled.client(store)
    for one in parts:
        page = browser.get(f"/sessions/one?step={one.first}").text
        assert ("Prompt 1" in page and "do 0" in page) == has_prompt
        assert ("Outside any prompt" in page) != has_prompt
        assert "1,601" in page and ("earlier steps" in page) == (one.first > 0)
        assert ("later steps" in page) == (one.later is not None) and "timeline" in page
    assert browser.get("/sessions/one?step=99999").text == browser.get("/sessions/one?step=1600").text
    assert browser.get("/sessions/one?step=x").status_code == browser.get("/sessions/one?from=9").status_code == 200
    store.close()


def test_steps_of_one_moment_stay_together(tmp_path: Path) -> None:
    store = open_store(tmp_path, lambda: filled.NOW_NS)
    meaning = Meaning(role="tool_run", tool_name="bash", session_id="same", agent="pi")
    spans = [
        Span(
            SOURCE, "c" * 32, f"{number + 1:016x}", "", "bash", 1, START + (number > 0), START + S, {}, meaning=meaning
        )
        for number in range(1_600)
    ]
    filled.keep(store, tmp_path, [Batch(spans=spans)], is_understood=True)
    row = find_session(store, "same")
    assert row is not None
    went = course(store, "same")
    first = part(store, row, went, "")
    assert (first.first, first.later) == (0, None)
    assert sum(len(section.steps) + section.left_out for section in first.sections) == 1_600
    other = part(store, row, went, "", "700")
    assert (other.first, other.earlier, other.later) == (1, 0, None)
    assert sum(len(section.steps) + section.left_out for section in other.sections) == 1_599
    assert filled.client(store).get("/sessions/same").status_code == 200
    store.close()


def test_prompts_are_found_alone_as_in_the_whole_tree(store: DuckStore) -> None:
    ids = store.scan(Scan("sessions", {"id": "session_id"})).data["id"]
    for id_ in ids:
        tree = session_tree(store, id_)
        whole = [
            one.node.id for one in conversation.sections(tree) if one.node is not None and one.node.origin != "made"
        ]
        alone = [node.id for node in prompts_of(store, id_)]
        assert set(whole) <= set(alone), id_


def test_a_prompt_is_found_by_its_number(kept: DuckStore) -> None:
    browser = filled.client(kept)
    for number, first in (("7", 7), ("400", 400), ("999", 400), ("0", 1), ("x", 376), ("1e9", 376)):
        page = browser.get(f"/sessions/long?prompt={number}").text
        assert re.findall(r'<section class="card prompt" id="prompt-(\d+)"', page)[0] == str(first), number


def test_results_share_the_room_of_a_page(kept: DuckStore) -> None:
    shown = conversation.sections(session_tree(kept, "told"))
    conversation.fill(kept, shown, lambda text: text * 1_000 if text.startswith("oops") else text, 1_500)
    views = [step.view for step in conversation.all_steps(shown[0].steps) if step.view]
    assert [len(view.output) for view in views if view.is_cut] == [1_500 - len("ok") * 2]
    assert filled.client(kept).get("/sessions/told").text.count("all of it") == 0


def test_charts_show_what_is_known_and_where_it_broke(page: str, kept: DuckStore) -> None:
    plots = [json.loads(found) for found in re.findall(r'<script type="application/json">(.*?)</script>', page)]
    assert len(plots) == 1  # nothing is priced: no cost is shown, and not one of 0
    assert plots[0]["series"][0]["values"] == [4_010, 5_000, 600]  # the failed call has no size
    assert [mark["label"].partition(":")[0] for mark in plots[0]["marks"]] == ["cache break", "model switch"]
    long = filled.client(kept).get("/sessions/long").text
    cost, context = [json.loads(one) for one in re.findall(r'<script type="application/json">(.*?)</script>', long)]
    assert cost["series"][0]["values"] == sorted(cost["series"][0]["values"])
    assert context["series"][0]["values"][-1] == 5_499
    assert "peak 5.50k of 200k (2.7 %)" in long


HOSTILE = """<img src=//evil.example/a> ![b](https://evil.example/b) \\![c](https://evil.example/c) \\\\<u>
- a list
  ```
<i>
```python
x: Vec<int> = "![d](e)"
~~~
```
<!-- after --> a < b
    ~~~
<h1>
~~~~ left open
</b>"""
INERT = """\\<img src=//evil.example/a> \\![b](https://evil.example/b) \\![c](https://evil.example/c) \\\\\\<u>
- a list
  ```
\\<i>
```python
x: Vec<int> = "![d](e)"
~~~
```
\\<!-- after --> a < b
    ~~~
\\<h1>
~~~~ left open
</b>
~~~~
"""


@pytest.mark.parametrize("slot", ["prompt", "output"])
def test_a_markdown_file_has_no_html_and_no_image_outside_code(
    tmp_path: Path, slot: Literal["prompt", "output"]
) -> None:
    store = open_store(tmp_path, lambda: filled.NOW_NS)
    batch = prompts(1)
    at = 0 if slot == "prompt" else 1
    batch.spans[at].contents = [Content(slot, "h", [HOSTILE])]
    filled.keep(store, tmp_path, [batch], is_understood=True)
    text = filled.client(store).get("/sessions/long/export.md").text
    shown = "".join(f"> {line}\n" for line in INERT.splitlines()) if slot == "prompt" else INERT
    assert shown in text
    store.close()


def test_names_without_an_end_leave_room_for_the_rest(tmp_path: Path) -> None:
    agent, model = "A" * 300, "m" * 300
    meaning = Meaning(
        role="model_call", is_call=True, usage=Usage(input_uncached=1, output=1), session_id="wordy", agent=agent,
        response_model=model, response_id="r",
    )  # fmt: skip
    span = Span(SOURCE, "1" * 32, "2" * 16, "", "chat", 1, START, START + S, {}, meaning=meaning)
    store = open_store(tmp_path, lambda: filled.NOW_NS)
    filled.keep(store, tmp_path, [Batch(spans=[span])], is_understood=True)
    seen = re.sub(r"<[^>]*>", " ", filled.client(store).get("/sessions/wordy").text)
    assert "A" * 59 + "…" in seen and "A" * 61 not in seen
    assert "m" * 59 + "…" in seen and "m" * 101 not in seen
