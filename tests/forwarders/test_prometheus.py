"""Prometheus: totals that only grow whatever comes how often, and requests that both versions' servers read."""

from __future__ import annotations

import math
import os
import socket
from pathlib import Path
from typing import Any

import cramjam
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fillings import NOON, SECOND
from notes import Notes
from remote_write import VERSION_1, VERSION_2
from sink import Reply, Request, Sink
from tachograph.destinations import Destination
from tachograph.errors import ConfigError, Rejected
from tachograph.forwarders import prometheus
from tachograph.forwarders.contract import NOW, Item, Part, Step
from tachograph.forwarders.prometheus import Prometheus
from tachograph.forwarders.prometheus_points import BOUNDS_MAX, is_many
from tachograph.forwarders.prometheus_series import STEP_MS, remembered
from tachograph.forwarders.prometheus_text import exposed
from tachograph.forwarders.prometheus_wire import STALE, Family, Series, of_instance, version_1, version_2
from tachograph.model import TOOL_RUN, Point, Source
from told import CALL, golden, items, recorded, step

Labels = tuple[tuple[str, str], ...]


def made(**options: Any) -> Prometheus:
    return prometheus.make(Destination("p", "prometheus", "p", options={"scrape": True, "instance": "", **options}), {})


def samples(parts: list[Part]) -> dict[Labels, list[tuple[int, float]]]:
    """All samples by series, in the order they are sent."""
    found: dict[Labels, list[tuple[int, float]]] = {}
    for part in parts:
        for series in part.value:
            found.setdefault(series.labels, []).extend(series.samples)
    for told in found.values():
        assert [ms for ms, _ in told] == sorted({ms for ms, _ in told}), "in order, and no time twice"
    return found


def last(parts: list[Part], name: str, **labels: str) -> float:
    """The newest values of the series of this name with these labels, added up."""
    wanted = {("__name__", name), *labels.items()}
    return sum(told[-1][1] for series, told in samples(parts).items() if wanted <= set(series))


def point(
    value: float,
    second: int,
    session: str = "s1",
    temporality: int = 1,
    start: int = 0,
    model: str = "big",
    **more: Any,
) -> Item:
    source = Source({"service.name": "pi", "session.id": session})
    told: dict[str, Any] = {
        "unit": "tokens", "temporality": temporality, "is_monotonic": True, "start_ns": NOON + start * SECOND,
        "value": value, **more,
    }  # fmt: skip
    record = Point(source, "used", {"model": model, "session.id": session}, NOON + second * SECOND, "sum", **told)
    return Item(f"{session}:{second}", 1, record)


def call(number: int = 1, second: int = 0, **more: Any) -> Item:
    row = {
        "end_ns": NOON + second * SECOND, "start_ns": NOON + (second - 2) * SECOND, "model": "big", "channel": "",
        "environment": "", "project": "web", "error_type": "", "input_tokens": 2400, "ttft_ns": None, **more,
    }  # fmt: skip
    return Item(f"c{number}", number, {**CALL, **row, "call_id": f"c{number}"})


def test_deltas_of_many_sessions_are_one_total() -> None:
    memory, to = Notes(), made()
    first = to.convert([point(5, 10), point(7, 12, "s2"), point(1, 40)], memory)
    series = samples(first)
    assert [dict(labels)["model"] for labels in series if ("__name__", "used_tokens_total") in labels] == ["big"]
    assert last(first, "used_tokens_total", job="pi", service_name="pi") == 13
    assert last(to.convert([point(2, 60)], memory), "used_tokens_total") == 15


def test_a_point_that_comes_twice_counts_once() -> None:
    memory, to = Notes(), made()
    to.convert([point(5, 10), point(6, 20)], memory)
    again = to.convert([point(6, 20), point(5, 10)], memory)
    assert last(again, "used_tokens_total") in (0, 11)
    assert last(to.convert([point(1, 200)], memory), "used_tokens_total") == 12


