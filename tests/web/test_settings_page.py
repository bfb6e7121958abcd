"""The page of settings: what is in force and from where, which price applies, rates that are changed, backups."""

from __future__ import annotations

import html
import re
from pathlib import Path

import pytest
from starlette.testclient import TestClient

import filled
from tachograph.config import FILE_NAME, SETTINGS, Settings, load, origins
from tachograph.pricing import Prices
from tachograph.store.duckdb import DuckStore
from tachograph.web.rendering import Here
from tachograph.web.upkeep import Upkeep, backup_folder, backups

TOKEN = "a-secret-token-of-the-tests"
SAME = {"Origin": "http://127.0.0.1:4319"}
RATE = '[[model]]\nname = "my-model"\ninput = 1.5\noutput = 3\n'


class Process:
    """What a server hands to the page: its prices, and the store's own backup."""

    def __init__(self, store: DuckStore, home: Path, **given: str) -> None:
        home.mkdir(exist_ok=True)
        self.home = home
        self.prices = Prices(None)
        self.settings = load({"home": str(home), **given}, {})
        self.upkeep = Upkeep(
            lambda: self.prices, self.use, store.backup, home / "prices.toml", origins(home, {"home": home} | given, {})
        )
        self.browser = filled.client(store, here=Here(self.settings, upkeep=self.upkeep))

    def use(self, prices: Prices) -> None:
        self.prices = prices

    def save(self, text: str) -> int:
        page = self.browser.get("/settings").text
        mark = re.search(r'name="mark" value="(\w+)"', page)
        assert mark
        answer = self.browser.post("/settings/prices", data={"text": text, "mark": mark[1]}, headers=SAME)
        self.said = html.unescape(answer.text)
        return answer.status_code


@pytest.fixture
def process(store: DuckStore, tmp_path: Path) -> Process:
    """One with a token and nothing in its home."""
    return Process(store, tmp_path / "home", ingest_token=TOKEN)


def test_every_setting_has_its_value_and_where_it_is_from(store: DuckStore, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (home / FILE_NAME).write_text('retention_days = 31\ncontent = "none"\n')
    process = Process(store, home, ingest_token=TOKEN, memory_bytes="512 MiB")
    page = html.unescape(process.browser.get("/settings").text)
    assert all(f"<code>{one.name}</code>" in page and one.what in page for one in SETTINGS)
    assert TOKEN not in page and "512 MiB" in page and "<bdi>31</bdi>" in page
    assert "--ingest-token" in page and page.count(f"<code>{FILE_NAME}</code>") == 2


def test_a_file_that_changed_since_the_start_is_told(process: Process) -> None:
    file = process.home / FILE_NAME
    file.write_text("retention_days = 7\n")
    assert "7 after the next start" in process.browser.get("/settings").text
    file.write_text("retention_days = -7\n")
    page = process.browser.get("/settings").text
    assert "The next start would stop at this." in page and f"{FILE_NAME}:1" in page


def test_which_price_applies_is_told(process: Process) -> None:
    page = process.browser.get("/settings?model=gpt-5.1&provider=openai").text
    assert "the catalogue, genai-prices/" in page and "<td" in page
    assert "no price is known" in process.browser.get("/settings?model=%3Cb%3Emine").text


def test_rates_are_checked_and_used_at_once(process: Process) -> None:
    assert process.save(RATE) == 200 and "The rates are in use" in process.said
    assert (process.home / "prices.toml").read_text() == RATE
    assert process.prices.card("", "my-model", filled.NOW_NS).source == "override"
    assert "a rate of your own" in process.browser.get("/settings?model=my-model").text


@pytest.mark.parametrize(
    "text", ["[[model]]\nname = 'x'", "nonsense", '[[model]]\nname="a"\ninput=-1\noutput=1', "\x00"]
)
def test_a_mistake_in_the_rates_changes_nothing(process: Process, text: str) -> None:
    process.save(RATE)
    assert process.save(text) == 400 and 'role="alert"' in process.said and "prices.toml" in process.said
    assert text.replace("\x00", "") in process.said.replace("\x00", "")  # what was typed is not lost
    assert (process.home / "prices.toml").read_text() == RATE
    assert process.prices.card("", "my-model", filled.NOW_NS).source == "override"
    assert [path.name for path in process.home.iterdir()] == ["prices.toml"]


def test_a_change_by_another_hand_is_not_overwritten(process: Process) -> None:
    page = process.browser.get("/settings").text
    mark = re.search(r'name="mark" value="(\w+)"', page)
    assert mark
    (process.home / "prices.toml").write_text(RATE)
    answer = process.browser.post("/settings/prices", data={"text": "", "mark": mark[1]}, headers=SAME)
    assert answer.status_code == 400 and (process.home / "prices.toml").read_text() == RATE


def test_a_form_that_is_too_long_is_refused(process: Process) -> None:
    assert process.save("#" * 300_000) == 400
    assert process.browser.post("/settings/prices", content=b"x" * 2_000_000, headers=SAME).status_code == 413


def test_a_backup_is_made_beside_the_home_and_listed(process: Process) -> None:
    answer = process.browser.post("/settings/backup", headers=SAME)
    assert answer.status_code == 200 and "The backup is made." in answer.text
    made = backups(process.home)
    assert len(made) == 1 and made[0].path.parent == backup_folder(process.home) and made[0].size_bytes > 0
    assert str(made[0].path) in html.unescape(answer.text)
    again = process.browser.post("/settings/backup", headers=SAME)  # the clock of the tests stands still
    assert again.status_code == 400 and len(backups(process.home)) == 1


@pytest.mark.parametrize("path", ["/settings/prices", "/settings/backup"])
def test_nothing_is_changed_for_another_site(process: Process, path: str) -> None:
    for headers in ({"Origin": "http://evil.test"}, {"Sec-Fetch-Site": "cross-site"}):
        assert process.browser.post(path, data={"text": RATE}, headers=headers).status_code == 403
    assert not backups(process.home) and not (process.home / "prices.toml").exists()
    assert process.browser.get(path).status_code == 405


def test_a_process_that_lends_nothing_changes_nothing(store: DuckStore, tmp_path: Path) -> None:
    browser: TestClient = filled.client(store)
    assert browser.get("/settings").status_code == 200
    assert browser.post("/settings/backup", headers=SAME).status_code == 400
    browser = filled.client(store, here=Here(Settings(home=tmp_path)))
    assert "Back up now" not in browser.get("/settings").text


def test_where_settings_came_from(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).write_text('content = "none"\nretention_days = 3\n')
    found = origins(tmp_path, {"web": "off", "content": None}, {"TACHOGRAPH_RETENTION_DAYS": "5"})
    assert (found["web"], found["retention_days"], found["content"]) == ("flag", "environment", "file")
    assert found["otlp_http"] == "default" and set(found) == {one.name for one in SETTINGS}
