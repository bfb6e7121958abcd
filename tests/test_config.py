"""Settings: where they come from, which one wins, and what a wrong one is told."""

import dataclasses
from pathlib import Path

import pytest

from tachograph import config
from tachograph.config import MIB, SETTINGS, Address, Settings, load
from tachograph.errors import ConfigError


def loaded(home: Path, text: str = "", environ: dict[str, str] | None = None, **flags: object) -> Settings:
    if text:
        (home / "tachograph.toml").write_text(text, encoding="utf-8")
    return load(flags, {"TACHOGRAPH_HOME": str(home)} | (environ or {}))


def refused(home: Path, text: str = "", environ: dict[str, str] | None = None, **flags: object) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        loaded(home, text, environ, **flags)
    assert caught.value.hint
    return caught.value


def test_works_with_nothing_set(tmp_path: Path) -> None:
    settings = loaded(tmp_path)
    assert settings == Settings(home=tmp_path)
    assert settings.otlp_http == Address("127.0.0.1", 4318)
    assert load({}, {}).home == config.default_home()


def test_flags_beat_environment_beats_file_beats_default(tmp_path: Path) -> None:
    text = 'content = "full"\nretention_days = 7\notlp_http = 4000\nweb = "off"\n'
    environ = {"TACHOGRAPH_RETENTION_DAYS": "8", "TACHOGRAPH_OTLP_HTTP": "4001", "TACHOGRAPH_CONTENT": " "}
    settings = loaded(tmp_path, text, environ, otlp_http="0.0.0.0:4002", content=None)
    assert settings.otlp_http == Address("0.0.0.0", 4002)
    assert settings.retention_days == 8
    assert settings.content == "full", "an empty variable and a flag that was not given are not set"
    assert settings.web is None
    assert settings.otlp_grpc == Address("127.0.0.1", 4317)


def test_home_flag_beats_environment(tmp_path: Path) -> None:
    assert load({"home": str(tmp_path)}, {"TACHOGRAPH_HOME": "/nowhere"}).home == tmp_path


@pytest.mark.parametrize(
    ("given", "address"),
    [
        ("4318", Address("127.0.0.1", 4318)),
        (":1", Address("127.0.0.1", 1)),
        ("localhost:0", Address("localhost", 0)),
        ("[::1]:65535", Address("::1", 65535)),
        ("example.org:80", Address("example.org", 80)),
        ("OFF", None),
    ],
)
def test_addresses(tmp_path: Path, given: str, address: Address | None) -> None:
    assert loaded(tmp_path, otlp_http=given).otlp_http == address


@pytest.mark.parametrize("given", ["", "x", "1.2.3.4", "host:65536", "::1", "http://localhost:4318", "a b:1", "a/b:1"])
def test_wrong_addresses(tmp_path: Path, given: str) -> None:
    error = refused(tmp_path, otlp_http=given)
    assert error.what.startswith("command line: --otlp-http: got ")
    assert "host:port" in error.what


