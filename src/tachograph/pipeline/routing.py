"""Which destinations there are, by the settings and by the environment, and what sends to each."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from tachograph import destinations
from tachograph.config import Placed
from tachograph.destinations import Destination
from tachograph.errors import ConfigError
from tachograph.forwarders.contract import STEPS, Feed, Forwarder
from tachograph.pipeline import feeding
from tachograph.pipeline.forwarding import FeedsOf, Route
from tachograph.pipeline.stepping import Steps
from tachograph.questions.lookup import CALL_COLUMNS
from tachograph.registry import FORWARDERS
from tachograph.scan import Reader


def known(tables: Mapping[str, Placed], environment: Mapping[str, str]) -> list[Destination]:
    """Those of the settings file, then those that only variables name; raises ConfigError for the first wrong one.

    Variables count for kinds that the file does not have: who wrote one there has said where it goes.
    """
    found = destinations.read(tables, {kind: forwarder.options for kind, forwarder in FORWARDERS.items()})
    kinds, names = {one.kind for one in found}, {one.name for one in found}
    for kind, forwarder in FORWARDERS.items():
        if kind not in kinds:
            by_variables = forwarder.from_environment(environment)
            if by_variables is not None and by_variables.name not in names:
                found.append(by_variables)
    return found


def address(destination: Destination) -> str:
    """Where it leads, to be shown: without secrets."""
    return FORWARDERS[destination.kind].address(destination)


def route(destination: Destination, environment: Mapping[str, str]) -> Route:
    """The destination with what sends to it; raises ConfigError, which says where the destination is named."""
    try:
        forwarder = FORWARDERS[destination.kind].make(destination, environment)
    except ConfigError as error:
        is_placed = error.what.startswith(destination.where)
        what = error.what if is_placed else f"{destination.where}: {error.what}"
        raise ConfigError(what, error.hint) from None
    return Route(destination, forwarder, address(destination))


def routes(chosen: Sequence[Destination], environment: Mapping[str, str]) -> list[Route]:
    """Those that are enabled, ready to send; raises ConfigError for the first wrong one."""
    found: list[Route] = []
    try:
        for one in (one for one in chosen if one.is_enabled):
            found.append(route(one, environment))
    except ConfigError:
        for made in found:
            made.forwarder.close()
        raise
    return found


def loops(chosen: Sequence[Destination], leads_here: Callable[[str], bool]) -> list[Destination]:
    """Those of them that would send to this process."""
    return [one for one in chosen if any(map(leads_here, _addresses(one)))]


def _addresses(destination: Destination) -> list[str]:
    """Where it leads, and what else of its options looks like an address: some have one for each signal."""
    texts = [value for value in destination.options.values() if isinstance(value, str)]
    return [address(destination), *(text for text in texts if ":" in text)]


def feeds_from(reader: Reader) -> FeedsOf:
    """What reads for a destination all that its forwarder wants."""

    def feeds(destination: Destination, forwarder: Forwarder) -> list[Feed]:
        found = feeding.feeds(reader, destination, forwarder.feeds, CALL_COLUMNS, forwarder.derived_signal)
        if STEPS in forwarder.feeds and forwarder.derived_signal in destination.signals:
            found.append(Steps(reader, destination, takes_changes=forwarder.takes_changes))
        return found

    return feeds
