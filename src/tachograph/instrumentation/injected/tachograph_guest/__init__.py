"""The recorder inside a Python program: needs nothing but the standard library until the program itself uses more.

It runs in another environment than the rest of Tachograph, so it imports none of it.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

from . import imports, instruments, providers, spans, spool


def start(told: str) -> None:
    """Watch for the libraries to be recorded; `told` is the plan that `tachograph run` has made, as JSON."""
    plan: dict[str, Any] = json.loads(told)
    # What was installed beside the program serves the environment that it was made for, behind all that is its own.
    if plan.get("beside") and plan.get("prefix") == os.path.realpath(sys.prefix):
        sys.path.append(plan["beside"])
    providers.service = plan["service"]
    spans.record = spool.Spool(plan["spool"]).write
    spans.run = f"{plan['service']}-{plan['run']}"
    instruments.plan(plan["libraries"])
    imports.after("opentelemetry.trace", providers.stand_behind)
    imports.after("opentelemetry.sdk.trace", spans.tap)
    imports.after("opentelemetry.instrumentation.instrumentor", instruments.give_way)
    imports.after("logfire", instruments.give_way_to_logfire)
    for library in plan["libraries"]:
        imports.after(library["module"], instruments.on_import(library))
