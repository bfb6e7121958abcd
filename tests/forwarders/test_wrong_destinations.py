"""Destinations that are wrong: what is said of them repeats no secret, and says what would be right."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest

from sink import Reply, Sink
from tachograph.config import load, masked
from tachograph.destinations import Destination
from tachograph.errors import ConfigError
from tachograph.pipeline import routing

SECRET = "hunter2secret"
ADDRESSES = (
    f"htps://bob:{SECRET}@host",
    f"http://bob:{SECRET}@host:99999",
    f"http://bob:{SECRET}",
    f"bob:{SECRET}@host",
    f"bob:{SECRET}@host:4318",
    f"//bob:{SECRET}@host",
    f"http:bob:{SECRET}@host",
    f"http://bob:x/{SECRET}@host:x",
    f"http://host:99999/v1?api_key={SECRET}",
    f"ftp://host/#{SECRET}",
    f"http://[::1:{SECRET}",
    f"http://bob:{SECRET}@ho st",
    "phc_" + SECRET,
)


def refused(home: Path, text: str) -> str:
    """All that is said of a settings file."""
    home.mkdir(exist_ok=True)
    (home / "tachograph.toml").write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        for one in routing.known(load({"home": str(home)}, {}).forwarders, {}):
            routing.route(one, {})
    return f"{caught.value.what}\n{caught.value.hint}"


@pytest.mark.parametrize("address", ADDRESSES)
@pytest.mark.parametrize(
    ("kind", "option"),
    [
        ("otlp", "endpoint"),
        ("otlp", "logs_endpoint"),
        ("langfuse", "url"),
        ("posthog", "host"),
        ("prometheus", "url"),
        ("loki", "url"),
    ],
)
def test_a_wrong_address_is_said_without_its_secrets(tmp_path: Path, kind: str, option: str, address: str) -> None:
    said = refused(tmp_path, f'[forwarders.{kind}]\n{option} = "{address}"')
    assert SECRET not in said and "expected" in said and f"forwarders.{kind}" in said


@pytest.mark.parametrize("address", ADDRESSES)
@pytest.mark.parametrize(
    "text", ['forwarders = "{}"', '[forwarders]\nacme = "{}"', '[forwarders.acme]\nkind = "{}"', 'otlp_http = "{}"']
)
def test_an_address_in_the_wrong_place_is_said_without_its_secrets(tmp_path: Path, text: str, address: str) -> None:
    assert SECRET not in refused(tmp_path, text.format(address))


@pytest.mark.parametrize(
    "text",
    [
        f'[forwarders.langfuse]\nurl = {{ user = "{SECRET}" }}',
        f'[forwarders.langfuse]\nurl = ["{SECRET}"]',
        f'[forwarders]\nacme = ["{SECRET}"]',
        f'[forwarders.langfuse]\nagents = [1, "{SECRET}"]',
    ],
)
def test_a_table_or_a_list_is_not_repeated(tmp_path: Path, text: str) -> None:
    assert SECRET not in refused(tmp_path, text)


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ("htps://host", '"htps://host"'),
        ("collector:4318", '"collector:4318"'),
        ("htps://bob:x@host:1/v1?a=b", '"htps://[hidden]@host:1/v1?[hidden]"'),
        ({"a": 1}, "a table"),
        (7, "7"),
    ],
)
def test_what_is_not_secret_is_still_said(value: object, told: str) -> None:
    assert masked(value, is_address=True) == told


@pytest.mark.parametrize("proxy", [f"socks5://bob:{SECRET}@h", f"http://bob:{SECRET}", f"http://bob:x/{SECRET}@h"])
def test_a_wrong_proxy_is_said_without_its_secrets(proxy: str) -> None:
    environ = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://far.invalid:4318", "HTTP_PROXY": proxy}
    (destination,) = routing.known({}, environ)
    with pytest.raises(ConfigError) as caught:
        routing.route(destination, environ)
    assert SECRET not in f"{caught.value.what}{caught.value.hint}"


def test_an_address_is_shown_without_its_secrets(tmp_path: Path) -> None:
    for endpoint in (f"http://bob:{SECRET}@host/v1?u=http://x", f"http://host/v1?key={SECRET}://x"):
        (destination,) = routing.known({}, {"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint})
        assert routing.address(destination) == "http://host/v1"


@pytest.mark.parametrize("line", ["agents = []", "projects = []", 'agents = ""'])
def test_a_filter_that_lets_nothing_through_is_refused(tmp_path: Path, line: str) -> None:
    said = refused(tmp_path, f'[forwarders.otlp]\nendpoint = "http://h:1"\n{line}')
    assert "tachograph.toml:3" in said and ("at least one name" in said or "a list of texts" in said)


@pytest.mark.parametrize(
    ("kind", "signals", "taken"),
    [
        ("langfuse", '["logs"]', "traces"),
        ("posthog", '["traces", "metrics"]', "traces"),
        ("loki", '["traces"]', "logs"),
        ("prometheus", '["logs", "metrics"]', "metrics"),
    ],
)
def test_signals_that_a_kind_cannot_take_are_refused(tmp_path: Path, kind: str, signals: str, taken: str) -> None:
    said = refused(tmp_path, f"[forwarders.{kind}]\nsignals = {signals}")
    assert f"tachograph.toml:2: forwarders.{kind}.signals: got " in said and f"expected {taken}: {kind}" in said


def test_unknown_agents_are_a_warning(tmp_path: Path) -> None:
    text = '[forwarders.otlp]\nendpoint = "http://h:1"\nagents = ["pi", "cluade"]'
    (tmp_path / "tachograph.toml").write_text(text, encoding="utf-8")
    (doubt,) = routing.doubts(routing.known(load({"home": str(tmp_path)}, {}).forwarders, {}))
    assert "cluade may be" in doubt and "claude-code" in doubt and "tachograph.toml:1" in doubt


PAGE = b"\n <!DOCTYPE html><html><body>Please sign in</body></html>"


@pytest.mark.parametrize(
    ("reply", "is_taken"),
    [
        (Reply(200, PAGE, {"content-type": "text/html; charset=utf-8"}), False),
        (Reply(200, b"Welcome", {"content-type": "Text/HTML"}), False),
        (Reply(202, PAGE, {"content-type": "application/octet-stream"}), False),
        (Reply(200, b"\xef\xbb\xbf<html>", {}), False),
        (Reply(200, b"", {"content-type": "text/html"}), True),
        (Reply(200, b"ok", {"content-type": "text/plain"}), True),
        (Reply(204, b"", {}), True),
    ],
)
@pytest.mark.parametrize("kind", ["otlp", "langfuse", "posthog", "prometheus", "loki"])
def test_a_web_page_is_no_answer_of_a_receiver(kind: str, reply: Reply, is_taken: bool) -> None:
    with Sink() as sink:
        sink.reply = lambda _: reply
        options = {
            "otlp": {"endpoint": sink.url},
            "langfuse": {"url": sink.url, "public_key": "pk-lf-1", "secret_key": "sk-lf-1"},
            "posthog": {"host": sink.url, "api_key": "phc_x"},
            "prometheus": {"url": sink.url, "version": "1.0"},
            "loki": {"url": sink.url},
        }
        forwarder = routing.route(Destination("acme", kind, "acme", options[kind]), {}).forwarder
        with closing(forwarder):
            if is_taken:
                assert forwarder.probe().rejected == 0
            else:
                with pytest.raises(ConfigError, match="with a web page; expected"):
                    forwarder.probe()


@pytest.mark.parametrize(("kind", "option"), [("langfuse", "url"), ("posthog", "host"), ("loki", "url")])
@pytest.mark.parametrize("end", ["?tenant=a", "/#top"])
def test_a_path_is_not_put_behind_a_query(tmp_path: Path, kind: str, option: str, end: str) -> None:
    said = refused(tmp_path, f'[forwarders.{kind}]\n{option} = "http://host:1{end}"')
    assert "without ? and #" in said and f"forwarders.{kind}" in said
