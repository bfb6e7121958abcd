"""What the owner's own commands ask of the running server, which alone has the store open; guarded by its token."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import anyio.to_thread
import msgspec
from msgspec import Struct
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tachograph.errors import Busy, Corrupt, QueryError, Rejected, TachographError
from tachograph.model import Batch
from tachograph.questions import wire
from tachograph.scan import Reader

BODY_BYTES_MAX: Final = 256 * 1024 * 1024  # a batch of the owner's own command: what one request may bring, decoded
_JSON: Final = "application/json"


class Deeds(Struct, frozen=True):
    """What commands may have the server do, beside reading; each raises the errors of the store.

    `commit` takes a batch down the road in and returns when it is durable; `backup` writes a copy to a folder; `stop`
    ends the process in order, soon after it has returned; `followed` says how far the files of agents are read;
    `forwarded` where each destination stands, `probes` whether it (or, by "", each) would take something.
    """

    commit: Callable[[Batch], int]
    backup: Callable[[Path], None]
    clear_demo: Callable[[], int]
    stop: Callable[[], None] = lambda: None
    followed: Callable[[], list[Any]] = list
    forwarded: Callable[[], list[Any]] = list
    probes: Callable[[str], list[Any]] = lambda _: []


class _Texts(Struct):
    hashes: list[str]


class _Sql(Struct):
    query: str
    limit: int | None = None


class _Probed(Struct):
    name: str


class _Backup(Struct):
    target: str


def routes(reader: Reader, deeds: Deeds | None) -> list[Route]:
    """The routes under /api/v1/; what needs `deeds` is not there without."""

    def scan(body: bytes) -> bytes:
        return wire.columns_to_json(reader.scan(wire.scan_from_json(body)))

    def texts(body: bytes) -> bytes:
        return msgspec.json.encode(reader.texts(_decoded(body, _Texts).hashes))

    def sql(body: bytes) -> bytes:
        asked = _decoded(body, _Sql)
        return wire.columns_to_json(reader.sql(asked.query, asked.limit))

    def sequence(_: bytes) -> bytes:
        return msgspec.json.encode({"sequence": reader.sequence()})

    found = [
        _route("scan", "POST", scan),
        _route("texts", "POST", texts),
        _route("sql", "POST", sql),
        _route("sequence", "GET", sequence),
    ]
    return found + (_deed_routes(deeds) if deeds else [])


def _deed_routes(deeds: Deeds) -> list[Route]:
    def commit(body: bytes) -> bytes:
        try:
            batch = msgspec.msgpack.decode(body, type=Batch)
        except (msgspec.DecodeError, RecursionError) as error:
            raise Rejected(f"commit: got a body that is no batch ({error}); expected MessagePack of one") from None
        return msgspec.json.encode({"sequence": deeds.commit(batch)})

    def backup(body: bytes) -> bytes:
        deeds.backup(Path(_decoded(body, _Backup).target))
        return b"{}"

    def clear_demo(_: bytes) -> bytes:
        return msgspec.json.encode({"removed": deeds.clear_demo()})

    def stop(_: bytes) -> bytes:
        deeds.stop()
        return b"{}"

    def followed(_: bytes) -> bytes:
        return msgspec.json.encode(deeds.followed())

    def forwarded(_: bytes) -> bytes:
        return msgspec.json.encode(deeds.forwarded())

    def probes(body: bytes) -> bytes:
        return msgspec.json.encode(deeds.probes(_decoded(body, _Probed).name))

    return [
        _route("forwarded", "GET", forwarded),
        _route("probes", "POST", probes),
        _route("stop", "POST", stop),
        _route("followed", "GET", followed),
        _route("commit", "POST", commit),
        _route("backup", "POST", backup),
        _route("demo/clear", "POST", clear_demo),
    ]


def _route(name: str, method: str, answer: Callable[[bytes], bytes]) -> Route:
    async def endpoint(request: Request) -> Response:
        try:
            body = await _body(request)
            return Response(await anyio.to_thread.run_sync(answer, body), media_type=_JSON)
        except TachographError as error:
            return error_response(error)

    return Route(f"/api/v1/{name}", endpoint, methods=[method])


async def _body(request: Request) -> bytes:
    parts: list[bytes] = []
    size = 0
    async for part in request.stream():
        size += len(part)
        if size > BODY_BYTES_MAX:
            raise Rejected(f"body: got more than {BODY_BYTES_MAX} bytes; expected less", status=413)
        parts.append(part)
    return b"".join(parts)


def _decoded(body: bytes, type_: type[Any]) -> Any:
    try:
        return msgspec.json.decode(body, type=type_)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        fields = ", ".join(type_.__struct_fields__)
        raise QueryError(f"body: got JSON that does not fit ({error}); expected {fields}") from None


def error_response(error: TachographError) -> Response:
    """The error as JSON, with the status that says who has to act."""
    status = 400
    headers = {}
    if isinstance(error, Busy):
        status, headers = 503, {"Retry-After": str(error.retry_after_s)}
    elif isinstance(error, Corrupt):
        status = 500
    elif isinstance(error, Rejected):
        status = error.status
    told = {"error": error.what, "hint": error.hint, "kind": type(error).__name__}
    if isinstance(error, QueryError) and error.position is not None:
        told |= {"position": str(error.position)}
    return Response(msgspec.json.encode(told), status, headers, _JSON)