def test_totals_of_processes_that_end_and_begin_anew() -> None:
    memory, to = Notes(), made()
    told = [
        point(5, 10, temporality=2), point(9, 20, temporality=2), point(100, 20, "s2", temporality=2),
        point(3, 40, temporality=2, start=30), point(4, 50, temporality=2, start=30),
    ]  # fmt: skip
    assert last(to.convert(told, memory), "used_tokens_total") == 113


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 50), st.sampled_from("abc")), min_size=1, max_size=25), st.data())
def test_any_split_and_replay_gives_the_same_totals(told: list[tuple[int, str]], data: st.DataObject) -> None:
    memory, to = Notes(), made()
    given = [point(value, 10 + number, session) for number, (value, session) in enumerate(told)]
    at, newest = 0, 0.0
    while at < len(given):
        size = data.draw(st.integers(1, len(given)))
        for _ in range(data.draw(st.integers(1, 2))):  # a window that is read again
            newest = max(newest, last(to.convert(given[at : at + size], memory), "used_tokens_total"))
        at += size
    assert newest == sum(value for value, _ in told)


def test_a_value_after_a_silence_says_the_old_one_before() -> None:
    memory, to = Notes(), made()
    to.convert([point(5, 10)], memory)
    told = next(iter(samples(to.convert([point(1, 500)], memory)).values()))
    assert [value for _, value in told] == [5, 5, 5, 5, 6]
    assert told[-1][0] - told[-2][0] == STEP_MS


def test_a_new_series_begins_at_zero() -> None:
    told = next(iter(samples(made().convert([point(5, 10)], Notes())).values()))
    assert told[0][1] == 0 and told[-1] == ((NOON + 10 * SECOND) // 1_000_000, 5)


def test_what_does_not_change_is_said_once_a_minute() -> None:
    memory, to = Notes(), made()
    to.convert([point(5, 10)], memory)
    parts = to.convert([call(second=100)], memory)
    assert last(parts, "used_tokens_total") == 5


def test_histograms_of_other_bounds_go_into_the_next_wider_bucket() -> None:
    memory, to = Notes(), made()
    source = Source({"service.name": "pi"})

    def histogram(second: int, bounds: list[float], counts: list[int]) -> Item:
        record = Point(
            source, "took", {"n": second > 50}, NOON + second * SECOND, "histogram", "s", temporality=1,
            count=sum(counts), sum=1.0, buckets={"bounds": bounds, "counts": counts}, start_ns=NOON,
        )  # fmt: skip
        record.attributes = {}
        return Item(f"h{second}", 1, record)

    parts = to.convert([histogram(1, [1, 10], [1, 2, 3]), histogram(60, [2, 10], [4, 0, 1])], memory)
    assert last(parts, "took_seconds_bucket", le="1") == 1
    assert last(parts, "took_seconds_bucket", le="10") == 7
    assert last(parts, "took_seconds_bucket", le="+Inf") == last(parts, "took_seconds_count") == 11


def test_a_histogram_of_hundreds_of_buckets_has_few_and_exact_ones() -> None:
    bounds = [float(bound) for bound in range(513)]
    record = Point(
        Source({"service.name": "codex"}), "kept", {}, NOON, "histogram", temporality=1, count=514, sum=1.0,
        buckets={"bounds": bounds, "counts": [1] * 514}, start_ns=NOON - SECOND,
    )  # fmt: skip
    told = samples(made().convert([Item("h", 1, record)], Notes()))
    buckets = {dict(labels)["le"]: values[-1][1] for labels, values in told.items() if "le" in dict(labels)}
    assert len(buckets) <= BOUNDS_MAX + 1
    assert buckets.pop("+Inf") == 514
    assert buckets["0"] == 1 and buckets["1"] == 2 and buckets["512"] == 513
    assert all(count == float(bound) + 1 for bound, count in buckets.items())


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), unique=True, max_size=80))
def test_any_bounds_lose_no_count(bounds: list[float]) -> None:
    buckets = {"bounds": sorted(bounds), "counts": [1] * (len(bounds) + 1)}
    record = Point(
        Source({"service.name": "codex"}), "kept", {}, NOON, "histogram", temporality=1, count=len(bounds) + 1,
        sum=1.0, buckets=buckets, start_ns=NOON - SECOND,
    )  # fmt: skip
    parts = made().convert([Item("h", 1, record)], Notes())
    assert last(parts, "kept_bucket", le="+Inf") == len(bounds) + 1


