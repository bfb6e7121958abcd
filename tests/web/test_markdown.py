"""Markdown of anybody becomes HTML that runs nothing, fetches nothing and leads only to the web."""

from __future__ import annotations

from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tachograph.web.markdown import CHARS_MAX, markdown

TAGS = frozenset(
    (
        "p",
        "br",
        "hr",
        "em",
        "strong",
        "s",
        "code",
        "pre",
        "blockquote",
        "ul",
        "ol",
        "li",
        "a",
        "table",
        "thead",
        "tbody",
        "tr",
        "th",
        "td",
        "h3",
        "h4",
        "h5",
        "h6",
    )
)


class Checked(HTMLParser):
    """Fails on any tag, attribute or link that is not allowed; keeps what one reads, and the links."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.words = ""
        self.feed(str(markdown(text)))
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in TAGS
        given = dict(attrs)
        if tag == "a" and given:
            assert given.pop("rel") == "noopener noreferrer nofollow" and given.pop("target") == "_blank"
            href = given.pop("href", None)
            if href is not None:
                assert href.lower().startswith(("http://", "https://"))
                self.links.append(href)
        if tag == "ol":
            assert (given.pop("start", "0") or "").isdecimal()
        assert not given

    def handle_data(self, data: str) -> None:
        self.words += data

    def handle_comment(self, data: str) -> None:
        raise AssertionError(data)


@pytest.mark.parametrize(
    "text",
    [
        "<script>alert(1)</script>",
        "<img src=x onerror=alert(1)>",
        "<!-- <b>",
        "[a](javascript:alert(1))",
        "[a](JaVaScRiPt:alert(1))",
        "[a](java&#10;script:alert(1))",
        "[a](data:text/html;base64,PHNjcmlwdD4=)",
        "[a](vbscript:x)",
        "[a](//evil.example)",
        "[a](/sessions)",
        "[a](file:///etc/passwd)",
        "[a](mailto:a@b.example)",
        "<javascript:alert(1)>",
        "[a](http:/\\evil.example)",
        "![a](data:image/png;base64,AAAA)",
        "![a](javascript:alert(1))",
        "![<img src=x>](x)",
        "```<script>\nx\n```",
        "[a]: javascript:alert(1)\n\n[a]",
        "</div></pre></details><style>*{display:none}</style>",
        "<svg><a xlink:href='javascript:alert(1)'>",
    ],
)
def test_what_attacks_is_text(text: str) -> None:
    assert Checked(text).links == []


@pytest.mark.parametrize(
    "text", ["<b>bold</b>", "a <script>x</script> b", "[a]: http://b.example", "a & b &amp; c <", "<!-- c -->"]
)
def test_nothing_that_was_written_is_swallowed(text: str) -> None:
    assert Checked(text).words.strip() == text.replace("&amp;", "&")


def test_links_lead_to_the_web_and_open_apart() -> None:
    found = Checked('[a](https://a.example/?x=1&y=2 "title") <http://b.example> [c](HTTPS://c.example)')
    assert found.links == ["https://a.example/?x=1&y=2", "http://b.example", "HTTPS://c.example"]


def test_an_image_is_a_link_and_never_fetched() -> None:
    found = Checked('![a "cat"](https://a.example/cat.png) [![b](http://b.example/b.png)](https://c.example)')
    assert found.links == ["https://a.example/cat.png", "https://c.example"]
    assert found.words.strip() == '[image: a "cat"] [image: b]'


def test_prose_is_set_and_stays_below_the_page_s_headings() -> None:
    made = markdown(
        "# A\n\n**b** *c* `d` ~~e~~\nf\n\n```py\nif a < b:\n    pass\n```\n\n| g | h |\n|--:|---|\n| 1 | 2 |\n\n3. i"
    )
    for piece in (
        "<h3>A</h3>", "<strong>b</strong>", "<em>c</em>", "<code>d</code>", "<s>e</s><br>", '<ol start="3">',
        "<td>1</td>", "<pre><code>if a &lt; b:\n    pass\n</code></pre>",
    ):  # fmt: skip
        assert piece in made


def test_long_texts_and_deep_ones_are_made_all_the_same() -> None:
    assert markdown("*" * (CHARS_MAX + 1)) == f"<pre>{'*' * (CHARS_MAX + 1)}</pre>"
    for piece in ("> ", "- ", "[", "![", "*a ", "_a", "[a](", "`", "<", "~~a", "&#"):
        Checked((piece * CHARS_MAX)[:2_000])


@given(st.text() | st.text(alphabet="[]()<>!*_`~#>-|:&;\\\n \t\"'/ahtps.:\x00\ud800\u202e"))
def test_any_text_is_inert(text: str) -> None:
    Checked(text)
