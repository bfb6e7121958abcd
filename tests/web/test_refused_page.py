"""What was refused, on its page: listed with the answer, sent again, dropped; viewers only look."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

import filled
from tachograph.destinations import Destination
from tachograph.pipeline.progress import FILE_NAME, Letter, Progress, State
from tachograph.pipeline.roster import Roster
from tachograph.pipeline.standings import as_shown
from tachograph.store.duckdb import DuckStore
from tachograph.web.pages.destinations import Destination as Shown
from tachograph.web.rendering import Here

SPAN = f"{'a' * 32}:{'b' * 16}"
KNOWN = Destination("acme", "otlp", "acme", options={"endpoint": "http://127.0.0.1:9"}, key="acme@1f")
PAGE = "/destinations/refused"


@pytest.fixture
def progress(tmp_path: Path) -> Iterator[Progress]:
    opened = Progress(tmp_path / FILE_NAME)
    letters = [
        Letter([SPAN, "x"], 1, 1, "traces", "400: <b>never", filled.NOW_NS, 2),
        *(Letter([f"call_{n}"], 2, 2, "calls", "413: too large", filled.NOW_NS, 1) for n in range(150)),
    ]
    opened.save("acme@1f", State(refused=152), letters=letters)
    opened.save("former", State(), letters=[Letter(["e1"], 1, 1, "logs", "400", filled.NOW_NS, 1)])
    yield opened
    opened.close()


@pytest.fixture
def here(tmp_path: Path, progress: Progress, store: DuckStore) -> Here:
    def roster() -> Roster:
        return Roster([KNOWN], (), store, tmp_path, lambda: filled.NOW_NS, progress=progress)

    return Here(
        destinations=lambda: [Shown(**as_shown(one, filled.NOW_NS)) for one in roster().standings()], refusals=roster
    )


def test_all_of_it_is_listed_with_its_answer(store: DuckStore, here: Here) -> None:
    browser = filled.client(store, here=here)
    assert f'href="{PAGE}?of=acme"' in browser.get("/destinations").text
    first, second = browser.get(f"{PAGE}?of=acme").text, browser.get(f"{PAGE}?of=acme&page=2").text
    assert "151 in all" in first and "call_149" in first and "call_0<" not in first
    assert "400: &lt;b&gt;never" in second and "and 1 more" in second
    assert f"/traces/{'a' * 32}?node={'a' * 32}%3A{'b' * 16}" in second and "/calls/call_0" in second
    rows = [json.loads(line) for line in browser.get(f"{PAGE}?of=acme&format=jsonl").text.splitlines()]
    assert len(rows) == 151 and rows[-1]["keys"] == f"{SPAN} x"


def test_some_or_all_are_sent_again_or_dropped(store: DuckStore, here: Here, progress: Progress) -> None:
    browser = filled.client(store, here=here)
    some = [str(letter.id) for letter in progress.letters("acme@1f")[:3]]

    def do(**form: object) -> str:
        return str(browser.post(PAGE, data={"of": "acme", **form}).text)

    assert "3 pieces to be sent again" in do(do="retry", id=some)
    assert [str(letter.id) for letter in progress.letters("acme@1f", is_wanted=True)] == sorted(some, key=int)
    assert browser.get(f"{PAGE}?of=acme").text.count("is sent again") == 3
    assert "1 piece dropped" in do(do="drop", id=some[:1])
    assert "0 pieces dropped" in do(do="drop", id=some[:1]) and "0 pieces to be sent again" in do(do="retry", id="-1")
    assert "150 pieces to be sent again" in do(do="retry-all")
    assert "150 pieces dropped" in do(do="drop-all") and not progress.letters("acme@1f")
    assert progress.count_letters("former") == 1


def test_what_was_removed_can_only_be_dropped(store: DuckStore, here: Here, progress: Progress) -> None:
    browser = filled.client(store, here=here)
    assert "Send" not in browser.get(f"{PAGE}?of=former").text
    assert browser.post(PAGE, data={"of": "former", "do": "retry-all"}).status_code == 400
    assert browser.post(PAGE, data={"of": "former", "do": "drop-all"}).status_code == 200
    assert not progress.letters("former")


@pytest.mark.parametrize(
    ("form", "status"),
    [({"of": "nobody", "do": "drop-all"}, 400), ({"of": "acme", "do": "dance"}, 400), ({"of": "acme"}, 400)],
)
def test_wrong_wishes_change_nothing(
    store: DuckStore, here: Here, progress: Progress, form: dict[str, str], status: int
) -> None:
    browser = filled.client(store, here=here)
    answer = browser.post(PAGE, data=form)
    assert answer.status_code == status and "expected one of" in answer.text
    assert browser.post(PAGE, content=b"x" * 70_000).status_code == 400
    assert browser.get(f"{PAGE}?of=nobody").status_code == 400
    assert progress.count_letters("acme@1f") == 151


def test_a_viewer_only_looks(store: DuckStore, here: Here, progress: Progress) -> None:
    admin, viewer = "a-web-token-of-the-tests", "a-viewer-token-of-the-tests"
    browser = filled.client(store, here=here, web_token=admin, viewer_token=viewer)
    browser.headers["authorization"] = f"Bearer {viewer}"
    assert "<form id" not in browser.get(f"{PAGE}?of=acme").text
    assert browser.post(PAGE, data={"of": "acme", "do": "drop-all"}).status_code == 403
    assert progress.count_letters("acme@1f") == 151
    browser.headers["authorization"] = f"Bearer {admin}"
    assert "<form id" in browser.get(f"{PAGE}?of=acme").text
