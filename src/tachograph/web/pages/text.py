"""One kept text in full, as plain text that no browser will take for anything else, and the images in it."""

from __future__ import annotations

import base64
import binascii

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from tachograph.web.messages import image_of
from tachograph.web.rendering import Site


def text(site: Site, request: Request) -> Response:
    """The text of a hash; 404 where it is not kept (any more)."""
    hash_ = request.path_params["hash"]
    found = site.reader.texts([hash_])
    if hash_ not in found:
        raise HTTPException(404)
    return PlainTextResponse(found[hash_].encode("utf-8", "replace"))


def image(site: Site, request: Request) -> Response:
    """One image of a kept text, by its number; of the kinds alone that cannot hold a script."""
    hash_, number = request.path_params["hash"], request.path_params["number"]
    found = site.reader.texts([hash_])
    told = image_of(found[hash_], number) if hash_ in found else None
    if told is None:
        raise HTTPException(404)
    try:
        data = base64.b64decode(told[1])
    except binascii.Error:  # cut short on its way here
        raise HTTPException(404) from None
    return Response(data, media_type=told[0], headers={"Cache-Control": "private, max-age=3600"})
