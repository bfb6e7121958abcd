"""`tachograph run` and `tachograph env` on real programs: recorded, and otherwise as if they had been started alone."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
import venv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tachograph.cli import main
from tachograph.model import Span
from tachograph.receivers import otlp_file

Start = Callable[..., subprocess.CompletedProcess[str]]

# A library that calls models, and two instrumentations of it, as installed packages.
LIBRARY = """
class Client:
    def create(self):
        return "said"
"""
INSTRUMENTOR = """
import os
from opentelemetry import trace
from opentelemetry.instrumentation.instrumentor import BaseInstrumentor

class {name}(BaseInstrumentor):
    def instrumentation_dependencies(self):
        return ()

    def _instrument(self, **kwargs):
        import openai
        tracer = trace.get_tracer("{module}", "1", kwargs.get("tracer_provider"))
        self.create = create = openai.Client.create

        def traced(client):
            with tracer.start_as_current_span("chat m", kind=trace.SpanKind.CLIENT) as span:
                span.set_attributes({{
                    "gen_ai.operation.name": "chat", "gen_ai.request.model": "m", "gen_ai.provider.name": "openai",
                    "gen_ai.usage.input_tokens": 3, "gen_ai.usage.output_tokens": 4,
                    "text": os.environ.get("{variable}", "unset"),
                }})
                return create(client)

        openai.Client.create = traced

    def _uninstrument(self, **kwargs):
        import openai
        openai.Client.create = self.create
"""
OFFICIAL = ("opentelemetry-instrumentation-genai-openai", "opentelemetry.instrumentation.genai.openai")
OPENINFERENCE = ("openinference-instrumentation-openai", "openinference.instrumentation.openai")
TEXTS = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"


def install(site: Path, package: str, version: str, entry: str = "") -> None:
    """What pip leaves of a package beside its modules."""
    folder = site / f"{package.replace('-', '_')}-{version}.dist-info"
    folder.mkdir(parents=True)
    (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: {version}\n", "utf-8")
    if entry:
        (folder / "entry_points.txt").write_text(f"[opentelemetry_instrumentor]\nopenai = {entry}\n", "utf-8")


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """Packages of the program's environment that are not in that of the tests."""
    folder = tmp_path / "site"
    install(folder, "openai", "3.0")
    (folder / "openai.py").write_text(LIBRARY, "utf-8")
    for (package, module), name in ((OFFICIAL, "OpenAIInstrumentor"), (OPENINFERENCE, "OtherInstrumentor")):
        install(folder, package, "1.0", f"{module}:{name}")
        path = folder.joinpath(*module.split(".")).with_suffix(".py")
        path.parent.mkdir(parents=True)
        path.write_text(INSTRUMENTOR.format(name=name, module=module, variable=TEXTS), "utf-8")
    return folder


@pytest.fixture
def start(tmp_path: Path, site: Path) -> Start:
    """Run a program, given by its text, under `tachograph run`."""
    program = tmp_path / "agent.py"

    def start_(text: str, *flags: str, words: tuple[str, ...] = (), **variables: str) -> Any:
        program.write_text(text, "utf-8")
        command = [sys.executable, "-m", "tachograph", "run", *flags, "--", *(words or (sys.executable, str(program)))]
        environment = {**os.environ, "PYTHONPATH": str(site), **variables}
        return subprocess.run(
            command, input="typed\n", capture_output=True, text=True, env=environment, cwd=tmp_path, check=False
        )

    return start_


def spooled(home: Path) -> list[Span]:
    """All spans that wait in a home."""
    batches = [otlp_file.read(file, "")[0] for file in sorted((home / "spool" / "python").glob("*.jsonl"))]
    assert not any(batch.rejected for batch in batches)
    return [span for batch in batches for span in batch.spans]


