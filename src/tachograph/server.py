"""Puts the pieces together: opens the store, the road, the doors and the pages, and closes them in order."""

from __future__ import annotations

import errno
import os
import secrets
import signal
import socket
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from functools import partial
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeGuard

from tachograph import footprint
from tachograph.config import OTLP_HTTP, Address, Settings, surroundings
from tachograph.errors import ConfigError
from tachograph.telemetry import Telemetry, say

if TYPE_CHECKING:
    import uvicorn

    from tachograph.destinations import Destination
    from tachograph.pipeline import Followed, Follower
    from tachograph.pipeline.forwarding import Forwarding, Standing
    from tachograph.pipeline.progress import Progress
    from tachograph.pipeline.roster import Probe, Roster
    from tachograph.pricing import Prices
    from tachograph.receivers.intake import Intake
    from tachograph.receivers.otlp_grpc import OtlpGrpc
    from tachograph.receivers.otlp_grpc_late import LateDoor
    from tachograph.store.contract import Store
    from tachograph.web.api.owner import Deeds
    from tachograph.web.upkeep import Upkeep

PRICES_FILE: Final = "prices.toml"
LOOK_S: Final = 5.0  # how often housekeeping looks whether it is quiet
LOOKS_PER_ROUND: Final = 720  # an hour: retention, and tidying even where it was never quiet
STOP_S: Final = 10.0  # for answers under way when it stops; senders wait 10 s by default (OTEL_EXPORTER_OTLP_TIMEOUT)
KEEP_ALIVE_S: Final = 125  # longer than the longest usual export interval (60 s): no race with a sender's next request
# What a relay reads of files at once, and has on its way to the store: little, nobody waits for it.
RELAY_PIECE_BYTES: Final = 256 * 1024
RELAY_FLIGHT_BYTES: Final = 512 * 1024
RELAY_REPORTS: Final = 200  # that the ledger works off at once
RELAY_REST_S: Final = 5.0  # before it does: nobody looks, and what is made of calls is sent ten seconds later
DECODERS: Final = 2  # threads for long bodies: decoding holds the interpreter lock, more would only wait
TOKEN_HINT: Final = "openssl rand -hex 32   # then set {env} to what it prints, or {name} in tachograph.toml"


