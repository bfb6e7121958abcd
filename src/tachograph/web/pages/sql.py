"""Questions in SQL: the query and its chart stand in the address, the schema beside them; nothing can be written."""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable
from typing import Any, Final, NamedTuple

import anyio
import anyio.to_thread
from msgspec import Struct
from starlette.requests import Request
from starlette.responses import Response

from tachograph.errors import QueryError, TachographError
from tachograph.scan import Columns
from tachograph.store.schema import TABLES
from tachograph.web import answers, exporting
from tachograph.web.asking import Asked
from tachograph.web.plots import plot
from tachograph.web.rendering import Site, render

SHOWN_S: Final = 10.0  # what somebody waits for a page
EXPORTED_S: Final = 60.0
EXPORTED_ROWS: Final = 100_000
QUERY_CHARS_MAX: Final = 5000  # it has to fit into an address
_AT_ONCE: Final = 2  # queries that run: the others wait, and pages and intake keep the machine
_EXCERPT_CHARS: Final = 60  # of a line on both sides of a mistake

# The tables that people ask; the others are how the store works.
ASKED_FIRST: Final = ("calls", "sessions", "spans", "events", "contents", "sources", "series", "samples", "commits")
EXAMPLES: Final[tuple[tuple[str, str, dict[str, str]], ...]] = (
    (
        "Cost by day and model",
        "select make_timestamp_ns(start_ns)::date as day, model, sum(cost_nanousd) / 1e9 as usd\n"
        "from calls\ngroup by all\norder by day",
        {"chart": "bars", "x": "day", "y": "usd", "by": "model"},
    ),
    (
        "The most expensive sessions",
        "select session_id, title, agent, calls, prompts, cost_nanousd / 1e9 as usd\n"
        "from sessions\norder by usd desc nulls last\nlimit 20",
        {},
    ),
    (
        "Tools by how long they take",
        "select tool_name, count(*) as runs, count_if(is_error) as errors,\n"
        "  quantile_cont(duration_ns, 0.95) / 1e6 as p95_ms\n"
        "from spans\nwhere role = 'tool_run'\ngroup by tool_name\norder by p95_ms desc",
        {"chart": "bars", "x": "tool_name", "y": "p95_ms"},
    ),
    (
        "Why calls failed",
        "select model, error_type, http_status, count(*) as calls, any_value(error_message) as one_message\n"
        "from calls\nwhere status = 'failed'\ngroup by all\norder by calls desc",
        {},
    ),
    (
        "Share of input read from the cache",
        "select make_timestamp_ns(start_ns)::date as day,\n"
        "  sum(cache_read_tokens) / nullif(sum(input_tokens), 0) as cache_share\n"
        "from calls\ngroup by day\norder by day",
        {"chart": "lines", "x": "day", "y": "cache_share"},
    ),
    (
        "Calls that nobody could price",
        "select provider, model, price_note, count(*) as calls\n"
        "from calls\nwhere cost_nanousd is null and status = 'ok'\ngroup by all\norder by calls desc",
        {},
    ),
)


class Mistake(NamedTuple):
    """What is wrong with a query, and the line where: what stands before the place, and from it on."""

    what: str
    hint: str
    position: int | None = None
    line: int = 0
    before: str = ""
    after: str = ""


class Patience(Struct):
    """Whether somebody still waits for the answer."""

    stop: threading.Event
    is_over: bool = False


def endpoint(site: Site, shown_s: float = SHOWN_S) -> Callable[[Request], Awaitable[Response]]:
    """The page: `?query=` is asked, `?format=` gives the answer as a file.

    A query ends when the browser hangs up, and when it has taken too long.
    """
    at_once = anyio.CapacityLimiter(_AT_ONCE)

    async def sql(request: Request) -> Response:
        patience = Patience(threading.Event())
        outcome: Response | TachographError
        async with anyio.create_task_group() as group:
            is_file = bool(request.query_params.get("format"))
            group.start_soon(_wait_with, request, patience, EXPORTED_S if is_file else shown_s)
            outcome = await anyio.to_thread.run_sync(_attempt, site, request, patience, limiter=at_once)
            group.cancel_scope.cancel()
        if isinstance(outcome, TachographError):
            raise outcome
        return outcome

    return sql


async def _wait_with(request: Request, patience: Patience, most_s: float) -> None:
    """Have the query stopped when the asker is gone or has waited long enough."""
    try:
        with anyio.move_on_after(most_s) as waiting:
            while (await request.receive())["type"] != "http.disconnect":
                pass
        patience.is_over = waiting.cancelled_caught
    finally:
        patience.stop.set()


def _attempt(site: Site, request: Request, patience: Patience) -> Response | TachographError:
    try:
        return _page(site, request, patience)
    except TachographError as error:
        return error


def _page(site: Site, request: Request, patience: Patience) -> Response:
    asked = Asked(site, request)
    query = asked.params.get("query", "").replace("\r\n", "\n")[:QUERY_CHARS_MAX]
    is_file = bool(exporting.wanted(asked))
    begun_ns = site.clock()
    answer, mistake = None, None
    if query.strip():
        try:
            answer = site.reader.sql(query, EXPORTED_ROWS if is_file else answers.ROWS_SHOWN + 1, patience.stop)
        except QueryError as error:
            mistake = _late(is_file) if patience.is_over else _mistake(query, error)
    if answer is not None and is_file:
        return exporting.file_of(asked, "sql", answer.names, answers.rows(answer))
    status = 400 if mistake else 200
    return render(
        site, request, "sql.html", status,
        look=asked.look, asked=asked, query=query, mistake=mistake, took_ns=max(0, site.clock() - begun_ns),
        examples=EXAMPLES, tables=TABLES, asked_first=ASKED_FIRST, kinds=answers.KINDS,
        exported_rows=EXPORTED_ROWS, shown_s=round(SHOWN_S), query_chars_max=QUERY_CHARS_MAX,
        **_shown(answer, asked),
    )  # fmt: skip


def _shown(answer: Columns | None, asked: Asked) -> dict[str, Any]:
    if answer is None:
        return {"sheet": None, "drawn": None, "figure": "", "notes": []}
    drawn = answers.drawing(answer, asked.params)
    made, notes = answers.chart(answer, drawn, asked.look)
    still = "The table below holds the same numbers."
    figure = plot(made, f"{drawn.y} by {drawn.x}", still) if made else ""
    return {"sheet": answers.sheet(answer, asked.look), "drawn": drawn, "figure": figure, "notes": notes}


def _late(is_file: bool) -> Mistake:
    seconds = EXPORTED_S if is_file else SHOWN_S
    return Mistake(
        f"sql: no answer after {seconds:.0f} s; the query was stopped",
        "ask for a shorter period, or run `tachograph sql`, which waits as long as it takes",
    )


def _mistake(query: str, error: QueryError) -> Mistake:
    at = error.position
    if at is None:
        return Mistake(error.what, error.hint)
    start = query.rfind("\n", 0, at) + 1
    end = query.find("\n", at)
    before, after = query[start:at], query[at : end if end >= 0 else len(query)]
    number = query.count("\n", 0, at) + 1
    return Mistake(error.what, error.hint, at, number, before[-_EXCERPT_CHARS:], after[:_EXCERPT_CHARS])
