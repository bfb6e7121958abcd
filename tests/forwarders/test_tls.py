"""TLS to destinations, over HTTP and gRPC: whom they trust, who trusts them, and what is said where they do not."""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import trustme
from cryptography.hazmat.primitives import serialization

from deliveries import Trip, fill
from fillings import NOON, SECOND
from kinds import KINDS, Subject
from sink import GrpcSink, Identity, Sink
from tachograph.destinations import Destination
from tachograph.errors import ConfigError
from tachograph.store.contract import Store
from tachograph.store.duckdb import open_store

LATER = NOON + 3600 * SECOND
OTLP = ("otlp http/protobuf", "otlp grpc")
NAMES = {"prometheus": "certificate_authority", "loki": "certificate_authority"}


class Pki(NamedTuple):
    """PEM files: an authority and another one, and what they signed."""

    folder: Path
    authority: str
    stranger: str
    server: Identity

    def identity(self, name: str) -> Identity:
        return Identity(self.folder / f"{name}.crt", self.folder / f"{name}.key")

    def client(self, name: str) -> dict[str, str]:
        return {
            "client_certificate": str(self.folder / f"{name}.crt"),
            "client_key": str(self.folder / f"{name}.key"),
        }

    def asking(self) -> Identity:
        """The server, which takes only who shows a certificate of the authority."""
        return self.server._replace(clients=Path(self.authority))


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    folder = tmp_path_factory.mktemp("pki")
    authority, stranger = trustme.CA(), trustme.CA()
    long_ago = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
    signed = {
        "server": authority.issue_cert("127.0.0.1", "localhost"),
        "elsewhere": authority.issue_cert("elsewhere.example"),
        "expired": authority.issue_cert("127.0.0.1", not_before=long_ago.replace(year=2019), not_after=long_ago),
        "client": authority.issue_cert("agents@example.org"),
        "strange": stranger.issue_cert("agents@example.org"),
    }
    for name, leaf in signed.items():
        leaf.cert_chain_pems[0].write_to_path(str(folder / f"{name}.crt"))
        leaf.private_key_pem.write_to_path(str(folder / f"{name}.key"))
    for name, ca in (("authority", authority), ("stranger", stranger)):
        ca.cert_pem.write_to_path(str(folder / f"{name}.pem"))
    server = Identity(folder / "server.crt", folder / "server.key")
    return Pki(folder, str(folder / "authority.pem"), str(folder / "stranger.pem"), server)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with closing(open_store(tmp_path_factory.mktemp("tls") / "store", lambda: NOON)) as opened:
        fill(opened, sessions=1)
        yield opened


def trip(tmp_path: Path, store: Store, tested: Subject, sink: Sink | GrpcSink, **options: str) -> Trip:
    given = {**tested.options(sink.url, 60.0), **options}
    to = Destination("acme", tested.name or "plain", "acme", options=given)
    return Trip(tmp_path, store, lambda one: tested.kind.make(one, {}), to, LATER)


@pytest.mark.parametrize("name", sorted({*KINDS} - {"plain"}))
def test_every_kind_trusts_the_authority_that_is_named(tmp_path: Path, store: Store, pki: Pki, name: str) -> None:
    tested = KINDS[name]
    with tested.sink(tls=pki.server) as sink:
        going = trip(tmp_path, store, tested, sink, **{NAMES.get(tested.name, "certificate"): pki.authority})
        going.delivery.forwarder.probe()
        going.run()
        going.end()
        assert tested.received(sink.taken) and going.delivery.state.failed == 0


@pytest.mark.parametrize("name", [*OTLP, "loki", "prometheus 2.0"])
def test_a_client_certificate_is_shown_to_who_asks(tmp_path: Path, store: Store, pki: Pki, name: str) -> None:
    tested = KINDS[name]
    trusted = {NAMES.get(tested.name, "certificate"): pki.authority}
    with tested.sink(tls=pki.asking()) as sink:
        going = trip(tmp_path, store, tested, sink, **trusted, **pki.client("client"))
        going.run()
        going.end()
        assert tested.received(sink.taken) and going.delivery.state.failed == 0


class Wrong(NamedTuple):
    """What is wrong, and what is said of it; `hint` names what to do."""

    server: str
    options: Mapping[str, str]
    said: str
    hint: str
    is_asking: bool = False
    scheme: str = "https"


