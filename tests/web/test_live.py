"""Server-sent events: the sequence at once, every change, and an end when the server stops."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import anyio
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from tachograph.scan import Columns, Scan
from tachograph.web.live import RETRY_MS, live


class Counting:
    """A reader whose sequence moves with every third look."""

    def __init__(self) -> None:
        self.looks = 0

    def sequence(self) -> int:
        self.looks += 1
        return self.looks // 3

    def scan(self, scan: Scan) -> Columns:
        raise NotImplementedError

    def texts(self, hashes: Sequence[str]) -> dict[str, str]:
        raise NotImplementedError

    def sql(self, query: str, limit: int | None = None, stop: threading.Event | None = None) -> Columns:
        raise NotImplementedError


def test_every_change_is_told_once_and_a_stop_ends_it() -> None:
    reader = Counting()
    endpoint = live(reader, lambda: reader.looks >= 12, poll_s=0)

    async def collect() -> bytes:
        request = Request({"type": "http", "method": "GET", "path": "/live", "headers": []})
        answer = await endpoint(request)
        assert isinstance(answer, StreamingResponse) and answer.media_type == "text/event-stream"
        return b"".join([bytes(part) async for part in answer.body_iterator if not isinstance(part, str)])

    told = anyio.run(collect).decode()
    assert told.startswith(f"retry: {RETRY_MS}\n")
    assert [line for line in told.splitlines() if line.startswith("data")] == [f"data: {n}" for n in (0, 1, 2, 3, 4)]


def test_who_types_its_address_gets_the_page() -> None:
    async def ask() -> Response:
        headers = [(b"accept", b"text/html,application/xhtml+xml")]
        request = Request({"type": "http", "method": "GET", "path": "/live", "headers": headers})
        return await live(Counting(), lambda: False)(request)

    answer = anyio.run(ask)
    assert (answer.status_code, answer.headers["location"]) == (307, "/running")
