"""What a call cost: the amount that its provider or agent named, else its tokens at the catalogue's rates of that day.

The catalogue is genai-prices, whose data comes with the package; nothing is fetched. It knows the rates of the past, so
that a call is priced as of its own start. Names of providers that it does not know are in `pricing_data/`.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from functools import cache, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from tachograph.errors import ConfigError
from tachograph.model import Call, Usage

if TYPE_CHECKING:
    from genai_prices.types import ModelInfo, ModelPrice, Provider

NANOUSD: Final = 10**9  # one US dollar
_FINENESS: Final = (
    10**18
)  # rates are kept as whole 1e-18 USD per million tokens: the catalogue's longest has 18 decimals
_PER_NANOUSD: Final = _FINENESS // 10**3  # a token at rate r costs r / this nano-dollars
_PER_REQUEST: Final = 10**3  # requests are priced per thousand, tokens per million
_CARDS_MAX: Final = 20_000  # model names come from outside, so what is remembered of them is bounded
_DAY_NS: Final = 86_400 * 10**9
_RATE_MAX: Final = 1_000_000  # more is a slip of the unit
_LAST_DAY: Final = (date(9999, 1, 1) - date(1970, 1, 1)).days
_PRICED: Final = (
    "input_mtok",
    "cache_read_mtok",
    "cache_write_mtok",
    "cache_write_1h_mtok",
    "output_mtok",
    "output_reasoning_mtok",
    "requests_kcount",
)
_RATE_KEYS: Final = ("input", "output", "cache_read", "cache_write", "cache_write_1h")

# Service tier as providers and agents name it -> what the catalogue calls it; {} is the standard rate.
_TIERS: Final[dict[str, dict[str, str]]] = {
    "": {},
    "standard": {},
    "standard_only": {},
    "default": {},
    "auto": {},
    "on_demand": {},
    "unspecified": {},
    "batch": {"processing": "batch"},
    "flex": {"service_tier": "flex"},
    "priority": {"service_tier": "priority"},
    "fast": {"service_tier": "fast", "speed": "fast"},
}


class Rates(NamedTuple):
    """What each kind of token costs in 1e-18 USD per million; None = the catalogue has no such price."""

    input: int | None
    cache_read: int
    cache_write: int
    cache_write_1h: int
    output: int | None
    reasoning: int
    request: int


class Card(NamedTuple):
    """The rates of one model on one day: `tiers` by the total input above which they hold, highest first.

    No tiers = there is no price, and `note` says what was looked for. `at` gives the card of a second of the day, for
    models whose price depends on it.
    """

    tiers: tuple[tuple[int, Rates], ...]
    source: str = ""
    note: str = ""
    at: Callable[[int], Card] | None = None


class _Override(NamedTuple):
    """One `[[model]]` of the overrides file; `name` ends in `*` for every model that begins so."""

    name: str
    provider: str
    start_day: int
    rates: Rates


class Prices:
    """Prices calls; safe to use from any thread.

    A file of overrides need not exist. Raises ConfigError for one that cannot be understood.
    """

    def __init__(self, overrides_path: Path | None = None) -> None:
        self._overrides: list[_Override] = []
        self._discounts: dict[tuple[str, str], Decimal] = {}
        if overrides_path is not None and overrides_path.exists():
            self._overrides, self._discounts = read_overrides(overrides_path)
        self._cards: dict[tuple[str, str, str, str, int], Card] = {}

    def price(self, call: Call) -> None:
        """Set the call's cost_nanousd, cost_kind, is_notional, price_source and price_note from its meaning.

        What counts, first that applies: the amount that the provider billed; the rate of the overrides file; the
        source's own estimate; the catalogue. An estimate of 0 for a call that used tokens is not a price (agents report
        it for subscriptions and keys of the user's own), so the catalogue's amount stands in its place. An override
        comes before an estimate because the operator knows what is paid and the agent only knows a list.
        Discounts apply to all but billed amounts. Where no price is known the cost is None and the note says why.
        """
        meaning = call.meaning
        call.is_notional = bool(meaning.is_notional)
        amount = meaning.cost_nanousd
        if amount is not None and amount >= 0 and meaning.cost_kind == "billed":
            _set(call, amount, "billed", "source", "")
            return
        card = self._card(call)
        if amount is not None and amount > 0 and card.source != "override":
            cost: int | None
            cost, kind, source, note = amount, "source_estimate", "source", ""
        else:
            cost, note = _cost(call, card)
            kind, source = ("computed", card.source) if cost is not None else ("", "")
        if self._discounts and cost is not None:
            cost, note = self._discounted(call, cost, note)
        _set(call, cost, kind, source, note)

    def card(self, provider: str, model: str, at_ns: int) -> Card:
        """The rates that a call of this model has at a time, and where they are from."""
        found = self._find(provider, model, "", "", at_ns // _DAY_NS)
        return found if found.at is None else found.at(at_ns // 10**9)

    def _card(self, call: Call) -> Card:
        """The card of the call's model at its start, found once for each day."""
        meaning = call.meaning
        start_ns = call.start_ns or call.end_ns
        day = start_ns // _DAY_NS if start_ns > 0 else _LAST_DAY
        key = (meaning.provider, meaning.response_model, meaning.request_model, meaning.service_tier, day)
        card = self._cards.get(key)
        if card is None:
            if len(self._cards) >= _CARDS_MAX:
                self._cards.clear()
            card = self._cards[key] = self._find(*key)
        return card if card.at is None else card.at(start_ns // 10**9)

    def _find(self, provider: str, response_model: str, request_model: str, tier: str, day: int) -> Card:
        models = [name for name in dict.fromkeys((response_model.strip(), request_model.strip())) if name]
        day = min(day, _LAST_DAY)
        for model in models:
            rates = self._override(provider, model, day)
            if rates is not None:
                return Card(((-1, rates),), "override")
        for model in models:
            card = _catalogue_card(provider, model, tier.strip().lower(), day)
            if card is not None:
                return card
        return Card((), note=_why_not(provider, models))

    def _override(self, provider: str, model: str, day: int) -> Rates | None:
        """The rates of the closest override: exact name before beginnings, named provider before any, newest first."""
        host, model = _host(provider), model.lower()
        best: tuple[bool, int, bool, int] | None = None
        rates = None
        for override in self._overrides:
            is_exact = not override.name.endswith("*")
            fits = model == override.name if is_exact else model.startswith(override.name[:-1])
            if not fits or override.start_day > day or override.provider not in ("", host):
                continue
            rank = (is_exact, len(override.name), override.provider != "", override.start_day)
            if best is None or rank > best:
                best, rates = rank, override.rates
        return rates

    def _discounted(self, call: Call, cost: int, note: str) -> tuple[int, str]:
        meaning = call.meaning
        for kind, name in (("project", meaning.project), ("tenant", meaning.tenant)):
            factor = self._discounts.get((kind, name)) if name else None
            if factor is not None:
                numerator, denominator = factor.as_integer_ratio()
                return _divide(cost * numerator, denominator), _join(note, f"discount {factor} for {kind} {name}")
        return cost, note


def _set(call: Call, cost: int | None, kind: str, source: str, note: str) -> None:
    call.cost_nanousd, call.cost_kind, call.price_source, call.price_note = cost, kind, source, note


def _join(*notes: str) -> str:
    return "; ".join(filter(None, notes))


def _divide(numerator: int, denominator: int) -> int:
    """The nearest whole number; a half goes to the even one, as Decimal rounds."""
    whole, rest = divmod(numerator, denominator)
    rest *= 2
    return whole + 1 if rest > denominator or (rest == denominator and whole & 1) else whole


# Tokens


def _cost(call: Call, card: Card) -> tuple[int | None, str]:
    """Nano-dollars of the call's tokens, or None and why there is no amount."""
    usage = call.meaning.usage
    if usage is None or usage.input_uncached is None:
        is_silent = usage is None or usage == _SILENT
        return None, "no usage" if is_silent and call.status != "ok" else "tokens unknown"
    uncached, read, write, write_1h = usage.input_uncached, usage.cache_read, usage.cache_write, usage.cache_write_1h
    read, write, write_1h, output, reasoning = (
        read or 0,
        write or 0,
        write_1h or 0,
        usage.output or 0,
        usage.reasoning or 0,
    )
    note = card.note
    if not card.tiers:
        return None, note
    if uncached < 0 or write_1h > write or reasoning > output or read < 0 or write_1h < 0 or reasoning < 0:
        if min(read, write, write_1h, output, reasoning, uncached + read + write) < 0:
            return None, "tokens below zero"
        uncached, write, output = _repaired(uncached, read, write, write_1h, output, reasoning)
        note = _join(note, "usage_repaired")
    total = uncached + read + write
    rates = next(rates for start, rates in card.tiers if total > start)
    if (rates.input is None and total) or (rates.output is None and output):
        return None, "the catalogue prices this model by other units than tokens"
    if usage.output is None and rates.output:
        note = _join(note, "output tokens unknown: input only")
    amount = (
        uncached * (rates.input or 0)
        + read * rates.cache_read
        + (write - write_1h) * rates.cache_write
        + write_1h * rates.cache_write_1h
        + (output - reasoning) * (rates.output or 0)
        + reasoning * rates.reasoning
        + rates.request
    )
    return _divide(amount, _PER_NANOUSD), note


_SILENT: Final = Usage()


def _repaired(uncached: int, read: int, write: int, write_1h: int, output: int, reasoning: int) -> tuple[int, int, int]:
    """Uncached input, cache writes and output where a part is larger than its whole.

    A source that breaks the rule counted the part beside the whole, not in it: negative uncached input is a total that
    had no cache in it from which the cache was taken off.
    """
    if uncached < 0:
        uncached += read + write
    if write_1h > write:
        write += write_1h
    if reasoning > output:
        output += reasoning
    return uncached, write, output


# The catalogue


def _catalogue_card(provider: str, model: str, tier: str, day: int) -> Card | None:
    """The catalogue's card for a provider and model, None if it has none."""
    found = _look_up(provider, model)
    if found is None:
        return None
    host, info, note = found
    context = _TIERS.get(tier)
    if context == {} and model.lower().endswith("-fast") and "fast" not in info.id:
        context, tier = _TIERS["fast"], "fast"
    own = _provider(host)
    is_own = own is not None and any(info is model for model in own.models)  # a fallback's variants are not this host's
    if context is None or (context and not (is_own and _has_variant(info, context, day))):
        note = _join(note, f"no rate for service tier {tier}: standard rate")
        context = {}
    if _depends_on_time(info):
        return Card((), at=lambda second: _card_at(info, _moment(second), context, note))
    return _card_at(info, _moment(day * 86_400), context, note)


@lru_cache(maxsize=4096)
def context_window(provider: str, model: str) -> int | None:
    """How many tokens fit into a request to this model, None where the catalogue does not say."""
    if model.endswith(("[1m]", "-1m")):  # how agents ask for the long one of two
        return 1_000_000
    found = _look_up(provider, model) if model else None
    return found[1].context_window if found else None


def _card_at(info: ModelInfo, moment: datetime, context: dict[str, str], note: str) -> Card:
    return Card(_tiers(info.get_prices(moment, context)), _catalogue_version(), note)


def _moment(second: int) -> datetime:
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=min(second, _LAST_DAY * 86_400))