@pytest.mark.parametrize(
    ("host", "is_loopback"),
    [
        ("127.0.0.1", True),
        ("127.8.9.1", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("::", False),
        ("10.0.0.1", False),
        ("localhost.example.org", False),
    ],
)
def test_loopback(host: str, is_loopback: bool) -> None:
    assert Address(host, 1).is_loopback is is_loopback


def test_address_reads_like_a_url_part() -> None:
    assert str(Address("::1", 80)) == "[::1]:80"
    assert str(Address("127.0.0.1", 80)) == "127.0.0.1:80"


@pytest.mark.parametrize(
    ("given", "size_bytes"),
    [
        ("64 MiB", 64 * MIB),
        ("200MB", 200_000_000),
        ("1.5g", 1536 * MIB),
        ("70000000", 70_000_000),
        (70 * MIB, 70 * MIB),
    ],
)
def test_sizes(tmp_path: Path, given: object, size_bytes: int) -> None:
    assert loaded(tmp_path, queue_bytes_max=given, body_bytes_max=1).queue_bytes_max == size_bytes


@pytest.mark.parametrize("given", ["", "0", "-1", "1 furlong", "1e3", 0, True, 1.5, [1]])
def test_wrong_sizes(tmp_path: Path, given: object) -> None:
    assert "64 MiB" in refused(tmp_path, body_bytes_max=given).what


@pytest.mark.parametrize(("given", "days"), [("1", 1), (400, 400), ("off", None)])
def test_days(tmp_path: Path, given: object, days: int | None) -> None:
    assert loaded(tmp_path, retention_days=given).retention_days == days


@pytest.mark.parametrize("given", ["0", "-3", "forever", 0, False, 2.5])
def test_wrong_days(tmp_path: Path, given: object) -> None:
    assert "days" in refused(tmp_path, retention_days=given).what


def test_an_error_names_the_line_of_the_file(tmp_path: Path) -> None:
    error = refused(tmp_path, '# mine\n\n"content" = "some"\n')
    assert error.what == 'tachograph.toml:3: content: got "some"; expected none, redacted or full'
    assert error.hint == 'content = "redacted"'


def test_an_error_names_the_variable(tmp_path: Path) -> None:
    error = refused(tmp_path, environ={"TACHOGRAPH_CONTENT": "some"})
    assert error.what == 'environment: TACHOGRAPH_CONTENT: got "some"; expected none, redacted or full'


def test_an_unknown_setting_names_near_ones(tmp_path: Path) -> None:
    error = refused(tmp_path, "retention_day = 3\n")
    assert error.what.startswith(
        "tachograph.toml:1: retention_day: got an unknown setting; expected one of retention_days"
    )
    assert "retention_days" in error.hint
    assert refused(tmp_path, "a = 1\n[forwarder.x]\n").what.startswith("tachograph.toml:1: a: got an unknown")
    assert refused(tmp_path, "[forwarder.x]\nkind = 'otlp'\n").hint == "rename it to forwarders"
    assert "web_token" in refused(tmp_path, "[zzz]\na = 1\n").what


def test_home_cannot_stand_in_the_file_that_lies_in_it(tmp_path: Path) -> None:
    assert "TACHOGRAPH_HOME" in refused(tmp_path, 'home = "elsewhere"\n').hint


@pytest.mark.parametrize("text", ["content", "content = redacted", '\x00 = "a"', "a = 1\na = 2"])
def test_a_broken_file_is_the_operators(tmp_path: Path, text: str) -> None:
    line = len(text.splitlines())
    assert f"tachograph.toml:{line}: not valid TOML" in refused(tmp_path, text).what


def test_a_file_that_is_not_text(tmp_path: Path) -> None:
    (tmp_path / "tachograph.toml").write_bytes(b"\xff\xfe")
    assert "cannot be read" in refused(tmp_path).what


@pytest.mark.parametrize("token", ["short", "with a space in the middle", "ümläut-ümläut-ümläut"])
def test_a_wrong_token_is_not_repeated(tmp_path: Path, token: str) -> None:
    error = refused(tmp_path, ingest_token=token)
    assert token not in str(error)
    assert token not in error.hint


def test_tokens_do_not_show(tmp_path: Path) -> None:
    token = "a-token-that-is-long-enough"
    settings = loaded(tmp_path, ingest_token=token, web_token=token)
    assert settings.ingest_token == settings.web_token == token
    assert token not in repr(settings)


def test_the_queue_holds_at_least_one_body(tmp_path: Path) -> None:
    assert "body_bytes_max" in refused(tmp_path, queue_bytes_max="1 MiB").what


def test_the_table_describes_every_setting() -> None:
    fields = [field.name for field in dataclasses.fields(Settings)]
    assert [*(setting.name for setting in SETTINGS), config.FORWARDERS] == fields
    defaults = Settings(home=config.default_home())
    for setting in SETTINGS:
        if setting.default[0].isdigit() or setting.default in ("redacted", "off"):
            assert setting.parse(setting.default) == getattr(defaults, setting.name), setting.name
        assert setting.what.endswith(".")
    assert SETTINGS[1].env == "TACHOGRAPH_OTLP_HTTP"
    assert SETTINGS[1].flag == "--otlp-http"