class Server:
    """All that runs in one process; `stop` may be called at any time and more than once.

    `is_relay`: nobody has asked for it, so it has no pages, reaches nobody but this machine, leaves doors closed that
    another program has, stays small, and has the ledger work only for who asks or is sent what it makes.
    """

    def __init__(
        self,
        settings: Settings,
        clock: Callable[[], int] = time.time_ns,
        is_relay: bool = False,
        origins: Mapping[str, str] | None = None,
    ) -> None:
        self.settings = settings
        self.origins = origins or {}
        self.is_relay = is_relay
        self.wants_to_stop = threading.Event()  # asked for over the API; `run` looks at it
        self.telemetry = Telemetry()
        self.addresses: dict[str, Address] = {}
        self._clock = clock
        self._open = ExitStack()
        self._is_stopping = threading.Event()
        self.api_token = secrets.token_urlsafe(32)
        self.follower: Follower | None = None
        self.forwarding: Forwarding | None = None
        self._known: list[Destination] = []
        self._loops: set[str] = set()
        self._metrics: Callable[[str, bool], tuple[str, str]] | None = None

    def start(self) -> None:
        """Open everything; raises ConfigError or Corrupt, and then nothing is left open."""
        if not self.is_relay:
            check_exposure(self.settings)
        with ExitStack() as opened:
            self._start(opened)
            self._open = opened.pop_all()

    def followed(self) -> list[Followed]:
        """How far the files of agents are read."""
        return self.follower.state() if self.follower else []

    def standings(self) -> list[Standing]:
        """What is forwarded, and how far."""
        from tachograph.pipeline.standings import troubled

        found = self.forwarding.standings() if self.forwarding else []
        return found + [troubled(one) for one in self._known if one.trouble]

    def destinations(self) -> list[Standing]:
        """The same, with those that nothing is sent to: disabled, leading back here, or removed from the settings."""
        return self._roster().standings()

    def _roster(self) -> Roster:
        from tachograph.pipeline.roster import Roster

        progress, at_work = (self._progress, self.forwarding) if self.forwarding else (None, None)
        return Roster(self._known, self._loops, self.store, self.settings.home, self._clock, at_work, progress)

    def probes(self, name: str) -> list[Probe]:
        """Whether each destination, or one, would take something."""
        from tachograph.pipeline.roster import chosen, probe

        return [probe(one, self._loops, surroundings(self.settings).environment) for one in chosen(self._known, name)]

    def stop(self) -> None:
        """Take nothing more, answer what is under way, commit, settle, close; in this order."""
        self._open.close()

    def _start(self, opened: ExitStack) -> None:
        from tachograph.ledger import settle
        from tachograph.ledger.working import REPORTS_MAX
        from tachograph.pipeline import Road, Settled, stages

        settings = self.settings
        self.prices = open_prices(settings)  # others may take their place while it runs
        self.store = self._open_store()
        opened.callback(self.store.close)
        self.road = Road(
            self.store,
            stages(settings.content),
            partial(
                settle,
                self.store,
                lambda call: self.prices.price(call),
                reports_max=RELAY_REPORTS if self.is_relay else REPORTS_MAX,
            ),
            time.monotonic_ns,
            self.telemetry,
            settings.queue_bytes_max,
            has_demo=has_demo(self.store),
            settles=not self.is_relay,
        )
        opened.callback(self.road.close)
        self.reader = Settled(self.store, self.road.settler)
        housekeeping = Housekeeping(self.store, self.forget, self._tidied)
        opened.callback(housekeeping.close)
        chosen = self._know_destinations(opened)  # before the doors: what comes in from then on is theirs
        self._open_doors(opened)
        self._forward(chosen, opened)
        self._open_pages(opened)
        self._follow(opened)

    def _open_store(self) -> Store:
        from tachograph.store import relayed
        from tachograph.store.connection import DATABASE_NAME

        is_new = not (self.settings.home / DATABASE_NAME).exists()
        store = open_store(self.settings, self._clock)
        if not self.is_relay:
            relayed.unmark(self.settings.home)
        elif is_new:
            relayed.mark(self.settings.home)
        return store

    def forget(self) -> None:
        """Have the store forget what is older or larger than wanted."""
        from tachograph.pipeline import retaining
        from tachograph.store import relayed

        settings, is_seen = self.settings, not relayed.is_marked(self.settings.home)
        days = retaining.relay_days(settings, self.forwarding is not None, is_seen) if self.is_relay else None
        retaining.forget(self.store, settings, self._clock(), days, self.road.settler.catch_up)

    def _know_destinations(self, opened: ExitStack) -> list[Destination]:
        """Have every destination know from where on it sends.

        Raises ConfigError for the first that the file has wrong, but in a relay, which nobody watches: it only records.
        """
        from tachograph.registry import are_destinations_named

        settings, environment = self.settings, surroundings(self.settings).environment
        if not settings.forwarders and not are_destinations_named(environment):
            return []
        from tachograph.pipeline import routing
        from tachograph.pipeline.forwarding import Forwarding
        from tachograph.pipeline.progress import FILE_NAME, open_progress
        from tachograph.pipeline.windows import bounds_of

        try:
            known = routing.known(settings.forwarders, environment)
            routes = routing.routes(known, environment)
        except ConfigError as error:
            if not self.is_relay:
                raise
            say("warning", f"{error.what}; nothing is forwarded. Try: {error.hint}")
            return []
        self._known = known
        for one in (one for one in known if one.trouble):
            say("warning", f"{one.trouble}; nothing is forwarded to {one.name}. Try: {one.hint}")
        if routes:
            self._progress = open_progress(settings.home / FILE_NAME)
            bounds = bounds_of(settings.memory_bytes)
            feeds = routing.feeds_from(self.store, bounds)
            self.forwarding = Forwarding(routes, feeds, self.store, self._progress, self.telemetry, self._clock, bounds)
            opened.callback(self.forwarding.close)
            for remark in (*routing.doubts(known), *routing.moved(routes, self._progress, self.store)):
                say("warning", remark)
        return [one.destination for one in routes]

    def _forward(self, chosen: Sequence[Destination], opened: ExitStack) -> None:
        """Send to every destination what it may have, but for those that are this server."""
        if self.forwarding is None:
            return
        from tachograph.pipeline import routing

        loops = routing.loops(chosen, self._leads_here)
        for one in loops:
            say("warning", f"{one.where}: {routing.address(one)} is this server; nothing is forwarded there")
            self.forwarding.leave_out(one.name)
            self._loops.add(one.name)
        if len(loops) == len(chosen):
            self.forwarding.close()
            self.forwarding = None
            return
        scraped = [one.name for one in chosen if one.options.get("scrape") and one not in loops]
        self._metrics = self._scraped(self._progress, scraped) if scraped else None  # before anything new is counted
        if self.forwarding.needs_ledger:
            self.road.settler.keep_up(RELAY_REST_S if self.is_relay else 0)
        self.forwarding.start()
        opened.callback(self.forwarding.close)  # before the doors

    def _scraped(self, progress: Progress, names: list[str]) -> Callable[[str, bool], tuple[str, str]]:
        from tachograph.forwarders.prometheus import scrapes
        from tachograph.pipeline.progress import Remembered

        series = scrapes([Remembered(progress, name) for name in names], self._clock)
        return lambda scraper, is_open_metrics: series.shown(scraper, is_open_metrics=is_open_metrics)

    def _leads_here(self, address: str) -> bool:
        """Whether an address is one of the doors of this process."""
        from tachograph.pipeline.loops import leads_to

        return leads_to(address, self.addresses.values())

    def _follow(self, opened: ExitStack) -> None:
        """Read what agents write into files, once all that may fail has gone well."""
        from tachograph.lines import PIECE_BYTES
        from tachograph.pipeline import Follower, chosen
        from tachograph.pipeline.following import FLIGHT_BYTES
        from tachograph.registry import HOOKS, TRANSCRIPTS

        self._tidied()

        if kinds := chosen((*HOOKS, *TRANSCRIPTS), self.settings.follow, self.settings.is_personal):
            self.follower = Follower(
                self.road.submit,
                self.store.positions,
                lambda: self.road.queued_bytes,
                kinds,
                surroundings(self.settings),
                time.monotonic_ns,
                self._clock,
                flight_bytes_max=RELAY_FLIGHT_BYTES if self.is_relay else FLIGHT_BYTES,
                piece_bytes=RELAY_PIECE_BYTES if self.is_relay else PIECE_BYTES,
            )
            self.follower.start()
            opened.callback(self.follower.close)

    def _tidied(self) -> None:
        """Let go of what was needed so far."""
        footprint.give_back()
        if self.is_relay:
            footprint.give_back_code()

    def _open_doors(self, opened: ExitStack) -> None:
        from tachograph.receivers.intake import Intake

        settings = self.settings
        intake = Intake(
            self.road.submit, self.telemetry, settings.ingest_token, settings.body_bytes_max, settings.queue_bytes_max
        )
        if self._may_open(settings.otlp_http, "otlp_http"):
            from tachograph.receivers.otlp_http import OtlpHttp

            workers = ThreadPoolExecutor(DECODERS, thread_name_prefix="otlp-decode")
            opened.callback(workers.shutdown)
            self._serve("otlp_http", settings.otlp_http, OtlpHttp(intake, workers), opened)
        if self._may_open(settings.otlp_grpc, "otlp_grpc"):
            self._open_grpc(settings.otlp_grpc, intake, opened)

    def _open_grpc(self, address: Address, intake: Intake, opened: ExitStack) -> None:
        listening = listen("otlp_grpc", address)  # says clearly who has the port
        door: LateDoor | OtlpGrpc

        def loaded() -> OtlpGrpc:
            from tachograph.receivers.otlp_grpc import OtlpGrpc

            return OtlpGrpc(intake, str(address))

        if self.is_relay and address.host in ("127.0.0.1", "::1"):
            from tachograph.receivers.otlp_grpc_late import LateDoor

            address = address._replace(port=listening.getsockname()[1])
            door = LateDoor(listening, loaded)
        else:
            listening.close()
            door = loaded()
            address = address._replace(port=door.port)
        self.addresses["otlp_grpc"] = address
        door.start()
        opened.callback(door.stop, STOP_S)

    def _may_open(self, address: Address | None, name: str) -> TypeGuard[Address]:
        if address is None or not self.is_relay:
            return address is not None
        try:
            listen(name, address).close()
        except ConfigError:
            return False
        return address.is_loopback

    def _deeds(self) -> Deeds:
        from tachograph.web.api.owner import Deeds

        return Deeds(
            commit=lambda batch: self.road.submit(batch).result(),
            backup=lambda target: back_up(self.store, self.settings, target),
            clear_demo=lambda: self.store.clear_demo(),
            stop=self.wants_to_stop.set,
            followed=self.followed,
            forwarded=self.destinations,
            probes=self.probes,
        )

    def _upkeep(self) -> Upkeep:
        from tachograph.web.upkeep import Upkeep

        return Upkeep(
            prices=lambda: self.prices,
            use_prices=self.use_prices,
            backup=lambda target: back_up(self.store, self.settings, target),
            prices_path=self.settings.home / PRICES_FILE,
            origins=self.origins,
        )

    def use_prices(self, prices: Prices) -> None:
        """Have the calls that come from now on priced by these."""
        self.prices = prices

    def _open_pages(self, opened: ExitStack) -> None:
        settings = self.settings
        if self.is_relay:
            from tachograph.web.local import create_local

            local = Address("127.0.0.1", 0)
            self._serve("web", local, create_local(self.reader, local.host, self.api_token, self._deeds()), opened)
        elif settings.web:
            from tachograph.pipeline.standings import as_shown
            from tachograph.web.app import create_app
            from tachograph.web.pages.destinations import Destination
            from tachograph.web.rendering import Here

            app = create_app(
                self.reader,
                clock=self._clock,
                host=settings.web.host,
                web_token=settings.web_token,
                viewer_token=settings.viewer_token,
                api_token=self.api_token,
                deeds=self._deeds(),
                otlp=f"http://{self.addresses.get('otlp_http', OTLP_HTTP)}",
                is_stopping=self._is_stopping.is_set,
                here=Here(
                    settings,
                    self.telemetry,
                    {name: str(address) for name, address in self.addresses.items()},
                    self.followed,
                    destinations=lambda: [Destination(**as_shown(s, self._clock())) for s in self.destinations()],
                    refusals=self._roster,
                    upkeep=self._upkeep(),
                ),
                metrics=self._metrics,
            )
            self._serve("web", settings.web, app, opened)
        opened.callback(self._is_stopping.set)  # first of all: live pages let go of their connections

    def _serve(self, name: str, address: Address, app: Any, opened: ExitStack) -> None:
        door = HttpDoor(name, address, app)
        opened.callback(door.close)
        self.addresses[name] = door.address


