"""Makes the load that the figures are measured with: OTLP requests as agents' SDKs send them.

About 18 attributes a span; 15 % of the spans carry 2 to 8 kB of content (the messages of a model call); traces of 20
spans: an agent, its turns, model calls, tool runs and the HTTP and database spans below them.
"""

from __future__ import annotations

import argparse
import json
import random
import uuid
from collections.abc import Iterator
from pathlib import Path

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span

WORDS = Path(__file__).read_text(encoding="utf-8").split()
MODELS = ("claude-sonnet-4-5", "claude-opus-4-5", "gpt-5.1", "gpt-5-mini", "gemini-2.5-pro")
TOOLS = ("Bash", "Read", "Edit", "Grep", "WebFetch")
SPANS_PER_TRACE = 20


def words(rng: random.Random, size: int) -> str:
    """About `size` characters of text that compresses as prose does, and is never the same twice."""
    made = [f"{rng.getrandbits(40):x}"]
    length = 0
    while length < size:
        word = rng.choice(WORDS)
        made.append(word)
        length += len(word) + 1
    return " ".join(made)


def _put(span: Span, **attributes: object) -> None:
    for key, value in attributes.items():
        item: KeyValue = span.attributes.add()
        item.key = key.replace("__", ".")
        if isinstance(value, bool):
            item.value.bool_value = value
        elif isinstance(value, int):
            item.value.int_value = value
        elif isinstance(value, float):
            item.value.double_value = value
        else:
            item.value.string_value = str(value)


def _filler(span: Span, rng: random.Random, session: str, count: int) -> None:
    _put(span, session__id=session, user__id=f"user-{rng.randrange(40)}", terminal__type="xterm-256color")
    for number in range(count):
        _put(span, **{f"app__detail__{number}": rng.choice(WORDS) if number % 3 else rng.randrange(10_000)})


def _call(span: Span, rng: random.Random, session: str, with_content: bool) -> None:
    model = rng.choice(MODELS)
    cached = rng.randrange(0, 40_000)
    span.name, span.kind = f"chat {model}", Span.SPAN_KIND_CLIENT
    _put(
        span,
        gen_ai__operation__name="chat",
        gen_ai__provider__name="anthropic" if model.startswith("claude") else "openai",
        gen_ai__request__model=model,
        gen_ai__response__model=model,
        gen_ai__response__id=f"chatcmpl-{uuid.UUID(int=rng.getrandbits(128)).hex}",
        gen_ai__usage__input_tokens=cached + rng.randrange(50, 5000),
        gen_ai__usage__output_tokens=rng.randrange(5, 2000),
        gen_ai__usage__cache_read__input_tokens=cached,
        gen_ai__request__temperature=0.7,
        gen_ai__request__max_tokens=8192,
        gen_ai__response__time_to_first_chunk=rng.random(),
        server__address="api.example.com",
    )
    if with_content:
        size = rng.randrange(2000, 8000)
        messages = [
            {"role": "user", "parts": [{"type": "text", "content": words(rng, size // 2)}]},
            {"role": "tool", "parts": [{"type": "tool_call_response", "id": "x", "response": words(rng, size // 4)}]},
        ]
        _put(span, gen_ai__input__messages=json.dumps(messages))
        _put(
            span,
            gen_ai__output__messages=json.dumps([{"role": "assistant", "parts": [{"content": words(rng, size // 4)}]}]),
        )
    _filler(span, rng, session, 2)


def _span(span: Span, rng: random.Random, place: int, trace: bytes, root: bytes, parent: bytes, now_ns: int) -> None:
    span.trace_id = trace
    span.span_id = root if place == 0 else rng.getrandbits(64).to_bytes(8, "big")
    if place:
        span.parent_span_id = parent
    span.start_time_unix_nano = now_ns + place * 1_000_000
    span.end_time_unix_nano = span.start_time_unix_nano + rng.randrange(100_000, 900_000_000)
    span.flags = 257
    session = f"session-{trace[:3].hex()}"
    if place == 0:
        span.name, span.kind = "invoke_agent coder", Span.SPAN_KIND_INTERNAL
        _put(
            span, gen_ai__operation__name="invoke_agent", gen_ai__agent__name="coder", gen_ai__conversation__id=session
        )
        _filler(span, rng, session, 12)
    elif place % 5 == 1:
        _call(span, rng, session, with_content=place % 20 in (1, 6, 11))
    elif place % 5 == 2:
        tool = rng.choice(TOOLS)
        span.name, span.kind = f"execute_tool {tool}", Span.SPAN_KIND_INTERNAL
        _put(span, gen_ai__operation__name="execute_tool", gen_ai__tool__name=tool, gen_ai__tool__type="function")
        _put(
            span,
            gen_ai__tool__call__id=f"call_{rng.getrandbits(64):x}",
            gen_ai__tool__call__arguments='{"path":"README.md"}',
        )
        _filler(span, rng, session, 10)
    else:
        span.name, span.kind = rng.choice(("POST /v1/messages", "SELECT sessions", "fs.read")), Span.SPAN_KIND_CLIENT
        _put(
            span, http__request__method="POST", url__path="/v1/messages", server__address="127.0.0.1", server__port=8080
        )
        _put(span, http__response__status_code=200, network__protocol__version="1.1")
        _filler(span, rng, session, 9)


def requests(
    count: int, spans: int, seed: int = 1, start_ns: int = 1_795_000_000_000_000_000, step_ns: int = 0
) -> Iterator[bytes]:
    """`count` request bodies of `spans` spans each; `step_ns` moves each trace on in time."""
    rng = random.Random(seed)
    place, trace, root = 0, b"", b""
    now_ns = start_ns
    for _ in range(count):
        request = ExportTraceServiceRequest()
        group = request.resource_spans.add()
        for key, value in (("service.name", "bench-agent"), ("service.version", "1.2.3"), ("host.name", "bench")):
            item = group.resource.attributes.add()
            item.key, item.value.string_value = key, value
        scope = group.scope_spans.add()
        scope.scope.name, scope.scope.version = "opentelemetry.instrumentation.genai.openai", "1.3b0"
        for _ in range(spans):
            if place == 0:
                trace, root = rng.getrandbits(128).to_bytes(16, "big"), rng.getrandbits(64).to_bytes(8, "big")
                now_ns += step_ns
            _span(scope.spans.add(), rng, place, trace, root, root, now_ns)
            place = (place + 1) % SPANS_PER_TRACE
        yield request.SerializeToString()


def main() -> None:
    """Print what the load is like."""
    parser = argparse.ArgumentParser(description="say what the load is like")
    parser.add_argument("--spans", type=int, default=512)
    given = parser.parse_args()
    bodies = list(requests(20, given.spans))
    spans = [
        s
        for body in bodies
        for g in ExportTraceServiceRequest.FromString(body).resource_spans
        for s in g.scope_spans[0].spans
    ]
    attributes = sum(len(s.attributes) for s in spans) / len(spans)
    content = sum(any(a.key.endswith(".messages") for a in s.attributes) for s in spans) / len(spans)
    print(
        f"{sum(map(len, bodies)) / len(spans):.0f} bytes a span, {attributes:.1f} attributes, "
        f"{content:.0%} with content"
    )


if __name__ == "__main__":
    main()
