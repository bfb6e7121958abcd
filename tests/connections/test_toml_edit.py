"""Edits of TOML settings: they say what they have to, and what is not changed keeps its bytes."""

from __future__ import annotations

import tomllib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tachograph.connections.edits import TOML
from tachograph.errors import ConfigError

DOOR = {"otlp-http": {"endpoint": "http://127.0.0.1:4318/v1/logs", "protocol": "binary"}}
FILES = [
    "",
    'model = "gpt-5"\n',
    'model = "gpt-5" # mine',
    '# top\nmodel = "gpt-5"\n\n[tools]\nweb = true # yes\n\n[[x]]\na = 1\n',
    '[otel]\nenvironment = "dev" # keep\n\n[tools]\nweb = true\n',
    '[tools]\nweb = true\n\n[otel]\nenvironment = "dev"\n',
    'otel.environment = "dev"\nmodel = "x"\n',
    'otel = { environment = "dev" }\n',
    '[otel]\nexporter = "none"\n[profiles.a]\nmodel = "x"\n',
    '[otel.exporter.otlp-grpc]\nendpoint = "http://other:4317"\n\n[tools]\nweb = true\n',
    '[model_providers."a.b"]\nname = "x"\nurl = \'y\'\n',
]


def merged(settings: dict[str, Any], value: Any) -> dict[str, Any]:
    return settings | {"otel": settings.get("otel", {}) | {"exporter": value}}


@pytest.mark.parametrize("eol", ["\n", "\r\n"])
@pytest.mark.parametrize("text", FILES)
def test_put_and_remove(text: str, eol: str) -> None:
    text = text.replace("\n", eol)
    before = tomllib.loads(text)
    after = TOML.put(text, ("otel", "exporter"), DOOR)
    assert tomllib.loads(after) == merged(before, DOOR)
    if eol in text:
        assert after.count("\n") == after.count(eol)
    kept = [line for line in text.splitlines() if "otel" not in line and "other:" not in line and "none" not in line]
    assert [line for line in after.splitlines() if line in kept and line] == [line for line in kept if line]
    if "exporter" not in before.get("otel", {}):
        undone = tomllib.loads(TOML.remove(after, ("otel", "exporter")))
        assert undone == {**before, "otel": before.get("otel", {})}


def test_a_new_table_stands_at_the_end() -> None:
    text = "[tools]\nweb = true # yes\n"
    after = TOML.put(TOML.put(text, ("otel", "log_user_prompt"), True), ("otel", "exporter"), DOOR)
    assert after == (
        text
        + "\n[otel]\nlog_user_prompt = true\n"
        + 'exporter = {otlp-http = {endpoint = "http://127.0.0.1:4318/v1/logs", protocol = "binary"}}\n'
    )


def test_nothing_to_remove() -> None:
    for text in FILES:
        assert TOML.remove(text, ("nothing", "here")) == text


@given(st.text(st.sampled_from("[]{}=\"'\n\r #.,atel01"), max_size=30) | st.text(max_size=20))
def test_any_text_gives_settings_or_our_error(text: str) -> None:
    try:
        settings = TOML.parse(text, "config.toml")
    except ConfigError as error:
        assert error.what.startswith("config.toml: not valid TOML: ")
        return
    try:
        after = TOML.put(text, ("otel", "new"), True)
    except ConfigError:
        return  # it stands there in a way that has no place for it
    assert tomllib.loads(after)["otel"]["new"] is True
    assert settings.keys() <= tomllib.loads(after).keys()
