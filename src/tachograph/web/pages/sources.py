"""Who sends what since when and by which way, what is missing of it, and how each agent is connected."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from typing import Any, Final

from msgspec import Struct
from starlette.requests import Request
from starlette.responses import Response

from tachograph import connections, registry
from tachograph.config import Settings, Surroundings, surroundings
from tachograph.connections import ANY_SDK, Connection, Target
from tachograph.questions import Arrival, Finding, arrivals, findings, first_since
from tachograph.scan import Reader
from tachograph.web import exporting
from tachograph.web.asking import Asked
from tachograph.web.pages.models import ordered
from tachograph.web.rendering import Site, render
from tachograph.web.tables import Column, Row, Table

# What the address may order by -> key of a row.
ORDERS: Final = {
    "last": "last_ns",
    "first": "first_ns",
    "records": "records",
    "service": "service",
    "agent": "agent",
    "way": "way",
}
# What a signal is called to people: by which way it came.
WAYS: Final = {
    "traces": "OTLP traces",
    "logs": "OTLP logs",
    "metrics": "OTLP metrics",
    "transcripts": "its own files",
    "hooks": "our plug-in",
}
# What our own counters count: name -> what is said of it, and whether it is a trouble.
COUNTERS: Final = {
    "received": ("received", False),
    "committed": ("stored", False),
    "forwarded": ("forwarded", False),
    "rejected": ("rejected: records that are no valid OTLP", True),
    "refused": ("refused: requests answered with an error", True),
    "busy": ("sent away for a moment: no room", True),
    "failed": ("failed", True),
}
_FILE_COLUMNS: Final = ("service", "version", "agent", "way", "records", "first_ns", "last_ns", "understood_as")
_USUAL: Final = "http://127.0.0.1:4318"
_TOKEN: Final = "THE-INGEST-TOKEN"


class Known(Struct, frozen=True):
    """One agent that can be connected: how it stands here, and what to write by hand."""

    connection: Connection
    is_installed: bool = False
    is_connected: bool = False
    word: str = ""
    first_ns: int | None = None
    lines: Sequence[tuple[str, str]] = ()


def sources(site: Site, request: Request) -> Response:
    """The page; `?order=` orders what has arrived, `?format=` gives it as a file."""
    sequence = site.reader.sequence()
    asked = Asked(site, request, default_range="all")
    settings = site.here.settings
    arrived, missing = _doctored(site, sequence)
    rows = [row for one in arrived for row in _rows(one)]
    order = asked.order(ORDERS, "last")
    rows = ordered(rows, ORDERS[order[0]], order[1])
    if exporting.wanted(asked):
        return exporting.file_of(asked, "sources", _FILE_COLUMNS, rows)
    table = Table(_columns(asked), rows, asked, order, caption="What has arrived")
    known = _known(site, settings)
    connected = {one.connection.agent for one in known if one.is_connected}
    names = {one.agent: one.name for one in registry.CONNECTIONS if one.agent not in connected}
    return render(
        site, request, "sources.html",
        sequence=sequence, look=asked.look, table=table, missing=missing, known=known, names=names,
        followed=Table(_file_columns(), _followed(site), asked, caption="Files", is_exportable=False),
        refused=[(one.agent, path, why) for one in site.here.followed() for path, why in one.refused.items()],
        doors=site.here.doors, counters=list(_counters(site)), any_sdk=ANY_SDK.replace(_USUAL, site.otlp),
        is_known_here=settings is not None and settings.is_personal,
    )  # fmt: skip


def _doctored(site: Site, sequence: int) -> tuple[list[Arrival], list[Finding]]:
    """What has arrived and what is missing: it reads every record's source, so it is kept until something comes."""
    kept: tuple[list[Arrival], list[Finding]] | None = site.doctored.get(sequence)
    if kept is None:
        settings = site.here.settings
        arrived = arrivals(site.reader)
        kept = arrived, findings(site.reader, arrived, has_content=settings is None or settings.content != "none")
        site.doctored.clear()
        site.doctored[sequence] = kept
    return kept