def _depends_on_time(info: ModelInfo) -> bool:
    return isinstance(info.prices, list) and any(hasattr(price.constraint, "start_time") for price in info.prices)


def _has_variant(info: ModelInfo, context: dict[str, str], day: int) -> bool:
    moment = _moment(day * 86_400)
    return any(
        (variant.constraint is None or variant.constraint.active(moment))
        and all(context.get(key) == value for key, value in variant.when.items())
        for variant in info.price_variants or ()
    )


def _tiers(price: ModelPrice) -> tuple[tuple[int, Rates], ...]:
    """All tiers of a price, highest first; above a threshold every token costs the higher rate, output included."""
    prices = {name: getattr(price, name) for name in _PRICED}
    starts = {tier.start for value in prices.values() for tier in getattr(value, "tiers", ())}
    return tuple((start, _rates(prices, start)) for start in (*sorted(starts, reverse=True), -1))


def _rates(prices: dict[str, Any], start: int) -> Rates:
    """The rates above `start`. What has no price of its own costs what it is a part of, as the catalogue counts."""

    def rate(name: str) -> int | None:
        value = prices[name]
        price = getattr(value, "base", value)
        for tier in getattr(value, "tiers", ()):  # ascending
            if tier.start <= start:
                price = tier.price
        return None if price is None else int(price * _FINENESS)

    paid = rate("input_mtok"), rate("output_mtok")
    read, write, write_1h = rate("cache_read_mtok"), rate("cache_write_mtok"), rate("cache_write_1h_mtok")
    reasoning = rate("output_reasoning_mtok")
    whole = paid[0] or 0
    write = whole if write is None else write
    return Rates(
        input=paid[0],
        cache_read=whole if read is None else read,
        cache_write=write,
        cache_write_1h=write if write_1h is None else write_1h,
        output=paid[1],
        reasoning=(paid[1] or 0) if reasoning is None else reasoning,
        request=(rate("requests_kcount") or 0) * _PER_REQUEST,
    )