class HttpDoor:
    """One ASGI application on one port, with a thread and an event loop of its own: pages never slow down intake."""

    def __init__(self, name: str, address: Address, app: Any) -> None:
        import uvicorn

        first = listen(name, address)
        self.address = address._replace(port=first.getsockname()[1])
        self._sockets = [first]
        if first.family == socket.AF_INET:
            self._sockets += listen_on_localhost_too(name, self.address)
        self._server: uvicorn.Server = uvicorn.Server(
            uvicorn.Config(
                app,
                access_log=False,
                log_config=None,
                server_header=False,
                ws="none",
                timeout_keep_alive=KEEP_ALIVE_S,
                timeout_graceful_shutdown=round(STOP_S),
            )
        )
        self._thread = threading.Thread(target=self._server.run, args=(self._sockets,), name=name, daemon=True)
        self._thread.start()
        while not self._server.started and self._thread.is_alive():
            time.sleep(0.002)
        if not self._server.started:
            self.close()
            raise ConfigError(f"{name}: the server on {self.address} did not start", "its own words stand above")

    def close(self) -> None:
        """Take no more, and wait for the answers under way."""
        self._server.should_exit = True
        self._thread.join(2 * STOP_S)
        for bound in self._sockets:
            bound.close()


class Housekeeping:
    """A thread that tidies the store when it is quiet, and forgets what is older or larger than wanted."""

    def __init__(self, store: Store, forget: Callable[[], None], tidied: Callable[[], None]) -> None:
        self._store = store
        self._forget = forget
        self._tidied = tidied
        self._is_closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="housekeeping", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End after what is under way."""
        self._is_closing.set()
        self._thread.join()

    def _run(self) -> None:
        looks, seen, tidied = 0, -1, -1
        while not self._is_closing.wait(LOOK_S):
            sequence = self._store.sequence()
            is_due = looks % LOOKS_PER_ROUND == 0
            try:
                if is_due:
                    self._forget()
                if is_due or (sequence == seen != tidied):
                    self._store.tidy()
                    self._tidied()
                    tidied = sequence
            except Exception as error:  # noqa: BLE001 - the thread has to live: the cause may go away
                say("warning", f"housekeeping: {type(error).__name__}: {error}")
            looks, seen = looks + 1, sequence


def open_store(settings: Settings, clock: Callable[[], int] = time.time_ns) -> Store:
    """The store in the home folder, which is made where it is missing; raises ConfigError or Corrupt."""
    from tachograph.store.duckdb import open_store as open_folder

    try:
        settings.home.mkdir(mode=0o700, parents=True, exist_ok=True)  # prompts and answers are nobody else's
    except OSError as error:
        raise ConfigError(f"home: cannot make {settings.home}: {error.strerror}", "set TACHOGRAPH_HOME") from None
    return open_folder(settings.home, clock, settings.memory_bytes)


def back_up(store: Store, settings: Settings, target: Path) -> None:
    """Write a consistent copy of the store, and of how far each destination is, to a new folder."""
    from tachograph.pipeline.progress import backed_up

    with backed_up(settings.home, target):
        store.backup(target)


def open_prices(settings: Settings) -> Prices:
    """The prices, with what the operator has put beside the store: what they pay where it is not the list price."""
    from tachograph.pricing import Prices

    path = settings.home / PRICES_FILE
    return Prices(path if path.exists() else None)


def has_demo(store: Store) -> bool:
    """Whether the store holds the demo."""
    from tachograph.scan import Match, Scan

    return len(store.scan(Scan("commits", {"seq": "seq"}, (Match("is_demo", "=", True),), limit=1))) > 0


def check_exposure(settings: Settings) -> None:
    """Refuse a door that others can reach and that nothing guards; raises ConfigError."""
    for door, token in (("otlp_http", "ingest_token"), ("otlp_grpc", "ingest_token"), ("web", "web_token")):
        address: Address | None = getattr(settings, door)
        if address and not address.is_loopback and not getattr(settings, token):
            hint = TOKEN_HINT.format(env=f"TACHOGRAPH_{token.upper()}", name=token)
            raise ConfigError(f"{door}: got {address}, which others can reach; expected {token} to be set", hint)


def listen(name: str, address: Address) -> socket.socket:
    """A listening socket; where the port is taken, ConfigError says by whom, if that is known, and what is free."""
    try:
        family, _, _, _, where = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)[0]
        return _bound(family, where)
    except OSError as error:
        taker = " by another tachograph" if _is_tachograph(address) else ""
        free = _free_port(address)
        raise ConfigError(
            f"{name}: cannot listen on {address}{taker and ', taken'}{taker}: {error.strerror or error}",
            f"--{name.replace('_', '-')} {address._replace(port=free)}"
            if free
            else "choose an address of this machine",
        ) from None


def listen_on_localhost_too(name: str, address: Address) -> list[socket.socket]:
    """The same port of ::1 beside 127.0.0.1: some runtimes take "localhost" for that and try nothing else."""
    if address.host not in ("127.0.0.1", "localhost"):
        return []
    try:
        return [_bound(socket.AF_INET6, ("::1", address.port))]
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            say("warning", f"{name}: another program has [::1]:{address.port}; send to {address}, not to localhost")
        return []


def _bound(family: int, where: Any) -> socket.socket:
    bound = socket.socket(family, socket.SOCK_STREAM)
    try:
        if os.name == "posix":  # elsewhere it would let two programs share the port
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a restart need not wait for TIME_WAIT
        if family == socket.AF_INET6:
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, where[0] != "::")
        bound.bind(where)
        bound.listen(1024)
    except OSError:
        bound.close()
        raise
    return bound


def _free_port(address: Address) -> int:
    """A free port that looks like the one wanted, 0 where none of a few is."""
    for port in range(address.port + 10, min(address.port + 110, 65536), 10):
        try:
            family, _, _, _, where = socket.getaddrinfo(address.host, port, type=socket.SOCK_STREAM)[0]
            _bound(family, where).close()
        except OSError:
            continue
        return port
    return 0


def _is_tachograph(address: Address) -> bool:
    try:
        with closing(HTTPConnection(address.host, address.port, timeout=1)) as connection:
            connection.request("GET", "/")
            return b"tachograph" in connection.getresponse().read(4096).lower()
    except (OSError, HTTPException):
        return False


def run(
    settings: Settings,
    on_ready: Callable[[Server], None],
    is_relay: bool = False,
    is_over: Callable[[Server], bool] = lambda _: False,
    origins: Mapping[str, str] | None = None,
) -> None:
    """Serve until SIGINT or SIGTERM, or somebody asks it to stop, then stop in order.

    `on_ready` is called once all doors are open, `is_over` every second: whether to stop by itself. A second SIGINT
    ends it at once: nothing acknowledged is lost by that.
    """
    server = Server(settings, is_relay=is_relay, origins=origins)
    stopping = server.wants_to_stop
    before = {number: signal.signal(number, lambda *_: stopping.set()) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        server.start()
        on_ready(server)
        while not stopping.wait(1) and not is_over(server):
            pass
    finally:
        for number, was in before.items():
            signal.signal(number, was)
        server.stop()
