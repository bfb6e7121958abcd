"""Every page over recordings and hostile input: numbers as stored, text inert, unknown never 0."""

from __future__ import annotations

import html
import re
from contextlib import closing
from html.parser import HTMLParser
from pathlib import Path

import msgspec
import pytest
from starlette.testclient import TestClient

import filled
from tachograph.questions import usage
from tachograph.scan import Agg, Match, Scan
from tachograph.store.duckdb import DuckStore, open_store
from tachograph.web import units
from tachograph.web.conversation import STEPS_MAX
from tachograph.web.rendering import NAVIGATION, path_of
from tachograph.web.waterfall import FIRST_ROWS

# What our own templates use; anything else on a page came from somebody's text.
TAGS = frozenset(
    """
    html head meta title link script body a header img span nav button main div h1 h2 h4 p ul ol li section details
    summary pre table thead tbody tr th td small abbr time bdi i form label input select option svg path g rect aside
    dl dt dd figure figcaption code strong br caption em s hr blockquote h3 h5 h6 optgroup footer kbd
    """.split()  # noqa: SIM905 - a list of 60 tags on 60 lines reads no better
)


class Tags(HTMLParser):
    """The tags of a page, and what must never be on one."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.bad: list[str] = []
        self.scripts: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        is_apart = dict(attrs).get("rel") == "noopener noreferrer nofollow" and dict(attrs).get("target") == "_blank"
        for name, value in attrs:
            if tag == "a" and name == "href" and is_apart and (value or "").startswith(("http://", "https://")):
                continue  # a link that somebody wrote: it tells the other side nothing
            is_handler = name.startswith("on") or name in ("style", "srcdoc")
            if is_handler or (name in ("href", "src", "action") and not (value or "").startswith(("/", "?", "#"))):
                self.bad.append(f"<{tag} {name}={value!r}>")
        if tag == "script" and dict(attrs) != {"type": "application/json"}:  # a block of data runs nowhere
            self.scripts.append(dict(attrs).get("src") or "")


def pages(store: DuckStore) -> list[str]:
    """The address of every page of every session, trace and call."""
    sessions = store.scan(Scan("sessions", {"id": "session_id"})).data["id"]
    traces = store.scan(Scan("spans", {"id": "trace_id"}, group_by=("id",))).data["id"]
    calls = store.scan(Scan("calls", {"id": "call_id"})).data["id"]
    return [
        "/", "/?range=24h&show=tokens", "/?range=30d&show=calls", "/?range=all", "/sessions", "/sessions?order=cost",
        f"/sessions?q={filled.EVIL[2:10]}", *(path_of("sessions", one) for one in sessions),
        *(path_of("traces", one) for one in traces), *(path_of("calls", one) for one in calls),
    ]  # fmt: skip


def test_every_page_of_every_record_is_made_and_inert(browser: TestClient, store: DuckStore) -> None:
    addresses = pages(store)
    assert len(addresses) > 60
    for address in addresses:
        answer = browser.get(address)
        assert answer.status_code == 200, address
        found = Tags(answer.text)
        assert not found.bad, address
        assert found.tags <= TAGS, (address, found.tags - TAGS)
        assert all(source.startswith("/static/") for source in found.scripts), address
        assert "49" not in re.findall(r"'(\d+)\u202e", html.unescape(answer.text)), "a template ran inside a text"


def test_hostile_texts_are_shown_as_they_came(browser: TestClient) -> None:
    page = browser.get(path_of("sessions", filled.EVIL + "/../..")).text
    assert "<script>alert(" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page


def test_hostile_panels_and_rows_are_inert(browser: TestClient) -> None:
    trace = "e" * 32
    for number in (1, 2, 3):
        answer = browser.get(f"/traces/{trace}/panel", params={"node": f"{trace}:{number:016x}"})
        assert answer.status_code == 200
        found = Tags(answer.text)
        assert found.tags <= TAGS and not found.bad and not found.scripts
    rows = browser.get(f"/traces/{trace}/rows")
    assert rows.headers["content-type"] == "application/json"
    assert rows.headers["x-content-type-options"] == "nosniff"
    assert filled.EVIL in rows.json()["words"]


def test_overview_says_what_usage_says(browser: TestClient, store: DuckStore) -> None:
    totals = usage(store)["totals"]
    page = browser.get("/?range=all").text
    cost = round(totals["cost_usd"] * 1e9)
    assert f'title="{units.exact_money(cost)}">{units.money(cost)}<' in page
    assert f'title="{totals["input_tokens"]:,} tokens"' in page
    assert f'title="{totals["output_tokens"]:,} tokens"' in page
    for name, value in (("calls", totals["calls"]), ("failed", totals["failed_calls"])):
        assert re.search(rf">{name}</dt><dd><a [^>]*>{value:,}</a>", page)
    assert re.search(rf"<span>unpriced</span> <a [^>]*>{totals['unpriced_calls']} ", page)


@pytest.mark.parametrize(
    ("words", "column"),
    [
        ("prompts</dt><dd>", "prompts"),
        ("tool runs</dt><dd>", "tool_runs"),
        ("tool errors</dt><dd>", "tool_errors"),
        ('tokens not fully known</dt><dd class="warn">', "partial_calls"),
        ("<span>unpriced</span> ", "unpriced_calls"),
    ],
)
def test_a_number_of_the_overview_leads_to_the_sessions_that_make_it(
    browser: TestClient, words: str, column: str
) -> None:
    found = re.search(rf'{words}<a href="([^"]+)">([\d,]+)', browser.get("/?range=all").text)
    assert found
    rows = browser.get(html.unescape(found[1]) + "&format=jsonl").text.splitlines()
    values = [msgspec.json.decode(row)[column] for row in rows]
    assert all(values) and sum(values) == int(found[2].replace(",", ""))


@pytest.mark.parametrize("split", ["model", "agent", "project"])
def test_calls_of_a_row_of_the_overview_are_behind_its_numbers(browser: TestClient, split: str) -> None:
    page = browser.get("/", params={"range": "all", "by": split}).text
    number = r'<a href="([^"]+)">(?:<span class="[a-z]+">)?([\d,]+)(?:</span>)?</a></td>'
    found = re.findall(rf'<td class="num">{number}<td class="num mid">{number}', page)
    assert len(found) > 3
    for pair in found:
        for href, shown in (pair[:2], pair[2:]):
            rows = browser.get(html.unescape(href) + "&format=jsonl").text.splitlines()
            assert len(rows) == int(shown.replace(",", "")), href


def test_the_menu_keeps_the_period_and_the_filter(browser: TestClient) -> None:
    wished = "range=30d&q=agent%3Acodex"
    for path in ("/", "/sessions", "/calls", "/models", "/by/project", "/search"):
        page = html.unescape(browser.get(f"{path}?{wished}&order=cost&page=1&show=calls").text)
        menu = page.partition('<nav aria-label="Pages"')[2].partition("</nav>")[0]
        links = re.findall(r'href="([^"]+)"', menu)
        assert len(links) > 10 and all(link.endswith("?" + wished) for link in links), path
    for path in ("/", "/sessions?order=cost", "/sources", f"/traces/{'e' * 32}?node=x&from=3"):
        page = browser.get(path).text
        assert '<a href="/calls" ' in page, path
    assert '<a href="/calls" ' in browser.get("/calls", params={"q": "x" * 1001}).text


def test_a_menu_that_is_cut_fades_out(browser: TestClient) -> None:
    style = browser.get("/static/style.css").text
    assert re.search(r"\.top nav \{[^}]*overflow-x: auto;[^}]*mask-image: linear-gradient", style)


def test_each_kind_of_cost_leads_to_the_calls_that_make_it(browser: TestClient) -> None:
    page = browser.get("/?range=all").text
    found = re.findall(r'<span>(?:billed|estimated|computed|plan)</span> <a href="([^"]+)">([^<]+)<', page)
    assert found
    for href, amount in found:
        rows = browser.get(html.unescape(href) + "&format=jsonl").text.splitlines()
        assert units.money(sum(msgspec.json.decode(row)["cost_nanousd"] for row in rows)) == amount


@pytest.mark.parametrize("range_", ["7d", "30d", "all"])
def test_the_chart_holds_every_cost_of_the_period(browser: TestClient, store: DuckStore, range_: str) -> None:
    page = html.unescape(browser.get(f"/?range={range_}&show=calls").text)
    bars = [int(n.replace(",", "")) for n in re.findall(r"<title>2026[^<\n]*: ([\d,]+)\n", page)]
    totals = usage(store)["totals"]
    assert sum(bars) == totals["calls"] + totals["failed_calls"]


def test_a_session_shows_its_prompts_calls_and_tools(browser: TestClient, store: DuckStore) -> None:
    where = (Match("agent", "=", "claude-code"), Match("tool_runs", ">", 3))
    row = store.scan(Scan("sessions", {"id": "session_id", "calls": "calls", "tools": "tool_runs"}, where)).rows()[0]
    page = browser.get(path_of("sessions", row["id"])).text
    assert page.count('class="step step-call') == row["calls"]
    assert page.count('class="step step-tool') == row["tools"]
    assert "Prompt 1" in page and "SCENARIO" in page


def test_codex_noise_is_folded_but_there(browser: TestClient, store: DuckStore) -> None:
    is_codex = (Match("agent", "=", "codex"),)
    select = {"trace_id": "trace_id", "n": Agg("count"), "noise": Agg("count_if_true", "is_noise")}
    scan = Scan("spans", select, is_codex, ("trace_id",), (("n", True),), limit=1)  # type: ignore[arg-type]
    trace = store.scan(scan).rows()[0]
    page = browser.get(f"/traces/{trace['trace_id']}").text
    rows = browser.get(f"/traces/{trace['trace_id']}/rows").json()
    flags = rows["columns"]["flags"]
    assert trace["noise"] > 300
    assert sum(bool(f & 2) for f in flags) == trace["noise"]
    assert page.count('class="fall-row') == sum(not f & 2 for f in flags)
    assert len(set(rows["columns"]["id"])) == len(flags) >= trace["n"]


def test_a_call_shows_tokens_and_where_they_come_from(browser: TestClient, store: DuckStore) -> None:
    select = {"id": "call_id", "input": "input_tokens", "cost": "cost_nanousd"}
    where = (Match("agent", "=", "claude-code"), Match("cost_nanousd", "not_null"))
    row = store.scan(Scan("calls", select, where, limit=1)).rows()[0]  # type: ignore[arg-type]
    page = browser.get(path_of("calls", row["id"])).text
    assert units.exact_money(row["cost"]) in page
    assert f"{row['input']:,}" in page
    assert "Where each number comes from" in page and 'id="report-1"' in page


def test_unknown_and_unpriced_are_never_0(tmp_path: Path) -> None:
    store = open_store(tmp_path / "s", lambda: filled.NOW_NS)
    batch = filled.hostile()
    batch.spans = batch.spans[1:2]
    assert batch.spans[0].meaning is not None
    batch.spans[0].meaning.usage = None
    filled.keep(store, tmp_path, [batch], is_understood=True)
    browser = filled.client(store)
    call_id = store.scan(Scan("calls", {"id": "call_id"})).data["id"][0]
    page = browser.get(path_of("calls", call_id)).text
    assert page.count(">unknown<") >= 5
    assert ">unpriced<" in page and "$0" not in page
    overview = browser.get("/").text
    assert ">unpriced<" in overview and "$0" not in overview
    assert ">unknown<" in overview
    store.close()


def test_an_empty_store_says_how_to_connect(tmp_path: Path) -> None:
    store = open_store(tmp_path / "s", lambda: filled.NOW_NS)
    browser = filled.client(store, otlp="http://127.0.0.1:9999")
    page = browser.get("/").text
    assert (
        "Nothing recorded yet" in page
        and "ENDPOINT=http://127.0.0.1:9999" in page
        and "127.0.0.1:4318" not in page
        and "claude-code" in page
    )
    assert "demo data" not in page.lower()
    assert browser.get("/sessions").status_code == 200
    store.close()


def test_the_demo_is_marked_and_only_the_demo(browser: TestClient, tmp_path: Path) -> None:
    assert "Demo data" not in browser.get("/").text
    store = open_store(tmp_path / "s", lambda: filled.NOW_NS)
    batch = filled.hostile()
    batch.is_demo = True
    filled.keep(store, tmp_path, [batch], is_understood=True)
    for address in ("/", "/sessions", "/nothing"):
        assert "tachograph demo --clear" in filled.client(store).get(address).text
    store.close()


@pytest.mark.parametrize(
    "address", ["/nothing", "/sessions/nothing", "/traces/" + "0" * 32, "/calls/nothing", "/texts/nothing"]
)
def test_what_is_not_there_is_a_page_that_says_so(browser: TestClient, address: str) -> None:
    answer = browser.get(address)
    assert answer.status_code == 404
    assert "Nothing is kept under this address" in answer.text


@pytest.mark.parametrize("id_", ["\x00", "%", "a/../b", "..", "\U0001f600", "x" * 3000, "\ufffe"])
def test_any_id_in_an_address_gets_an_answer(browser: TestClient, id_: str) -> None:
    for kind in ("sessions", "traces", "calls", "texts"):
        assert browser.get(path_of(kind, id_)).status_code in (200, 404)
    assert browser.get("/sessions", params={"q": id_, "page": id_, "order": id_}).status_code == 200
    assert browser.get("/", params={"range": id_, "show": id_}).status_code == 200


def test_times_are_in_the_zone_that_the_browser_says(store: DuckStore) -> None:
    for zone, offset in (
        ("Asia/Tokyo", "+09:00"),
        ("UTC", "+00:00"),
        ("../../etc/passwd", "+00:00"),
        ("x" * 400, "+00:00"),
    ):
        browser = filled.client(store)
        browser.cookies.set("tz", zone)
        answer = browser.get("/sessions")
        assert answer.status_code == 200 and offset in answer.text


def test_a_kept_text_is_plain_text(browser: TestClient, store: DuckStore) -> None:
    hash_ = store.scan(Scan("contents", {"hash": "hash"}, (Match("text", "contains", "<script>"),), limit=1)).data[
        "hash"
    ][0]
    answer = browser.get(f"/texts/{hash_}")
    assert answer.headers["content-type"].startswith("text/plain")
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "<script>" in answer.text


def test_a_session_of_thousands_of_steps_stays_a_page(tmp_path: Path) -> None:
    store = open_store(tmp_path / "s", lambda: filled.NOW_NS)
    batch = filled.hostile()
    first, _, tool = batch.spans
    assert tool.meaning is not None
    for number in range(10, 3_010):
        meaning = msgspec.structs.replace(tool.meaning, tool_call_id=f"tool {number}")
        # Every tenth holds the nine after it.
        parent = first.span_id if number % 10 == 0 else f"{number - number % 10:016x}"
        span_id = f"{number:016x}"
        batch.spans.append(msgspec.structs.replace(tool, span_id=span_id, parent_id=parent, meaning=meaning))
    filled.keep(store, tmp_path, [batch], is_understood=True)
    answer = filled.client(store).get(path_of("sessions", filled.EVIL + "/../.."))
    assert answer.text.count('class="step step-') == STEPS_MAX
    assert f"{3_002 - STEPS_MAX:,} more steps" in answer.text
    rows = filled.client(store).get(f"/traces/{'e' * 32}/rows")
    assert len(rows.json()["columns"]["up"]) == 3_003 and len(rows.content) < 120 * 3_003
    page = filled.client(store).get(f"/traces/{'e' * 32}?whole=1")
    assert page.text.count('class="fall-row') == FIRST_ROWS and "more steps are drawn" in page.text
    whole = filled.client(store).get(path_of("sessions", filled.EVIL + "/../..", "export.html"))
    assert whole.text.count('class="step step-') == 3_002 and "more steps" not in whole.text
    store.close()


@pytest.mark.parametrize("path", ["/models", "/by/agent", "/by/project"])
def test_numbers_of_calls_lead_to_as_many_calls(browser: TestClient, path: str) -> None:
    table = html.unescape(browser.get(f"{path}?range=all").text).partition("<tbody>")[2].partition("</tbody>")[0]
    told = re.findall(r'<a href="(/(?:calls|sessions)\?[^"]*)"[^>]*>(?:<span[^>]*>)?([\d,]+)<', table)
    assert told
    for link, number in told:
        if "order=" not in link:  # sums of what each of these sessions has
            rows = browser.get(f"{link}&subagents=yes&format=jsonl").text.splitlines()
            assert len(rows) == int(number.replace(",", "")), link


def test_a_new_store_says_on_every_page_what_to_do(tmp_path: Path) -> None:
    with closing(open_store(tmp_path, lambda: filled.NOW_NS)) as empty:
        browser = filled.client(empty)
        for path, *_ in NAVIGATION:
            assert "Nothing recorded yet" in browser.get(str(path)).text, path


def test_a_page_that_is_not_there_says_why_and_where_to_look(browser: TestClient, store: DuckStore) -> None:
    told = browser.get('/sessions/gone-"42')
    assert told.status_code == 404 and "<title>404" in told.text and "may be forgotten" in told.text
    found = re.search(r'href="(/search\?[^"]+)"', told.text)
    assert found and browser.get(html.unescape(found[1])).status_code == 200
    assert "Look for it" not in browser.get("/nothing").text
