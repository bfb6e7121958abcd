"""Commits: all of a batch is kept, once, with its types, whatever strings it holds."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from made import DAY_NS, MONDAY_NS, SECOND_NS, Clock, batch, call, event, opened, point, rows, said, span
from tachograph.errors import Busy, ConfigError
from tachograph.model import Meaning, Report, Source, Usage
from tachograph.scan import Match, Scan
from tachograph.store.schema import TABLES


def test_a_span_keeps_everything_that_it_says(tmp_path: Path) -> None:
    links = [{"trace_id": "ab", "span_id": "cd", "trace_state": "", "attributes": {"x": 1.5}, "dropped": 1, "flags": 0}]
    events = [{"time_ns": 5, "name": "exception", "attributes": {"a": [1, "b"]}, "dropped": 0}]
    given_span = span(
        7,
        parent_id="f" * 16,
        status_code=2,
        status_message="broke",
        flags=257,
        trace_state="a=b",
        events=events,
        links=links,
        dropped_attributes=1,
        dropped_events=2,
        dropped_links=3,
        meaning=call(session_id="s1", provider="openai", usage=Usage(10, 5, 2, None, 20, 8), http_status=200),
        contents=said("hello"),
    )
    with opened(tmp_path) as store:
        assert store.commit([batch(given_span)]) == 1
        row = store.scan(Scan("spans", {column.name: column.name for column in TABLES["spans"]})).rows()[0]
        source = rows(store, "FROM sources")[0]
    for name in ("trace_id", "span_id", "parent_id", "name", "kind", "status_code", "status_message", "flags"):
        assert row[name] == getattr(given_span, name)
    for name in ("start_ns", "end_ns", "trace_state", "attributes", "events", "links"):
        assert row[name] == getattr(given_span, name)
    assert (row["dropped_attributes"], row["dropped_events"], row["dropped_links"]) == (1, 2, 3)
    assert row["duration_ns"] == 250_000_000
    assert (row["session_id"], row["provider"], row["role"], row["is_call"]) == ("s1", "openai", "model_call", True)
    tokens = ("input_tokens", "cache_read_tokens", "cache_write_tokens", "output_tokens", "reasoning_tokens")
    assert [row[name] for name in tokens] == [17, 5, 2, 20, 8]
    assert (row["http_status"], row["ttft_ns"], row["seq"], row["agent"]) == (200, None, 1, "")
    assert [content["slot"] for content in row["contents"]] == ["input"]
    assert (source["source_id"], source["service"], source["scope_name"]) == (row["source_id"], "my-agent", "my.scope")


def test_unknown_times_and_tokens_are_null_and_never_zero(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        store.commit([batch(span(1, start_ns=0, end_ns=0, meaning=call(usage=Usage(output=3))), event(1, time_ns=0))])
        row = rows(store, "SELECT start_ns, end_ns, duration_ns, input_tokens, output_tokens FROM spans")[0]
        assert list(row.values()) == [None, None, None, None, 3]
        assert rows(store, "SELECT time_ns, duration_ns FROM events")[0] == {"time_ns": None, "duration_ns": None}


TYPED = {
    "int": 2**53 + 1,
    "small": -5,
    "double": 1.0,
    "tiny": 5e-324,
    "bool": True,
    "none": None,
    "empty": "",
    "bytes": {"$bytes": "AAH/"},
    "nan": {"$double": "NaN"},
    "array": [1, 2.0, "three", False, [None]],
    "map": {"a.b": {"c": 1}},
    "key \"with' signs/~.": "v",
}


def test_types_survive(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        store.commit([batch(span(1, TYPED), event(1, TYPED, body=TYPED))])
        kept = store.scan(Scan("spans", {"a": "attributes"})).data["a"][0]
        body = store.scan(Scan("events", {"b": "body"})).data["b"][0]
        name = "key \"with' signs/~."
        assert store.scan(Scan("spans", {"x": f"attributes.{name}"})).data["x"] == ["v"]
    for found in (kept, body):
        assert found == TYPED
        assert {key: type(value) for key, value in found.items()} == {k: type(v) for k, v in TYPED.items()}


@pytest.mark.parametrize(
    "text", ["nul \0 in it", "lone \ud800 surrogate", "\udfff", "joined \ud83d\ude00", "🦆", "'; --"]
)
def test_hostile_strings_are_kept(tmp_path: Path, text: str) -> None:
    expected = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    records = (
        span(1, {text: text}, name=text, status_message=text, contents=said(text), meaning=Meaning(user=text)),
        event(1, {text: [text]}, name=text, body=text, contents=said(text + "x")),
        point(1, name=text, attributes={text: text}),
    )
    with opened(tmp_path) as store:
        store.commit([batch(*records, digest=text, positions={text: text})])
        found = store.scan(Scan("spans", {"n": "name", "a": "attributes", "u": "user"})).rows()[0]
        assert found == {"n": expected, "a": {expected: expected}, "u": expected}
        assert store.scan(Scan("events", {"b": "body"})).data["b"] == [expected]
        assert store.positions() == {expected: expected}
        assert expected in store.texts(store.scan(Scan("contents", {"h": "hash"})).data["h"]).values()
        assert store.scan(Scan("spans", {"n": "name"}, (Match("name", "=", text),))).data["n"] == [expected]


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with opened(tmp_path_factory.mktemp("shared")) as store:
        yield store


@given(
    attributes=st.dictionaries(st.text(), plain, max_size=4),
    integer=st.integers(),
    text=st.text(st.characters(exclude_categories=())),
)
def test_any_record_is_kept_or_refused_with_our_error(
    shared: Any, attributes: dict[str, Any], integer: int, text: str
) -> None:
    seq = shared.commit(
        [
            batch(
                span(1, attributes, start_ns=integer, end_ns=-integer, name=text, meaning=call(usage=Usage(integer))),
                event(1, {text: integer}, body=text, time_ns=integer),
                point(1, value=integer, attributes=attributes, count=integer),
            )
        ]
    )
    found = shared.scan(Scan("spans", {"a": "attributes", "n": "name"}, (Match("seq", "=", seq),))).rows()
    assert len(found) == 1
    assert found[0]["n"] == text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    assert set(found[0]["a"]) == set(attributes)


def test_deep_values_and_foreign_types_do_not_fail_a_commit(tmp_path: Path) -> None:
    deep: Any = []
    for _ in range(100_000):
        deep = [deep]
    strange = {"huge": 2**70, "set": {1}, "deep": deep, "tuple": (1,)}
    with opened(tmp_path) as store:
        store.commit([batch(span(1, strange))])
        kept = store.scan(Scan("spans", {"a": "attributes"})).data["a"][0]
    assert (kept["huge"], kept["set"], kept["tuple"]) == (str(2**70), "[set]", [1])


def test_a_batch_sent_again_is_stored_once(tmp_path: Path) -> None:
    def sent() -> Any:
        return batch(span(1), digest="aa" * 16)

    with opened(tmp_path) as store:
        assert store.commit([sent(), sent()]) == 1
        assert store.commit([sent()]) == 1
        assert store.commit([sent(), batch(span(2), digest="bb")]) == 2
    with opened(tmp_path) as store:  # and after a restart, when memory knows nothing
        assert store.commit([sent()]) == 2
        assert store.commit([batch(span(3)), batch(span(3))]) == 3
        assert rows(store, "SELECT span_id FROM spans ORDER BY span_id, seq") == [
            {"span_id": f"{number:016x}"} for number in (1, 2, 3, 3)
        ]


def test_a_text_is_kept_once_a_week(tmp_path: Path) -> None:
    clock = Clock()
    history = [f"message {n}" for n in range(20)]
    with opened(tmp_path, clock) as store:
        for turn in range(1, 20):
            store.commit([batch(*(span(turn, contents=said(text)) for text in history[:turn]))])
        assert rows(store, "SELECT count(*) AS n FROM contents") == [{"n": 19}]
    with opened(tmp_path, clock) as store:
        store.commit([batch(span(21, contents=said("message 0")), event(1, contents=said("message 1")))])
        assert rows(store, "SELECT count(*) AS n FROM contents") == [{"n": 19}]
        clock.now_ns += 7 * DAY_NS
        store.commit([batch(span(22, contents=said("message 0")))])
        store.commit([batch(span(23, contents=said("message 0")))])
        found = rows(store, "SELECT time_ns, bytes FROM contents WHERE text = 'message 0' ORDER BY time_ns")
        assert [row["time_ns"] for row in found] == [MONDAY_NS, MONDAY_NS + 7 * DAY_NS]
        assert found[0]["bytes"] == 9
        hashes = store.scan(Scan("contents", {"h": "hash"})).data["h"]
        assert len(store.texts(hashes)) == 19
        assert all(len(name) == 22 for name in hashes)


def test_points_share_their_series(tmp_path: Path) -> None:
    histogram = {
        "type": "exponential_histogram",
        "value": None,
        "count": 3,
        "sum": 4.5,
        "min": 0.5,
        "max": 3.0,
        "buckets": {"scale": 2, "zero_count": 1, "positive": {"offset": -1, "counts": [1, 1]}},
        "exemplars": [{"trace_id": "ab", "value": 1}],
    }
    with opened(tmp_path) as store:
        store.commit([batch(point(1), point(2, value=2.5), point(3, **histogram), point(4, value=2**60, start_ns=9))])
        store.commit([batch(point(5, flags=1, value=None))])
        series = rows(store, "SELECT * FROM series ORDER BY type")
        samples = rows(store, "SELECT * FROM samples ORDER BY time_ns")
        kept = store.scan(Scan("samples", {"b": "buckets", "e": "exemplars"}, (Match("count", "=", 3),))).rows()
    assert [one["type"] for one in series] == ["exponential_histogram", "sum"]
    assert (series[1]["session_id"], series[1]["model"], series[1]["temporality"]) == ("s1", "m1", 1)
    assert [one["value_int"] for one in samples] == [1, None, None, 2**60, None]
    assert [one["value"] for one in samples] == [1.0, 2.5, None, float(2**60), None]
    assert [one["start_ns"] for one in samples] == [None, None, None, 9, None]
    assert kept == [{"b": histogram["buckets"], "e": histogram["exemplars"]}]
    assert len({one["series_id"] for one in samples}) == 2


def test_sources_are_one_where_they_say_the_same(tmp_path: Path) -> None:
    same = [Source({"service.name": "a", "k": 1}), Source({"k": 1, "service.name": "a"}), Source({"service.name": "b"})]
    with opened(tmp_path) as store:
        store.commit([batch(*(span(n, source=source) for n, source in enumerate(same)))])
        store.commit([batch(span(9, source=same[0]))])
        assert [row["service"] for row in rows(store, "SELECT service FROM sources ORDER BY 1")] == ["a", "b"]


def test_the_same_event_has_the_same_id(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        store.commit([batch(event(1, observed_ns=5), event(1, observed_ns=6), event(1, body="x"), event(2))])
        found = rows(store, "SELECT count(*) AS n FROM events GROUP BY event_id ORDER BY n")
    assert [row["n"] for row in found] == [1, 1, 2]


def test_reports_and_positions_come_with_their_commit(tmp_path: Path) -> None:
    report = Report("r1", "span", 3, trace_id="ab", meaning=call(session_id="s", usage=Usage(1, 2)))
    with opened(tmp_path) as store:
        store.commit([batch(span(1), reports=[report], positions={"a.jsonl": "10", "b.jsonl": "1"}, is_demo=True)])
        store.commit([batch(event(1), positions={"a.jsonl": "20"})])
        kept = rows(store, "SELECT report, session_id, is_demo FROM reports")[0]
        assert msgspec.json.decode(kept["report"], type=Report) == report
        assert (kept["session_id"], kept["is_demo"]) == ("s", True)
        assert store.positions() == {"a.jsonl": "20", "b.jsonl": "1"}
        commits = rows(store, "SELECT seq, time_ns, spans, events, points, is_demo FROM commits ORDER BY seq")
    assert list(commits[0].values()) == [1, MONDAY_NS, 1, 0, 0, True]
    assert list(commits[1].values()) == [2, MONDAY_NS, 0, 1, 0, False]


def test_sequence_and_empty_commits(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        assert store.sequence() == 0
        assert store.commit([]) == 0
        store.commit([batch(positions={"a": "1"})])
        assert store.sequence() == 1
    with opened(tmp_path) as store:
        assert store.sequence() == 1
        assert store.size_bytes() > 0


def test_threads_commit_and_read_together(tmp_path: Path) -> None:
    failures: list[BaseException] = []
    with opened(tmp_path) as store:

        def commit(first: int) -> None:
            try:
                for number in range(first, first + 10):
                    seq = store.commit([batch(span(number, contents=said(f"text {number % 7}")), event(number))])
                    own = store.scan(Scan("spans", {"id": "span_id"}, (Match("seq", "=", seq),))).data["id"]
                    assert own == [f"{number:016x}"]
                    assert rows(store, "SELECT count(*) = count(DISTINCT hash) AS ok FROM contents") == [{"ok": True}]
            except BaseException as failure:
                failures.append(failure)
                raise

        threads = [threading.Thread(target=commit, args=(first,)) for first in range(0, 60, 10)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not failures
        assert rows(store, "SELECT count(DISTINCT span_id) AS n, max(seq) AS s FROM spans") == [{"n": 60, "s": 60}]
        assert store.sequence() == 60


def test_a_closed_store_says_so(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        store.close()
        with pytest.raises(Busy, match="closed"):
            store.commit([batch(span(1))])


def test_a_store_in_the_same_process_is_refused_twice(tmp_path: Path) -> None:
    with opened(tmp_path), pytest.raises(ConfigError, match="is using"), opened(tmp_path):
        pass


def test_odd_folder_names_do(tmp_path: Path) -> None:
    folder = tmp_path / 'it\'s a "folder"; with [signs] é'
    for number in (1, 2):
        with opened(folder, Clock(MONDAY_NS + SECOND_NS)) as store:
            assert store.commit([batch(span(number))]) == number
