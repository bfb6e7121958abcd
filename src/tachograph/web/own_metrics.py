"""What Tachograph says of itself at `/metrics`: how far each destination is, and whether somebody has to act."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from tachograph import __version__
from tachograph.forwarders.prometheus_series import Kept
from tachograph.forwarders.prometheus_text import exposed
from tachograph.web.pages.destinations import RESTING, Destination

# Name -> type, what it is; the value is what `_values` gives under the same name.
FAMILIES: Final = {
    "sent_records_total": ("counter", "Records that the destination took."),
    "lost_records_total": ("counter", "Records that retention forgot before they were sent."),
    "requests_total": ("counter", "Requests that the destination answered, or should have."),
    "failed_requests_total": ("counter", "Requests that did not go well."),
    "refused_records": ("gauge", "Records that the destination refused and has not taken since."),
    "refused_pieces": ("gauge", "Refused pieces of requests that can be sent again."),
    "lag_commits": ("gauge", "Commits that are not sent yet."),
    "lag_seconds": ("gauge", "Age of the oldest commit that is not sent."),
    "is_refusing": ("gauge", "1 where nothing is taken until somebody acts."),
    "is_waiting": ("gauge", "1 where the destination is away or busy."),
}
PREFIX: Final = "tachograph_destination_"


def own_metrics(destinations: Sequence[Destination], *, is_open_metrics: bool) -> str:
    """The series as text; those that nothing is sent to have none."""
    told = [Kept(("tachograph_info",), "gauge", (("version", __version__),), help="Its version.", value=1, shown=1)]
    for one in destinations:
        if one.word not in RESTING:
            told += _series(one)
    return exposed(told, is_open_metrics=is_open_metrics)


def _series(one: Destination) -> Iterator[Kept]:
    labels = (("destination", one.name), ("kind", one.kind))
    for name, value in _values(one).items():
        type_, what = FAMILIES[name]
        yield Kept((PREFIX + name,), type_, labels, help=what, value=value, shown=value)


def _values(one: Destination) -> dict[str, float]:
    return {
        "sent_records_total": one.sent,
        "lost_records_total": one.lost,
        "requests_total": one.requests,
        "failed_requests_total": one.failed,
        "refused_records": one.refused,
        "refused_pieces": one.dead_letters,
        "lag_commits": one.lag_commits or 0,
        "lag_seconds": one.lag_s or 0,
        "is_refusing": one.is_refusing,
        "is_waiting": not one.is_refusing and one.circuit != "closed",
    }
