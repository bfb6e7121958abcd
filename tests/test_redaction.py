"""No secret of any kind survives in any field of any record, and what only looks like one does."""

from __future__ import annotations

import gzip
import json
import types
import typing
from base64 import b64decode, b64encode
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tachograph import redaction
from tachograph.errors import ConfigError
from tachograph.model import Batch, Content, Event, Meaning, Point, Report, Source, Span
from tachograph.redaction import MODES, redact, redact_text

RECORDED = Path(__file__).parent / "data" / "redaction" / "recorded_texts.jsonl.gz"
LETTERS = "Ab3dEfGh1jKlMn0pQrStUv9xYz2BcD4eFgH5iJkL6mNoP7qRs"
PEM = "-----BEGIN RSA PRIVATE KEY-----\nMIIEowIBAAKCAQEA7bq1\nq2sX+/Zz9kLm==\n-----END RSA PRIVATE KEY-----"

# kind -> a text with a secret of that kind, and the part that must not survive. Put together here, so that no scanner
# of repositories takes this file for a leak.
SECRETS = {
    "anthropic_key": ("sk-" + "ant-api03-" + LETTERS[:30], LETTERS[:30]),
    "langfuse_key": ("sk-lf-" + "12345678-aaaa-bbbb-cccc-1234567890ab", "12345678-aaaa"),
    "langfuse_public": ("pk-lf-" + "92345678-aaaa-bbbb-cccc-1234567890ab", "92345678-aaaa"),
    "openai_key": ("sk-" + "proj-" + LETTERS[:40], LETTERS[:40]),
    "openai_old": ("sk-" + LETTERS[:24], LETTERS[:24]),
    "google_key": ("AI" + "za" + LETTERS[:35], LETTERS[:35]),
    "google_oauth": ("ya" + "29." + LETTERS[:30], LETTERS[:30]),
    "github_token": ("gh" + "p_" + LETTERS[:36], LETTERS[:36]),
    "github_server": ("gh" + "s_" + LETTERS[:36], LETTERS[:36]),
    "github_fine": ("github" + "_pat_" + LETTERS[:22], LETTERS[:22]),
    "gitlab_token": ("gl" + "pat-" + LETTERS[:20], LETTERS[:20]),
    "slack_token": ("xo" + "xb-123456789012-" + LETTERS[:24], LETTERS[:24]),
    "slack_webhook": ("https://hooks.slack.com/services/" + "T0123ABCD/B0123ABCD/" + LETTERS[:24], LETTERS[:24]),
    "aws_key": ("AK" + "IAIOSFODNN7EXAMPLE", "IOSFODNN7"),
    "aws_session": ("AS" + "IAIOSFODNN7EXAMPLE", "IOSFODNN7"),
    "huggingface_token": ("h" + "f_" + LETTERS[:34], LETTERS[:34]),
    "npm_token": ("np" + "m_" + LETTERS[:36], LETTERS[:36]),
    "pypi_token": ("py" + "pi-AgEIcHlwaS5vcmc" + LETTERS[:30], LETTERS[:30]),
    "stripe_key": ("sk" + "_live_" + LETTERS[:24], LETTERS[:24]),
    "stripe_restricted": ("rk" + "_live_" + LETTERS[:24], LETTERS[:24]),
    "sendgrid_key": ("S" + "G." + LETTERS[:22] + "." + LETTERS[:43], LETTERS[:22]),
    "digitalocean_token": ("do" + "p_v1_" + "0123456789abcdef" * 4, "0123456789abcdef"),
    "posthog_key": ("ph" + "c_" + LETTERS[:43], LETTERS[:43]),
    "posthog_personal": ("ph" + "x_" + LETTERS[:43], LETTERS[:43]),
    "groq_key": ("gs" + "k_" + LETTERS[:40], LETTERS[:40]),
    "langsmith_key": ("lsv2" + "_pt_" + LETTERS[:32] + "_abc", LETTERS[:32]),
    "telegram_token": ("123456789" + ":AA" + LETTERS[:33], LETTERS[:33]),
    "jwt": ("ey" + "JhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0." + LETTERS[:43], LETTERS[:43]),
    "private_key": (PEM, "MIIEowIBAAKCAQEA7bq1"),
    "private_key_in_json": (json.dumps({"key": PEM, "after": 1}), "q2sX+/Zz9kLm"),
    "private_key_in_json_in_json": (json.dumps(json.dumps({"key": PEM})), "q2sX+/Zz9kLm"),
    "bearer": ("Authorization: Bearer " + LETTERS[:20], LETTERS[:20]),
    "bearer_alone": ("-H 'bearer " + LETTERS[:20] + "'", LETTERS[:20]),
    "basic": ("Basic " + "dXNlcjpodW50ZXIy", "dXNlcjpodW50ZXIy"),
    "url": ("postgresql://bob:" + "hunt3r@db.example:5432/x?a=b", "hunt3r"),
    "redis": ("redis://:" + "hunt3r@cache/0", "hunt3r"),
    "assignment": ("password=" + "hunter22 and so on", "hunter22"),
    "env": ("A=1\nDB_PASSWORD=" + "hunt3r!\nB=2", "hunt3r!"),
    "env_key": ("export MY_API_KEY=" + "abc123def456", "abc123def456"),
    "json": ('{"user": "bob", "password": "' + 'correct horse", "n": 1}', "correct horse"),
    "json_escapes": (json.dumps({"password": 'ab"cd\\', "n": "kept"}), "cd"),
    "json_in_json": (json.dumps({"a": json.dumps({"client_secret": 'ab"cd\\zz', "n": "kept"})}), "zz"),
    "json_in_json_in_json": (json.dumps(json.dumps(json.dumps({"clientSecret": "horse9"}))), "horse9"),
    "python": ("{'api_key': '" + "abcdefgh', 'n': 1}", "abcdefgh"),
    "yaml": ("auth_token: " + "abcd1234efgh\nname: x", "abcd1234efgh"),
    "token": ("token: " + LETTERS[:20], LETTERS[:20]),
    "header": ("x-api-key: " + "abc123def456", "abc123def456"),
    "cookie": ("Cookie: theme=dark; sid=" + "s3cr3tvalue", "s3cr3tvalue"),
    "set_cookie": ('"set-cookie": "sid=' + 's3cr3tvalue; Path=/"', "s3cr3tvalue"),
    "azure": ("DefaultEndpointsProtocol=https;AccountKey=" + "abc123/+def456==;", "abc123/+def456"),
    "curl": ("curl -s -u bob:" + "hunt3r https://example.org", "hunt3r"),
    "query": ("https://example.org/?api_key=" + "abc123def456&x=1", "abc123def456"),
    "member": ('{"name": "API_KEY", "value": "' + 'abc def"}', "abc def"),
    "member_in_json": (json.dumps(json.dumps([{"key": "db-password", "value": "ho" + "rse", "n": 1}])), "horse"),
    "argument": ('["serve", "--password", "' + 'correct horse", "-v"]', "correct horse"),
    "argument_in_json": (json.dumps({"command": json.dumps(["--api-key", "hunt" + "er2"])}), "hunter2"),
    "scheme": ("Authorization: token " + LETTERS[:20], LETTERS[:20]),
    "scheme_quoted": ('{"authorization": "ApiKey ' + LETTERS[:20] + '"}', LETTERS[:20]),
    "sas": ("https://a.blob.example/c?sv=2024-01-01&si" + "g=abc%2Fdef123456789%3D&se=2026", "abc%2Fdef123456789"),
    "presigned": ("https://b.s3.example/k?X-Amz-Signa" + "ture=0123456789abcdef0123", "0123456789abcdef0123"),
    "presigned_in_json": ('"https://b/k?a=1\\u0026X-Goog-Signa' + 'ture=0123456789abcdef"', "0123456789abcdef"),
    "oauth_code": ("https://app.example/callback?state=x&co" + "de=4/0AbCdEf123456789&scope=y", "0AbCdEf123456789"),
    "age_key": ("AGE-SECRET" + "-KEY-1" + LETTERS[:30].upper() * 2, LETTERS[:30].upper()),
    "square": ("sq0" + "csp-" + LETTERS[:43], LETTERS[:43]),
    "square_token": ("EA" + "AA" + LETTERS + LETTERS[:14], LETTERS[:30]),
    "twilio": ("S" + "K" + "0123456789abcdef" * 2, "0123456789abcdef"),
    "discord": ("M" + LETTERS[:23] + "." + LETTERS[:6] + "." + LETTERS[:27], LETTERS[:27]),
    "grafana": ("gl" + "sa_" + LETTERS[:32], LETTERS[:32]),
    "atlassian": ("ATA" + "TT3" + LETTERS[:40], LETTERS[:40]),
    "escaped_newline": ('"echo\\n' + "gh" + "p_" + LETTERS[:36] + '"', LETTERS[:36]),
}