def test_exponential_histograms_become_powers_of_two() -> None:
    buckets = {"scale": 1, "zero_count": 2, "positive": {"offset": 0, "counts": [1, 2, 4]}, "negative": {}}
    record = Point(
        Source({"service.name": "pi"}), "took", {}, NOON, "exponential_histogram", "s", temporality=1, count=9, sum=9.0,
        buckets=buckets, start_ns=NOON - SECOND,
    )  # fmt: skip
    parts = made().convert([Item("e", 1, record)], Notes())
    assert last(parts, "took_seconds_bucket", le="0.0009765625") == 2
    assert last(parts, "took_seconds_bucket", le="2") == 5  # up to √2, and up to 2
    assert last(parts, "took_seconds_bucket", le="4") == 9


def test_a_call_counts_once_and_its_change_adds_the_difference() -> None:
    memory, to = Notes(), made()
    parts = to.convert([call(), call(2, 3)], memory)
    assert last(parts, "gen_ai_usage_input_tokens_total", gen_ai_request_model="claude-sonnet-4-5") == 4800
    assert last(parts, "gen_ai_usage_cost_USD_total", project="web", cost_kind="computed") == pytest.approx(0.014)
    assert last(parts, "gen_ai_client_operation_duration_seconds_count", error="false") == 2
    changed = to.convert([call(output_tokens=80, second=30)], memory)
    assert last(changed, "gen_ai_usage_output_tokens_total") == 130
    assert last(changed, "gen_ai_client_token_usage_sum", gen_ai_token_type="output") == 130
    assert last(changed, "gen_ai_client_token_usage_count", gen_ai_token_type="output") == 2
    lower = to.convert([call(output_tokens=10, second=60), call(3, 90)], memory)
    assert last(lower, "gen_ai_usage_output_tokens_total") == 130, "never less: 110 stays unsaid until there is more"
    assert to.convert([call(output_tokens=10, second=60)], memory) == []


def test_errors_have_labels() -> None:
    parts = made().convert([call(status="failed", http_status=429, error_type="")], Notes())
    assert last(parts, "tachograph_calls_total", error="true", error_type="429") == 1
    assert last(parts, "gen_ai_client_operation_duration_seconds_count", error="true") == 1


def test_tools_and_what_pi_calls_them_in_both_spellings() -> None:
    memory, to = Notes(), made(spellings="both")
    session = {"session_id": "s1", "agent": "pi", "project": "web"}
    told = items(
        step(1, TOOL_RUN, tool_name="bash", session=session),
        step(2, TOOL_RUN, tool_name="bash", session=session, is_error=True, error_type="timeout"),
    )
    parts = to.convert(told, memory)
    assert last(parts, "tachograph_tool_runs_total", tool_name="bash", agent="pi") == 2
    assert last(parts, "pi_tool_calls", job="pi-coding-agent", tool_name="bash") == 2
    assert last(parts, "pi_tool_errors_total", job="pi-coding-agent") == 1
    assert last(parts, "pi_tool_duration_bucket", le="10000") == 2
    assert last(parts, "pi_tool_duration_milliseconds_sum") == 20_000


def test_what_is_derived_is_not_taken_as_it_came() -> None:
    record = Point(Source({}), "pi.prompts", {}, NOON, "sum", temporality=1, is_monotonic=True, value=1)
    assert made().convert([Item("x", 1, record)], Notes()) == []
    assert last(made(derived=False).convert([Item("x", 1, record)], Notes()), "pi_prompts_total") == 1


