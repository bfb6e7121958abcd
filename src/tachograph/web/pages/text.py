"""One kept text in full, as plain text that no browser will take for anything else."""

from __future__ import annotations

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from tachograph.web.rendering import Site


def text(site: Site, request: Request) -> Response:
    """The text of a hash; 404 where it is not kept (any more)."""
    hash_ = request.path_params["hash"]
    found = site.reader.texts([hash_])
    if hash_ not in found:
        raise HTTPException(404)
    return PlainTextResponse(found[hash_].encode("utf-8", "replace"))
