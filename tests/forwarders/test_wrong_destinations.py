"""Destinations that are wrong: what is said of them repeats no secret, and says what would be right."""

from __future__ import annotations

from pathlib import Path

import pytest

from tachograph.config import load, masked
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
