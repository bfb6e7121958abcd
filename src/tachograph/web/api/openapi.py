"""The OpenAPI document of the API, made of the table of endpoints and the records they answer with."""

from __future__ import annotations

import re
from functools import cache
from typing import Any, Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from tachograph import __version__
from tachograph.web.api.answers import MEDIA, PREFIX, Failure, answer
from tachograph.web.api.endpoints import ENDPOINTS, Endpoint

_REF: Final = "#/components/schemas/{name}"
_WORDS: Final = {
    400: "The question is wrong: `where`, `what` came, what was `expected`.",
    401: "A token is needed and was not shown.",
    404: "Nothing has this id.",
    429: "Too many wrong tokens; Retry-After says how long to wait.",
    503: "Busy; Retry-After says when to ask again.",
}
_TOLD: Final = """
What the pages show, to be read by programs. Times are nanoseconds since 1970 (UTC). Amounts are nano-dollars where the
name ends in `_nanousd` and dollars where it ends in `_usd`. null is unknown, never zero. Lists go on with `cursor`.
"""


@cache
def document() -> dict[str, Any]:
    """The whole document."""
    types = [endpoint.returns for endpoint in ENDPOINTS] + [Failure]
    _, components = msgspec.json.schema_components(types, ref_template=_REF)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Tachograph",
            "version": __version__,
            "description": " ".join(_TOLD.split()),
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": PREFIX.rstrip("/")}],
        "security": [{}, {"token": []}],
        "paths": {"/" + endpoint.path: {"get": _operation(endpoint)} for endpoint in ENDPOINTS},
        "components": {
            "schemas": components,
            "securitySchemes": {
                "token": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "web_token or viewer_token, where one is set.",
                }
            },
        },
    }


def _operation(endpoint: Endpoint) -> dict[str, Any]:
    has_id = any(parameter.is_in_path for parameter in endpoint.parameters)
    return {
        "operationId": endpoint.name,
        "summary": endpoint.summary,
        "parameters": [parameter.described() for parameter in endpoint.parameters],
        "responses": {
            "200": _response(endpoint.returns.__doc__, endpoint.returns),
            **{str(code): _response(what, Failure) for code, what in _WORDS.items() if code != 404 or has_id},
            "default": _response("Any other refusal.", Failure),
        },
    }


def _response(what: str, type_: Any) -> dict[str, Any]:
    ref = {"$ref": _REF.format(name=type_.__name__)}
    return {"description": " ".join(re.sub(r"\s+", " ", what).split()), "content": {MEDIA: {"schema": ref}}}


def openapi(request: Request) -> Response:
    """The document as JSON."""
    return answer(document())
