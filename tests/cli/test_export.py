"""A session as a file from the command line: to standard output or where it is told, in the form of its name."""

from __future__ import annotations

from pathlib import Path

import pytest

from tachograph import ledger
from tachograph.cli import main
from tachograph.model import Batch, Content, Meaning, Source, Span
from tachograph.store.duckdb import open_store

SECRET = "sk-ant-api03-" + "Ab3dE5" * 14


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home with one session that was kept as it came."""
    meaning = Meaning(role="prompt", session_id="s-1", agent="pi", prompt_id="p")
    text = [Content("prompt", "p", [f"use {SECRET} please"])]
    span = Span(Source({}), "a" * 32, "b" * 16, "", "prompt", 1, 10**18, 10**18 + 5, {}, meaning=meaning, contents=text)
    batch = Batch(spans=[span])
    ledger.report(batch)
    folder = tmp_path / "home"
    folder.mkdir()
    store = open_store(folder, lambda: 10**18)
    store.commit([batch])
    store.close()
    return folder


def test_a_session_goes_to_standard_output(home: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    assert main(["export", "s-", "--home", str(home), "--timezone", "UTC"]) == 0
    written = capfdbinary.readouterr().out.decode()
    assert written.startswith("# use [redacted:")
    assert "> use [redacted:anthropic_key] please" in written
    assert SECRET not in written


@pytest.mark.parametrize(
    ("name", "more", "start"),
    [("a.html", [], "<!doctype html>"), ("a.md", [], "# use"), ("a.txt", ["--format", "html"], "<!doctype html>")],
)
def test_a_file_has_the_form_of_its_name(home: Path, tmp_path: Path, name: str, more: list[str], start: str) -> None:
    target = tmp_path / name
    assert main(["export", "last", "--home", str(home), "--out", str(target), *more]) == 0
    written = target.read_text(encoding="utf-8")
    assert written.lstrip().startswith(start)
    assert SECRET not in written


def test_what_cannot_be_written_is_said(home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", "none", "--home", str(home)]) == 2
    assert main(["export", "last", "--home", str(home), "--out", str(tmp_path)]) == 2
    assert "expected the name of a file" in capsys.readouterr().err
