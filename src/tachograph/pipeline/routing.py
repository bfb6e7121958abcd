"""Which destinations there are, by the settings and by the environment, and what sends to each."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256
from typing import Final
from urllib.parse import urlsplit

from msgspec.structs import replace

from tachograph import destinations
from tachograph.config import Placed
from tachograph.destinations import Destination
from tachograph.errors import ConfigError
from tachograph.forwarders.contract import STEPS, Feed, Forwarder
from tachograph.pipeline import feeding
from tachograph.pipeline.forwarding import FeedsOf, Route
from tachograph.pipeline.progress import Progress
from tachograph.pipeline.stepping import Steps
from tachograph.pipeline.windows import LARGE, Bounds
from tachograph.questions.lookup import CALL_COLUMNS
from tachograph.registry import FORWARDERS, HOOKS, TRANSCRIPTS
from tachograph.scan import Reader

ACCOUNT: Final = ("public_key", "username", "tenant", "client_certificate")  # that say who sends, and are no secret

_PLACE: Final = "place"  # in the memory of a destination: where it led to


def known(tables: Mapping[str, Placed], environment: Mapping[str, str]) -> list[Destination]:
    """Those of the settings file, then those that only variables name; raises ConfigError for the first wrong table.

    Variables count for kinds that the file does not have: who wrote one there has said where it goes. They may be set
    for other programs, so that wrong ones stop nothing: their destination has a `trouble`.
    """
    options = {kind: forwarder.options for kind, forwarder in FORWARDERS.items()}
    found = destinations.read(tables, options, {kind: forwarder.signals for kind, forwarder in FORWARDERS.items()})
    kinds, names = {one.kind for one in found}, {one.name for one in found}
    for kind in FORWARDERS:
        if kind not in kinds and kind not in names:
            by_variables = _by_variables(kind, environment)
            if by_variables is not None:
                found.append(by_variables)
    return found


def _by_variables(kind: str, environment: Mapping[str, str]) -> Destination | None:
    """The destination that variables name: known by its kind, and by address and credentials for what it was sent."""
    try:
        named = FORWARDERS[kind].from_environment(environment)
        if named is not None and named.is_enabled:
            route(named, environment).forwarder.close()
    except ConfigError as error:
        return Destination(kind, kind, error.what.partition(":")[0], trouble=error.what, hint=error.hint)
    return None if named is None else replace(named, key=f"{named.name}@{_fingerprint(named)}")


def _fingerprint(destination: Destination) -> str:
    """A short hash of who is sent to: kind, addresses and credentials."""
    told = [destination.kind]
    for option in sorted(FORWARDERS[destination.kind].options):
        if option.name in destination.options and (option.type == "URL" or option.is_secret or option.name in ACCOUNT):
            value = destination.options[option.name]
            told += [option.name, repr(sorted(value.items()) if isinstance(value, dict) else value)]
    return sha256("\0".join(told).encode("utf-8", "replace")).hexdigest()[:12]


def doubts(chosen: Sequence[Destination]) -> list[str]:
    """What may be a mistake of theirs and need not be: agents that nobody knows, as own programs have free names."""
    agents = sorted({kind.agent for kind in (*HOOKS, *TRANSCRIPTS)})
    return [
        f"{one.where}: agents: {', '.join(unknown)} may be a program of yours; known are {', '.join(agents)}"
        for one in chosen
        if (unknown := [name for name in one.agents if name not in agents])
    ]


def moved(routes: Sequence[Route], progress: Progress, reader: Reader) -> list[str]:
    """Which of the file lead to another host or account than before while something waits for them; kept for next time.

    Before anything is sent.
    """
    newest, found = reader.sequence(), []
    for one in (route.destination for route in routes if not route.destination.key):
        state, before = progress.state(one.identity), progress.recall(one.identity, _PLACE)
        hosts = ", ".join(urlsplit(text).netloc or text for text in address(one).split(", "))
        place = " as ".join([hosts, *(str(one.options[name]) for name in ACCOUNT[:3] if name in one.options)])
        if state is None or before == place.encode():
            continue
        if before is not None and state.cursor < newest:
            told = f"{one.where}: led to {before.decode()} before and leads to {place} now"
            found.append(f"{told}: the {newest - state.cursor} commits that wait are sent there")
        progress.save(one.identity, state, [(_PLACE, place.encode())])
    return found


def address(destination: Destination) -> str:
    """Where it leads, to be shown: without secrets; "" where nobody knows."""
    return "" if destination.trouble else FORWARDERS[destination.kind].address(destination)


def route(destination: Destination, environment: Mapping[str, str]) -> Route:
    """The destination with what sends to it; raises ConfigError, which says where the destination is named."""
    if destination.trouble:
        raise ConfigError(destination.trouble, destination.hint)
    try:
        forwarder = FORWARDERS[destination.kind].make(destination, environment)
    except ConfigError as error:
        is_placed = error.what.startswith(destination.where)
        what = error.what if is_placed else f"{destination.where}: {error.what}"
        raise ConfigError(what, error.hint) from None
    return Route(destination, forwarder, address(destination))


def routes(chosen: Sequence[Destination], environment: Mapping[str, str]) -> list[Route]:
    """Those that are enabled and not in trouble, ready to send; raises ConfigError for the first wrong one."""
    found: list[Route] = []
    try:
        for one in (one for one in chosen if one.is_enabled and not one.trouble):
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


def feeds_from(reader: Reader, bounds: Bounds = LARGE) -> FeedsOf:
    """What reads for a destination all that its forwarder wants."""

    def feeds(destination: Destination, forwarder: Forwarder) -> list[Feed]:
        found = feeding.feeds(reader, destination, forwarder.feeds, CALL_COLUMNS, forwarder.derived_signal, bounds)
        if STEPS in forwarder.feeds and forwarder.derived_signal in destination.signals:
            found.append(Steps(reader, destination, bounds, takes_changes=forwarder.takes_changes))
        return found

    return feeds