def test_ids_are_no_labels_unless_asked_for() -> None:
    many = [
        "session.id",
        "user.id",
        "prompt_id",
        "user.account_uuid",
        "user.email",
        "process.pid",
        "gen_ai.response.id",
        "cpu_usage_user",
    ]
    assert all(map(is_many, many))
    assert not any(map(is_many, ["model", "type", "tool_name", "provider", "gen_ai.token.type", "valid", "grid"]))
    parts = made(keep_labels=("session.id",)).convert([point(5, 10)], Notes())
    assert last(parts, "used_tokens_total", session_id="s1") == 5


def test_an_ended_gauge_is_stale() -> None:
    record = Point(Source({}), "load", {}, NOON, "gauge", value=3.5)
    memory, to = Notes(), made()
    to.convert([Item("a", 1, record)], memory)
    ended = Point(Source({}), "load", {}, NOON + SECOND, "gauge", flags=1)
    [(_, value)] = next(iter(samples(to.convert([Item("b", 1, ended)], memory)).values()))
    assert math.isnan(value)


# -- on the wire ------------------------------------------------------------------------------------------------------

SERIES = [
    Series((("__name__", "a_total"), ("job", "pi")), Family("a_total", "counter", "s", "What."), 5, [(7, 1.5), (9, 2)]),
    Series((("__name__", "b"),), Family("b", "gauge"), 0, [(8, STALE)]),
]


def test_version_1_reads_as_written() -> None:
    read = VERSION_1.FromString(version_1(SERIES))
    assert [[(one.name, one.value) for one in series.labels] for series in read.timeseries] == [
        list(series.labels) for series in SERIES
    ]
    assert [(one.timestamp, one.value) for one in read.timeseries[0].samples] == [(7, 1.5), (9, 2)]
    assert [(one.type, one.family, one.help) for one in read.metadata] == [(1, "a_total", "What."), (2, "b", "")]


def test_version_2_reads_as_written() -> None:
    read = VERSION_2.FromString(version_2(SERIES))
    assert read.symbols[0] == "" and len(set(read.symbols)) == len(read.symbols)
    texts = [[read.symbols[ref] for ref in series.refs] for series in read.timeseries]
    assert texts == [[text for pair in series.labels for text in pair] for series in SERIES]
    first = read.timeseries[0]
    assert [(one.timestamp, one.value, one.start) for one in first.samples] == [(7, 1.5, 5), (9, 2, 5)]
    assert (first.metadata.type, read.symbols[first.metadata.help], read.symbols[first.metadata.unit]) == (
        1,
        "What.",
        "s",
    )


def _sent(reply: Any, **options: Any) -> tuple[list[Request], Any]:
    with Sink(reply) as sink:
        to = made(url=sink.url + "/api/v1/write", **options)
        parts = to.convert([point(5, 10)], Notes())
        try:
            return sink.requests, to.send(parts[0].route, parts)
        finally:
            to.close()


WRITTEN = {"X-Prometheus-Remote-Write-Samples-Written": "5"}


def test_what_is_written_says_who_wrote_it() -> None:
    """Two machines that write the same series to one server would each undo the other's totals."""

    def instances(**options: Any) -> set[str]:
        requests, _ = _sent(lambda _: Reply(204), version="1.0", **options)
        read = VERSION_1.FromString(bytes(cramjam.snappy.decompress_raw(requests[0].body)))
        for series in read.timeseries:
            names = [one.name for one in series.labels]
            assert names == sorted(set(names))
        return {one.value for series in read.timeseries for one in series.labels if one.name == "instance"}

    assert instances(instance="laptop") == {"laptop"}
    assert instances() == set()
    with Sink(lambda _: Reply(204)) as sink:
        to = prometheus.make(Destination("p", "prometheus", "p", options={"url": sink.url, "version": "1.0"}), {})
        to.send("write", to.convert([point(5, 10)], Notes()))
        to.close()
    assert socket.gethostname().encode() in bytes(cramjam.snappy.decompress_raw(sink.requests[0].body))


def test_a_process_that_names_itself_stays_what_it_is() -> None:
    item = point(5, 10)
    assert isinstance(item.record, Point)
    item.record.source.resource["service.instance.id"] = "worker-1"
    to = made(keep_labels=("service.instance.id",))
    told = of_instance([series for part in to.convert([item], Notes()) for series in part.value], "laptop")
    assert {dict(series.labels)["instance"] for series in told} == {"worker-1"}


