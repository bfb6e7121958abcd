"""A canary in every text of the store leaves in no privacy mode, whatever the destination, whatever the store keeps."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from cramjam import snappy

from deliveries import Trip
from fillings import NOON, SECOND, Filling
from kinds import KINDS
from sink import Request
from tachograph.destinations import PRIVACY_MODES, Destination
from tachograph.model import MODEL_CALL, PROMPT, SLOTS, TOOL_RUN, Content, Event, Meaning, Point, Source, Span, Usage
from tachograph.store.contract import Store
from tachograph.store.duckdb import open_store

KEY = "sk-" + "ant-api03-" + "Ab3dEfGh1jKlMn0pQrStUv9xYz2BcD"  # put together: no scanner takes it for a leak
MAIL = "ada.lovelace@example.org"
WORDS = "the quick brown fox"
CANARY = f"{WORDS} {KEY} of {MAIL} in /home/lovelace/x"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """A store that has it all, as one that keeps texts in full has."""
    with closing(open_store(tmp_path_factory.mktemp("secrets") / "store", lambda: NOON)) as opened:
        filling = Filling(
            opened, Source({"service.name": "tester", "user.email": MAIL, "prompt": CANARY, "note": MAIL})
        )
        for number, role in enumerate((PROMPT, MODEL_CALL, TOOL_RUN)):
            said = Meaning(
                dialect="genai", role=role, session_id="one", agent="tester", user=MAIL, is_error=True,
                error_type="timeout", error_message=CANARY, is_call=role == MODEL_CALL, response_model="big",
                tool_name="bash", tool_call_id=f"t{number}", usage=Usage(input_uncached=1, output=1),
                repository=f"https://{MAIL}/x", host="lovelace",
            )  # fmt: skip
            texts = [Content(slot, f"gen_ai.{slot}.x", [CANARY]) for slot in SLOTS] + [Content("", "other", [CANARY])]
            ids = (f"{1:032x}", f"{number + 1:016x}", f"{number:016x}" if number else "")
            span = Span(filling.source, *ids, "x", 1, NOON, NOON + SECOND, {"prompt": CANARY, "error": CANARY})
            span.meaning, span.contents, span.status_code, span.status_message = said, texts, 2, CANARY
            span.events = [{"time_ns": 1, "name": "exception", "attributes": {"exception.message": CANARY}}]
            filling.batch.spans.append(span)
            event = Event(
                filling.source, NOON + number, "said", {"user.email": MAIL}, body={"text": CANARY, "b": CANARY}
            )
            event.meaning, event.contents = (
                Meaning(session_id="one", agent="tester"),
                [Content("prompt", "p", [CANARY])],
            )
            filling.batch.events.append(event)
        yield filling.done()


@pytest.mark.parametrize("mode", PRIVACY_MODES)
@pytest.mark.parametrize("kind", sorted(KINDS))
def test_a_canary_never_leaves(tmp_path: Path, store: Store, kind: str, mode: str) -> None:
    tested = KINDS[kind]
    with tested.sink() as sink:
        options = dict(tested.options(sink.url, 60.0))
        to = Destination("acme", tested.name or "plain", "acme", options=options, privacy=mode)
        going = Trip(tmp_path, store, lambda one: tested.kind.make(one, {}), to, NOON + 3600 * SECOND)
        going.run()
        letters = going.progress.letters()
        going.end()
        sent = b"\n".join(plain(request) for request in sink.taken).decode("utf-8", "replace")
    assert sent and not letters
    assert KEY not in sent
    if mode != "full":
        assert MAIL not in sent
        assert "/home/lovelace" not in sent
    if mode == "none":
        assert WORDS not in sent


SAID = ("quokka", "zephyr", "bivouac", "kumquat", "wharfage", "xylitol", "jugband", "noctule", "tarboosh", "mugwump")
SENTENCE = "Why does the " + " and the ".join(SAID) + " fail?"


@pytest.fixture(scope="module")
def spoken(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """A store of somebody whose program writes what is said into everything that has no name of ours."""
    own = {"acme.note": SENTENCE, "acme.deep": {"a": [SENTENCE, {"b": SENTENCE}]}, SENTENCE: "x", "url.full": SENTENCE}
    with closing(open_store(tmp_path_factory.mktemp("spoken") / "store", lambda: NOON)) as opened:
        who = {"service.name": "tester", "process.command_line": SENTENCE, "process.command_args": ["x", SENTENCE]}
        filling = Filling(opened, Source({**who, **own}, SENTENCE, SENTENCE, dict(own), SENTENCE, SENTENCE))
        for number, role in enumerate((PROMPT, MODEL_CALL, TOOL_RUN)):
            said = Meaning(
                dialect="genai", role=role, session_id="one", agent="tester", project=SENTENCE, team=SENTENCE,
                channel=SENTENCE, branch=SENTENCE, host=SENTENCE, environment=SENTENCE, repository=SENTENCE,
                tool_name=SENTENCE, tool_call_id=SENTENCE, subagent=SENTENCE, is_error=True, error_type=SENTENCE,
                is_call=role == MODEL_CALL, response_model=SENTENCE, provider=SENTENCE, finish_reason=SENTENCE,
                service_tier=SENTENCE, usage=Usage(input_uncached=1, output=1),
            )  # fmt: skip
            ids = (f"{1:032x}", f"{number + 1:016x}", f"{number:016x}" if number else "")
            span = Span(filling.source, *ids, SENTENCE, 1, NOON, NOON + SECOND, dict(own), 2, SENTENCE)
            span.meaning, span.trace_state, span.contents = said, SENTENCE, [Content("", "acme.long", [SENTENCE])]
            span.events = [{"time_ns": 1, "name": SENTENCE, "attributes": dict(own), "dropped": 0}]
            span.links = [
                {"trace_id": "0a" * 16, "span_id": "0b" * 8, "trace_state": SENTENCE, "attributes": dict(own)}
            ]
            filling.batch.spans.append(span)
            event = Event(
                filling.source, NOON + number, SENTENCE, dict(own), body={SENTENCE: SENTENCE, "n": [SENTENCE]}
            )
            event.severity_text, event.meaning = SENTENCE, Meaning(session_id="one", agent="tester", project=SENTENCE)
            hooked = Event(filling.source, NOON + number, SENTENCE, dict(own), origin="hook", meaning=said)
            filling.batch.events += [event, hooked]
        for type_ in ("gauge", "sum"):
            point = Point(filling.source, "acme.count", dict(own), NOON, type_, SENTENCE, SENTENCE, 2, True, value=1)
            point.metadata = dict(own)
            point.exemplars = [{"time_ns": 1, "value": 1, "trace_id": "", "span_id": "", "attributes": dict(own)}]
            filling.batch.points.append(point)
        yield filling.done()


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_nothing_that_was_said_leaves_in_none(tmp_path: Path, spoken: Store, kind: str) -> None:
    tested = KINDS[kind]
    with tested.sink() as sink:
        to = Destination("acme", tested.name or "plain", "acme", dict(tested.options(sink.url, 60.0)), privacy="none")
        going = Trip(tmp_path, spoken, lambda one: tested.kind.make(one, {}), to, NOON + 3600 * SECOND)
        going.run()
        letters = going.progress.letters()
        going.end()
        sent = b"\n".join(plain(request) for request in sink.taken).decode("utf-8", "replace")
    assert sent and not letters
    assert [word for word in SAID if word in sent] == []


def plain(request: Request) -> bytes:
    """The body without compression."""
    return (
        bytes(snappy.decompress_raw(request.body))
        if request.headers.get("content-encoding") == "snappy"
        else request.body
    )