@pytest.mark.parametrize("kind", SECRETS)
def test_secret_goes_and_the_rest_stays(kind: str) -> None:
    text, secret = SECRETS[kind]
    before, after = "The quick brown fox said: ", "\nand then it left."
    result = redact_text(before + text + after)
    assert secret not in result
    assert "[redacted:" in result
    assert result.startswith(before) and result.endswith(after)
    assert redact_text(result) == result


def test_kinds_are_named() -> None:
    assert redact_text(SECRETS["github_token"][0]) == "[redacted:github_token]"
    assert redact_text(SECRETS["url"][0]) == "postgresql://bob:[redacted:password]@db.example:5432/x?a=b"
    assert redact_text(SECRETS["env"][0]) == "A=1\nDB_PASSWORD=[redacted:password]\nB=2"
    assert redact_text(SECRETS["cookie"][0]) == "Cookie: [redacted:cookie]"
    assert redact_text(SECRETS["query"][0]) == "https://example.org/?api_key=[redacted:api_key]&x=1"


def test_json_stays_json() -> None:
    for kind in ("private_key_in_json", "private_key_in_json_in_json", "json", "json_escapes", "json_in_json"):
        assert json.loads(redact_text(SECRETS[kind][0]))
    inner = json.loads(json.loads(redact_text(SECRETS["json_in_json"][0]))["a"])
    assert inner == {"client_secret": "[redacted:secret]", "n": "kept"}