def test_a_server_of_version_2_gets_it() -> None:
    requests, answer = _sent(lambda _: Reply(204, headers=WRITTEN), token="secret")
    assert [request.headers["x-prometheus-remote-write-version"] for request in requests] == ["2.0.0"]
    assert requests[0].headers["authorization"] == "Bearer secret"
    read = VERSION_2.FromString(bytes(cramjam.snappy.decompress_raw(requests[0].body)))
    assert read.timeseries and answer.answer == "204"


@pytest.mark.parametrize("status", [415, 204])
def test_an_older_server_gets_version_1(status: int) -> None:
    """It refuses the newer one, or says that it is well while it reads nothing of it."""
    new = "2.0.0"
    requests, _ = _sent(lambda r: Reply(status if r.headers["x-prometheus-remote-write-version"] == new else 204))
    assert [request.headers["x-prometheus-remote-write-version"] for request in requests] == [new, "0.1.0"]


def test_a_version_that_is_asked_for_is_kept() -> None:
    with pytest.raises(ConfigError):  # all samples would be refused alike: none of them is at fault
        _sent(lambda _: Reply(415), version="2.0")


def test_samples_that_come_too_late_cost_no_other() -> None:
    _, answer = _sent(lambda _: Reply(400, b"out of order sample"), version="1.0")
    assert answer.rejected == 1 and "out of order" in answer.why
    with pytest.raises(Rejected):
        _sent(lambda _: Reply(400, b"cannot read it"), version="1.0")


def test_an_address_or_scraping_is_needed() -> None:
    with pytest.raises(ConfigError, match="neither url nor scrape"):
        prometheus.make(Destination("p", "prometheus", "tachograph.toml:3", options={}), {})


def test_series_are_remembered_for_scraping() -> None:
    memory = Notes()
    made().convert([point(5, 10), call(2, 20)], memory)
    text = exposed([kept for _, kept in remembered(memory)], is_open_metrics=False)
    assert 'used_tokens_total{job="pi",model="big",service_name="pi"} 5\n' in text
    assert "# TYPE gen_ai_client_operation_duration_seconds histogram\n" in text


@pytest.mark.parametrize("name", ["claude-code-errors", "pi/pi152-subagent", "codex-errors"])
def test_recordings_give_the_series_that_they_gave(name: str, tmp_path: Path) -> None:
    """The newest value of every series, buckets apart, as a server reads it."""
    told = recorded(name, tmp_path, privacy="none")
    rows = [item.record.call for item in told if isinstance(item.record, Step) and item.record.call]
    asked = [Item(row["call_id"], 1, row) for row in rows] + told
    with Sink(lambda _: Reply(204)) as sink:
        to = made(url=sink.url, version="1.0")
        to.send("write", to.convert(asked, Notes()))
        to.close()
    read = VERSION_1.FromString(bytes(cramjam.snappy.decompress_raw(sink.requests[0].body)))
    newest = {
        " ".join(f"{one.name}={one.value}" for one in series.labels): [
            series.samples[-1].timestamp,
            series.samples[-1].value,
        ]
        for series in read.timeseries
        if not any(one.name == "le" for one in series.labels)
    }
    is_writing = os.environ.get("TACHOGRAPH_GOLDEN") == "write"
    assert newest == golden("prometheus", name.replace("/", "-"), newest, is_writing)
    tokens = sum(value for key, (_, value) in newest.items() if "=gen_ai_usage_input_tokens_total" in key)
    assert tokens == sum(row["input_tokens"] or 0 for row in rows) > 0


DAY = 86_400


def test_a_series_that_nobody_adds_to_is_forgotten_and_begins_anew() -> None:
    memory, to = Notes(), made()
    to.convert([point(100, 10)], memory)
    for day in range(1, 8):
        to.convert([point(1, day * DAY, model="other")], memory)
    assert len(memory.keys("series:")) == 2
    to.convert([point(1, 9 * DAY, model="other")], memory)
    assert len(memory.keys("series:")) == 1
    parts = to.convert([point(5, 9 * DAY + 60, start=0)], memory)
    told = next(one for part in parts for one in part.value if ("model", "big") in one.labels)
    assert [value for _, value in told.samples] == [0, 0, 0, 0, 5]
    assert told.start_ms > (NOON + 2 * DAY * SECOND) // 1_000_000  # the last that may have been said of the old one