WRONG = {
    "another authority": Wrong("server", {"certificate": "stranger"}, "not trusted: unable to get local", "authority"),
    "nobody named": Wrong("server", {}, "not trusted: unable to get local issuer", "name the authority"),
    "another name": Wrong("elsewhere", {"certificate": "authority"}, "not valid for '127.0.0.1'", "use an address"),
    "expired": Wrong("expired", {"certificate": "authority"}, "certificate has expired", "renewed"),
    "no TLS there": Wrong("", {"certificate": "authority"}, "it does not speak TLS", "http://"),
    "TLS there": Wrong("server", {}, "it speaks TLS", "https://", scheme="http"),
    "no certificate of ours": Wrong("server", {"certificate": "authority"}, "", "", is_asking=True),
    "one of ours that it does not know": Wrong(
        "server", {"certificate": "authority", "client": "strange"}, "", "check the client certificate", is_asking=True
    ),
}


@pytest.mark.parametrize("name", OTLP)
@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_is_said_and_refuses_nothing(
    tmp_path: Path, store: Store, pki: Pki, name: str, case: str
) -> None:
    """It waits until somebody has mended it; then everything goes."""
    tested, wrong = KINDS[name], WRONG[case]
    identity = pki.identity(wrong.server) if wrong.server else None
    if identity and wrong.is_asking:
        identity = identity._replace(clients=Path(pki.authority))
    options: dict[str, str] = {}
    for key, value in wrong.options.items():
        options |= pki.client(value) if key == "client" else {key: str(pki.folder / f"{value}.pem")}
    with tested.sink(tls=identity) as sink:
        options["endpoint"] = f"{wrong.scheme}://127.0.0.1:{sink.port}"
        going = trip(tmp_path, store, tested, sink, **options)
        going.run(lambda: going.delivery.state.failures > 1)
        state = going.delivery.state
        assert state.is_refusing and state.refused == 0 and not sink.requests
        assert wrong.said in state.answer
        with pytest.raises(ConfigError) as caught:
            going.delivery.forwarder.probe()
        assert wrong.hint in caught.value.hint and len(caught.value.what) < 200
        if wrong.is_asking and "client" not in wrong.options:
            assert "client certificate" in caught.value.what + caught.value.hint
        going.end()
    with tested.sink(tls=pki.asking()) as sink:
        mended = dict(going.destination.options) | {"endpoint": sink.url, "certificate": pki.authority}
        going.destination = Destination("acme", "otlp", "acme", options=mended | pki.client("client"))
        going.begin()
        going.run()
        going.end()
        assert len(tested.received(sink.taken)) == 25 and going.delivery.state.refused == 0


@pytest.mark.parametrize("name", OTLP)
def test_the_authorities_of_the_system_count_where_none_is_named(
    tmp_path: Path, store: Store, pki: Pki, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", pki.authority)
    with KINDS[name].sink(tls=pki.server) as sink:
        going = trip(tmp_path, store, KINDS[name], sink)
        going.run()
        going.end()
        assert sink.taken and going.delivery.state.failed == 0


def test_grpc_to_host_and_port_has_tls_unless_it_is_insecure(tmp_path: Path, store: Store, pki: Pki) -> None:
    tested = KINDS["otlp grpc"]
    cases: list[tuple[Identity | None, dict[str, Any]]] = [(pki.server, {}), (None, {"insecure": True})]
    for number, (identity, more) in enumerate(cases):
        home = tmp_path / str(number)
        home.mkdir()
        with GrpcSink(tls=identity) as sink:
            place = {"endpoint": f"localhost:{sink.port}", "certificate": pki.authority}
            going = trip(home, store, tested, sink, **place, **more)
            going.run()
            going.end()
            assert sink.taken and going.delivery.state.failed == 0


@pytest.mark.parametrize("protocol", ["http/protobuf", "grpc"])
@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("certificate", None),
        ("certificate", b"no PEM"),
        ("client_certificate", b"no PEM"),
        ("client_key", b"no PEM"),
        ("client_key", "strange"),
        ("client_key", "password"),
        ("client_key", "alone"),
    ],
)
def test_files_that_are_not_what_they_should_be_are_told_at_once(
    tmp_path: Path, pki: Pki, protocol: str, name: str, content: bytes | str | None
) -> None:
    """A key with a password too: nobody is asked for it on a terminal."""
    path = tmp_path / "given.pem"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        key = serialization.load_pem_private_key((pki.folder / "strange.key").read_bytes(), None)
        hiding = serialization.BestAvailableEncryption(b"word") if content == "password" else None
        path.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                hiding or serialization.NoEncryption(),
            )
        )
    options = {"certificate": pki.authority, **pki.client("client"), name: str(path)}
    if content == "alone":
        del options["client_certificate"]
    given = {"endpoint": "https://127.0.0.1:1", "protocol": protocol, **options}
    to = Destination("acme", "otlp", "tachograph.toml:1: forwarders.acme", options=given)
    with pytest.raises(ConfigError, match=r"certificate|client key") as caught:
        KINDS["otlp grpc"].kind.make(to, {})
    assert str(path) in caught.value.what and "expected" in caught.value.what
