"""Which Python a command runs on, what is chosen for its environment, and what the recorder writes down."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tachograph.errors import ConfigError, Rejected
from tachograph.instrumentation import beside, interpreters, planning
from tachograph.instrumentation.injected.tachograph_guest import imports, spans, spool
from tachograph.instrumentation.interpreters import Interpreter
from tachograph.instrumentation.libraries import LIBRARIES, SDK
from tachograph.receivers import otlp_file

# --- the Python of a command ----------------------------------------------------------------------------------------


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    """A folder of programs: a Python, scripts that name it in the ways of pip and uv, and one that is none."""
    folder = tmp_path / "bin"
    folder.mkdir()
    python = folder / "python3"
    texts = {
        "python3": "",
        "entry": f"#!{python}\nimport sys\n",
        "long": f"#!/bin/sh\n'''exec' \"{python}\" \"$0\" \"$@\"\n' '''\nimport sys\n",
        "env-script": "#!/usr/bin/env python3\n",
        "env-words": "#!/usr/bin/env -S python3 -u\n",
        "shell": "#!/bin/sh\npython3 agent.py\n",
        "empty": "",
    }
    for name, text in texts.items():
        (folder / name).write_text(text, "utf-8")
        (folder / name).chmod(0o755)
    return folder


@pytest.mark.parametrize("name", ["python3", "entry", "long", "env-script", "env-words", "shell", "empty", "absent"])
def test_the_python_of_a_program(programs: Path, name: str) -> None:
    """Where nothing says which, it is the first one of the path."""
    assert interpreters.words_to_python([name, "x"], str(programs)) == [str(programs / "python3")]


def test_no_python_at_all(tmp_path: Path) -> None:
    assert interpreters.words_to_python(["make"], str(tmp_path)) == []
    assert interpreters.words_to_python([], str(tmp_path)) == []


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("uv run agent.py", "uv run python"),
        ("uv run --with openai python agent.py", "uv run --with openai python"),
        ("uv run -m agent", "uv run python"),
        ("uv --project x run agent", "uv --project x run python"),
        ("poetry run python -m agent", "poetry run python"),
        ("pdm run serve", "pdm run python"),
        ("env A=1 uv run agent.py", "uv run python"),
    ],
)
def test_the_python_behind_a_runner(command: str, words: str, tmp_path: Path) -> None:
    assert interpreters.words_to_python(command.split(), str(tmp_path)) == words.split()


@pytest.mark.parametrize(
    ("command", "name"),
    [
        ("python agent.py --x y.py", "agent"),
        ("/usr/bin/python3 -u src/my_agent.py", "my_agent"),
        ("python -m my.agent run", "my.agent"),
        ("uvicorn app:app", "uvicorn"),
        ("uv run agent.py", "agent"),
        ("uv run serve", "serve"),
        ("env A=b agent.exe", "agent"),
    ],
)
def test_name_of_a_program(command: str, name: str) -> None:
    assert interpreters.name_of(command.split()) == name


@pytest.mark.parametrize(
    ("command", "is_isolated"),
    [
        ("python -I agent.py", True),
        ("python -uE agent.py", True),
        ("env A=b python3.12 -S -m agent", True),
        ("python agent.py -I", False),
        ("python -c I", False),
        ("python --version", False),
        ("agent -I", False),
    ],
)
def test_is_isolated(command: str, is_isolated: bool) -> None:
    assert interpreters.is_isolated(command.split()) == is_isolated


def test_a_python_says_what_it_has(tmp_path: Path) -> None:
    """Whatever lies in the folder that it is asked in, and whatever else it says."""
    (tmp_path / "json.py").write_text("raise SystemExit(1)", "utf-8")
    (tmp_path / "sitecustomize.py").write_text("print('hello')", "utf-8")
    told = interpreters.ask([sys.executable], {**os.environ, "PYTHONPATH": str(tmp_path)})
    assert told is None  # a broken environment answers nothing, and that is no error
    (tmp_path / "json.py").unlink()
    told = interpreters.ask([sys.executable], {**os.environ, "PYTHONPATH": str(tmp_path)})
    assert told is not None
    assert told.version == sys.version_info[:3]
    assert told.prefix == os.path.realpath(sys.prefix)
    assert "opentelemetry-sdk" in told.packages


@pytest.mark.parametrize("words", [["no-such-program"], ["false"], ["echo", "@tachograph {"]])
def test_what_does_not_answer(words: list[str]) -> None:
    assert interpreters.ask(words, os.environ) is None


# --- what is chosen -------------------------------------------------------------------------------------------------


def environment_with(*packages: str) -> Interpreter:
    """An environment with these packages; those that are candidates have their entry points."""
    known = {one.package: one.module for library in LIBRARIES for one in library.candidates}
    entries = [(f"{known[package]}:Instrumentor", package) for package in packages if package in known]
    return Interpreter((3, 12, 1), "/prefix", "/prefix/bin/python", dict.fromkeys(packages, "1.0"), entries)


def test_nothing_to_record() -> None:
    plan = planning.choose(environment_with("requests"))
    assert (plan.choices, plan.missing) == ((), ())


def test_of_several_instrumentations_one_is_chosen() -> None:
    every = [one.package for library in LIBRARIES for one in library.candidates if library.name == "openai"]
    plan = planning.choose(environment_with("openai", SDK, *reversed(every)))
    (choice,) = plan.choices
    assert [one.package for one, _ in choice.candidates] == every
    assert plan.missing == ()


def test_what_is_missing() -> None:
    plan = planning.choose(environment_with("openai", "crewai"))
    assert plan.missing == (
        "opentelemetry-sdk",
        "opentelemetry-instrumentation-genai-openai",
        "openinference-instrumentation-crewai",
    )


def test_what_another_library_tells_is_not_missing() -> None:
    plan = planning.choose(environment_with("openai", "anthropic", "pydantic-ai-slim", SDK))
    assert plan.missing == ()
    assert {choice.library.name: choice.within for choice in plan.choices} == {
        "anthropic": "pydantic-ai",
        "openai": "pydantic-ai",
        "pydantic-ai": "",
    }


def test_the_plan_for_the_recorder(tmp_path: Path) -> None:
    plan = planning.choose(environment_with("openai", "pydantic-ai", "opentelemetry-instrumentation-openai", SDK))
    for has_content, texts in ((True, "true"), (False, "false")):
        told = msgspec.json.decode(planning.for_recorder(plan, "agent", tmp_path, "1", has_content))
        openai, pydantic_ai = told["libraries"]
        (candidate,) = openai["candidates"]
        assert candidate["entry"] == "opentelemetry.instrumentation.openai:Instrumentor"
        assert candidate["environment"] == {"TRACELOOP_TRACE_CONTENT": texts}
        assert pydantic_ai["candidates"][0]["has_content"] == has_content


def test_the_path_behind_ours_stays() -> None:
    first = planning.environment("{}", {}, ":")["PYTHONPATH"]
    assert planning.environment("{}", {"PYTHONPATH": "a:b"}, ":")["PYTHONPATH"] == f"{first}:a:b"
    assert (Path(first) / "sitecustomize.py").is_file()


# --- beside the program's environment -------------------------------------------------------------------------------


def wheel(folder: Path, name: str, version: str) -> None:
    """A package as an index would give it."""
    folder.mkdir(exist_ok=True)
    module = name.replace("-", "_")
    inside = f"{module}-{version}.dist-info"
    with zipfile.ZipFile(folder / f"{module}-{version}-py3-none-any.whl", "w") as file:
        file.writestr(f"{module}.py", "")
        file.writestr(f"{inside}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        file.writestr(f"{inside}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        file.writestr(f"{inside}/RECORD", "")


def test_what_is_missing_is_installed_beside(tmp_path: Path) -> None:
    """In the version that the environment has, and anew when the environment is another one."""
    for version in ("1.0", "2.0"):
        wheel(tmp_path / "index", "wanted-package", version)
    environ = {**os.environ, "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(tmp_path / "index")}
    there = Interpreter(sys.version_info[:3], sys.prefix, sys.executable, {"pip": "1", "wanted-package": "1.0"})
    assert not beside.is_current(there, tmp_path)
    beside.install(there, ["wanted-package"], tmp_path, environ)
    assert beside.is_current(there, tmp_path)
    folder = beside.folder_of(there, tmp_path)
    assert (folder / "wanted_package.py").is_file()
    assert (folder / "wanted_package-1.0.dist-info").is_dir()
    there.packages["new"] = "1"
    assert not beside.is_current(there, tmp_path)


def test_what_cannot_be_installed(tmp_path: Path) -> None:
    environ = {**os.environ, "PIP_NO_INDEX": "1"}
    there = Interpreter(sys.version_info[:3], sys.prefix, sys.executable, {"pip": "1"})
    with pytest.raises(ConfigError, match="no-such-package"):
        beside.install(there, ["no-such-package"], tmp_path, environ)
    assert not beside.folder_of(there, tmp_path).exists()


# --- the recorder ---------------------------------------------------------------------------------------------------


def test_it_costs_little_where_nothing_is_recorded() -> None:
    """It imports no more than the standard library has, and little of that."""
    text = "import sys; print(*sorted(name for name in sys.modules if '.' not in name))"
    told = planning.for_recorder(planning.choose(environment_with("openai", SDK)), "agent", Path("x"), "1", True)
    recorded = {**os.environ, **planning.environment(told, {}, os.pathsep)}
    outputs = [
        subprocess.run([sys.executable, "-c", text], env=env, capture_output=True, text=True, check=True).stdout
        for env in (dict(os.environ), recorded)
    ]
    more = set(outputs[1].split()) - set(outputs[0].split())
    assert "tachograph_guest" in more
    assert not more & {"opentelemetry", "asyncio", "logging", "socket", "threading", "typing_extensions"}


plain = st.one_of(
    st.text(),
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(),
    st.lists(st.text()),
    st.lists(st.integers(-(2**63), 2**63 - 1)),
    st.lists(st.floats(allow_nan=False)),
)


@given(st.dictionaries(st.text(min_size=1), plain, max_size=5))
def test_spans_are_written_as_they_are(attributes: dict[str, Any]) -> None:
    """A span of the SDK and what is read of its line are the same."""
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider

    provider = TracerProvider(resource=Resource({"service.name": "tested"}), shutdown_on_exit=False)
    span: Any = provider.get_tracer("scope", "1").start_span("name", start_time=10)
    span.set_attributes({**attributes, "session.id": "its own"})
    span.add_event("happened", {"a": 1}, timestamp=11)
    span.end(12)
    lines: list[bytes] = []
    before = spans.record
    spans.record = lines.append
    try:
        spans.write(span)
    finally:
        spans.record = before
    (read,) = read_of(b"".join(lines)).spans
    assert (read.name, read.kind, read.start_ns, read.end_ns) == ("name", 1, 10, 12)
    assert read.trace_id == f"{span.get_span_context().trace_id:032x}"
    assert read.source.resource["service.name"] == "tested"
    assert (read.source.scope_name, read.source.scope_version) == ("scope", "1")
    assert read.events is not None
    assert (read.events[0]["name"], read.events[0]["attributes"]) == ("happened", {"a": 1})
    kept = {key: list(value) if isinstance(value, tuple) else value for key, value in span.attributes.items()}
    assert comparable(read.attributes) == comparable(kept)


def comparable(value: Any) -> Any:
    """With numbers that are none as the model writes them."""
    if isinstance(value, dict) and set(value) != {"$double"}:
        return {key: comparable(one) for key, one in value.items()}
    if isinstance(value, list):
        return [comparable(one) for one in value]
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        return {"$double": {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}[str(value)]}
    return value


def test_long_texts_keep_both_ends() -> None:
    text = "a" * 2_000_000 + "end"
    cut = spans._value(text)["stringValue"]
    assert len(cut) < 1_100_000
    assert cut.startswith("aaa") and cut.endswith("end") and "left out" in cut


def test_the_spool_is_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The oldest files go, which is said; a part that is full is followed by another one."""
    monkeypatch.setattr("os.getpid", lambda: 77)
    folder = tmp_path / "spool"
    folder.mkdir()
    for number in range(3):
        with (folder / f"{number}-1-0.jsonl").open("wb") as file:
            file.truncate(spool.FOLDER_BYTES // 2 - 1)
    one = spool.Spool(str(folder))
    line = b"x" * (spool.PART_BYTES // 2) + b"\n"
    for _ in range(2):
        one.write(line)
    old, new = (sorted(file.name for file in folder.glob(f"*-{pid}-*")) for pid in (1, 77))
    assert old == ["1-1-0.jsonl", "2-1-0.jsonl"]
    assert [name.split("-", 1)[1] for name in new] == ["77-0.jsonl", "77-1.jsonl"]
    assert "0-1-0.jsonl" in capsys.readouterr().err


def test_a_watched_module_is_acted_on_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After it has been executed, also where it is a package, and where an act fails."""
    monkeypatch.syspath_prepend(str(tmp_path))
    package = tmp_path / "watched_package"
    package.mkdir()
    (package / "__init__.py").write_text("from watched_package import part\nvalue = part.value\n", "utf-8")
    (package / "part.py").write_text("value = 1\n", "utf-8")
    seen: list[Any] = []
    imports.after("watched_package", lambda module: seen.append(module.value))
    imports.after("watched_package", lambda module: seen.append(module.missing))
    imports.after("watched_package.part", lambda module: seen.append(module.__name__))
    __import__("watched_package")
    __import__("watched_package")
    assert seen == ["watched_package.part", 1]
    imports.after("watched_package", lambda module: seen.append("at once"))
    assert seen[-1] == "at once"


def test_a_watched_module_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    imports.after("watched_later", lambda module: seen.append(module.__name__))
    with pytest.raises(ModuleNotFoundError):
        __import__("watched_later")
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "watched_later.py").write_text("", "utf-8")
    __import__("watched_later")
    assert seen == ["watched_later"]


# --- the files, read ------------------------------------------------------------------------------------------------

SPAN = (
    b'{"resourceSpans":[{"resource":{},"scopeSpans":[{"spans":[{"traceId":"01010101010101010101010101010101",'
    b'"spanId":"0202020202020202","name":"n","startTimeUnixNano":"1","endTimeUnixNano":"2"}]}]}]}\n'
)


def read_of(data: bytes) -> Any:
    """What is read of a file with this content."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "1-1-0.jsonl"
        path.write_bytes(data)
        return otlp_file.read(path, "")[0]


def test_a_file_is_read_as_it_grows(tmp_path: Path) -> None:
    path = tmp_path / "1-1-0.jsonl"
    path.write_bytes(SPAN + SPAN[:40])
    first, position = otlp_file.read(path, "")
    assert len(first.spans) == 1
    assert otlp_file.read(path, position)[1] == position
    path.write_bytes(SPAN + SPAN)
    second, _ = otlp_file.read(path, position)
    assert len(second.spans) == 1
    assert first.digest != second.digest


def test_lines_that_are_no_requests_are_counted() -> None:
    batch = read_of(b'{}\n{"resourceSpans":[{"scopeSpans":1}]}\nnonsense\n{"resourceSpans":1}\n' + SPAN)
    assert len(batch.spans) == 1
    assert batch.rejected == 4
    assert len(batch.reasons) == 3


def test_logs_and_metrics_are_read() -> None:
    logs = b'{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"timeUnixNano":"5","body":{"stringValue":"b"}}]}]}]}\n'
    metrics = (
        b'{"resourceMetrics":[{"scopeMetrics":[{"metrics":[{"name":"m","gauge":{"dataPoints":'
        b'[{"timeUnixNano":"5","asInt":"1"}]}}]}]}]}\n'
    )
    batch = read_of(logs + metrics)
    assert (len(batch.events), len(batch.points)) == (1, 1)


@given(st.binary(), st.text())
def test_anything_is_read_or_refused(data: bytes, since: str) -> None:
    try:
        read_of(data + b"\n")
        read_of(SPAN[:-2].replace(b'"n"', data) + b"\n")
    except Rejected:
        return


def test_whose_file_it_is() -> None:
    assert otlp_file.is_mine(Path("x"), msgspec.json.decode(SPAN))
    assert not otlp_file.is_mine(Path("x"), {"e": "open"})
    assert not otlp_file.is_mine(Path("x"), {})
