"""Ids that stand in addresses: whatever an agent calls its session, its page and its API answer are found."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest

import filled
from fillings import NOON, Filling
from tachograph.model import Usage
from tachograph.store.duckdb import open_store
from tachograph.web.rendering import path_of


@pytest.mark.parametrize("id_", ["two\nlines", "ends\n", "a/b/c", "a?b#c%d", "../../etc", "\u202eback", "spaces  in"])
def test_a_session_of_any_name_has_a_page(tmp_path: Path, id_: str) -> None:
    with closing(open_store(tmp_path, lambda: filled.NOW_NS)) as kept:
        filling = Filling(kept)
        filling.call("m", NOON, Usage(input_uncached=7, output=1), session_id=id_, agent="pi")
        filling.done()
        browser = filled.client(kept)
        assert browser.get(path_of("sessions", id_)).status_code == 200
        told = browser.get("/api/v1" + path_of("sessions", id_))
        assert told.status_code == 200
        assert told.json()["session"]["session_id"] == id_
