"""Every endpoint of the API, in one table: the routes, the OpenAPI document and the page are all made of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from msgspec import Struct
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tachograph.errors import TachographError
from tachograph.web import addresses
from tachograph.web.api import answering, records
from tachograph.web.api.answers import PREFIX, answer, failure
from tachograph.web.api.parameters import BY, CURSOR, PERIOD, Parameter, Q, id_of, limited, ordered, values_of
from tachograph.web.api.query import Query
from tachograph.web.pages.calls import ORDERS as CALL_ORDERS
from tachograph.web.pages.sessions import ORDERS as SESSION_ORDERS
from tachograph.web.rendering import Site


class Endpoint(Struct, frozen=True):
    """One GET: its path below /api/v1/, what answers it, the record it answers with, and its parameters."""

    path: str
    summary: str
    answer: Callable[[Query], Any]
    returns: Any
    parameters: tuple[Parameter, ...] = ()

    @property
    def name(self) -> str:
        """What a client made of the document calls it."""
        return "get_" + self.answer.__name__


_SESSION: Final = id_of("session_id", "The id of a session, with / written as %2F.")
_LISTED: Final = (*PERIOD, Q)

ENDPOINTS: Final = (
    Endpoint(
        "usage", "Calls, tokens and cost of a period, by up to three dimensions", answering.usage, records.Usage,
        (BY, *_LISTED, limited(1000, 10_000), CURSOR),
    ),
    Endpoint(
        "sessions", "Sessions that were alive in a period", answering.sessions, records.Sessions,
        (*_LISTED, ordered(SESSION_ORDERS, "newest"), limited(100), CURSOR),
    ),
    Endpoint(
        "sessions/{session_id}/tree", "What happened in a session, step by step", answering.session_steps,
        records.Tree, (_SESSION, limited(1000, 10_000), CURSOR),
    ),
    Endpoint(
        "sessions/{session_id}/conversation", "A session as people read it: prompts, answers, tools",
        answering.conversation, records.Conversation, (_SESSION, limited(25, 100), CURSOR),
    ),
    Endpoint(
        "sessions/{session_id}", "A session with its traces, models and descendants", answering.session,
        records.SessionDetail, (_SESSION,),
    ),
    Endpoint(
        "traces/{trace_id}", "What happened in a trace, step by step", answering.trace, records.Tree,
        (id_of("trace_id", "The id of a trace, in lower-case hex."), limited(1000, 10_000), CURSOR),
    ),
    Endpoint(
        "calls", "Model calls that began in a period", answering.calls, records.Calls,
        (*_LISTED, ordered(CALL_ORDERS, "newest"), limited(100), CURSOR),
    ),
    Endpoint(
        "calls/{call_id}", "A model call, and the report that each of its numbers comes from", answering.call,
        records.CallDetail, (id_of("call_id", "The id of a call."),),
    ),
    Endpoint(
        "models", "Latency, errors, speed and cost by model", answering.models, records.Models, _LISTED,
    ),
    Endpoint(
        "tools", "Runs, errors and durations by tool", answering.tools, records.Tools, _LISTED,
    ),
    Endpoint(
        "search", "Prompts, answers, tool arguments and results that hold a text", answering.search, records.Hits,
        (Parameter("text", "What to search for, in any case.", is_needed=True), limited(50, 200)),
    ),
    Endpoint("sources", "Who sends what, and what is missing of it", answering.sources, records.Sources),
    Endpoint(
        "destinations", "Where data is forwarded to, and how far each place is", answering.destinations,
        records.Destinations,
    ),
    Endpoint(
        "live", "Sessions with news in the last minutes", answering.live, records.Live,
        (Parameter("minutes", "How far back.", "number", 15, most=1440), limited(100)),
    ),
    Endpoint(
        "metrics", "Client metrics of the GenAI conventions, counted from calls", answering.metrics,
        records.Metrics, _LISTED,
    ),
    Endpoint(
        "complete", "What the last word of a filter may become", answering.complete, records.Completions,
        (
            Q, Parameter("table", "What is filtered.", "choice", "sessions", ("sessions", "calls")), limited(12, 100),
        ),
    ),
    Endpoint(
        "texts/{hash}", "A kept text in full", answering.text, records.Text,
        (id_of("hash", "The hash of the text, as trees and hits name it."),),
    ),
)  # fmt: skip


def routes(site: Site) -> list[Route]:
    """The route of each endpoint."""
    addresses.register()
    return [_route(site, endpoint) for endpoint in ENDPOINTS]


def _route(site: Site, endpoint: Endpoint) -> Route:
    def respond(request: Request) -> Response:  # a plain function: Starlette runs it in a thread
        try:
            values = values_of(request, endpoint.parameters)
            return answer(endpoint.answer(Query(site, request, values)))
        except TachographError as error:
            return failure(error)

    # Ids may hold a slash; only what stands behind an id ends it.
    return Route(PREFIX + endpoint.path.replace("}", ":text}"), respond, methods=["GET"])
