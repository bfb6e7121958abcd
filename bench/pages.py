"""Pages over a store of a million calls: time and bytes of each, and a long trace in Chromium.

`--make CALLS` fills the folder first, over 30 days (a million take some ten minutes); without a folder it is a
temporary one of 20,000 calls. Needs Playwright and Chromium only for the trace.
"""

from __future__ import annotations

import argparse
import random
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import quote

sys.path.insert(0, str(Path(__file__).parent))

import load
from intake import Server

from tachograph import ledger, redaction
from tachograph.model import AGENT, MODEL_CALL, TOOL_RUN, Batch, Content, Meaning, Source, Span, Usage
from tachograph.pricing import Prices
from tachograph.scan import Agg, Match, Scan
from tachograph.store.contract import Store
from tachograph.store.duckdb import open_store
from tachograph.web.rendering import NAVIGATION

ROUNDS = 7
COLD_ROUNDS = 3  # each starts the server anew
DAYS = 30
CALLS_PER_TRACE = 4  # an agent, its calls and a tool run after each
SPANS_PER_BATCH = 4_096
TRACE = "b" * 32
TRACE_SPANS = 20_000
GOAL_MS, GOAL_BYTES, GOAL_TRACE_MS = 150, 150_000, 1_000


def traces(calls: int, now_ns: int) -> Iterator[list[Span]]:
    """Traces of a session each: thousands of sessions, a few projects, users, teams and models."""
    rng = random.Random(1)
    start_ns, step_ns = now_ns - DAYS * 86_400_000_000_000, DAYS * 86_400_000_000_000 // max(1, calls)
    sources = [Source({"service.name": f"agent-{number}", "service.version": "1.2.3"}) for number in range(4)]
    for first in range(0, calls, CALLS_PER_TRACE):
        trace, session = f"{rng.getrandbits(128):032x}", first // 100
        who = {
            "session_id": f"session-{session}",
            "agent": f"agent-{session % 4}",
            "project": f"project-{session % 30}",
            "user": f"user-{session % 40}",
            "team": f"team-{session % 5}",
            "channel": ("cli", "ide", "ci")[session % 3],
        }
        root, at_ns = f"{rng.getrandbits(64):016x}", start_ns + first * step_ns
        agent = Meaning(role=AGENT, **who)
        spans = [
            Span(
                sources[session % 4],
                trace,
                root,
                "",
                "invoke_agent",
                1,
                at_ns,
                at_ns + 20_000_000_000,
                {},
                meaning=agent,
            )
        ]
        for number in range(CALLS_PER_TRACE):
            spans += _turn(rng, spans[0], at_ns + number * 5_000_000_000, who)
        yield spans


def _turn(rng: random.Random, above: Span, at_ns: int, who: dict[str, str]) -> list[Span]:
    model, failed = rng.choice(load.MODELS), rng.random() < 0.01
    usage = None if failed else Usage(rng.randrange(50, 5000), rng.randrange(40_000), output=rng.randrange(5, 2000))
    call = Meaning(
        role=MODEL_CALL, is_call=True, provider="anthropic" if model.startswith("claude") else "openai",
        request_model=model, response_model=model, usage=usage, ttft_ns=rng.randrange(10**8, 10**9),
        is_error=failed, error_type="429" if failed else "", **who,
    )  # fmt: skip
    tool = Meaning(role=TOOL_RUN, tool_name=rng.choice(load.TOOLS), is_error=rng.random() < 0.03, **who)
    said = [Content("output", "gen_ai.output.messages", [load.words(rng, 300)])] if rng.random() < 0.1 else None
    end_ns = at_ns + rng.randrange(5 * 10**8, 4 * 10**9)
    ids = [f"{rng.getrandbits(64):016x}" for _ in range(2)]
    return [
        Span(
            above.source, above.trace_id, ids[0], above.span_id, f"chat {model}", 3, at_ns, end_ns,
            {"gen_ai.request.model": model, "server.address": "api.example.com"}, meaning=call, contents=said,
        ),
        Span(
            above.source, above.trace_id, ids[1], above.span_id, f"execute_tool {tool.tool_name}", 1, end_ns,
            end_ns + rng.randrange(10**6, 10**9), {"gen_ai.tool.name": tool.tool_name}, meaning=tool,
        ),
    ]  # fmt: skip


def long_trace(now_ns: int) -> list[Span]:
    """One trace of 20,000 tool runs, ten below each."""
    source, start_ns = Source({"service.name": "long"}), now_ns - 3_600_000_000_000
    who = {"session_id": "long", "agent": "long"}
    return [
        Span(
            source, TRACE, f"{number + 1:016x}", f"{number // 10 + 1:016x}" if number else "", f"step {number}", 1,
            start_ns + number * 1_000_000, start_ns + 30_000_000_000, {}, meaning=Meaning(role=TOOL_RUN, **who),
        )
        for number in range(TRACE_SPANS)
    ]  # fmt: skip


def make(home: Path, calls: int) -> None:
    """Fill a store through redaction and the ledger."""
    home.mkdir(parents=True, exist_ok=True)
    now_ns = time.time_ns()
    prices = Prices(None)
    with closing(open_store(home, time.time_ns)) as store:
        spans: list[Span] = []
        for number, trace in enumerate(traces(calls, now_ns)):
            spans += trace
            if len(spans) >= SPANS_PER_BATCH:
                _keep(store, spans, prices)
                spans = []
                print(f"\r{number * CALLS_PER_TRACE:,} calls", end="", file=sys.stderr, flush=True)
        _keep(store, spans + long_trace(now_ns), prices)
        store.tidy()
    print(file=sys.stderr)


