"""What is in force and where it came from: doors, privacy, retention, prices; the disk, and backups."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple
from urllib.parse import parse_qs

import anyio.to_thread
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from tachograph.config import FILE_NAME, MIB, SETTINGS, Setting, Settings, in_file
from tachograph.errors import ConfigError
from tachograph.pricing import Card, Rates
from tachograph.scan import Agg, Bucket, Match, Reader, Scan
from tachograph.web import upkeep as keeping
from tachograph.web.asking import Asked
from tachograph.web.pages.sql import ASKED_FIRST
from tachograph.web.rendering import Site, render
from tachograph.web.tables import Column, Row, Table
from tachograph.web.upkeep import Upkeep

_DAYS_SHOWN: Final = 14
_MODELS_SHOWN: Final = 40
_DAY_NS: Final = 86_400 * 1_000_000_000
_RECENT_DAYS: Final = 7  # of the models whose prices are listed
_FORM_BYTES_MAX: Final = 4 * keeping.PRICES_BYTES_MAX  # as a form encodes it
_RATE: Final = 10**18  # of a rate: one US dollar per million tokens
_NOBODY: Final = "the pages are open to everybody who reaches them"
# Setting that is a token -> what it means that there is none.
TOKENS: Final = {"ingest_token": "everybody who reaches it may send", "web_token": _NOBODY, "viewer_token": ""}
MODES: Final = {
    "redacted": "Prompts, answers and what tools said are kept, without what looks like a secret.",
    "none": "No prompt, answer or output is kept, only their sizes; names and error messages are, without secrets.",
    "full": "Prompts, answers and what tools said are kept as they came, secrets included.",
}


class InForce(NamedTuple):
    """One setting: its value in words, where that came from, and what the file will make of it at the next start."""

    setting: Setting
    value: str
    origin: str
    pending: str


class Priced(NamedTuple):
    """A row of rates in dollars per million tokens, for inputs above so many tokens."""

    above: int
    rates: dict[str, float | None]


def routes(site: Site) -> list[Route]:
    """The page, and what it does; the guard lets nobody here but an admin."""

    def show(request: Request) -> Response:
        return _page(site, request)

    return [
        Route("/settings", show, methods=["GET"]),
        Route("/settings/prices", _deed(site, _save_prices), methods=["POST"]),
        Route("/settings/backup", _deed(site, _make_backup), methods=["POST"]),
    ]


Form = dict[str, list[str]]
Deed = Callable[[Site, Upkeep, Form], str]


def _deed(site: Site, do: Deed) -> Any:
    """An endpoint: does it and leads back to the page, or shows the page with what is wrong."""

    def work(request: Request, body: bytes) -> Response:
        form = parse_qs(body.decode("utf-8", "replace"), keep_blank_values=True)
        try:
            if site.here.upkeep is None or site.here.settings is None:
                raise ConfigError("settings: got a process that lets nothing be changed; expected `tachograph up`")
            place = do(site, site.here.upkeep, form)
        except ConfigError as error:
            return _page(site, request, error, form.get("text", [None])[0], 400)
        return RedirectResponse(f"/settings?done={place}#{place}", 303)

    async def endpoint(request: Request) -> Response:
        body = b""
        async for part in request.stream():
            body += part
            if len(body) > _FORM_BYTES_MAX:
                return await anyio.to_thread.run_sync(_too_long, site, request)
        return await anyio.to_thread.run_sync(work, request, body)

    return endpoint


def _too_long(site: Site, request: Request) -> Response:
    most = f"{keeping.PRICES_BYTES_MAX // 1024} KiB"
    return _page(
        site, request, ConfigError(f"settings: got a form that is too long; expected at most {most}"), status=413
    )


def _save_prices(site: Site, upkeep: Upkeep, form: Form) -> str:
    text = form.get("text", [""])[0].replace("\r\n", "\n")
    if len(text.encode("utf-8", "replace")) > keeping.PRICES_BYTES_MAX:
        raise ConfigError(f"prices: got {len(text)} characters; expected at most {keeping.PRICES_BYTES_MAX}")
    keeping.save_prices(upkeep, text, form.get("mark", [""])[0])
    return "prices"


def _make_backup(site: Site, upkeep: Upkeep, form: Form) -> str:
    assert site.here.settings is not None
    keeping.make_backup(upkeep, site.here.settings.home, site.clock())
    return "backups"


def _page(
    site: Site, request: Request, error: ConfigError | None = None, text: str | None = None, status: int = 200
) -> Response:
    asked = Asked(site, request, default_range="all")
    here, now_ns = site.here, asked.look.now_ns
    settings, upkeep = here.settings, here.upkeep
    values, broken = _in_force(settings, upkeep)
    kept = keeping.text_of(upkeep.prices_path) if upkeep else ""
    return render(
        site, request, "settings.html", status,
        look=asked.look, asked=asked, error=error, broken=broken, done=asked.params.get("done", ""),
        values=values, settings=settings, file_name=FILE_NAME, modes=MODES, tokens=_tokens(settings),
        may_change=upkeep is not None, prices_text=kept if text is None else text, prices_mark=keeping.mark_of(kept),
        prices_path=upkeep.prices_path if upkeep else "", found=_looked_up(upkeep, asked),
        models=Table(_model_columns(), _models(site.reader, now_ns), asked, caption="Models", is_exportable=False),
        days=Table(_day_columns(), _days(site.reader), asked, caption="Days", is_exportable=False),
        tables=Table(_table_columns(), list(_tables(site.reader)), asked, caption="Tables", is_exportable=False),
        disk=keeping.disk(settings.home) if settings else [],
        backups=keeping.backups(settings.home) if settings else [],
        backup_folder=keeping.backup_folder(settings.home) if settings else "",
        forgets_ns=now_ns - settings.retention_days * _DAY_NS if settings and settings.retention_days else None,
        days_shown=_DAYS_SHOWN, recent_days=_RECENT_DAYS, prices_bytes_max=keeping.PRICES_BYTES_MAX,
    )  # fmt: skip


def _in_force(settings: Settings | None, upkeep: Upkeep | None) -> tuple[list[InForce], ConfigError | None]:
    """Every setting; and what is wrong with the file as it is now, where something is."""
    if settings is None:
        return [], None
    broken = None
    written: dict[str, Any] | None = None
    try:
        written = in_file(settings.home)
    except ConfigError as error:
        broken = error
    found = []
    for setting in SETTINGS:
        value = getattr(settings, setting.name)
        origin = upkeep.origins.get(setting.name, "default") if upkeep else "default"
        pending = ""
        if written is not None and origin in ("file", "default") and setting.name != "home":
            later = written.get(setting.name, Settings.__dataclass_fields__[setting.name].default)
            pending = words(setting, later) if later != value else ""
        found.append(InForce(setting, words(setting, value), _origin(setting, origin), pending))
    return found, broken


def _origin(setting: Setting, origin: str) -> str:
    return {"flag": setting.flag, "environment": setting.env, "file": FILE_NAME}.get(origin, "default")


def words(setting: Setting, value: Any) -> str:
    """A value as one would write it; a token is never shown."""
    if setting.type == "token":
        return "set" if value else "not set"
    if value is None:
        return setting.default if setting.name in ("memory_bytes", "relay_retention_days") else "off"
    if setting.type == "days" and not value:
        return "off"
    if setting.type == "size":
        return f"{value // MIB:,} MiB" if value % MIB == 0 else f"{value:,} bytes"
    return str(value)


def _tokens(settings: Settings | None) -> list[tuple[str, bool, str]]:
    """(name, whether it is set, what it means that it is not)."""
    return [(name, bool(getattr(settings, name)), what) for name, what in TOKENS.items()] if settings else []


def _looked_up(upkeep: Upkeep | None, asked: Asked) -> dict[str, Any] | None:
    """What a model costs today, and why: the rates of one's own, the catalogue's, or none."""
    model, provider = asked.params.get("model", "").strip()[:200], asked.params.get("provider", "").strip()[:200]
    if upkeep is None or not model:
        return None
    card: Card = upkeep.prices().card(provider, model, asked.look.now_ns)
    why = {"": "no price is known", "override": f"a rate of your own, in {upkeep.prices_path.name}"}
    rows = [Priced(above, _dollars(rates)) for above, rates in reversed(card.tiers)]
    return {"model": model, "provider": provider, "rows": rows, "note": card.note,
            "why": why.get(card.source, f"the catalogue, {card.source}")}  # fmt: skip


def _dollars(rates: Rates) -> dict[str, float | None]:
    names = ("input", "cache_read", "cache_write", "cache_write_1h", "output")
    return {name: None if (rate := getattr(rates, name)) is None else rate / _RATE for name in names}


def _models(reader: Reader, now_ns: int) -> list[dict[str, Any]]:
    """Which price applied to which model in the last days, those without a price first."""
    keys = ("provider", "model", "cost_kind", "price_source", "price_note")
    select: dict[str, Any] = {name: name for name in keys} | {
        "calls": Agg("count"),
        "nanousd": Agg("sum", "cost_nanousd"),
    }
    where = (Match("start_ns", ">=", now_ns - _RECENT_DAYS * _DAY_NS), Match("status", "=", "ok"))
    rows = reader.scan(Scan("calls", select, where, keys, (("calls", True),), limit=500)).rows()
    rows.sort(key=lambda row: row["cost_kind"] != "")
    return [
        row | {"cost_nanousd": row["nanousd"] if row["cost_kind"] else None, "why": _why(row)}
        for row in rows[:_MODELS_SHOWN]
    ]


def _why(row: Row) -> str:
    kinds = {
        "billed": "billed by the provider",
        "source_estimate": "the agent's own estimate",
        "computed": "your own rate" if row["price_source"] == "override" else f"the catalogue, {row['price_source']}",
    }
    return kinds.get(row["cost_kind"], "no price")


def _model_columns() -> list[Column]:
    return [
        Column("model", "Model", under=lambda row: str(row["provider"])),
        Column("why", "Price", under=lambda row: str(row["price_note"])),
        Column("calls", "Calls", "count"),
        Column("cost_nanousd", "Cost", "cost"),
    ]


def _days(reader: Reader) -> list[dict[str, Any]]:
    """What each day brought, the newest first, and what it takes once it is put away."""
    select: dict[str, Any] = {"day_ns": Bucket("time_ns", "day", "UTC")}
    select |= {name: Agg("sum", name) for name in ("spans", "events", "points")}
    scan = Scan("commits", select, group_by=("day_ns",), order_by=(("day_ns", True),), limit=_DAYS_SHOWN)
    sealed_scan = Scan("sealed", {"day": "day", "bytes": Agg("sum", "bytes")}, group_by=("day",))
    sealed = {row["day"]: row["bytes"] for row in reader.scan(sealed_scan).rows()}
    rows = reader.scan(scan).rows()
    for row in rows:
        row["day"] = _day(row["day_ns"])
        row["size"] = _size(sealed.get(row["day"]))
    return rows


def _day(day_ns: int) -> str:
    return f"{datetime.fromtimestamp(day_ns / 1e9, UTC):%Y-%m-%d}"


def _size(size: int | None) -> str:
    return "" if size is None else f"{size / 1e6:,.1f} MB"


def _day_columns() -> list[Column]:
    return [
        Column("day", "Day (UTC)"),
        Column("spans", "Spans", "count"),
        Column("events", "Events", "count"),
        Column("points", "Points", "count", rank="mid"),
        Column("size", "Put away", missing="in the database", what="days of the past are written to compressed files"),
    ]


def _tables(reader: Reader) -> Iterator[dict[str, Any]]:
    sealed_scan = Scan("sealed", {"name": "name", "bytes": Agg("sum", "bytes")}, group_by=("name",))
    sealed = {row["name"]: row["bytes"] for row in reader.scan(sealed_scan).rows()}
    for name in ASKED_FIRST:
        count = reader.scan(Scan(name, {"n": Agg("count")})).data["n"][0]
        yield {"name": name, "rows": count, "size": _size(sealed.get(name))}


def _table_columns() -> list[Column]:
    return [
        Column("name", "Table"),
        Column("rows", "Rows", "count"),
        Column("size", "Put away", missing="in the database"),
    ]