def _rows(arrival: Arrival) -> Iterator[dict[str, Any]]:
    for signal, came in sorted(arrival.signals.items()):
        if came.count:
            yield {
                "service": arrival.service,
                "version": arrival.version,
                "agent": ", ".join(arrival.agents),
                "way": WAYS.get(signal, signal),
                "records": came.count,
                "first_ns": came.first_ns,
                "last_ns": came.last_ns,
                "understood_as": ", ".join(arrival.dialects),
            }


def _columns(asked: Asked) -> list[Column]:
    def sessions(row: Row) -> str:
        return asked.narrowed("/sessions", "agent", row["agent"]) if row["agent"] and "," not in row["agent"] else ""

    return [
        Column("service", "Service", order="service", under=lambda row: row["version"]),
        Column("agent", "Agent", order="agent", rank="mid", href=sessions),
        Column("way", "By", order="way"),
        Column("records", "Records", "count", order="records", what="spans, log records, samples, lines of files"),
        Column("understood_as", "Understood as", rank="wide", missing="kept, not understood"),
        Column("first_ns", "First", "time", order="first", rank="wide"),
        Column("last_ns", "Last", "time", order="last"),
    ]


def _known(site: Site, settings: Settings | None) -> list[Known]:
    """Every agent that can be connected; how it stands is only told where all readers are on this machine."""
    if settings is None or not settings.is_personal:
        return [Known(one) for one in registry.CONNECTIONS]
    where = surroundings(settings)
    target = Target(site.otlp, settings.home, settings.content, settings.ingest_token)
    shown = Target(site.otlp, settings.home, settings.content, _TOKEN if settings.ingest_token else "")
    found = [_stands(one, where, target, shown, site.reader) for one in registry.CONNECTIONS]
    return sorted(found, key=lambda one: (not one.is_connected, not one.is_installed))


def _stands(connection: Connection, where: Surroundings, target: Target, shown: Target, reader: Reader) -> Known:
    state = connections.state(connection, where, target)
    path = where.environment.get("PATH", os.defpath)
    is_here = any(shutil.which(name, path=path) for name in connection.programs) or connection.folder(where).is_dir()
    first = first_since(reader, connection.agent, state.since_ns) if state.is_connected else None
    if state.trouble:
        word = state.trouble
    elif state.is_connected:
        word = "connected" if first else "connected, waiting for its first data: start it anew"
    elif state.others:
        word = "set to send elsewhere"
    else:
        word = "out of date" if state.is_partly else "not connected" if is_here else "not on this machine"
    lines = [(str(path), text) for path, text in connections.by_hand(connection, where, shown)]
    return Known(connection, is_here, state.is_connected, word, first, lines)


def _followed(site: Site) -> list[dict[str, Any]]:
    return [
        {
            "agent": one.agent,
            "kind": "our plug-in's" if one.origin == "hook" else "its own",
            "files": one.files,
            "size": f"{one.size_bytes / 1e6:,.1f} MB",
            "waiting": one.waiting,
            "refused": len(one.refused),
        }
        for one in site.here.followed()
        if one.files or one.refused
    ]


def _file_columns() -> list[Column]:
    return [
        Column("agent", "Files of"),
        Column("kind", "Kind", rank="mid"),
        Column("files", "Files", "count"),
        Column("size", "Size", rank="mid"),
        Column("waiting", "Not read to the end", "count"),
        Column("refused", "Cannot be read", "failed"),
    ]


def _counters(site: Site) -> Iterator[tuple[str, str, int, bool]]:
    """(what is counted, its kind, how many, whether it is a trouble)."""
    if site.here.telemetry is None:
        return
    counts = site.here.telemetry.counts()
    for name, (words, is_bad) in COUNTERS.items():
        yield from ((words, kind, counts[name, kind], is_bad) for known, kind in sorted(counts) if known == name)