def _keep(store: Store, spans: list[Span], prices: Prices) -> None:
    batch = Batch(spans=spans)
    redaction.redact(batch, "redacted")
    ledger.report(batch)
    store.commit([batch])
    while ledger.settle(store, prices.price):
        pass


def page(port: int, path: str) -> tuple[float, int]:
    """Get one page: milliseconds, and bytes as they were transferred."""
    connection = HTTPConnection("127.0.0.1", port, timeout=120)
    start = time.perf_counter()
    connection.request("GET", path, headers={"Host": f"127.0.0.1:{port}", "Accept-Encoding": "gzip, br, zstd"})
    answer = connection.getresponse()
    body = answer.read()
    taken = (time.perf_counter() - start) * 1e3
    connection.close()
    if answer.status != 200:
        raise SystemExit(f"{path}: {answer.status} {body[:200]!r}")
    return taken, len(body)


def addresses(folder: Path) -> list[tuple[str, str]]:
    """Every page of the menu, and one of each kind below them."""
    with closing(open_store(folder, time.time_ns)) as store:
        calls = store.scan(Scan("calls", {"n": Agg("count")})).data["n"][0]
        print(
            f"{calls:,} calls, {sum(p.stat().st_size for p in folder.rglob('*') if p.is_file()) / 1e9:.2f} GB on disk"
        )
        one = store.scan(
            Scan("calls", {name: name for name in ("call_id", "session_id", "trace_id")},
                 (Match("session_id", "!=", "long"),), limit=1, offset=calls // 2)
        ).data  # fmt: skip
    menu = [(str(name), str(address)) for address, name, *_ in NAVIGATION]
    return [
        *menu,
        ("Overview, 30 days", "/?range=30d"),
        ("Overview, all time", "/?range=all"),
        ("Sessions, filtered", "/sessions?" + "q=project%3Aproject-7%20cost%3E0.1&range=30d"),
        ("Calls, 30 days, by cost", "/calls?range=30d&order=cost"),
        ("Models, 30 days", "/models?range=30d"),
        ("Groups by user, 30 days", "/by/user?range=30d"),
        ("one session", "/sessions/" + quote(one["session_id"][0], safe="")),
        ("one trace", "/traces/" + one["trace_id"][0]),
        ("one call", "/calls/" + quote(one["call_id"][0], safe="")),
        (f"trace of {TRACE_SPANS:,} spans", f"/traces/{TRACE}"),
        ("its rows", f"/traces/{TRACE}/rows"),
        ("its session, without prompts", "/sessions/long"),
    ]


def measure(port: int, listed: list[tuple[str, str]]) -> None:
    """Print the median of several rounds of each page, after one that is not counted."""
    print(f"{'page':28} {'first':>9} {'median':>9} {'worst':>9} {'transfer':>10}")
    for name, path in listed:
        first, _ = page(port, path)
        rounds = [page(port, path) for _ in range(ROUNDS)]
        times, size = [taken for taken, _ in rounds], rounds[0][1]
        missed = " MISSED" if statistics.median(times) > GOAL_MS or size > GOAL_BYTES else ""
        figures = f"{first:6.0f} ms {statistics.median(times):6.0f} ms {max(times):6.0f} ms {size / 1e3:7.1f} kB"
        print(f"{name:28} {figures}{missed}", flush=True)


def interactive(folder: Path) -> None:
    """Print how long the long trace takes in Chromium until it answers to a key: kept by the server, and not."""
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        chromium = None
    if chromium is None:
        print("no Playwright or no Chromium: the trace in a browser is not measured")
        return
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        for name, is_kept in (("kept", True), ("not kept, the server just started", False)):
            times, spent, server = [], [], None
            for _ in range(ROUNDS if is_kept else COLD_ROUNDS):
                if server is None or not is_kept:
                    if server is not None:
                        server.stop()
                    server = Server(folder)
                    page(server.web, f"/traces/{TRACE}/rows" if is_kept else "/")
                before = server.cpu_s()
                times.append(_until_a_key_answers(browser, server.web))
                spent.append((server.cpu_s() - before) * 1e3)
            if server is not None:
                server.stop()
            missed = " MISSED" if statistics.median(times) > GOAL_TRACE_MS else ""
            figures = f"{statistics.median(times):.0f} ms, worst {max(times):.0f} ms{missed}"
            print(f"{TRACE_SPANS:,} spans until a key answers, {name}: {figures}, server {min(spent):.0f} ms CPU")
        browser.close()


def _until_a_key_answers(browser: Any, port: int) -> float:
    tab = browser.new_page()
    tab.goto("about:blank")
    start = time.perf_counter()
    tab.goto(f"http://127.0.0.1:{port}/traces/{TRACE}", wait_until="commit")
    tab.wait_for_selector("#fall.is-drawn .fall-row")
    tab.focus("#fall")
    tab.keyboard.press("ArrowDown")
    tab.wait_for_selector('#fall [aria-selected="true"]')
    taken = (time.perf_counter() - start) * 1e3
    tab.close()
    return taken


def main() -> None:
    """Print what each page costs."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--make", type=int, metavar="CALLS")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.folder or Path(temporary)
        calls = given.make or (0 if given.folder else 20_000)
        if calls:
            make(folder, calls)
        listed = addresses(folder)
        server = Server(folder)
        try:
            measure(server.web, listed)
            print(f"memory afterwards {server.memory_bytes() / 1e6:.0f} MB")
        finally:
            server.stop()
        interactive(folder)


if __name__ == "__main__":
    main()