def test_memory_is_bounded_however_many_series_come() -> None:
    """New models, sessions and senders every day for three months."""
    memory, to = Notes(), made()
    most = 0
    for day in range(90):
        agent = {"agent": "pi", "call_id": f"c{day}", "model": f"m{day}"}
        run = step(day + 1, "prompt", 0, day * DAY, day * DAY + 10, session_id=f"s{day}", session={"agent": "pi"})
        source = Source({"service.name": f"host-{day}", "os.type": "linux"})
        started = Point(source, "starts", {}, NOON + day * DAY * SECOND, "sum", "", "", 1, True, value=1)
        told = point(1, day * DAY, f"s{day}", model=f"m{day}")
        to.convert([Item(f"x{day}", 1, started), told, call(day, day * DAY, **agent), *items(run)], memory)
        most = max(most, len(memory)) if day < 45 else most
    # What is remembered of points themselves stays for thirty days after their last.
    assert len(memory) <= most
    assert len(memory.keys("series:")) < 40 * 10
    assert len(memory.keys("session:")) <= 9
    assert len(memory.keys("target:")) <= 10


def test_a_clock_that_runs_ahead_forgets_nothing_of_others() -> None:
    memory, to = Notes(), made()
    to.convert([point(100, 10)], memory)
    to.convert([point(1, 20, model="other"), point(1, 400 * DAY, "s2", model="ahead")], memory)
    assert last(to.convert([point(1, 60)], memory), "used_tokens_total", model="big") == 101


def test_a_clock_that_runs_ahead_alone_in_its_request_forgets_and_holds_up_nothing() -> None:
    memory, to = Notes(), made()

    def sent(at: int, *given: Item) -> list[Part]:
        memory.put(NOW, b"%d" % (NOON + at * SECOND))
        return to.convert(given, memory)

    sent(60, point(100, 10, temporality=2))
    sent(65, point(1, 4 * DAY, "s2", 2, 5, model="ahead"))
    sent(70, point(7, 400 * DAY, "s3", 2, 5))  # the same series as the first
    parts = sent(600, point(101, 600, temporality=2))
    assert last(parts, "used_tokens_total", model="big") == 101 + 7, "not from the start once more"
    ((at_ms, _),) = [told[-1] for series, told in samples(parts).items() if ("model", "big") in series]
    assert at_ms == NOON // 1_000_000 + 600_000, "and at its own time"


def test_a_histogram_with_an_attribute_called_as_its_buckets() -> None:
    record = Point(
        Source({"service.name": "pi"}), "took", {"le": "mine"}, NOON, "histogram", "s", "", 1, start_ns=NOON - SECOND,
        count=3, sum=math.nan, buckets={"bounds": [1.0], "counts": [1, 2]},
    )  # fmt: skip
    found = samples(made().convert([Item("p", 1, record)], Notes()))
    for series in found:
        assert len({name for name, _ in series}) == len(series), "no name twice"
    buckets = {dict(series).get("le"): told[-1][1] for series, told in found.items()}
    assert buckets["1"] == 1 and buckets["+Inf"] == 3
    assert {dict(series).get("exported_le", dict(series).get("le")) for series in found} == {"mine"}
    assert all(math.isfinite(value) for told in found.values() for _, value in told)


def test_who_sends_is_not_told_by_an_attribute() -> None:
    found = samples(made().convert([_with({"job": "other", "service.name": "another"})], Notes()))
    assert all({("job", "pi"), ("service_name", "pi")} <= set(series) for series in found)


def _with(attributes: dict[str, Any]) -> Item:
    item = point(1, 10)
    assert isinstance(item.record, Point)
    item.record.attributes = attributes
    return item
