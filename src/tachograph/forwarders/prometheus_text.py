"""What is shown at `/metrics`: the series that are kept, as text that Prometheus reads."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from tachograph.forwarders.prometheus_names import Labels
from tachograph.forwarders.prometheus_series import Kept

PLAIN: Final = "text/plain; version=0.0.4; charset=utf-8"
OPEN_METRICS: Final = "application/openmetrics-text; version=1.0.0; charset=utf-8"
END: Final = "# EOF\n"  # of OpenMetrics
_NAME: Final = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")


def exposed(kept: Iterable[Kept], *, is_open_metrics: bool) -> str:
    """All series, each family together, in the order of their names."""
    families: dict[str, list[Kept]] = {}
    for one in kept:
        for name in one.names:
            if _NAME.fullmatch(name):  # what is no plain name can only be written to, not shown
                families.setdefault(name, []).append(one)
    lines: list[str] = []
    for name in sorted(families):
        lines += _family(name, families[name], is_open_metrics)
    return "".join(f"{line}\n" for line in lines) + (END if is_open_metrics else "")


def _family(name: str, kept: list[Kept], is_open_metrics: bool) -> list[str]:
    first = kept[0]
    told, type_ = name, "gauge" if first.type == "updown" else first.type
    if is_open_metrics and type_ == "counter":
        if name.endswith("_total"):
            told = name.removesuffix("_total")
        else:
            type_ = "unknown"
    help_ = first.help.replace("\\", "\\\\").replace("\n", "\\n")
    lines = [f"# HELP {told} {help_}"] if help_ else []
    lines.append(f"# TYPE {told} {type_}")
    for one in sorted(kept, key=lambda each: each.labels):
        if one.type != first.type:
            continue  # two senders that mean different things by one name
        lines += (f"{name}{end}{_labels(one.labels, more)} {_value(value)}" for end, more, value in one.numbers())
    return lines


def _labels(labels: Labels, more: tuple[str, str] | None) -> str:
    told = ",".join(f'{name}="{_escaped(value)}"' for name, value in (*labels, *((more,) if more else ())))
    return f"{{{told}}}" if told else ""


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _value(value: float) -> str:
    if value != value:
        return "NaN"
    if value in (float("inf"), float("-inf")):
        return "+Inf" if value > 0 else "-Inf"
    return str(int(value)) if value == int(value) and abs(value) < 1e15 else repr(value)
