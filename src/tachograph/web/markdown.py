"""What agents and people wrote as HTML that can do nothing: Markdown without HTML, images or links to elsewhere."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Final

import nh3
from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.token import Token
from markdown_it.utils import EnvType, OptionsDict
from markupsafe import Markup, escape

# Longer texts stand there as they came: Markdown costs about 1 ms per kB.
CHARS_MAX: Final = 20_000
_NESTING_MAX: Final = 20  # quotes in lists in quotes: deeper is text
_WEB: Final = re.compile(r"https?://[^\s/?#]", re.IGNORECASE)
_TAGS: Final = frozenset(
    (
        *("p", "br", "hr", "em", "strong", "s", "code", "pre", "blockquote", "ul", "ol", "li", "a"),
        *("table", "thead", "tbody", "tr", "th", "td", "h3", "h4", "h5", "h6"),
    )
)
_HEADINGS: Final = {"h1": "h3", "h2": "h4", "h3": "h5", "h4": "h6", "h5": "h6", "h6": "h6"}  # h1 and h2 are the page's


@lru_cache(maxsize=256)
def markdown(text: str) -> Markup:
    """The text as safe HTML. Links lead to http(s) only and open apart; an image is a link to it, never fetched."""
    text = text.encode("utf-8", "replace").decode()  # half a character pair is no text to what cleans
    if len(text) > CHARS_MAX:
        return Markup("<pre>{}</pre>").format(text)
    made = _MARKDOWN.render(text)
    return Markup(  # cleaned, whatever the parser let through
        nh3.clean(
            made,
            tags=set(_TAGS),
            clean_content_tags=set(),  # what came from no tag of ours stays text
            attributes={"*": set(), "a": {"href"}, "ol": {"start"}},
            attribute_filter=_attribute,
            url_schemes={"http", "https"},
            link_rel="noopener noreferrer nofollow",
            set_tag_attribute_values={"a": {"target": "_blank"}},
        )
    )


def _attribute(tag: str, name: str, value: str) -> str | None:
    if name == "href":
        return value if _is_web(value) else None
    return value


def _is_web(url: str) -> bool:
    """Whether an address leads to the web; one of ours would make a page's reader ask our own server for things."""
    return bool(_WEB.match(url))


def _image(renderer: RendererHTML, tokens: Sequence[Token], at: int, options: OptionsDict, env: EnvType) -> str:
    """An image as a link to it, or as its words where it stands in a link or leads nowhere."""
    token = tokens[at]
    words = renderer.renderInlineAsText(token.children, options, env) if token.children else ""
    label = escape(f"[image: {words}]" if words else "[image]")
    url = str(token.attrs.get("src", ""))
    opened = sum(one.nesting for one in tokens[:at] if one.type in ("link_open", "link_close"))
    return str(label) if opened or not _is_web(url) else f'<a href="{escape(url)}">{label}</a>'


def _lower_headings(state: Any) -> None:
    for token in state.tokens:
        token.tag = _HEADINGS.get(token.tag, token.tag)


def _make() -> MarkdownIt:
    made = MarkdownIt("commonmark", {"html": False, "breaks": True, "maxNesting": _NESTING_MAX})
    made.enable(["table", "strikethrough"])
    made.disable(["html_block", "html_inline", "lheading", "reference"])  # reference: it would swallow what it defines
    made.validateLink = _is_web  # type: ignore[method-assign] # the library's own way to say which links there are
    made.core.ruler.push("lower_headings", _lower_headings)
    made.add_render_rule("image", _image)
    return made


_MARKDOWN: Final = _make()
