"""What the owner's own commands ask, without the pages: for a process that nobody looks at."""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.middleware import Middleware

from tachograph.scan import Reader
from tachograph.web.access import Access
from tachograph.web.api import owner
from tachograph.web.guard import Guard


def create_local(reader: Reader, host: str, api_token: str, deeds: owner.Deeds) -> Starlette:
    """The API of local commands alone, behind the same guard as the pages; `host` is what it is bound to."""
    return Starlette(
        routes=owner.routes(reader, deeds),
        middleware=[Middleware(Guard, host=host, access=Access("", "", lambda: 0), api_token=api_token)],
    )
