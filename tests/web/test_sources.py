"""The page of sources: what has arrived, what is missing, what the process counts, and how agents are connected."""

from __future__ import annotations

import html
import json
import re
from pathlib import Path

import pytest
from starlette.testclient import TestClient

import filled
from tachograph.config import Address, Settings
from tachograph.pipeline import Followed
from tachograph.questions import arrivals, findings
from tachograph.registry import CONNECTIONS
from tachograph.store.duckdb import DuckStore
from tachograph.telemetry import Telemetry
from tachograph.web.pages.sources import COUNTERS
from tachograph.web.rendering import Here


@pytest.fixture
def user_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home folder in which no agent was ever used."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    for name in ("CLAUDE_CONFIG_DIR", "CODEX_HOME", "XDG_CONFIG_HOME", "PI_CODING_AGENT_DIR"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def test_every_source_is_told_with_all_its_records(browser: TestClient, store: DuckStore) -> None:
    lines = browser.get("/sources?format=jsonl").text.splitlines()
    told = sum(json.loads(line)["records"] for line in lines)
    assert told == sum(signal.count for one in arrivals(store) for signal in one.signals.values()) > 100
    page = html.unescape(browser.get("/sources").text)
    for way in ("OTLP traces", "OTLP logs", "its own files"):
        assert way in page


def test_what_is_missing_is_told_as_doctor_tells_it(browser: TestClient, store: DuckStore) -> None:
    page = html.unescape(browser.get("/sources").text)
    missing = findings(store)
    assert missing and page.count('class="finding"') == len(missing)
    assert all(line in page for one in missing for line in one.lines)


def test_hostile_names_stay_text(browser: TestClient) -> None:
    page = browser.get("/sources").text
    assert "<script>alert" not in page and "&lt;script&gt;alert(1)" in page


def test_counters_doors_and_files_of_the_process(store: DuckStore) -> None:
    telemetry = Telemetry()
    telemetry.count("rejected", "spans", 7_001)
    telemetry.count("received", "spans", 8_002)
    files = [Followed("pi", "transcript", 3, 2_500_000, 1, {"/x/<b>.jsonl": "not <i>UTF-8</i>"})]
    here = Here(None, telemetry, {"otlp_http": "127.0.0.1:4999"}, lambda: files)
    page = filled.client(store, here=here).get("/sources").text
    assert "8,002" in page and '<dd class="bad">7,001</dd>' in page
    assert "127.0.0.1:4999" in page and "2.5 MB" in page
    assert "/x/&lt;b&gt;.jsonl" in page and "not &lt;i&gt;UTF-8" in page


def test_every_counter_of_the_process_has_its_words() -> None:
    package = Path(__file__).parents[2] / "src" / "tachograph"
    paths = [path for folder in ("receivers", "pipeline") for path in (package / folder).glob("*.py")]
    text = "".join(path.read_text("utf-8") for path in paths)
    assert set(re.findall(r'telemetry\.count(?:_batch)?\(\s*"(\w+)"', text)) == set(COUNTERS)


def test_every_agent_says_how_it_is_connected(store: DuckStore, user_home: Path, tmp_path: Path) -> None:
    token = "a-secret-token-of-the-tests"
    settings = Settings(home=tmp_path / "kept", ingest_token=token)
    page = html.unescape(filled.client(store, here=Here(settings), otlp="http://127.0.0.1:4777").get("/sources").text)
    for connection in CONNECTIONS:
        assert f"tachograph connect {connection.name}" in page
    assert page.count("or by hand, in") >= len(CONNECTIONS)
    assert "http://127.0.0.1:4777" in page and "http://127.0.0.1:4318" not in page.partition("<h2>Connect</h2>")[2]
    assert token not in page and "THE-INGEST-TOKEN" in page
    assert not any(user_home.glob(".*"))  # looking changes nothing


def test_who_reads_from_elsewhere_learns_nothing_of_this_machine(store: DuckStore, user_home: Path) -> None:
    settings = Settings(home=user_home, web=Address("0.0.0.0", 4319), web_token="a-token-of-the-readers")
    page = filled.client(store, here=Here(settings)).get("/sources").text
    assert "tachograph connect claude-code" in page
    assert str(user_home) not in page and "or by hand" not in page


def test_an_empty_store_says_how_to_begin(tmp_path: Path) -> None:
    from tachograph.store.duckdb import open_store

    kept = open_store(tmp_path, lambda: filled.NOW_NS)
    try:
        page = filled.client(kept).get("/sources").text
    finally:
        kept.close()
    assert "Nothing yet." in page and "That is known when something has arrived." in page
