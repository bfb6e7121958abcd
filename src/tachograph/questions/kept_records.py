"""What came in, as records again: rows of spans, events and samples with their source and their texts put back."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Any, Final, NamedTuple

from tachograph.model import Attributes, Content, Event, Meaning, Point, Source, Span
from tachograph.scan import Agg, Any_, Bucket, Condition, Match, Reader, Scan


class Bounds(NamedTuple):
    """Of one page: how many rows, and how many bytes of texts; a record with more is a page of its own."""

    rows: int = 500
    text_bytes: int = 4 * 1024 * 1024


_BOUNDS: Final = Bounds()
Row = dict[str, Any]


def _columns(names: str) -> dict[str, str | Agg | Bucket]:
    return {name: name for name in names.split()}


SPAN: Final = _columns(
    "seq trace_id span_id parent_id name kind start_ns end_ns status_code status_message flags trace_state source_id "
    "session_id agent project attributes events links contents dropped_attributes dropped_events dropped_links"
)
_EVENT: Final = _columns(
    "seq event_id time_ns observed_ns name origin trace_id span_id severity severity_text flags source_id session_id "
    "agent project body attributes contents dropped_attributes"
)
_SAMPLE: Final = _columns("seq series_id start_ns time_ns value value_int count sum min max buckets exemplars flags")
_SERIES: Final = _columns("series_id name unit description type temporality is_monotonic source_id attributes metadata")
_SOURCE: Final = _columns(
    "source_id resource resource_schema_url resource_dropped scope_name scope_version scope_attributes "
    "scope_schema_url scope_dropped"
)


class Sources:
    """Sources by id, each read once and one object for all its records."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._known: dict[str, Source] = {}

    def of(self, ids: Collection[str]) -> dict[str, Source]:
        """The sources of these ids; one that is not kept any more says nothing."""
        if unknown := set(ids) - self._known.keys():
            asked = Scan("sources", _SOURCE, (Match("source_id", "in", sorted(unknown)),))
            for row in self._reader.scan(asked).rows():
                self._known[row["source_id"]] = _source(row)
            for missing in unknown - self._known.keys():
                self._known[missing] = Source({})
        return self._known


def kept_spans(
    reader: Reader, sources: Sources, where: Sequence[Condition], bounds: Bounds = _BOUNDS
) -> Iterator[list[tuple[Row, Span]]]:
    """Spans in order of their commits, some at a time, each with the row it was made of; texts are its `contents`."""
    for rows, texts in _pages(reader, "spans", SPAN, ("seq", "start_ns", "span_id"), where, bounds):
        known = sources.of({row["source_id"] for row in rows})
        yield [(row, span_of(row, known[row["source_id"]], texts)) for row in rows]


def kept_events(
    reader: Reader, sources: Sources, where: Sequence[Condition], bounds: Bounds = _BOUNDS
) -> Iterator[list[tuple[Row, Event]]]:
    """Events in order of their commits, some at a time, each with the row it was made of; texts are its `contents`."""
    for rows, texts in _pages(reader, "events", _EVENT, ("seq", "time_ns", "event_id"), where, bounds):
        known = sources.of({row["source_id"] for row in rows})
        yield [(row, _event(row, known[row["source_id"]], texts)) for row in rows]


def kept_points(
    reader: Reader, sources: Sources, where: Sequence[Condition], bounds: Bounds = _BOUNDS
) -> Iterator[list[tuple[Row, Point]]]:
    """Points in order of their commits, some at a time, each with the row of its sample."""
    series: dict[str, Row] = {}
    for rows, _ in _pages(reader, "samples", _SAMPLE, ("seq", "time_ns", "series_id"), where, bounds):
        if unknown := {row["series_id"] for row in rows} - series.keys():
            asked = Scan("series", _SERIES, (Match("series_id", "in", sorted(unknown)),))
            series.update((row["series_id"], row) for row in reader.scan(asked).rows())
        told = [(row, series[row["series_id"]]) for row in rows if row["series_id"] in series]
        known = sources.of({of["source_id"] for _, of in told})
        yield [(row, _point(row, of, known[of["source_id"]])) for row, of in told]


def with_texts(record: Span | Event) -> None:
    """Put the texts of a record back where they were taken from, in place."""
    for content in record.contents or ():
        text = "[" + ",".join(content.pieces) + "]" if content.is_list else "".join(content.pieces)
        if content.key:
            record.attributes[content.key] = text
        elif isinstance(record, Event) and record.body is None:
            record.body = text
        else:
            record.attributes[content.slot or "body"] = text
    record.contents = None


def _pages(
    reader: Reader,
    table: str,
    names: dict[str, str | Agg | Bucket],
    order: Sequence[str],
    where: Sequence[Condition],
    bounds: Bounds,
) -> Iterator[tuple[list[Row], dict[str, str]]]:
    """Rows with their texts by hash, in order, bounded in number and bytes."""
    after: tuple[Condition, ...] = ()
    while True:
        rows = _page(reader, table, names, order, (*where, *after), bounds.rows)
        for some in _split(reader, rows, bounds.text_bytes):
            yield some, reader.texts(sorted({hash_ for row in some for hash_ in hashes_of(row)}))
        if not rows:
            return
        after = _behind(order, tuple(rows[-1][name] for name in order))


