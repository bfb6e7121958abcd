"""What came in, read again page by page: each record once, in order, whatever is tidied up meanwhile."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recordings import CAPTURES, MANIFEST, prepared, requests
from tachograph.model import Batch, Content, Event, Point, Source, Span
from tachograph.questions.kept_records import Bounds, Sources, kept_events, kept_points, kept_spans, with_texts
from tachograph.scan import Match, Scan
from tachograph.store.contract import Store
from tachograph.store.duckdb import DuckStore, open_store


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with closing(open_store(tmp_path_factory.mktemp("kept") / "store", lambda: 1)) as opened:
        for name in sorted(MANIFEST)[:12]:
            folder = CAPTURES / name
            if folder.is_dir():
                for batch in requests(folder):
                    opened.commit([prepared(batch, "full")])
        yield opened


@pytest.mark.parametrize("size", [1, 2, 7, 1000])
def test_every_record_once_and_in_order(store: Store, size: int) -> None:
    for table, read in (("spans", kept_spans), ("events", kept_events)):
        rows = [row for page in read(store, Sources(store), (), Bounds(size)) for row, _ in page]
        order = [(row["seq"], row.get("start_ns", row.get("time_ns"))) for row in rows]
        assert order == sorted(order)
        assert len(rows) == len(store.scan(Scan(table, {"seq": "seq"})))
    points = [row for page in kept_points(store, Sources(store), (), Bounds(size)) for row, _ in page]
    assert len(points) == len(store.scan(Scan("samples", {"seq": "seq"})))


@pytest.fixture(scope="module")
def alike(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DuckStore]:
    """A store that examples add to, each reading what came since."""
    with closing(open_store(tmp_path_factory.mktemp("alike") / "store", lambda: 1)) as opened:
        yield opened


@given(
    records=st.lists(st.tuples(st.sampled_from([0, 1, 2]), st.sampled_from(["a", "b"])), max_size=12),
    size=st.integers(1, 5),
)
def test_records_that_are_alike_and_records_without_a_time(
    alike: DuckStore, records: list[tuple[int, str]], size: int
) -> None:
    source = Source({"service.name": "x"})
    seqs = []
    for half in (records[:6], records[6:]):
        spans = [Span(source, "a" * 32, span_id * 16, "", "x", 1, t, t, {"t": t}) for t, span_id in half]
        points = [Point(source, "p", {"k": key}, t, "gauge", value=t) for t, key in half]
        seqs.append(alike.commit([Batch(spans=spans, points=points)]))
    came = (Match("seq", ">=", seqs[0]),)
    sources = Sources(alike)
    found = [(s.start_ns, s.span_id[0]) for page in kept_spans(alike, sources, came, Bounds(size)) for _, s in page]
    assert sorted(found) == sorted(records)
    told = [(p.time_ns, p.attributes["k"]) for page in kept_points(alike, sources, came, Bounds(size)) for _, p in page]
    assert sorted(told) == sorted(records)


def test_texts_come_back_to_where_they_were(tmp_path: Path) -> None:
    texts = [Content("input", "messages", ['{"a":1}', '{"b":2}'], is_list=True), Content("", "long", ["x" * 5000])]
    event = Event(Source({}), 1, "said", {"n": 1}, contents=[Content("prompt", "", ["do it"])])
    span = Span(Source({}), "a" * 32, "b" * 16, "", "x", 1, 1, 2, {"n": 1}, contents=texts)
    with closing(open_store(tmp_path / "store", lambda: 1)) as opened:
        opened.commit([Batch(spans=[span], events=[event])])
        ((_, one),) = next(iter(kept_spans(opened, Sources(opened), ())))
        ((_, said),) = next(iter(kept_events(opened, Sources(opened), ())))
    with_texts(one)
    with_texts(said)
    assert one.attributes == {"n": 1, "messages": '[{"a":1},{"b":2}]', "long": "x" * 5000}
    assert (said.attributes, said.body) == ({"n": 1}, "do it")


def test_pages_are_bounded_in_bytes(tmp_path: Path) -> None:
    spans = [
        Span(Source({}), "a" * 32, f"{n:016x}", "", "x", 1, n, n, {}, contents=[Content("input", "m", [str(n) * 4000])])
        for n in range(1, 10)
    ]
    with closing(open_store(tmp_path / "store", lambda: 1)) as opened:
        opened.commit([Batch(spans=spans)])
        pages = [len(page) for page in kept_spans(opened, Sources(opened), (), Bounds(text_bytes=10_000))]
    assert sum(pages) == 9 and max(pages) <= 2
