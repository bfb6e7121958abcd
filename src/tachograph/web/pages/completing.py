"""What the filter box offers to go on with: fields, and values that the store holds."""

from __future__ import annotations

from typing import Any, Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from tachograph.questions.filters import FIELDS, Table, complete, unfinished
from tachograph.web.rendering import Site

_CHARS_MAX: Final = 1000
_OFFERS_MAX: Final = 40  # every field; values that follow are narrowed by writing on
_TABLES: Final[dict[str, Table]] = {"sessions": "sessions", "calls": "calls"}


def completing(site: Site, request: Request) -> Response:
    """`{"offers": [{"text", "shown", "what"}]}` for the filter `?q=` up to where one writes, of a `?table=`.

    `text` is the whole filter with the word in it, `shown` the word alone, `what` says what a field stands for.
    """
    text = request.query_params.get("q", "")[:_CHARS_MAX]
    table = _TABLES.get(request.query_params.get("table", ""), "sessions")
    start = unfinished(text)
    offers = [_offer(offered, offered[start:].strip()) for offered in complete(site.reader, text, table, _OFFERS_MAX)]
    return Response(msgspec.json.encode({"offers": offers}), media_type="application/json")


def _offer(text: str, word: str) -> dict[str, Any]:
    field = FIELDS.get(word.lstrip("-").removesuffix(":")) if word.endswith(":") else None
    return {"text": text, "shown": word, "what": field.what if field is not None else ""}
