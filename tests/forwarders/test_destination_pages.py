"""The pages of Langfuse and PostHog say every setting, every variable and every property that there is."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tachograph.forwarders import langfuse, posthog
from tachograph.registry import FORWARDERS
from told import GOLDEN

PAGES = Path(__file__).parents[2] / "docs" / "destinations"


def words(kind: str) -> set[str]:
    """What is set as code on a page."""
    return set(re.findall(r"`([^`\n]+)`", (PAGES / f"{kind}.md").read_text("utf-8")))


def properties(kind: str) -> Iterator[str]:
    for path in (GOLDEN / kind).glob("*.json"):
        records: list[dict[str, Any]] = json.loads(path.read_text("utf-8"))
        for record in records:
            yield from record.get("properties") or record["attributes"]


@pytest.mark.parametrize("kind", ["langfuse", "posthog"])
def test_every_setting_is_told(kind: str) -> None:
    assert {option.name for option in FORWARDERS[kind].options} <= words(kind)


def test_every_variable_is_told() -> None:
    variables = {name for _, names in langfuse._VARIABLES for name in names}
    assert variables <= words("langfuse")
    assert {f"POSTHOG_{name.upper()}" for name in (*posthog._SETTINGS, "enabled", "privacy_mode")} <= words("posthog")


def test_every_property_is_told() -> None:
    assert set(properties("posthog")) <= words("posthog")
    metadata = {name.rsplit(".", 1)[1] for name in properties("langfuse") if ".metadata." in name}
    assert metadata <= words("langfuse")