def _page(
    reader: Reader,
    table: str,
    names: dict[str, str | Agg | Bucket],
    order: Sequence[str],
    where: Sequence[Condition],
    limit: int,
) -> list[Row]:
    """The next rows, all of those that are alike in what they are ordered by, or none."""
    by = tuple((name, False) for name in order)
    rows = reader.scan(Scan(table, names, tuple(where), order_by=by, limit=limit)).rows()
    if len(rows) < limit:
        return rows
    last = [rows[-1][name] for name in order]
    whole = [row for row in rows if [row[name] for name in order] != last]
    if whole:
        return whole
    alike = (Match(n, "is_null") if v is None else Match(n, "=", v) for n, v in zip(order, last, strict=True))
    return reader.scan(Scan(table, names, (*where, *alike))).rows()


def _behind(order: Sequence[str], last: tuple[Any, ...]) -> tuple[Condition, ...]:
    """The conditions that a row comes after the last one: what is tidied up meanwhile moves no page.

    The second of the three may be NULL, and then comes last.
    """
    (seq, time, id_), (seq_at, time_at, id_at) = order, last
    later = Match(seq, ">", seq_at)
    if time_at is None:
        return Match(seq, ">=", seq_at), Any_((later, Match(time, "is_null"))), Any_((later, Match(id_, ">", id_at)))
    without = Match(time, "is_null")
    return (
        Match(seq, ">=", seq_at),
        Any_((later, Match(time, ">=", time_at), without)),
        Any_((later, Match(time, ">", time_at), without, Match(id_, ">", id_at))),
    )


def _split(reader: Reader, rows: list[Row], bytes_max: int) -> Iterator[list[Row]]:
    """The rows in pieces whose texts fit into memory together."""
    hashes = sorted({hash_ for row in rows for hash_ in hashes_of(row)})
    sizes: dict[str, int] = {}
    if hashes:
        found = reader.scan(Scan("contents", {"hash": "hash", "bytes": "bytes"}, (Match("hash", "in", hashes),)))
        sizes = dict(zip(found.data["hash"], found.data["bytes"], strict=True))
    piece: list[Row] = []
    held = 0
    for row in rows:
        size = sum(sizes.get(hash_, 0) for hash_ in hashes_of(row))
        if piece and held + size > bytes_max:
            yield piece
            piece, held = [], 0
        piece.append(row)
        held += size
    if piece:
        yield piece


def hashes_of(row: Row) -> list[str]:
    """The hashes of a row's texts."""
    return [hash_ for content in row.get("contents") or [] for hash_ in content["hashes"]]


def _contents(row: Row, texts: dict[str, str]) -> tuple[list[Content] | None, int]:
    """The texts of a record, and how many of them are not kept any more."""
    found, lost = [], 0
    for content in row["contents"] or ():
        pieces = [texts[hash_] for hash_ in content["hashes"] if hash_ in texts]
        if len(pieces) == len(content["hashes"]):
            found.append(Content(content["slot"], content["key"], pieces, content["list"]))
        else:
            lost += 1
    return found or None, lost


def span_of(row: Row, source: Source, texts: dict[str, str]) -> Span:
    """The span of a row of the columns SPAN; its texts are `contents`, and those gone count as dropped."""
    contents, lost = _contents(row, texts)
    links = [link | {name: _hex(link.get(name)) for name in ("trace_id", "span_id")} for link in row["links"] or []]
    return Span(
        source, _hex(row["trace_id"]), _hex(row["span_id"]), _hex(row["parent_id"]), row["name"], row["kind"] or 0,
        row["start_ns"] or 0, row["end_ns"] or 0, dict(row["attributes"] or {}), row["status_code"] or 0,
        row["status_message"], row["flags"] or 0, row["trace_state"], row["events"], links or None,
        (row["dropped_attributes"] or 0) + lost, row["dropped_events"] or 0, row["dropped_links"] or 0,
        contents=contents,
    )  # fmt: skip


def _event(row: Row, source: Source, texts: dict[str, str]) -> Event:
    contents, lost = _contents(row, texts)
    return Event(
        source, row["time_ns"] or 0, row["name"], dict(row["attributes"] or {}), row["body"], row["observed_ns"] or 0,
        row["severity"] or 0, row["severity_text"], _hex(row["trace_id"]), _hex(row["span_id"]), row["flags"] or 0,
        (row["dropped_attributes"] or 0) + lost, row["origin"], contents=contents,
        meaning=Meaning(session_id=row["session_id"], agent=row["agent"], project=row["project"]),
    )  # fmt: skip


def _point(row: Row, of: Row, source: Source) -> Point:
    attributes: Attributes = of["attributes"] or {}
    return Point(
        source, of["name"], dict(attributes), row["time_ns"] or 0, of["type"], of["unit"], of["description"],
        of["temporality"] or 0, bool(of["is_monotonic"]), row["start_ns"] or 0,
        row["value"] if row["value_int"] is None else row["value_int"], row["count"], row["sum"], row["min"],
        row["max"], row["buckets"], row["exemplars"], row["flags"] or 0, of["metadata"],
    )  # fmt: skip


def _source(row: Row) -> Source:
    return Source(
        resource=row["resource"] or {},
        scope_name=row["scope_name"],
        scope_version=row["scope_version"],
        scope_attributes=row["scope_attributes"] or {},
        resource_schema_url=row["resource_schema_url"],
        scope_schema_url=row["scope_schema_url"],
        resource_dropped=row["resource_dropped"] or 0,
        scope_dropped=row["scope_dropped"] or 0,
    )


def _hex(id_: object) -> str:
    """The id, "" for what cannot be one: what was never OTLP may have any text there."""
    try:
        return bytes.fromhex(id_).hex() if isinstance(id_, str) else ""
    except ValueError:
        return ""