# Names of providers and models


@cache
def _names() -> tuple[dict[str, str], dict[str, frozenset[str]], list[tuple[re.Pattern[str], str]]]:
    """Aliases, kinds of providers and the patterns that tell the host by the model's name."""
    text = Path(__file__).with_name("pricing_data").joinpath("providers.toml").read_text(encoding="utf-8")
    data = tomllib.loads(text)
    kinds = {kind: frozenset(names) for kind, names in data["kinds"].items()}
    return data["alias"], kinds, [(re.compile(row["pattern"]), row["provider"]) for row in data["infer"]]


def _host(provider: str) -> str:
    """What the catalogue calls a provider, as far as the aliases know."""
    name = provider.strip().lower()
    return _names()[0].get(name, name)


def _look_up(provider: str, model: str) -> tuple[str, ModelInfo, str] | None:
    """The catalogue's host and model for the names that a call came with, and a note if the host is another one."""
    kinds = _names()[1]
    name, model = provider.strip().lower(), model.lower()
    if name in kinds["local"]:
        return None
    named = [_host(name), _host(name.partition(".")[0])] if name else []  # anthropic.messages is anthropic
    for host in dict.fromkeys(named):
        info = _model(host, model)
        if info is not None:
            return host, info, ""
    if name and name not in kinds["gateways"] and name not in kinds["protocols"] and not _is_given_name(named, model):
        return None
    for host in dict.fromkeys(_inferred(name, model)):
        info = _model(host, model)
        if info is not None:
            return host, info, f"priced as {host}, {provider} has no rate for {model}" if name else ""
    return None


