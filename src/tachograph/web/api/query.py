"""One question to the API: its values, the period and filter they stand for, and how lists are cut into answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from starlette.requests import Request

from tachograph.errors import Rejected
from tachograph.questions import zone_of
from tachograph.questions.filters import Table
from tachograph.scan import Condition, Reader
from tachograph.web.api import cursors
from tachograph.web.asking import Asked, Period
from tachograph.web.rendering import Look, Site

_One = TypeVar("_One")


class Query:
    """What a request asks, with values that were checked; `values` has every parameter of the endpoint."""

    def __init__(self, site: Site, request: Request, values: Mapping[str, Any]) -> None:
        self.site = site
        self.reader: Reader = site.reader
        self.values = values
        self.timezone: str = values.get("timezone", "UTC")
        self._asked = Asked(site, request, default_range="all")
        self._asked.look = Look(self.timezone, zone_of(self.timezone), site.clock())

    def __getitem__(self, name: str) -> Any:
        return self.values[name]

    def period(self) -> Period:
        """The period asked for; raises Rejected where it ends before it begins."""
        if self._asked.is_backwards():
            raise Rejected(f'to: got "{self.values["to"]}"; expected a time after `from`', "", 400)
        return self._asked.period()

    def where(self, table: Table) -> tuple[Condition, ...]:
        """The filter as conditions on a table; raises QueryError where it cannot be read."""
        found = self._asked.where(table)
        if self._asked.error is not None:
            raise self._asked.error
        return found

    def during(self, table: Table) -> tuple[Condition, ...]:
        """The filter and the period as conditions."""
        found = self._asked.during(table, self.period())
        if self._asked.error is not None:
            raise self._asked.error
        return found

    def order(self, table: str, orders: Mapping[str, str], key: str, is_key_descending: bool) -> cursors.Order:
        """What rows are ordered by: the greatest first, or the least where a - stands before the name."""
        name: str = self.values["order"]
        return cursors.Order(table, orders[name.removeprefix("-")], not name.startswith("-"), key, is_key_descending)

    def part(self, entries: Sequence[_One]) -> tuple[list[_One], str | None]:
        """The entries of this answer, and the cursor of the rest."""
        start = cursors.offset_of(self.values["cursor"])
        end = start + self.values["limit"]
        return list(entries[start:end]), cursors.cursor_at(end, len(entries))


def missing(what: str, id_: str, hint: str) -> Rejected:
    """The error for an id that nothing has."""
    return Rejected(f'{what}: got "{id_[:200]}"; expected the id of a {what}', hint, 404)
