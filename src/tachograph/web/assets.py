"""The files of the pages, packed once and known by their digest, so that a browser asks for each of them once."""

from __future__ import annotations

import gzip
import hashlib
from functools import cache
from pathlib import Path
from typing import Final, NamedTuple

import zstandard
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

_STATIC: Final = Path(__file__).parent / "static"
_FILES: Final = {path.name: path for path in _STATIC.iterdir() if path.is_file()}
_MEDIA_TYPES: Final = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
_YEAR_S: Final = 31_536_000
_PACKED_MIN: Final = 1000  # bytes: below that a packet holds it anyway


class _Packed(NamedTuple):
    """A file in each coding, the smallest first, and the tag of its content."""

    codings: dict[str, bytes]
    tag: str


@cache
def _packed(name: str) -> _Packed:
    plain = _FILES[name].read_bytes()
    tag = hashlib.sha256(plain).hexdigest()[:16]
    if len(plain) < _PACKED_MIN:
        return _Packed({"": plain}, tag)
    return _Packed(
        {"zstd": zstandard.compress(plain, 19), "gzip": gzip.compress(plain, 9, mtime=0), "": plain},
        tag,
    )


def static(request: Request) -> Response:
    """The file of a name, in the best coding that the browser takes."""
    name = request.path_params["name"]
    if name not in _FILES:
        return PlainTextResponse("No such file.\n", 404)
    packed = _packed(name)
    taken = _taken(request.headers.get("accept-encoding", ""))
    coding = next(coding for coding in packed.codings if not coding or coding in taken)
    age = _YEAR_S if request.query_params.get("v") else 0
    tag = f'"{packed.tag}{coding and "-" + coding}"'
    headers = {
        "Cache-Control": f"public, max-age={age}, immutable" if age else "no-cache",
        "ETag": tag,
        "Vary": "Accept-Encoding",
    }
    if tag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    if coding:
        headers["Content-Encoding"] = coding
    media = _MEDIA_TYPES.get(Path(name).suffix, "text/plain")
    return Response(packed.codings[coding], headers=headers, media_type=media)


def _taken(accepted: str) -> set[str]:
    """The codings that a browser takes; one with q=0 it does not."""
    parts = (part.partition(";") for part in accepted.lower().split(","))
    return {name.strip() for name, _, weight in parts if weight.replace(" ", "") not in ("q=0", "q=0.0", "q=0.00")}
