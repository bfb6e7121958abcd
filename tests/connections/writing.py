"""Settings as anybody may have written them, for Hypothesis."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import strategies as st

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
names = st.sampled_from(["a", "b", "env", "x y", "é", '"', ""]) | texts
scalars = (
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.floats(allow_nan=False, allow_infinity=False) | texts
)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3), max_leaves=8
)
objects = st.dictionaries(names, values, max_size=4)
paths = st.lists(names, min_size=1, max_size=3)


@st.composite
def written(draw: st.DrawFn, value: Any, eol: str = "\n", is_relaxed: bool = True) -> str:
    """A value as somebody may have written it: comments, trailing commas, any spacing."""
    remarks = ["", "", " ", "  ", "\t", eol, eol + "    "]
    if is_relaxed:
        remarks += [f" // note, }} {eol}", "/* a: [1, { */", f"{eol}  /* two{eol}  lines */ "]
    gap = st.sampled_from(remarks)
    if isinstance(value, dict | list):
        parts = []
        for key in value:
            name = (
                draw(gap) + json.dumps(key, ensure_ascii=draw(st.booleans())) + draw(gap) + ":"
                if isinstance(value, dict)
                else ""
            )
            inner = value[key] if isinstance(value, dict) else key
            parts.append(name + draw(gap) + draw(written(inner, eol, is_relaxed)) + draw(gap))
        body = ",".join(parts)
        if parts and is_relaxed and draw(st.booleans()):
            body += "," + draw(gap)
        return ("{%s}" if isinstance(value, dict) else "[%s]") % (body or draw(gap))
    return json.dumps(value, ensure_ascii=draw(st.booleans()))