KEPT = [
    "11111111-2222-4333-8444-555555555555",
    "4bf92f3577b34da6a3ce929d0e0e4736",
    "e83c5163316f89bfbde7d9ab23ca2e25604af290",
    "msg_01XFDUDYJgAACzvnptvVoYEL",
    "chatcmpl-B9MBs8CjcvOU2jLn4n570S5qMJKcT",
    "resp_67ccd2bed1ec8190b14f964abc0542670bb6a6b452d3795b",
    "req_011CSHoEeqs5C35K2UUqR7Fy",
    "toolu_01A09q90qw90lq917835lq9",
    "call_DdmO9pD3xa9XTPNJ32zg2hcA",
    "gen-1712345678-AbCdEfGhIjKlMnOpQrSt",
    "claude-sonnet-4-5-20250929",
    "us.anthropic.claude-sonnet-4-5-20250929-v1:0",
    "arn:aws:bedrock:us-east-1:123456789012:inference-profile/x",
    "input_tokens: 123456, max_tokens=100000, total_tokens: 1234567890",
    '{"token": " the", "logprob": -0.1}',
    "https://example.org:8080/a/b?page=2",
    "git@github.com:owner/name.git",
    "docker run -u 1000:1000 image",
    "disk-1234567890abcdef1234 and task-20250929-0001-abcdefgh",
    "the password is wrong; no token given; a secret: see below",
    "password = get_password(user)\ntoken = os.environ\nsecret: str",
    "password: ${DB_PASSWORD} api_key: <your key>",
    "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----",
    "-----BEGIN PUBLIC KEY-----",
    "basic understanding of bearer instruments",
    "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    "https://example.org/a?code=US&signature=short&status_code=200",
    '{"name": "temperature", "value": "0.7 degrees"} and {"key": "model", "value": "gpt-4o"}',
    '["--model", "claude-sonnet-4-5", "--token-count", "100000"]',
    "see the authorization section of chapter 12",
    "/home/bob/.pi/agent/sessions/2026-11-21T02-35-42-123Z_abc.jsonl",
]


@pytest.mark.parametrize("text", KEPT)
def test_what_is_no_secret_stays(text: str) -> None:
    assert redact_text(text) == text


# The canary: a secret in every text of every struct, whatever fields it has.


