"""Edits of settings are taken back whole, whatever was there before."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from tachograph.connections.edits import ABSENT, JSON, JSON_5, JSON_RELAXED, Entry, SettingsEdit, is_same
from tachograph.connections.json_edit import JsonFormat
from tachograph.errors import ConfigError
from writing import scalars, values, written

NAMES = ("env", "on", "texts", "door", "other", "list")
settings_of = st.dictionaries(
    st.sampled_from(NAMES),
    scalars | st.dictionaries(st.sampled_from(NAMES), values, max_size=3) | st.lists(scalars, max_size=3),
    max_size=5,
)


def edit_to(port: int, has_texts: bool, format_: JsonFormat) -> SettingsEdit:
    """An edit with an entry of every kind."""
    entries = (
        Entry(("env", "on"), "1"),
        Entry(("env", "door"), f"http://here:{port}", lambda value: str(value).startswith("http://here:")),
        Entry(("env", "texts"), "1", is_left=not has_texts, is_soft=True),
        Entry(("env", "other"), ABSENT),
        Entry(("list",), f"/home/{port}", lambda value: str(value).startswith("/home/"), is_item=True),
    )
    return SettingsEdit(Path("settings.json"), format_, entries)


@given(
    st.data(),
    settings_of,
    st.sampled_from(["\n", "\r\n"]),
    st.booleans(),
    st.booleans(),
    st.sampled_from([JSON_RELAXED, JSON_5, JSON]),
)
def test_there_and_back(
    data: st.DataObject, settings: dict[str, Any], eol: str, has_texts: bool, again: bool, format_: JsonFormat
) -> None:
    before = data.draw(written(settings, eol, is_relaxed=format_ is not JSON))
    first, later = edit_to(1, has_texts, format_), edit_to(2, not has_texts, format_)
    try:
        after = first.applied(before, None)
    except ConfigError:
        # Something stands where settings would have to be.
        env, items = settings.get("env", {}), settings.get("list", [])
        assert not isinstance(env, dict) or not isinstance(items, list)
        return
    assert first.applied(after, before) == after
    if after != before:
        assert first.is_untouched(after, before)
        assert later.is_untouched(after, before)
    if again:
        after = later.applied(after, before)
        assert later.applied(after, before) == after
    assert first.is_there(after)
    assert is_same(format_.parse(first.undone(after, before), "x"), settings)
    # What the user adds later stays.
    added = format_.put(after, ("mine", "too"), [True])
    assert is_same(format_.parse(first.undone(added, before), "x"), settings | {"mine": {"too": [True]}})


@given(st.data(), settings_of)
def test_what_the_user_changed_since_stays(data: st.DataObject, settings: dict[str, Any]) -> None:
    before = data.draw(written({"env": {}} | {k: v for k, v in settings.items() if k not in ("env", "list")}))
    edit = edit_to(1, True, JSON_RELAXED)
    changed = JSON_RELAXED.put(edit.applied(before, None), ("env", "door"), "https://corp")
    left = JSON_RELAXED.parse(edit.undone(changed, before), "x")
    assert left["env"] == {"door": "https://corp"}
    assert edit.conflicts(changed, before) == ['env.door is "https://corp"']