# Models that only their makers sell, so that an endpoint of any name passes them on at the makers' rates.
_SOLD_BY_MAKER: Final = re.compile(r"(^|/)(claude|gpt-\d|chatgpt|o\d|codex-|gemini|grok-)")


def _is_given_name(hosts: list[str], model: str) -> bool:
    """Whether a provider is a name that somebody gave to an endpoint of their own, for a model of a known maker."""
    return all(_provider(host) is None for host in hosts) and _SOLD_BY_MAKER.search(model) is not None


def _inferred(provider: str, model: str) -> Iterator[str]:
    """Hosts that a model's name points at, the likeliest first; vendor/model is openrouter's where nobody is named."""
    vendor, _, last = model.rpartition("/")
    if provider:
        yield _host(vendor)
    for name in (model, last):
        yield next((host for pattern, host in _names()[2] if pattern.search(name)), "")
    yield _host(vendor)


def _model(host: str, model: str) -> ModelInfo | None:
    provider = _provider(host)
    for spelling in _spellings(host, model):
        info = provider.find_model(spelling, all_providers=_catalogue()) if provider else None
        if info is not None:
            return info
    return None


_CONTEXT_SUFFIX: Final = re.compile(r"(\[[^\]]*\]|-1m)$")
_REGION_PREFIX: Final = re.compile(r"^(us|eu|apac|au|jp|ca|global|us-gov)\.")


def _spellings(host: str, model: str) -> Iterator[str]:
    """A model's name as it came, then without what agents and clouds put around it."""
    yield model
    plain = _CONTEXT_SUFFIX.sub("", model)
    yield plain
    last = plain.rpartition("/")[2]  # publishers/google/models/x, vendor/x
    yield last
    undated = last.partition("@")[0]
    yield undated
    yield undated.removesuffix("-fast")
    if host == "aws" and undated.startswith("claude"):
        yield f"anthropic.{undated}"
    elif host == "openrouter" and undated.startswith("claude"):
        yield f"anthropic/{undated}"
    elif host != "aws":
        yield _REGION_PREFIX.sub("", undated).removeprefix("anthropic.")


def _why_not(provider: str, models: list[str]) -> str:
    """Why there is no price, with the names that were looked for."""
    if not models:
        return "the call names no model"
    name = " or ".join(models)
    if provider.strip().lower() in _names()[1]["local"]:
        return f"{provider} runs models locally, which have no list price: model {name}"
    if provider and _provider(_host(provider)) is None:
        return f"no price known for provider {provider}, model {name}"
    return f"no price known for model {name}" + (f" of {provider}" if provider else ", and no provider named")


# The catalogue's data takes 0.2 s and 30 MB to load: loaded when the first call wants a price, not by every command.


@cache
def _catalogue() -> list[Provider]:
    from genai_prices.data import providers

    return providers


@cache
def _catalogue_version() -> str:
    from importlib.metadata import version

    return f"genai-prices/{version('genai-prices')}"


@lru_cache(maxsize=4096)
def _provider(host: str) -> Provider | None:
    from genai_prices.data_snapshot import find_provider_by_id

    return find_provider_by_id(_catalogue(), host) if host else None


# The overrides file


