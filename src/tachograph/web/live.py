"""Server-sent events that tell open pages when something new was stored."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final

import anyio
import anyio.to_thread
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response, StreamingResponse

from tachograph.scan import Reader

POLL_S: Final = 1.0  # how late a page may learn of a commit
PING_POLLS: Final = 15  # a comment now and then, so that a connection that broke is noticed on both sides
RETRY_MS: Final = 2000  # how soon a browser comes back after a restart


async def _changes(reader: Reader, is_stopping: Callable[[], bool], poll_s: float) -> AsyncIterator[bytes]:
    yield f"retry: {RETRY_MS}\n".encode()
    last, quiet = -1, 0
    while not is_stopping():
        sequence = await anyio.to_thread.run_sync(reader.sequence)
        quiet += 1
        if sequence != last:
            last, quiet = sequence, 0
            yield f"id: {sequence}\ndata: {sequence}\n\n".encode()
        elif quiet >= PING_POLLS:
            quiet = 0
            yield b": still here\n\n"
        await anyio.sleep(poll_s)


def live(
    reader: Reader, is_stopping: Callable[[], bool], poll_s: float = POLL_S
) -> Callable[[Request], Awaitable[Response]]:
    """The endpoint: the sequence at once, then each time that it moves, until the server stops."""

    async def endpoint(request: Request) -> Response:
        if "text/html" in request.headers.get("accept", ""):  # somebody looks for the page of that name
            return RedirectResponse("/running")
        headers = {"X-Accel-Buffering": "no"}
        return StreamingResponse(_changes(reader, is_stopping, poll_s), media_type="text/event-stream", headers=headers)

    return endpoint