def calls(home: Path, capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    """What the ledger makes of it."""
    assert main(["replay", str(home / "spool")]) == 0
    capsys.readouterr()
    assert main(["sql", "SELECT * FROM calls", "--json"]) == 0
    rows: list[dict[str, Any]] = json.loads(capsys.readouterr().out)
    return rows


CALL = "from openai import Client\nClient().create()\n"


def test_a_call_is_recorded_and_counted_once(start: Start, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    done = start(CALL)
    assert (done.returncode, done.stdout) == (0, "")
    assert f"openai 3.0: by {OFFICIAL[0]} 1.0" in done.stderr
    assert "pip install" not in done.stderr
    (call,) = calls(home, capsys)
    assert call["agent"] == "agent"
    assert (call["input_tokens"], call["output_tokens"]) == (3, 4)


def test_the_program_is_as_if_it_were_alone(start: Start, tmp_path: Path, home: Path) -> None:
    text = "import os, sys\nopen('made', 'w').close()\nprint(input(), sys.argv, os.getppid())\nsys.exit(7)\n"
    before = os.umask(0o022)
    try:
        done = start(text + CALL)
    finally:
        os.umask(before)
    assert done.returncode == 7
    # Its parent is this process: it has taken the place of tachograph.
    assert done.stdout.strip().startswith("typed") and done.stdout.strip().endswith(str(os.getpid()))
    assert stat.S_IMODE((tmp_path / "made").stat().st_mode) == 0o644


def test_its_path_and_its_own_sitecustomize_stay(start: Start, site: Path) -> None:
    (site / "sitecustomize.py").write_text("import sys\nsys.its_own = __file__\n", "utf-8")
    done = start("import sys, sitecustomize\nprint(sys.its_own == sitecustomize.__file__)\nprint(sys.path)\n")
    assert done.stdout.startswith("True\n")
    assert "injected" not in done.stdout


def test_an_error_is_the_programs_own(start: Start, home: Path) -> None:
    done = start(CALL + "raise RuntimeError('its own')\n")
    assert done.returncode == 1
    assert done.stderr.rstrip().endswith("RuntimeError: its own")
    assert len(spooled(home)) == 1


@pytest.mark.parametrize(
    ("end", "code"),
    [
        ("os._exit(3)", 3),
        ("os.kill(os.getpid(), signal.SIGTERM)", -signal.SIGTERM),
        ("os.kill(os.getpid(), signal.SIGKILL)", -signal.SIGKILL),
        ("signal.signal(signal.SIGINT, signal.SIG_DFL); os.kill(os.getpid(), signal.SIGINT)", -signal.SIGINT),
    ],
)
def test_no_end_loses_what_had_ended(start: Start, home: Path, end: str, code: int) -> None:
    assert start(f"import os, signal\n{CALL}{end}\n").returncode == code
    assert len(spooled(home)) == 1


def test_only_its_owner_may_read_the_spool(start: Start, home: Path) -> None:
    start(CALL)
    folder = home / "spool" / "python"
    (file,) = folder.iterdir()
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_children_write_files_of_their_own(start: Start, home: Path) -> None:
    text = f"""
import os, subprocess, sys
{CALL}
if os.fork() == 0:
    {"; ".join(CALL.split(chr(10))[:2])}
    os._exit(0)
os.wait()
subprocess.run([sys.executable, "-c", {CALL!r}], check=True)
"""
    assert start(text).returncode == 0
    assert len(spooled(home)) == 3
    assert len(list((home / "spool" / "python").iterdir())) == 3


def test_a_program_that_closes_all_files_is_still_recorded(start: Start, home: Path) -> None:
    """And what it opens with the same number afterwards stays its own."""
    text = f"import os\n{CALL}os.closerange(3, 256)\nmine = open('mine', 'w')\nClient().create()\nmine.close()\n"
    done = start(text + "print(os.path.getsize('mine'))\n")
    assert done.stdout == "0\n"
    assert len(spooled(home)) == 2


OWN_SETUP = """
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
early = trace.get_tracer("early")
before = trace.get_tracer_provider()
with early.start_as_current_span("before"):
    pass
memory = InMemorySpanExporter()
provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(memory))
trace.set_tracer_provider(provider)
with early.start_as_current_span("after"):
    pass
print(isinstance(before, trace.ProxyTracerProvider), trace.get_tracer_provider() is provider)
"""
SAY = "print([(span.name, dict(span.attributes).get('text')) for span in memory.get_finished_spans()])\n"


def test_the_programs_own_set_up_is_untouched(start: Start, home: Path) -> None:
    done = start(OWN_SETUP + CALL + SAY)
    assert done.stdout == "True True\n[('after', None)]\n"
    assert "Overriding" not in done.stderr
    # What nobody would have heard, what its own exporter heard, and what only we have asked for.
    assert [span.name for span in spooled(home)] == ["before", "after", "chat m"]


def test_what_the_program_instruments_itself_is_left_to_it(start: Start, home: Path) -> None:
    """Also after we had, also by another instrumentation, and with the texts that it had asked for."""
    own = "from openinference.instrumentation.openai import OtherInstrumentor\nOtherInstrumentor().instrument()\n"
    done = start(OWN_SETUP + CALL + own + "Client().create()\n" + SAY)
    assert done.stdout == "True True\n[('after', None), ('chat m', 'unset')]\n"
    assert [span.source.scope_name for span in spooled(home)[2:]] == [OFFICIAL[1], OPENINFERENCE[1]]


def test_what_the_program_has_instrumented_before_is_left_to_it(start: Start, home: Path) -> None:
    own = "from openinference.instrumentation.openai import OtherInstrumentor\nOtherInstrumentor().instrument()\n"
    start(own + CALL)
    assert [span.source.scope_name for span in spooled(home)] == [OPENINFERENCE[1]]


@pytest.mark.parametrize(
    ("content", "text"), [("none", "NO_CONTENT"), ("redacted", "SPAN_ONLY"), ("full", "SPAN_ONLY")]
)
def test_texts_are_recorded_as_the_setting_says(start: Start, home: Path, content: str, text: str) -> None:
    start(CALL, TACHOGRAPH_CONTENT=content)
    assert [span.attributes["text"] for span in spooled(home)] == [text]


def test_what_the_user_has_set_stays_set(start: Start, home: Path) -> None:
    start(CALL, **{TEXTS: "EVENT_ONLY"})
    assert [span.attributes["text"] for span in spooled(home)] == ["EVENT_ONLY"]


def test_user_and_tenant_reach_the_ledger(start: Start, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = f"""
from opentelemetry import baggage, context, trace
{CALL}
token = context.attach(baggage.set_baggage("enduser.id", "of-baggage"))
Client().create()
context.detach(token)
with trace.get_tracer("mine").start_as_current_span("request") as span:
    span.set_attribute("enduser.id", "of-span")
    span.set_attribute("tenant.id", "of-span")
    with trace.get_tracer("mine").start_as_current_span("step"):
        Client().create()
"""
    start(text, OTEL_RESOURCE_ATTRIBUTES="enduser.id=of-resource,tenant.id=of-resource", OTEL_SERVICE_NAME="named")
    rows = calls(home, capsys)
    assert {(row["user"], row["tenant"]) for row in rows} == {
        ("of-resource", "of-resource"),
        ("of-baggage", "of-resource"),
        ("of-span", "of-span"),
    }
    assert {row["agent"] for row in rows} == {"named"}


def test_calls_that_stand_alone_are_one_session(start: Start, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    start(CALL + "Client().create()\n")
    rows = calls(home, capsys)
    assert len(rows) == 2
    assert len({row["session_id"] for row in rows}) == 1


CALLBACKS = """
import asyncio
from opentelemetry import trace
framework = trace.get_tracer("opentelemetry.instrumentation.langchain")
library = trace.get_tracer("com.anthropic.sdk.python")

def call(name):
    chat = framework.start_span(name)  # told by a callback: it is nobody's context
    with library.start_as_current_span("call"):
        trace.get_tracer("http").start_span("request").end()
    chat.end()

call("first")
async def both():
    async def one(name):
        chat = framework.start_span(name)
        await asyncio.sleep(0)
        library.start_span("call").end()
        chat.end()
    await asyncio.gather(one("second"), one("third"))
asyncio.run(both())
library.start_span("alone").end()
"""


def test_calls_lie_in_the_step_that_a_callback_told_of(start: Start, home: Path) -> None:
    """Also where two run at once; what lies in them goes along, and what stands alone stays alone."""
    start(CALLBACKS)
    spans = {span.span_id: span for span in spooled(home)}

    def places(name: str) -> set[tuple[str, bool]]:
        found = [(span, spans.get(span.parent_id)) for span in spans.values() if span.name == name]
        return {
            (above.name if above else "", above is None or above.trace_id == span.trace_id) for span, above in found
        }

    assert len(spans) == 8
    assert places("call") == {("first", True), ("second", True), ("third", True)}
    assert places("request") == {("call", True)}
    assert places("alone") == {("", True)}


def test_a_spool_that_cannot_be_written_stops_nothing(start: Start, home: Path) -> None:
    home.mkdir()
    (home / "spool").write_text("", "utf-8")
    done = start(CALL * 5 + "print('done')\n")
    assert (done.returncode, done.stdout) == (0, "done\n")
    assert done.stderr.count("recording stops") == 1


def test_an_instrumentation_that_fails_gives_way_to_the_next(start: Start, site: Path, home: Path) -> None:
    path = site.joinpath(*OFFICIAL[1].split(".")).with_suffix(".py")
    path.write_text("raise ImportError('does not fit')\n", "utf-8")
    assert start(CALL).returncode == 0
    assert [span.source.scope_name for span in spooled(home)] == [OPENINFERENCE[1]]


def test_an_environment_without_opentelemetry(start: Start, tmp_path: Path, home: Path) -> None:
    """Nothing is recorded, the program runs, and the line to install is said."""
    venv.create(tmp_path / "bare", with_pip=False)
    python = tmp_path / "bare" / "bin" / "python"
    site = next((tmp_path / "bare" / "lib").glob("python*")) / "site-packages"
    install(site, "openai", "3.0")
    (site / "openai.py").write_text(LIBRARY, "utf-8")
    done = start(CALL, words=(str(python), "-c", CALL + "print('done')"), PYTHONPATH="")
    assert (done.returncode, done.stdout) == (0, "done\n")
    assert f"-m pip install opentelemetry-sdk {OFFICIAL[0]}" in done.stderr
    assert not spooled(home)


def test_dry_run_says_and_runs_nothing(start: Start) -> None:
    done = start("print('ran')", "--dry-run")
    assert (done.returncode, done.stdout) == (0, "")
    assert "openai 3.0" in done.stderr
    assert "no server runs" in done.stderr


def test_quiet(start: Start) -> None:
    done = start("print('ran')", "--quiet")
    assert (done.stdout, done.stderr) == ("ran\n", "")


def test_what_cannot_be_run(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run"]) == 2
    assert main(["run", "--", "no-such-program"]) == 2
    assert "no-such-program" in capsys.readouterr().err


def test_a_program_that_is_no_python(start: Start) -> None:
    done = start("", words=("sh", "-c", "echo said; exit 5"))
    assert (done.returncode, done.stdout) == (5, "said\n")


def test_what_opentelemetry_instrument_starts_sends_here(start: Start, tmp_path: Path) -> None:
    """Its own place in the interpreter is left to it; what the user has set stays."""
    program = tmp_path / "opentelemetry-instrument"
    program.write_text(
        '#!/bin/sh\necho "$OTEL_EXPORTER_OTLP_ENDPOINT $OTEL_TRACES_EXPORTER $TACHOGRAPH_RUN"\n', "utf-8"
    )
    program.chmod(0o755)
    done = start("", words=(str(program), "python", "agent.py"), OTEL_TRACES_EXPORTER="mine")
    assert done.stdout == "http://127.0.0.1:4318 mine \n"


# --- env ------------------------------------------------------------------------------------------------------------


def test_env_is_what_a_shell_takes(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TACHOGRAPH_INGEST_TOKEN", "a-token-that-is-long")
    monkeypatch.setenv("TACHOGRAPH_OTLP_HTTP", "4999")
    assert main(["env", "--json"]) == 0
    told: dict[str, str] = json.loads(capsys.readouterr().out)
    assert main(["env"]) == 0
    script = capsys.readouterr().out + "env\n"
    done = subprocess.run(["sh"], input=script, capture_output=True, text=True, env={}, check=True)
    taken = dict(line.split("=", 1) for line in done.stdout.splitlines())
    assert told.items() <= taken.items()
    assert told["OTEL_EXPORTER_OTLP_ENDPOINT"] == "http://127.0.0.1:4999"
    assert told["OTEL_EXPORTER_OTLP_HEADERS"] == "Authorization=Bearer%20a-token-that-is-long"
    assert told["CLAUDE_CODE_ENABLE_TELEMETRY"] == "1"
    assert told["OTEL_LOG_USER_PROMPTS"] == "1"


def test_env_without_content(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TACHOGRAPH_CONTENT", "none")
    assert main(["env", "--json"]) == 0
    told: dict[str, str] = json.loads(capsys.readouterr().out)
    assert "OTEL_LOG_USER_PROMPTS" not in told
    assert told["TRACELOOP_TRACE_CONTENT"] == "false"


@pytest.mark.parametrize(
    ("shell", "line"),
    [
        ("fish", "set -gx OTEL_TRACES_EXPORTER otlp;"),
        ("powershell", "$Env:OTEL_TRACES_EXPORTER = 'otlp'"),
        ("cmd", 'set "OTEL_TRACES_EXPORTER=otlp"'),
    ],
)
def test_env_for_other_shells(capsys: pytest.CaptureFixture[str], shell: str, line: str) -> None:
    assert main(["env", "--shell", shell]) == 0
    assert line in capsys.readouterr().out.splitlines()


def test_env_without_a_door(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TACHOGRAPH_OTLP_HTTP", "off")
    assert main(["env"]) == 2
    assert "otlp_http" in capsys.readouterr().err
