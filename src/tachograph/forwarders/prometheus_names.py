"""What OTLP's metrics and attributes are called in Prometheus, by the rules of OpenTelemetry's compatibility page.

Whether names get their unit and `_total` at the end differs between back ends, and a dashboard that expects the other
stays empty: so it is a choice, `Strategy`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import msgspec

Labels = tuple[tuple[str, str], ...]  # sorted by name, no empty values


class Strategy(NamedTuple):
    """How names are made: `is_escaped` leaves only what old servers take, `has_suffixes` adds unit and type."""

    is_escaped: bool
    has_suffixes: bool


# By the names that Prometheus and Mimir give them in their own settings.
STRATEGIES: Final = {
    "UnderscoreEscapingWithSuffixes": Strategy(True, True),
    "UnderscoreEscapingWithoutSuffixes": Strategy(True, False),
    "NoUTF8EscapingWithSuffixes": Strategy(False, True),
    "NoTranslation": Strategy(False, False),
}
DEFAULT: Final = "UnderscoreEscapingWithSuffixes"

_UNITS: Final = {
    "d": "days", "h": "hours", "min": "minutes", "s": "seconds", "ms": "milliseconds", "us": "microseconds",
    "ns": "nanoseconds", "By": "bytes", "KiBy": "kibibytes", "MiBy": "mebibytes", "GiBy": "gibibytes",
    "TiBy": "tebibytes", "KBy": "kilobytes", "MBy": "megabytes", "GBy": "gigabytes", "TBy": "terabytes",
    "m": "meters", "V": "volts", "A": "amperes", "J": "joules", "W": "watts", "g": "grams", "Cel": "celsius",
    "Hz": "hertz", "1": "", "%": "percent",
}  # fmt: skip
_PER: Final = {"s": "second", "m": "minute", "h": "hour", "d": "day", "w": "week", "mo": "month", "y": "year"}
_NOT_TOKEN: Final = re.compile(r"[^A-Za-z0-9:]+")
_NOT_NAME: Final = re.compile(r"[^A-Za-z0-9_:]+")
_NOT_LABEL: Final = re.compile(r"[^A-Za-z0-9_]")


def metric_name(name: str, unit: str, type_: str, is_monotonic: bool, strategy: Strategy) -> str:
    """The name of a metric's family, "" where nothing is left of it. `type_` as in Point."""
    is_counter = type_ == "sum" and is_monotonic
    if not strategy.has_suffixes:
        return _escaped(name) if strategy.is_escaped else name
    main, per = _unit_words(unit)
    if not strategy.is_escaped:
        return _with_ends(name, main, per, is_counter, type_ == "gauge" and unit == "1")
    words = [word for word in _NOT_TOKEN.split(name) if word]
    if not words:
        return ""
    words += [word for word in (main, per and f"per_{per}") if word and word not in words]
    if is_counter:
        words = [*(word for word in words if word != "total"), "total"]
    if type_ == "gauge" and unit == "1":
        words = [*(word for word in words if word != "ratio"), "ratio"]
    return _started("_".join(words))


def _with_ends(name: str, main: str, per: str, is_counter: bool, is_ratio: bool) -> str:
    """Suffixes behind a name that stays as it is."""
    for end in (main, per and f"per_{per}", "ratio" if is_ratio else ""):
        if end and not name.endswith(end):
            name = f"{name}_{end}"
    if is_counter:
        name = name.removesuffix("_total") + "_total"
    return name


def _unit_words(unit: str) -> tuple[str, str]:
    main, _, per = (part.strip() for part in unit.partition("/"))
    main = "" if "{" in main or "}" in main else _UNITS.get(main, main)
    per = "" if "{" in per or "}" in per else _PER.get(per, per)
    return _NOT_TOKEN.sub("_", main).strip("_"), _NOT_TOKEN.sub("_", per).strip("_")


def _escaped(name: str) -> str:
    found = _started(_NOT_NAME.sub("_", name))
    return found if found.strip("_") else ""


def _started(name: str) -> str:
    return f"_{name}" if name[:1].isdigit() else name


def label_name(name: str, strategy: Strategy) -> str:
    """The name of a label, "" where nothing is left of it."""
    if not strategy.is_escaped:
        return name
    found = _NOT_LABEL.sub("_", name)
    if not found.strip("_"):
        return ""
    if found.startswith("__") and found.endswith("__"):
        return found
    if found[0].isdigit():
        return f"key_{found}"
    return f"key{found}" if found[0] == "_" and not found.startswith("__") else found


def labels(attributes: Mapping[str, Any], strategy: Strategy) -> dict[str, str]:
    """Attributes as labels: texts, none of them empty; what falls together stands with `;` between."""
    made: dict[str, str] = {}
    for key in sorted(attributes):
        name, value = label_name(key, strategy), label_value(attributes[key])
        if name and name != "__name__" and value:
            made[name] = f"{made[name]};{value}" if name in made else value
    return made


def label_value(value: Any) -> str:
    """The text of any attribute's value."""
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return str(value)
    return msgspec.json.encode(value).decode()