def _example(hint: Any, text: str) -> Any:
    """A value of a field's type with the text everywhere that a text can be."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return _example(next(a for a in arguments if a is not type(None)), text)
    if hint is str:
        return text
    if hint is Any or hint == dict[str, Any] or origin is dict:
        return {"plain": text, "list": [text, {"deep": text}], text: 1, "kept": "word"}
    if origin is list:
        return [_example(arguments[0], text)]
    if isinstance(hint, type) and issubclass(hint, msgspec.Struct):
        hints = typing.get_type_hints(hint)
        return hint(**{name: _example(hints[name], text) for name in hint.__struct_fields__})
    return hint(1)


def _batch(text: str) -> Batch:
    return Batch(
        spans=[_example(Span, text)],
        events=[_example(Event, text)],
        points=[_example(Point, text)],
        reports=[_example(Report, text)],
        reasons=[text],
    )


def _text(value: Any) -> str:
    return json.dumps(msgspec.to_builtins(value), ensure_ascii=False)


@pytest.mark.parametrize("kind", SECRETS)
@pytest.mark.parametrize("mode", ["redacted", "none"])
def test_canary_in_every_field(kind: str, mode: str) -> None:
    text, secret = SECRETS[kind]
    batch = _batch(text)
    assert _text(batch).count(secret) > 100 or "\\" in secret  # it is planted in all these places
    redact(batch, mode)
    assert secret not in _text(batch)


@pytest.mark.parametrize("kind", ["github_token", "json", "private_key"])
def test_full_keeps_contents_and_nothing_else(kind: str) -> None:
    text, secret = SECRETS[kind]
    batch = _batch(text)
    records: list[Span | Event] = [*batch.spans, *batch.events]
    for record in records:
        record.contents = [Content("input", "gen_ai.input.messages", [text])]
    redact(batch, "full")
    for record in records:
        assert record.contents == [Content("input", "gen_ai.input.messages", [text])]
        record.contents = None
    assert secret not in _text(batch)


@given(kind=st.sampled_from(sorted(SECRETS)), before=st.text(), after=st.text(), field=st.integers(0, 9))
@settings(max_examples=300, deadline=None)
def test_canary_anywhere_in_a_text(kind: str, before: str, after: str, field: int) -> None:
    """Whatever stands around it: a blank on both sides is enough for a secret to be seen."""
    text, secret = SECRETS[kind]
    batch = Batch(spans=[_example(Span, "x")])
    span = batch.spans[0]
    name = [n for n in Meaning.__struct_fields__ if isinstance(getattr(span.meaning, n), str)][field]
    planted = f"{before} \n{text}\n {after}"
    setattr(span.meaning, name, planted)
    span.attributes[planted] = [planted]
    redact(batch)
    expected = (before + after).count(secret)
    assert getattr(span.meaning, name).count(secret) <= expected
    assert all(key.count(secret) <= expected for key in span.attributes)


@given(st.text() | st.text(alphabet="password=:\"'\\ {}[]sk-antAKIA0123456789:/@eyJ.\n", max_size=200))
@settings(max_examples=500, deadline=None)
def test_any_text_gives_a_text_and_twice_is_once(text: str) -> None:
    once = redact_text(text)
    assert redact_text(once) == once


@pytest.mark.parametrize(
    "part",
    [
        *(
            "sk-",
            "eyJaaaaaaaa-",
            "hf_",
            "pypi-",
            "basic+",
            "authorization=",
            "password=1",
            "token=",
            "://a:",
            "curl -u ",
        ),
        *("-----BEGIN PRIVATE KEY-----", "\\\\", "password\\\\", 'password="', "cookie:a", "secret:'", "gsk_", "SG.a-"),
    ],
)
def test_hostile_texts_are_read_to_their_end(part: str) -> None:
    """Long repetitions of what each search begins with: a search of quadratic time would not come back from these."""
    text = part * (200_000 // len(part))
    for end in ("(", " eyJhbGciOiJI.e30.x", ""):
        result = redact_text(text + end)
        assert redact_text(result) == result


def test_text_that_is_not_unicode() -> None:
    text, secret = SECRETS["github_token"]
    span = _example(Span, "x")
    span.attributes = {"a": f"\ud800 {text}", "b": 2**70, "c": float("nan")}
    redact(Batch(spans=[span]))
    assert secret not in repr(span.attributes)
    assert span.attributes["b"] == 2**70


@pytest.mark.parametrize(
    ("key", "kind"),
    [
        ("password", "password"),
        ("db.password", "password"),
        ("http.request.header.authorization", "authorization"),
        ("http.request.header.cookie", "cookie"),
        ("http.response.header.set-cookie", "cookie"),
        ("http.request.header.x-api-key", "api_key"),
        ("apiKey", "api_key"),
        ("OPENAI_API_KEY", "api_key"),
        ("clientSecret", "secret"),
        ("access_token", "token"),
        ("accessToken", "token"),
        ("github.token", "token"),
        ("private_key", "private_key"),
        ("db.connection_string", "connection_string"),
        ("credentials", "secret"),
    ],
)
def test_by_name(key: str, kind: str) -> None:
    for value in ("word in clear", ["word in clear"], {"a": "word in clear"}):
        span = _example(Span, "x")
        span.attributes, span.contents = {key: value, "nested": {key: value}}, None
        redact(Batch(spans=[span]))
        assert span.attributes == {key: f"[redacted:{kind}]", "nested": {key: f"[redacted:{kind}]"}}
    span.contents = [Content("", key, ["long words in clear"])]
    redact(Batch(spans=[span]))
    assert span.contents == [Content("", key, [f"[redacted:{kind}]"])]


def test_by_name_keeps_counts_and_truths() -> None:
    kept = {
        "gen_ai.usage.input_tokens": 12345678,
        "gen_ai.token.type": "input",
        "llm.token_count.prompt": 7,
        "max_tokens": 4096,
        "token": 7,
        "next.token": "the",
        "has_password": True,
        "password": None,
        "secret": "",
        "tokens": ["the", "quick"],
        "author": "bob",
        "pass": True,
    }
    span = _example(Span, "x")
    span.attributes = dict(kept)
    redact(Batch(spans=[span]))
    assert span.attributes == kept


def test_a_source_is_redacted_for_all_its_records() -> None:
    source = Source({"service.name": "x", "process.command_args": ["--api-key=" + "abc123def456"]})
    spans = [_example(Span, "x") for _ in range(3)]
    for span in spans:
        span.source = source
    redact(Batch(spans=spans))
    assert source.resource == {"service.name": "x", "process.command_args": ["--api-key=[redacted:api_key]"]}


def test_none_keeps_sizes_only() -> None:
    span = _example(Span, "x")
    span.attributes = {"gen_ai.request.model": "m", "gen_ai.prompt.0.content": "hällo", "gen_ai.usage.input_tokens": 3}
    span.events = [{"name": "gen_ai.content.prompt", "attributes": {"gen_ai.prompt": "hello", "diff": "+ hi", "n": 1}}]
    span.contents = [
        Content("input", "gen_ai.input.messages", ["hä", "llo"], True),
        Content("", "long.attribute", ["kept"]),
        Content("", "input.value", ["an unclaimed prompt"]),
    ]
    redact(Batch(spans=[span]), "none")
    assert span.attributes == {
        "gen_ai.request.model": "m",
        "gen_ai.prompt.0.content.size_bytes": 6,
        "gen_ai.usage.input_tokens": 3,
        "gen_ai.input.messages.size_bytes": 6,
        "input.value.size_bytes": 19,
    }
    assert span.contents == [Content("", "long.attribute", ["kept"])]
    assert span.events[0]["attributes"] == {"gen_ai.prompt.size_bytes": 5, "diff.size_bytes": 4, "n": 1}


def test_none_of_an_event_body() -> None:
    event = _example(Event, "x")
    event.body, event.attributes = {"role": "user", "content": "hello", "deep": [{"text": "hi"}]}, {}
    event.contents = [Content("prompt", "", ["a prompt"])]
    redact(Batch(events=[event]), "none")
    assert event.body == {"role": "user", "content.size_bytes": 5, "deep": [{"text.size_bytes": 2}]}
    assert event.attributes == {"body.size_bytes": 8}
    assert event.contents is None


def test_an_unknown_mode_is_the_operators_mistake() -> None:
    assert MODES == ("redacted", "none", "full")
    with pytest.raises(ConfigError, match="'some'; expected one of redacted, none, full"):
        redact(Batch(), "some")


def test_recordings_come_through_unchanged() -> None:
    """What recorded agents sent holds no secret (their keys were made up and never sent), so none of it may change."""
    with gzip.open(RECORDED, "rt", encoding="utf-8") as file:
        texts = [json.loads(line) for line in file]
    assert len(texts) > 1000
    assert [text for text in texts if redact_text(text) != text] == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("serve --password correct-horse --verbose", "serve --password [redacted:password] --verbose"),
        ("--api-key canary7canary", "--api-key [redacted:api_key]"),
        ("run --token=abcdef123 x", "run --token=[redacted:token] x"),
        ("run --token-count 100000 --password $PASSWORD", "run --token-count 100000 --password $PASSWORD"),
        ("xsk-ant-api03-abcdefgh1234", "x[redacted:anthropic_key]"),
    ],
)
def test_command_lines_and_keys_that_something_is_glued_to(text: str, expected: str) -> None:
    assert redact_text(text) == expected


_WORDS = ("password", "api_key", "ACCESS_TOKEN", "token", "Authorization", "secret", "x", "")
_SIGNS = ("=", ": ", '": "', '\\": \\"', " := ", " => '", "=[")
_VALUES = ("hunter2!hunter2", LETTERS[:24], "call(me)", "a, b; c", "{", "", "\\\\n9", '"', "x\ny")
_FILLED = st.sampled_from(("", " ", "\n", ", ", ";", "word " * 20, "def f(a, b): return {a}; " * 9, "x" * 300))
_NAMED_TEXTS = st.lists(
    st.tuples(st.sampled_from(_WORDS), st.sampled_from(_SIGNS), st.sampled_from(_VALUES), _FILLED).map("".join),
    max_size=8,
).map("".join)


@given(_NAMED_TEXTS)
def test_looking_only_where_a_name_stands_finds_the_same(text: str) -> None:
    whole = text
    for finder in redaction._FINDERS:
        whole = finder.pattern.sub(partial(redaction._replacement, finder.kind), whole)
    assert redact_text(text) == whole


BYTES = {
    "utf8": ("Authorization: Bearer " + LETTERS[:20] + " and ümlaut").encode(),
    "latin": b"\xff\xfe\x00 api_key=" + LETTERS[:20].encode() + b" \x80",
}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", BYTES)
def test_bytes_lose_what_their_text_tells(name: str, mode: str) -> None:
    value = {"$bytes": b64encode(BYTES[name]).decode()}
    attributes: dict[str, Any] = {
        "raw": value,
        "deep": [{"x": value}],
        "kept": {"$bytes": b64encode(b"\xff\x00").decode()},
    }
    span = Span(
        source=Source({"raw": dict(value)}),
        trace_id="t",
        span_id="s",
        parent_id="",
        name="n",
        kind=1,
        start_ns=1,
        end_ns=2,
        attributes=attributes,
    )
    batch = Batch(spans=[span])
    redact(batch, mode)
    for found in (span.attributes["raw"], span.attributes["deep"][0]["x"], span.source.resource["raw"]):
        raw = b64decode(found["$bytes"])
        assert LETTERS[:20].encode() not in raw
        assert b"[redacted:" in raw
    assert span.attributes["kept"] == {"$bytes": b64encode(b"\xff\x00").decode()}


def test_a_map_that_names_its_value() -> None:
    event = Event(
        source=Source({}),
        time_ns=1,
        name="n",
        attributes={"env": [{"name": "DB_PASSWORD", "value": "horse"}, {"name": "EDITOR", "value": "vi"}]},
    )
    redact(Batch(events=[event]))
    assert event.attributes["env"] == [
        {"name": "DB_PASSWORD", "value": "[redacted:password]"},
        {"name": "EDITOR", "value": "vi"},
    ]


def test_arguments_that_came_as_a_list() -> None:
    given = [
        "mysql",
        "--password",
        "correct-horse",
        "-h",
        "db",
        "--token",
        "--verbose",
        "--key-file",
        "/k.pem",
        "--api-key",
    ]
    attributes = {"process.command_args": [*given], "deep": {"args": [["run", "--client-secret", "correct-horse"]]}}
    span = _example(Span, "x")
    span.source, span.attributes = Source({**attributes}), {**attributes}
    redact(Batch(spans=[span]), "full")
    for told in (span.attributes, span.source.resource):
        assert told["process.command_args"] == [*given[:2], "[redacted:password]", *given[3:]]
        assert told["deep"] == {"args": [["run", "--client-secret", "[redacted:secret]"]]}