def read_overrides(path: Path) -> tuple[list[_Override], dict[tuple[str, str], Decimal]]:
    """Read rates and discounts from a TOML file; raises ConfigError with the line where something is wrong."""
    try:
        text = path.read_text(encoding="utf-8")
        data = tomllib.loads(text, parse_float=Decimal)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(
            f"{path}: {error}", "a rate is a number of US dollars per million tokens: input = 0.25"
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}; expected a TOML file with [[model]] tables") from error
    file = _OverridesFile(path, text)
    for name in data:
        if name not in ("model", "discount"):
            raise file.error(name, "", 0, f"{name}: expected [[model]] or [[discount]]")
    models = [_read_model(file, index, row) for index, row in enumerate(file.rows(data, "model"))]
    discounts = [_read_discount(file, index, row) for index, row in enumerate(file.rows(data, "discount"))]
    return models, dict(discounts)


class _OverridesFile(NamedTuple):
    """Where it lies and what it says, to tell the line of a mistake."""

    path: Path
    text: str

    def rows(self, data: dict[str, Any], table: str) -> list[dict[str, Any]]:
        rows = data.get(table, [])
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise self.error(table, "", 0, f"{table}: expected tables headed [[{table}]]")
        return rows

    def error(self, table: str, key: str, index: int, what: str) -> ConfigError:
        """A ConfigError with the line of a key in the index-th table of that name."""
        lines = self.text.splitlines()
        heads = [n for n, line in enumerate(lines) if re.match(rf"\s*\[+\s*{re.escape(table)}\b", line)]
        line = heads[index] if index < len(heads) else 0
        for number in range(line + 1, len(lines)):
            if lines[number].lstrip().startswith("["):
                break
            if key and re.match(rf"\s*[\"']?{re.escape(key)}[\"']?\s*=", lines[number]):
                line = number
        hint = '[[model]] name = "my-model", input = 0.25, output = 1.5 (US dollars per million tokens)'
        return ConfigError(f"{self.path}:{line + 1}: {what}", hint)

    def number(self, table: str, key: str, index: int, value: object) -> Decimal:
        """A number of at least 0."""
        if isinstance(value, (int, Decimal)) and not isinstance(value, bool):
            number = Decimal(value)
            if number.is_finite() and 0 <= number <= _RATE_MAX:
                return number
        raise self.error(table, key, index, f"{table}.{key}: got {value!r}; expected a number from 0 to {_RATE_MAX}")

    def known(self, table: str, index: int, row: dict[str, Any], keys: tuple[str, ...]) -> None:
        for key in row:
            if key not in keys:
                raise self.error(table, key, index, f"{table}.{key}: not known; expected one of {', '.join(keys)}")

    def name(self, table: str, key: str, index: int, row: dict[str, Any]) -> str:
        value = row.get(key, "")
        if not isinstance(value, str):
            raise self.error(table, key, index, f"{table}.{key}: got {value!r}; expected text")
        return value.strip()


def _read_model(file: _OverridesFile, index: int, row: dict[str, Any]) -> _Override:
    file.known("model", index, row, ("name", "provider", "from", *_RATE_KEYS))
    name = file.name("model", "name", index, row).lower()
    if not name:
        raise file.error(
            "model", "name", index, "model.name: missing; expected the name of a model, or its beginning and *"
        )
    start = row.get("from", date(1970, 1, 1))
    if not isinstance(start, date) or isinstance(start, datetime):
        raise file.error("model", "from", index, f"model.from: got {start!r}; expected a date such as 2026-01-31")
    rates = {key: int(file.number("model", key, index, row[key]) * _FINENESS) for key in _RATE_KEYS if key in row}
    if "input" not in rates or "output" not in rates:
        raise file.error("model", "name", index, "model: expected at least input and output")
    read, write = rates.get("cache_read", rates["input"]), rates.get("cache_write", rates["input"])
    write_1h, output = rates.get("cache_write_1h", write), rates["output"]
    provider = _host(file.name("model", "provider", index, row))
    paid = Rates(rates["input"], read, write, write_1h, output, output, 0)
    return _Override(name, provider, (start - date(1970, 1, 1)).days, paid)


def _read_discount(file: _OverridesFile, index: int, row: dict[str, Any]) -> tuple[tuple[str, str], Decimal]:
    file.known("discount", index, row, ("tenant", "project", "factor"))
    names = [(kind, file.name("discount", kind, index, row)) for kind in ("tenant", "project") if row.get(kind)]
    if len(names) != 1:
        raise file.error("discount", "tenant", index, "discount: expected either tenant or project")
    if "factor" not in row:
        raise file.error(
            "discount", "factor", index, "discount.factor: missing; expected what is paid of the list, as 0.85"
        )
    return names[0], file.number("discount", "factor", index, row["factor"])
