"""What a destination would not take, and why; to be sent again, or to be given up."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol
from urllib.parse import parse_qs, quote, urlencode

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from tachograph.errors import QueryError
from tachograph.web import exporting
from tachograph.web.asking import Asked
from tachograph.web.pages.destinations import Destination
from tachograph.web.rendering import Site, render
from tachograph.web.tables import Column, Row, Table

PATH: Final = "/destinations/refused"
_PAGE_ROWS: Final = 100
_FORM_BYTES_MAX: Final = 64 * 1024
_TRACE_ID, _SPAN_ID = 32, 16  # characters
_DEEDS: Final = ("retry", "drop")


class Letter(Protocol):
    """Records that were refused together: their keys, of which route, when, and with which answer."""

    id: int
    keys: list[str]
    route: str
    answer: str
    time_ns: int
    rejected: int
    is_wanted: bool


class Refusals(Protocol):
    """What destinations refused, each by its name."""

    def letters(self, name: str, limit: int, offset: int) -> Sequence[Letter]:
        """The newest first."""
        ...

    def want(self, name: str, letter_id: int | None) -> int:
        """Have one sent again, None = all; how many."""
        ...

    def drop(self, name: str, letter_id: int | None) -> int:
        """Give one up, None = all; how many."""
        ...


def routes(site: Site) -> list[Route]:
    """The page, and what it does; the guard lets no viewer change anything."""

    def show(request: Request) -> Response:
        return _page(site, request)

    async def do(request: Request) -> Response:
        body = b""
        async for part in request.stream():
            body += part
            if len(body) > _FORM_BYTES_MAX:
                raise QueryError(f"refused: got a form that is too long; expected at most {_FORM_BYTES_MAX} bytes")
        return await run_in_threadpool(_do, site, body)

    return [Route(PATH, show, methods=["GET"]), Route(PATH, do, methods=["POST"])]


def address(name: str) -> str:
    """The address of what a destination refused."""
    return f"{PATH}?{urlencode({'of': name})}"


def _chosen(site: Site, name: str) -> tuple[Destination, Refusals]:
    known: list[Destination] = site.here.destinations()
    found = next((one for one in known if one.name == name), None)
    if found is None or site.here.refusals is None:
        names = ", ".join(one.name for one in known) or "none, as there is no destination"
        raise QueryError(f"refused: of: got {name[:200]!r}; expected one of {names}")
    return found, site.here.refusals()


def _page(site: Site, request: Request) -> Response:
    asked = Asked(site, request, default_range="all")
    one, refusals = _chosen(site, asked.params.get("of", ""))
    if exporting.wanted(asked):
        rows = [_row(letter) for letter in refusals.letters(one.name, -1, 0)]
        return exporting.file_of(asked, "refused", [column.key for column in _COLUMNS] + ["id", "keys"], rows)
    letters = refusals.letters(one.name, _PAGE_ROWS + 1, (asked.page - 1) * _PAGE_ROWS)
    table = Table(
        _COLUMNS, [_row(letter) for letter in letters[:_PAGE_ROWS]], asked, caption="Refused",
        page=asked.page, has_more=len(letters) > _PAGE_ROWS, total=one.dead_letters, choose="id",
        empty="Nothing is left: it took all of it, or somebody has sent it again or dropped it.",
    )  # fmt: skip
    can_retry = one.word != "removed"
    done, number = asked.params.get("done", ""), asked.params.get("n", "")
    return render(
        site, request, "refused.html",
        look=asked.look, table=table, one=one, action=PATH, can_retry=can_retry,
        done=done if done in _DEEDS else "", count=int(number) if number.isdecimal() and len(number) < 9 else 0,
    )  # fmt: skip


def _do(site: Site, body: bytes) -> Response:
    form = parse_qs(body.decode("utf-8", "replace"), keep_blank_values=True)
    deed, _, reach = form.get("do", [""])[0].partition("-")
    one, refusals = _chosen(site, form.get("of", [""])[0])
    does: dict[str, Callable[[str, int | None], int]] = {"retry": refusals.want, "drop": refusals.drop}
    if deed not in does or (deed == "retry" and one.word == "removed"):
        raise QueryError(f"refused: do: got {deed[:20]!r}; expected one of {', '.join(_DEEDS)}")
    ids = [None] if reach == "all" else [int(value) for value in form.get("id", []) if value.isdecimal()]
    done = sum(does[deed](one.name, letter_id) for letter_id in ids)
    return RedirectResponse(f"{address(one.name)}&{urlencode({'done': deed, 'n': done})}", 303)


def _row(letter: Letter) -> dict[str, Any]:
    key = letter.keys[0] if letter.keys else ""
    trace_id, _, span_id = key.partition(":")
    is_span = len(trace_id) == _TRACE_ID and len(span_id) == _SPAN_ID
    below = [f"of trace {trace_id}"] if is_span else []
    below += [f"and {len(letter.keys) - 1:,} more"] if len(letter.keys) > 1 else []
    place = f"/calls/{quote(key, safe='')}" if key.startswith("call_") else ""
    return {
        "id": letter.id,
        "time_ns": letter.time_ns,
        "route": letter.route,
        "rejected": letter.rejected,
        "first": span_id if is_span else key,
        "below": ", ".join(below),
        "place": f"/traces/{quote(trace_id, safe='')}?{urlencode({'node': key})}" if is_span else place,
        "answer": letter.answer,
        "state": "is sent again" if letter.is_wanted else "refused",
        "keys": " ".join(letter.keys),
    }


def _place(row: Row) -> str:
    """Where it is shown: spans and steps go by trace and span, calls by their id."""
    return str(row["place"])


_COLUMNS: Final[tuple[Column, ...]] = (
    Column("first", "first of them", missing="not told", href=_place, under=lambda row: str(row["below"])),
    Column("answer", "answer", missing="none"),
    Column("rejected", "records", "count", rank="mid"),
    Column("route", "of", rank="mid", missing="any"),
    Column("state", "state", rank="mid"),
    Column("time_ns", "when", "time"),
)
