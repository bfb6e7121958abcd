"""One filled store for all tests of the pages: they only read."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from starlette.testclient import TestClient

import filled
from tachograph.store.duckdb import DuckStore, open_store


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DuckStore]:
    """Recordings and the hostile session."""
    folder = tmp_path_factory.mktemp("pages")
    kept = open_store(folder, lambda: filled.NOW_NS)
    filled.recorded(kept, folder)
    filled.keep(kept, folder, [filled.hostile()], is_understood=True)
    yield kept
    kept.close()


@pytest.fixture
def browser(store: DuckStore) -> TestClient:
    """A browser on the filled store."""
    return filled.client(store)
