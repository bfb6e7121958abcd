"""The OpenAPI document is true: what schemathesis makes of it is answered as it says, and nothing fails."""

from __future__ import annotations

from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis import GenerationMode
from schemathesis.checks import CHECKS, load_all_checks
from starlette.routing import Route

import filled
from tachograph.store.duckdb import DuckStore
from tachograph.web.api.answers import PREFIX
from tachograph.web.api.endpoints import ENDPOINTS, routes
from tachograph.web.api.openapi import document
from tachograph.web.rendering import Site

load_all_checks()
# The filter language, cursors and zones are more than a schema can say: what fits it may still be no question.
_LEFT_OUT = CHECKS.get_by_names(["positive_data_acceptance"])
_HERE = {"Host": "127.0.0.1:4319"}


@pytest.fixture(scope="module")
def api(store: DuckStore) -> Any:
    """The document as the real app gives it."""
    schema = schemathesis.openapi.from_asgi(f"{PREFIX}openapi.json", filled.client(store).app, headers=_HERE)
    schema.config.checks.negative_data_rejection.expected_statuses += ["414"]  # refused at the door
    return schema


@pytest.mark.parametrize("mode", list(GenerationMode), ids=lambda mode: mode.value)
@pytest.mark.parametrize("path", list(document()["paths"]))
def test_every_answer_is_as_the_document_says(api: Any, path: str, mode: GenerationMode) -> None:
    if mode is GenerationMode.NEGATIVE and not document()["paths"][path]["get"]["parameters"]:
        return  # nothing that could be wrong

    @given(case=api[path]["GET"].as_strategy(generation_mode=mode))
    @settings(max_examples=20, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    def check(case: Any) -> None:
        case.call_and_validate(excluded_checks=_LEFT_OUT, headers=_HERE)

    check()


def test_every_endpoint_is_in_the_document_and_served(store: DuckStore) -> None:
    paths = document()["paths"]
    assert set(paths) == {f"/{endpoint.path}" for endpoint in ENDPOINTS}
    served = {route.path.replace(":text}", "}") for route in routes(Site(store, lambda: 0)) if isinstance(route, Route)}
    assert served == {PREFIX.rstrip("/") + path for path in paths}


def test_names_are_unique() -> None:
    names = [endpoint.name for endpoint in ENDPOINTS]
    assert len(set(names)) == len(names)


def test_every_field_that_is_shown_has_a_type() -> None:
    for name, shape in document()["components"]["schemas"].items():
        assert shape["type"] == "object" and shape["properties"], name
        assert "description" in shape, name


def asked(api: Any, path: str, ids: dict[str, str], **query: Any) -> Any:
    """The answer to a question with ids that there are, held against the document."""
    case = api[path]["GET"].Case(path_parameters=ids, query=query)
    answer = case.call_and_validate(excluded_checks=_LEFT_OUT, headers=_HERE)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_what_is_kept_is_told_as_the_document_says(api: Any) -> None:
    for session in asked(api, "/sessions", {}, limit=1000)["sessions"]:
        if "/" in session["session_id"]:
            continue  # schemathesis folds such a path; test_web_api.py asks for it
        ids = {"session_id": session["session_id"]}
        detail = asked(api, "/sessions/{session_id}", ids)
        assert detail["session"] == session
        assert asked(api, "/sessions/{session_id}/tree", ids)["steps"]
        asked(api, "/sessions/{session_id}/conversation", ids)
        for trace in detail["traces"]:
            asked(api, "/traces/{trace_id}", {"trace_id": trace["trace_id"]})
    for call in asked(api, "/calls", {}, limit=1000)["calls"]:
        assert asked(api, "/calls/{call_id}", {"call_id": call["call_id"]})["call"] == call
    for hit in asked(api, "/search", {}, text="e")["hits"]:
        assert asked(api, "/texts/{hash}", {"hash": hit["hash"]})["hash"] == hit["hash"]
    for path in ("/models", "/tools", "/sources", "/metrics", "/live"):
        assert any(asked(api, path, {}).values())
    assert asked(api, "/usage", {}, by="day,agent,model")["rows"]
