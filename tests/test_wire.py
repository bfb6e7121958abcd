"""Scans and answers survive the way over JSON; anything else is a QueryError."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tachograph.errors import QueryError
from tachograph.questions import wire
from tachograph.scan import Agg, Any_, Bucket, Columns, Field, Match, Scan

SCAN = Scan(
    "calls",
    {
        "day": Bucket("start_ns", "day", "Europe/Berlin"),
        "model": "model",
        "p95": Agg("quantile", "duration_ns", 0.95),
        "failed": Agg("count", where=(Match("status", "=", "failed"), Match("model", "!=", Field("request_model")))),
    },
    where=(Match("agent", "in", ["pi", "codex"]), Any_((Match("status", "=", "ok"), Match("cost_nanousd", "is_null")))),
    group_by=("day", "model"),
    order_by=(("day", True), ("model", False)),
    limit=10,
    offset=5,
)


def test_scan_survives() -> None:
    assert wire.scan_from_json(wire.scan_to_json(SCAN)) == SCAN


def test_answer_survives() -> None:
    columns = Columns(["a", "b"], {"a": [1, None], "b": ["x", {"y": [1.5]}]})
    assert wire.columns_from_json(wire.columns_to_json(columns)) == columns


@given(st.binary(max_size=200))
def test_any_bytes_give_a_scan_or_our_error(body: bytes) -> None:
    with suppress(QueryError):
        assert isinstance(wire.scan_from_json(body), Scan)


@pytest.mark.parametrize(
    "body",
    [
        b'{"table": 1, "select": {}}',
        b'{"table": "calls", "select": {"x": {"type": "nothing"}}}',
        b'{"table": "calls", "select": {}, "where": [{"type": "match"}]}',
        b'{"table": "calls", "select": ' + b'{"x":' * 5000,
    ],
)
def test_wrong_scan_is_refused(body: bytes) -> None:
    with pytest.raises(QueryError, match="scan"):
        wire.scan_from_json(body)
