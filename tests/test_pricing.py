"""Amounts as the catalogue has them, to the nano-dollar; and none where nothing is known."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import ROUND_HALF_EVEN, Decimal
from pathlib import Path

import genai_prices
import pytest
from genai_prices.data import providers
from genai_prices.types import ModelPrice, TieredPrices
from hypothesis import given, settings
from hypothesis import strategies as st

from tachograph.errors import ConfigError
from tachograph.model import Call, Meaning, Usage
from tachograph.pricing import Prices

NOW = int(datetime(2026, 11, 20, 12, tzinfo=UTC).timestamp()) * 10**9
PRICES = Prices()
BEDROCK_HAIKU = "us.anthropic.claude-haiku-4-5-20251001-v1:0"
SOURCE = f"genai-prices/{genai_prices.__version__}"
ONE_OF_EACH = Usage(input_uncached=1000, cache_read=1000, cache_write=2000, cache_write_1h=1000, output=1000)


def priced(
    provider: str, model: str, usage: Usage | None = ONE_OF_EACH, prices: Prices = PRICES, **more: object
) -> Call:
    start_ns = more.pop("start_ns", NOW)
    status = more.pop("status", "ok")
    assert isinstance(start_ns, int) and isinstance(status, str)
    meaning = Meaning(provider=provider, request_model=model, usage=usage)
    for name, value in more.items():
        setattr(meaning, name, value)
    call = Call("call", start_ns=start_ns, status=status, meaning=meaning)
    prices.price(call)
    return call


def day(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * 10**9


# provider, model, US dollars per million tokens: input, output, cache read, cache write 5 min, cache write 1 h.
# Without a rate of its own a part costs what it is a part of.
SPOT_CHECK = [
    ("anthropic", "claude-opus-4-1", 15, 75, 1.5, 18.75, 30),
    *[("anthropic", f"claude-opus-{v}", 5, 25, 0.5, 6.25, 10) for v in ("4-5", "4-6", "4-7", "4-8", "5")],
    ("anthropic", "claude-sonnet-4", 3, 15, 0.3, 3.75, 6),
    ("anthropic", "claude-sonnet-4-5", 3, 15, 0.3, 3.75, 6),
    ("anthropic", "claude-sonnet-4-6", 3, 15, 0.3, 3.75, 6),
    ("anthropic", "claude-sonnet-5", 2, 10, 0.2, 2.5, 4),
    ("anthropic", "claude-haiku-4-5", 1, 5, 0.1, 1.25, 2),
    *[
        ("openai", m, 1.25, 10, 0.125, 1.25, 1.25)
        for m in ("gpt-5", "gpt-5-codex", "gpt-5.1-codex", "gpt-5.1-codex-max")
    ],
    *[("openai", m, 1.75, 14, 0.175, 1.75, 1.75) for m in ("gpt-5.2-codex", "gpt-5.3-codex")],
    ("openai", "gpt-5.4", 2.5, 15, 0.25, 2.5, 2.5),
    ("openai", "gpt-5.5", 5, 30, 0.5, 5, 5),
    ("openai", "gpt-5.6", 4, 20, 0.4, 5, 5),
    ("openai", "codex-mini-latest", 1.5, 6, 0.375, 1.5, 1.5),
    ("gcp.gemini", "gemini-2.5-pro", 1.25, 10, 0.125, 1.25, 1.25),
    ("gcp.gemini", "gemini-3.1-pro-preview", 2, 12, 0.2, 2, 2),
    ("gcp.gemini", "gemini-3-pro-preview", 2, 12, 0.2, 2, 2),
    ("x_ai", "grok-4", 3, 15, 0.75, 3, 3),
    ("x_ai", "grok-code-fast-1", 0.2, 1.5, 0.02, 0.2, 0.2),
    ("mistral_ai", "mistral-large-latest", 2, 6, 2, 2, 2),
]


@pytest.mark.parametrize(("provider", "model", "input_", "output", "read", "write", "write_1h"), SPOT_CHECK)
def test_spot_check(
    provider: str, model: str, input_: float, output: float, read: float, write: float, write_1h: float
) -> None:
    call = priced(provider, model)
    assert call.cost_nanousd == round((input_ + output + read + write + write_1h) * 1000 * 1000)
    assert (call.cost_kind, call.price_source, call.price_note) == ("computed", SOURCE, "")


def test_price_depends_on_the_time_of_day() -> None:
    usage = Usage(input_uncached=1000, output=1000)
    assert priced("deepseek", "deepseek-chat", usage, start_ns=day("2026-11-20T00:29:59")).cost_nanousd == 685_000
    assert priced("deepseek", "deepseek-chat", usage, start_ns=day("2026-11-20T00:30:00")).cost_nanousd == 1_370_000


@pytest.mark.parametrize(
    ("provider", "model", "when", "total", "expected"),
    [
        ("gcp.gemini", "gemini-2.5-pro", "2026-11-20", 200_000, 200_000 * 1250 + 10_000 * 100),
        ("gcp.gemini", "gemini-2.5-pro", "2026-11-20", 200_001, 200_001 * 2500 + 15_000 * 100),
        ("openai", "gpt-5.5", "2026-11-20", 272_000, 272_000 * 5000 + 30_000 * 100),
        ("openai", "gpt-5.5", "2026-11-20", 272_001, 272_001 * 10_000 + 45_000 * 100),
        ("anthropic", "claude-sonnet-4-5", "2025-10-01", 200_000, 200_000 * 3000 + 15_000 * 100),
        ("anthropic", "claude-sonnet-4-5", "2025-10-01", 200_001, 200_001 * 6000 + 22_500 * 100),
        ("anthropic", "claude-opus-4-6", "2026-03-12", 200_001, 200_001 * 10_000 + 37_500 * 100),
        ("anthropic", "claude-opus-4-6", "2026-03-13", 200_001, 200_001 * 5000 + 25_000 * 100),
        ("openai", "o3", "2025-06-09", 1000, 1000 * 10_000 + 40_000 * 100),
        ("openai", "o3", "2025-06-10", 1000, 1000 * 2000 + 8_000 * 100),
    ],
)
def test_tiers_and_history(provider: str, model: str, when: str, total: int, expected: int) -> None:
    """Above the threshold all tokens cost more, output included; a rate of the past holds for calls of the past."""
    usage = Usage(input_uncached=total, output=100)
    assert priced(provider, model, usage, start_ns=day(when)).cost_nanousd == expected


def test_the_tier_counts_cached_input_too() -> None:
    usage = Usage(input_uncached=1, cache_read=199_999, output=0)
    base = priced("gcp.gemini", "gemini-2.5-pro", usage)
    usage = Usage(input_uncached=2, cache_read=199_999, output=0)
    above = priced("gcp.gemini", "gemini-2.5-pro", usage)
    assert (base.cost_nanousd, above.cost_nanousd) == (1250 + 199_999 * 125, 2 * 2500 + 199_999 * 250)


def test_cache_writes_of_unknown_life_cost_the_five_minute_rate() -> None:
    usage = Usage(input_uncached=0, cache_write=1000, output=0)
    assert priced("anthropic", "claude-sonnet-4-5", usage).cost_nanousd == 3_750_000
    usage = Usage(input_uncached=0, cache_write=1000, cache_write_1h=1000, output=0)
    assert priced("anthropic", "claude-sonnet-4-5", usage).cost_nanousd == 6_000_000


def test_service_tiers() -> None:
    usage = Usage(input_uncached=1000, output=1000)
    standard = priced("anthropic", "claude-opus-4-8", usage).cost_nanousd
    assert standard == 30_000_000
    assert priced("anthropic", "claude-opus-4-8", usage, service_tier="batch").cost_nanousd == standard // 2
    assert priced("anthropic", "claude-opus-4-8", usage, service_tier="fast").cost_nanousd == standard * 2
    assert priced("anthropic", "claude-opus-4-8-fast", usage).cost_nanousd == standard * 2
    assert priced("anthropic", "claude-opus-4-8", usage, service_tier="standard").cost_nanousd == standard
    assert priced("openai", "gpt-5.4", usage, service_tier="priority").cost_nanousd == 35_000_000
    assert priced("openai", "gpt-5.4", usage, service_tier="default").price_note == ""


def test_a_tier_without_a_rate_is_said() -> None:
    for tier, when in (("turbo", NOW), ("priority", NOW), ("batch", day("2025-10-01"))):
        call = priced("anthropic", "claude-opus-4-1", service_tier=tier, start_ns=when)
        assert call.cost_nanousd == priced("anthropic", "claude-opus-4-1").cost_nanousd
        assert call.price_note == f"no rate for service tier {tier}: standard rate"


@pytest.mark.parametrize(
    ("provider", "model", "like"),
    [
        ("x_ai", "grok-4", ("xai", "grok-4")),
        ("gcp.gen_ai", "gemini-2.5-pro", ("google", "gemini-2.5-pro")),
        ("gcp.vertex_ai", "claude-sonnet-4-5@20250929", ("anthropic", "claude-sonnet-4-5")),
        ("gcp.vertex_ai", "publishers/google/models/gemini-2.5-pro", ("google", "gemini-2.5-pro")),
        ("azure.ai.inference", "gpt-4o", ("azure", "gpt-4o")),
        ("az.ai.openai", "gpt-4o", ("azure", "gpt-4o")),
        ("Azure", "gpt-4o", ("azure", "gpt-4o")),
        ("OpenAI", "gpt-5.1", ("openai", "gpt-5.1")),
        ("anthropic.messages", "claude-haiku-4-5", ("anthropic", "claude-haiku-4-5")),
        ("openai.responses", "gpt-5.1", ("openai", "gpt-5.1")),
        ("mistral_ai", "codestral-latest", ("mistral", "codestral-latest")),
        ("moonshot_ai", "kimi-k2", ("moonshotai", "kimi-k2")),
        ("anthropic", "claude-sonnet-4-5-20250929[1m]", ("anthropic", "claude-sonnet-4-5")),
        ("anthropic", "claude-sonnet-4-5-1m", ("anthropic", "claude-sonnet-4-5")),
        ("anthropic", "anthropic/claude-sonnet-4-5", ("anthropic", "claude-sonnet-4-5")),
        ("", "claude-sonnet-4-5", ("anthropic", "claude-sonnet-4-5")),
        ("", "gpt-5.1", ("openai", "gpt-5.1")),
        ("", "gemini-2.5-pro", ("google", "gemini-2.5-pro")),
        ("", "models/gemini-2.5-pro", ("google", "gemini-2.5-pro")),
        ("", "grok-4", ("xai", "grok-4")),
        ("", "deepseek-chat", ("deepseek", "deepseek-chat")),
        ("", "kimi-k2", ("moonshotai", "kimi-k2")),
        ("", "sonar-pro", ("perplexity", "sonar-pro")),
        ("", "anthropic/claude-sonnet-4.5", ("openrouter", "anthropic/claude-sonnet-4.5")),
        ("", BEDROCK_HAIKU, ("aws", BEDROCK_HAIKU)),
        ("aws.bedrock", "jp.anthropic.claude-haiku-4-5-20251001-v1:0", ("aws", BEDROCK_HAIKU)),
    ],
)  # fmt: skip
def test_names(provider: str, model: str, like: tuple[str, str]) -> None:
    call = priced(provider, model)
    assert call.cost_nanousd is not None
    assert call.cost_nanousd == priced(*like).cost_nanousd
    assert call.price_note == ""


def test_bedrocks_regions_cost_a_tenth_more() -> None:
    plain = priced("anthropic", "claude-haiku-4-5").cost_nanousd
    regional = priced("aws.bedrock", BEDROCK_HAIKU).cost_nanousd
    assert plain is not None and regional == plain * 11 // 10


@pytest.mark.parametrize(
    ("provider", "model", "host"),
    [
        ("github", "claude-sonnet-4.5", "anthropic"),
        ("openai", "claude-sonnet-4.5", "anthropic"),
        ("github", "gpt-5.1", "openai"),
    ],
)
def test_priced_as_the_maker_and_said(provider: str, model: str, host: str) -> None:
    call = priced(provider, model)
    assert call.cost_nanousd == priced(host, model).cost_nanousd
    assert call.price_note == f"priced as {host}, {provider} has no rate for {model}"


@pytest.mark.parametrize(
    ("provider", "model", "note"),
    [
        ("openai", "gpt-5.4-codex", "no price known for model gpt-5.4-codex of openai"),
        ("acme", "qwen3-coder", "no price known for provider acme, model qwen3-coder"),
        ("acme", "gpt-oss-120b", "no price known for provider acme, model gpt-oss-120b"),
        ("", "my-model", "no price known for model my-model, and no provider named"),
        ("ollama", "llama3", "ollama runs models locally, which have no list price: model llama3"),
        ("openai", "", "the call names no model"),
        ("openai", "whisper-1", "the catalogue prices this model by other units than tokens"),
    ],
)
def test_nothing_is_invented(provider: str, model: str, note: str) -> None:
    call = priced(provider, model)
    assert (call.cost_nanousd, call.cost_kind, call.price_source, call.price_note) == (None, "", "", note)


def test_unknown_tokens_are_unknown() -> None:
    for usage in (None, Usage(), Usage(output=5), Usage(cache_read=5, output=5)):
        call = priced("openai", "gpt-5.1", usage)
        assert (call.cost_nanousd, call.cost_kind, call.price_note) == (None, "", "tokens unknown")
    for status in ("failed", "aborted"):
        call = priced("openai", "gpt-5.1", None, status=status)
        assert (call.cost_nanousd, call.cost_kind, call.price_note) == (None, "", "no usage")
    call = priced("openai", "gpt-5.1", Usage(input_uncached=1000))
    assert (call.cost_nanousd, call.price_note) == (1_250_000, "output tokens unknown: input only")
    assert priced("openai", "gpt-5.1", Usage(input_uncached=0, output=0)).cost_nanousd == 0


def test_embeddings_need_no_output() -> None:
    call = priced("openai", "text-embedding-3-small", Usage(input_uncached=1000), operation="embeddings")
    assert (call.cost_nanousd, call.price_note) == (20_000, "")


def test_tokens_that_break_the_rule_are_repaired_and_said() -> None:
    usage = Usage(input_uncached=100 - 900, cache_read=900, output=10)  # 100 was counted beside the cache
    call = priced("anthropic", "claude-sonnet-4-5", usage)
    assert call.cost_nanousd == 100 * 3000 + 900 * 300 + 10 * 15_000
    assert call.price_note == "usage_repaired"
    call = priced("openai", "gpt-5.1", Usage(input_uncached=0, output=10, reasoning=30))
    assert (call.cost_nanousd, call.price_note) == (40 * 10_000, "usage_repaired")
    call = priced("openai", "gpt-5.1", Usage(input_uncached=10, output=-1))
    assert (call.cost_nanousd, call.price_note) == (None, "tokens below zero")


def test_what_counts_first() -> None:
    billed = priced("openai", "gpt-5.1", cost_nanousd=7, cost_kind="billed")
    assert (billed.cost_nanousd, billed.cost_kind, billed.price_source) == (7, "billed", "source")
    free = priced("openai", "gpt-5.1", cost_nanousd=0, cost_kind="billed")
    assert (free.cost_nanousd, free.cost_kind) == (0, "billed")
    estimate = priced("openai", "gpt-5.1", cost_nanousd=7, cost_kind="source_estimate", is_notional=True)
    assert (estimate.cost_nanousd, estimate.cost_kind, estimate.price_source) == (7, "source_estimate", "source")
    assert estimate.is_notional
    zero = priced("openai", "gpt-5.1", cost_nanousd=0, cost_kind="source_estimate")
    assert (zero.cost_kind, zero.price_source, zero.is_notional) == ("computed", SOURCE, False)
    assert zero.cost_nanousd
    unknown = priced("acme", "x", cost_nanousd=0, cost_kind="source_estimate")
    assert (unknown.cost_nanousd, unknown.cost_kind) == (None, "")
    assert unknown.meaning.cost_nanousd == 0


def test_the_served_model_counts() -> None:
    call = priced("openai", "gpt-5.1", response_model="gpt-4o-mini-2024-07-18")
    assert call.cost_nanousd == priced("openai", "gpt-4o-mini").cost_nanousd
    call = priced("openai", "gpt-5.1", response_model="my-deployment")
    assert call.cost_nanousd == priced("openai", "gpt-5.1").cost_nanousd


@pytest.mark.parametrize(
    "model",
    [
        "claude-3-5-haiku-20241022",
        "claude-haiku-4-5",
        "claude-sonnet-4-5",
        "claude-sonnet-4-5-20250929",
        "gemini-2.5-pro",
        "gpt-4o",
        "gpt-4o-mini",
        "gpt-5.1",
        "gpt-5.1-codex",
        "gpt-5.4",
        "gpt-5.5",
    ],
)
def test_every_recorded_model_has_a_price(model: str) -> None:
    assert priced("", model).cost_nanousd


def test_start_and_end_of_time() -> None:
    for start_ns in (0, -5, 1, 2**62):
        assert priced("openai", "gpt-4o", start_ns=start_ns).cost_nanousd
        assert priced("deepseek", "deepseek-chat", start_ns=start_ns).cost_nanousd


# The same amounts as the library's own calculator

# Providers whose ids are ways to name them; models under an id that finds them again.
MODELS = [
    (provider.id, model.id)
    for provider in providers
    if provider.id
    in ("anthropic", "openai", "google", "x-ai", "mistral", "deepseek", "aws", "openrouter", "perplexity")
    for model in provider.models
    if provider.find_model(model.id) is model and not model.id.endswith("-fast")
]
TOKENS = st.sampled_from([0, 1, 3, 99_999, 100_001, 199_999, 200_000, 200_001, 272_001]) | st.integers(0, 10**7)
TIERS = {
    "": {},
    "batch": {"processing": "batch"},
    "flex": {"service_tier": "flex"},
    "fast": {"service_tier": "fast", "speed": "fast"},
}


def is_simple(price: ModelPrice) -> bool:
    names = {name for name, value in price.__dict__.items() if value is not None}
    return {"input_mtok", "output_mtok"} <= names


@given(
    model=st.sampled_from(MODELS),
    parts=st.tuples(TOKENS, TOKENS, TOKENS, TOKENS, TOKENS, TOKENS),
    second=st.integers(day("2024-01-01") // 10**9, day("2027-01-01") // 10**9),
    tier=st.sampled_from(sorted(TIERS)),
)
@settings(max_examples=400, deadline=None)
def test_equal_to_the_library(
    model: tuple[str, str], parts: tuple[int, int, int, int, int, int], second: int, tier: str
) -> None:
    uncached, read, write_5m, write_1h, answer, reasoning = parts
    usage = Usage(uncached, read, write_5m + write_1h, write_1h, answer + reasoning, reasoning)
    call = priced(*model, usage, start_ns=second * 10**9, service_tier=tier)
    expected = genai_prices.calc_price(
        genai_prices.Usage(
            input_tokens=uncached + read + write_5m + write_1h,
            cache_read_tokens=read,
            cache_write_tokens=write_5m + write_1h,
            cache_write_1h_tokens=write_1h,
            output_tokens=answer + reasoning,
            output_reasoning_tokens=reasoning,
        ),
        model[1],
        provider_id=model[0],
        genai_request_timestamp=datetime.fromtimestamp(second, UTC),
        price_context=TIERS[tier],
    )
    if not is_simple(expected.model_price):
        return
    amount = (expected.total_price * 10**9).quantize(Decimal(1), ROUND_HALF_EVEN)
    assert call.cost_nanousd == int(amount)


def test_no_rate_is_finer_than_what_is_kept() -> None:
    for provider in providers:
        for model in provider.models:
            listed = [model.prices] if isinstance(model.prices, ModelPrice) else [c.prices for c in model.prices]
            for price in (*listed, *(v.prices for v in model.price_variants or ())):
                for value in price.__dict__.values():
                    tiers = (
                        [value.base, *(t.price for t in value.tiers)] if isinstance(value, TieredPrices) else [value]
                    )
                    assert all(rate is None or rate * 10**18 % 1 == 0 for rate in tiers)


# The overrides file


def overrides(tmp_path: Path, text: str) -> Prices:
    path = tmp_path / "prices.toml"
    path.write_text(text, encoding="utf-8")
    return Prices(path)


def test_overrides(tmp_path: Path) -> None:
    prices = overrides(
        tmp_path,
        """
        [[model]]
        name = "llama3*"
        provider = "ollama"
        input = 0.1
        output = 0.2

        [[model]]
        name = "gpt-5.1"
        input = 1
        output = 2
        cache_read = 0.5

        [[model]]
        name = "GPT-5.1"
        from = 2026-11-20
        input = 10
        output = 20
        cache_write = 30
        cache_write_1h = 40
        """,
    )
    local = priced("ollama", "llama3:8b", prices=prices)
    assert (local.cost_nanousd, local.cost_kind, local.price_source) == (4 * 100_000 + 200_000, "computed", "override")
    assert priced("vllm", "llama3:8b", prices=prices).cost_nanousd is None
    old = priced("openai", "gpt-5.1", prices=prices, start_ns=day("2026-11-19T23:59:59"))
    assert old.cost_nanousd == 3 * 1_000_000 + 2_000_000 + 500_000
    new = priced("openai", "gpt-5.1", prices=prices, start_ns=day("2026-11-20"))
    assert new.cost_nanousd == (10 + 10 + 30 + 40 + 20) * 1_000_000
    told = priced("openai", "gpt-5.1", prices=prices, cost_nanousd=7, cost_kind="source_estimate")
    assert (told.cost_kind, told.price_source) == ("computed", "override")
    billed = priced("openai", "gpt-5.1", prices=prices, cost_nanousd=7, cost_kind="billed")
    assert (billed.cost_nanousd, billed.price_source) == (7, "source")
    assert priced("openai", "gpt-5", prices=prices).price_source == SOURCE


def test_discounts(tmp_path: Path) -> None:
    prices = overrides(
        tmp_path,
        """
        [[discount]]
        tenant = "acme"
        factor = 0.85

        [[discount]]
        project = "rocket"
        factor = 0
        """,
    )
    plain = priced("openai", "gpt-5.1", prices=prices).cost_nanousd
    assert plain is not None
    call = priced("openai", "gpt-5.1", prices=prices, tenant="acme")
    assert (call.cost_nanousd, call.price_note) == (plain * 85 // 100, "discount 0.85 for tenant acme")
    assert priced("openai", "gpt-5.1", prices=prices, tenant="acme", project="rocket").cost_nanousd == 0
    told = priced("openai", "gpt-5.1", prices=prices, tenant="acme", cost_nanousd=10, cost_kind="source_estimate")
    assert told.cost_nanousd == 8  # half to even
    billed = priced("openai", "gpt-5.1", prices=prices, tenant="acme", cost_nanousd=10, cost_kind="billed")
    assert billed.cost_nanousd == 10
    assert priced("acme", "x", prices=prices, tenant="acme").cost_nanousd is None


@pytest.mark.parametrize(
    ("text", "where", "what"),
    [
        ("[[model]]\nname = 'x'\ninput = 'a'\noutput = 1", 3, "model.input: got 'a'; expected a number"),
        ("[[model]]\nname = 'x'\ninput = 1\noutput = -1", 4, "model.output: got -1; expected a number"),
        ("[[model]]\nname='x'\ninput=nan\noutput=1", 3, "expected a number"),
        ("[[model]]\nname='x'\ninput=1\noutput=1\n[[model]]\ninput=1\noutput=1", 5, "model.name: missing"),
        ("\n[[model]]\nname = 'x'\ninput = 1", 3, "expected at least input and output"),
        ("[[model]]\nname='x'\ninput=1\noutput=1\nfrom='soon'", 5, "model.from: got 'soon'; expected a date"),
        ("[[model]]\nname='x'\ninput=1\noutput=1\ncache=1", 5, "model.cache: not known; expected one of name,"),
        ("[[discount]]\nfactor=1", 1, "expected either tenant or project"),
        ("[[discount]]\ntenant='a'", 1, "discount.factor: missing"),
        ("[[discount]]\ntenant='a'\nfactor='b'", 3, "discount.factor: got 'b'"),
        ("[models]\nx=1", 1, "models: expected [[model]] or [[discount]]"),
        ("[model]\nname='x'", 1, "expected tables headed [[model]]"),
    ],
)
def test_mistakes_in_overrides_name_the_line(tmp_path: Path, text: str, where: int, what: str) -> None:
    with pytest.raises(ConfigError) as error:
        overrides(tmp_path, text)
    assert f"prices.toml:{where}: " in error.value.what
    assert what in error.value.what


def test_overrides_that_are_no_toml(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="at line 2"):
        overrides(tmp_path, "[[model]]\nname = !\n")
    with pytest.raises(ConfigError, match="cannot be read"):
        Prices(tmp_path)


def test_no_file_no_overrides(tmp_path: Path) -> None:
    assert priced("openai", "gpt-5.1", prices=Prices(tmp_path / "none.toml")).price_source == SOURCE


@given(provider=st.text(max_size=30), model=st.text(max_size=60), tier=st.text(max_size=10))
@settings(max_examples=150, deadline=None)
def test_any_names_give_an_amount_or_a_note(provider: str, model: str, tier: str) -> None:
    call = priced(provider, model, service_tier=tier)
    assert (call.cost_nanousd is None) == (call.cost_kind == "")
    assert call.cost_nanousd is not None or call.price_note


@given(text=st.text() | st.text(alphabet="[]model = \"1\n'x.*", max_size=60))
@settings(max_examples=200, deadline=None)
def test_any_overrides_are_read_or_refused(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    path = tmp_path_factory.mktemp("fuzz") / "prices.toml"
    path.write_bytes(text.encode())
    try:
        Prices(path)
    except ConfigError as error:
        assert str(path) in error.what


def test_an_endpoint_of_any_name_passes_on_what_only_the_maker_sells() -> None:
    call = priced("acme", "gpt-4o")
    assert call.cost_nanousd == priced("openai", "gpt-4o").cost_nanousd
    assert call.price_note == "priced as openai, acme has no rate for gpt-4o"
    assert (
        priced("groq", "gpt-4o").cost_nanousd is None
    )  # a provider that the catalogue knows, and that has no such model
