"""Real Python frameworks under `tachograph run` against a scripted provider: what the ledger has is what was billed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import venv
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from fake_llm import FakeLlm
from programs import cache, unavailable
from tachograph.cli import main

pytestmark = [
    pytest.mark.clients,
    pytest.mark.skipif(os.environ.get("TACHOGRAPH_CLIENTS_REQUIRED") != "1", reason="it installs gigabytes"),
]

SCENARIO: dict[str, Any] = {
    "steps_without_tools": True,
    "match": {
        "weather": [{"tools": [{"names": ["get_weather"], "input": {"city": "Paris"}}]}, {"text": "It is sunny."}],
        "handoff": [{"tools": [{"names": ["transfer_to_math_agent"], "input": {}}]}, {"text": "The answer is 42."}],
        "fails": [{"error": {"status": 400, "times": 99}}],
    },
    "default": [{"text": "A short answer."}],
}
SDK = "opentelemetry-sdk==1.45.2"
OFFICIAL_OPENAI = "opentelemetry-instrumentation-genai-openai==1.3b0"
OFFICIAL_ANTHROPIC = "opentelemetry-instrumentation-genai-anthropic==1.3b0"


class Framework(NamedTuple):
    """What is installed, the program, and what stands in its tree beside the calls."""

    packages: tuple[str, ...]
    program: str
    tools: int = 0  # tool runs in the trees


WEATHER = '''
def get_weather(city: str) -> str:
    """The weather of a city."""
    return "sunny"
'''

SDKS = """
import anthropic, openai
a = anthropic.Anthropic(max_retries=0)
said = [{"role": "user", "content": "hello"}]
a.messages.create(model="claude-sonnet-4-5", max_tokens=9, messages=said)
with a.messages.stream(model="claude-sonnet-4-5", max_tokens=9, messages=said) as stream:
    for text in stream.text_stream:
        pass
o = openai.OpenAI(max_retries=0)
o.chat.completions.create(model="gpt-4o-mini", messages=said)
for chunk in o.chat.completions.create(
    model="gpt-4o-mini", messages=said, stream=True, stream_options={"include_usage": True}
):
    pass
o.responses.create(model="gpt-4o-mini", input="hello")
try:
    o.chat.completions.create(model="gpt-4o-mini", messages=[{"role": "user", "content": "this fails"}])
except openai.BadRequestError:
    pass
"""
AGENTS = f"""
import asyncio
from agents import Agent, Runner, function_tool, set_tracing_disabled
{WEATHER}
math = Agent(name="Math Agent", instructions="calculate", model="gpt-4o-mini")
triage = Agent(
    name="Triage Agent", instructions="help", tools=[function_tool(get_weather)], handoffs=[math], model="gpt-4o-mini"
)
async def run():
    await Runner.run(triage, "the weather in Paris?")
    await Runner.run(triage, "a handoff please")
    streamed = Runner.run_streamed(triage, "the weather in Paris?")
    async for event in streamed.stream_events():
        pass
asyncio.run(run())
"""
LANGCHAIN = f"""
from langchain.agents import create_agent
from langchain_anthropic import ChatAnthropic
from langchain_core.prompts import ChatPromptTemplate
from langchain_openai import ChatOpenAI
{WEATHER}
openai = ChatOpenAI(model="gpt-4o-mini", stream_usage=True)
anthropic = ChatAnthropic(model="claude-sonnet-4-5")
(ChatPromptTemplate.from_template("tell a {{x}}") | openai).invoke({{"x": "joke"}})
for model in (openai, anthropic):
    agent = create_agent(model, [get_weather])
    said = {{"messages": [("user", "the weather in Paris?")]}}
    agent.invoke(said, {{"configurable": {{"thread_id": "a thread"}}, "metadata": {{"user_id": "a user"}}}})
    for chunk in model.stream("hello"):
        pass
"""
LLAMA_INDEX = f"""
import asyncio
from llama_index.core.agent.workflow import FunctionAgent
from llama_index.core.llms import ChatMessage
from llama_index.llms.openai import OpenAI
{WEATHER}
llm = OpenAI(model="gpt-4o-mini")
llm.chat([ChatMessage(role="user", content="hello")])
async def run():
    await FunctionAgent(tools=[get_weather], llm=llm, streaming=False).run("the weather in Paris?")
asyncio.run(run())
"""
HAYSTACK = f"""
from haystack import Pipeline
from haystack.components.agents import Agent
from haystack.components.builders import ChatPromptBuilder
from haystack.components.generators.chat import OpenAIChatGenerator
from haystack.dataclasses import ChatMessage
from haystack.tools import tool
{WEATHER}
pipeline = Pipeline()
prompt = [ChatMessage.from_user("tell a {{{{x}}}}")]
pipeline.add_component("prompt", ChatPromptBuilder(template=prompt, required_variables=["x"]))
pipeline.add_component("llm", OpenAIChatGenerator(model="gpt-4o-mini"))
pipeline.connect("prompt.prompt", "llm.messages")
pipeline.run({{"prompt": {{"x": "joke"}}}})
agent = Agent(chat_generator=OpenAIChatGenerator(model="gpt-4o-mini"), tools=[tool(get_weather)])
agent.run(messages=[ChatMessage.from_user("the weather in Paris?")])
"""
CREWAI = f"""
from crewai import Agent, Crew, LLM, Task
from crewai.tools import tool
{WEATHER}
llm = LLM(model="openai/gpt-4o-mini")
told = dict(goal="help", backstory="an expert", llm=llm)
researcher, writer = Agent(role="Researcher", tools=[tool(get_weather)], **told), Agent(role="Writer", **told)
tasks = [
    Task(description="What is the weather in Paris?", expected_output="a text", agent=researcher),
    Task(description="Write a haiku.", expected_output="a text", agent=writer),
]
Crew(agents=[researcher, writer], tasks=tasks).kickoff()
"""
PYDANTIC_AI = f"""
from pydantic_ai import Agent
{WEATHER}
for model in ("openai-chat:gpt-4o-mini", "anthropic:claude-sonnet-4-5"):
    agent = Agent(model, name="weather_agent")
    agent.tool_plain(get_weather)
    agent.run_sync("the weather in Paris?")
"""
# It sets OpenTelemetry up itself, and instruments by itself what would else be instrumented by us.
LOGFIRE = f"""
import logfire
logfire.configure(send_to_logfire=False, console=False)
logfire.instrument_pydantic_ai()
logfire.instrument_openai()
{PYDANTIC_AI}
"""

LANGCHAIN_PACKAGES = ("langchain==1.4.7", "langgraph==1.2.22", "langchain-openai==1.7.3", "langchain-anthropic==1.7.7")
FRAMEWORKS = {
    "sdks": Framework(("anthropic==2.11.0", "openai==3.52.0", SDK, OFFICIAL_OPENAI, OFFICIAL_ANTHROPIC), SDKS),
    "sdks-openllmetry": Framework(
        (
            *("anthropic==2.11.0", "openai==3.52.0", SDK),
            *("opentelemetry-instrumentation-openai==0.62.4", "opentelemetry-instrumentation-anthropic==0.62.4"),
        ),
        SDKS,
    ),
    "openai-agents": Framework(
        ("openai-agents==0.24.0", SDK, "opentelemetry-instrumentation-openai-agents==0.62.4", OFFICIAL_OPENAI),
        AGENTS,
        2,
    ),
    "langchain": Framework((*LANGCHAIN_PACKAGES, SDK, "opentelemetry-instrumentation-langchain==0.62.4"), LANGCHAIN, 2),
    "langchain-openinference": Framework(
        (
            *(*LANGCHAIN_PACKAGES, SDK, "openinference-instrumentation-langchain==0.1.80"),
            *(OFFICIAL_OPENAI, OFFICIAL_ANTHROPIC),
        ),
        LANGCHAIN,
        2,
    ),
    "llama-index": Framework(
        (
            *("llama-index-core==0.14.25", "llama-index-llms-openai==0.8.3", SDK),
            *("openinference-instrumentation-llama-index==4.6.1", OFFICIAL_OPENAI),
        ),
        LLAMA_INDEX,
        1,
    ),
    "haystack": Framework(
        ("haystack-ai==3.4.0", SDK, "openinference-instrumentation-haystack==0.1.46", OFFICIAL_OPENAI), HAYSTACK
    ),
    "pydantic-ai": Framework(("pydantic-ai-slim[openai,anthropic]==2.68.0", SDK), PYDANTIC_AI, 2),
    "logfire": Framework(("pydantic-ai-slim[openai,anthropic]==2.68.0", "logfire==5.2.0", OFFICIAL_OPENAI), LOGFIRE, 2),
    "crewai": Framework(
        ("crewai==1.15.30", SDK, "openinference-instrumentation-crewai==1.1.21", OFFICIAL_OPENAI), CREWAI, 1
    ),
}


def environment_of(name: str, packages: tuple[str, ...]) -> Path:
    """The Python of an environment with these packages, made once."""
    folder = cache() / f"python-{name}-{sys.version_info[0]}.{sys.version_info[1]}"
    python = folder / "bin" / "python"
    if (folder / "installed.json").is_file():
        return python
    made = Path(tempfile.mkdtemp(prefix=f"{folder.name}-", dir=cache()))
    venv.create(made, with_pip=True)
    install = [str(made / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    done = subprocess.run([*install, *packages], capture_output=True, text=True, check=False)
    if done.returncode:
        shutil.rmtree(made)
        unavailable(f"pip install {' '.join(packages)}: {done.stderr.strip()[-300:]}")
    (made / "installed.json").write_text(json.dumps(packages), "utf-8")
    try:
        made.rename(folder)
    except OSError:
        shutil.rmtree(made)  # another run was quicker
    return python


def billed(llm: FakeLlm) -> Counter[tuple[int, int]]:
    """Input and output tokens of every answer."""
    usages = [record["usage"] for record in llm.billed if record["status"] == 200]
    return Counter((use["input"] + use["cache_read"] + use["cache_write"], use["output"]) for use in usages)


def rows_of(query: str, capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    capsys.readouterr()
    assert main(["sql", query, "--json"]) == 0
    rows: list[dict[str, Any]] = json.loads(capsys.readouterr().out)
    return rows


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_the_ledger_has_what_was_billed(
    name: str, tmp_path: Path, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    framework = FRAMEWORKS[name]
    python = environment_of(name, framework.packages)
    program = tmp_path / "my_agent.py"
    program.write_text(f"{framework.program}\nprint('done')\nraise SystemExit(3)\n", "utf-8")
    with FakeLlm(SCENARIO) as llm:
        variables = {
            "OPENAI_BASE_URL": f"{llm.url}/v1",
            "OPENAI_API_BASE": f"{llm.url}/v1",
            "OPENAI_API_KEY": "key",
            "ANTHROPIC_BASE_URL": llm.url,
            "ANTHROPIC_API_KEY": "key",
            "OTEL_RESOURCE_ATTRIBUTES": "enduser.id=someone,tenant.id=tenant",
            # They would report to their makers.
            "OPENAI_AGENTS_DISABLE_TRACING": "0",
            "CREWAI_DISABLE_TELEMETRY": "true",
            "HAYSTACK_TELEMETRY_ENABLED": "false",
        }
        command = [sys.executable, "-m", "tachograph", "run", "--", str(python), str(program)]
        done = subprocess.run(
            command, env={**os.environ, **variables}, cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert done.returncode == 3, done.stderr
        assert done.stdout.endswith("done\n")
        assert "is not recorded" not in done.stderr
        truth, failed = billed(llm), sum(record["status"] == 400 for record in llm.billed)
    assert truth
    assert main(["replay", str(home / "spool")]) == 0
    calls = rows_of("SELECT * FROM calls", capsys)
    assert Counter((c["input_tokens"], c["output_tokens"]) for c in calls if not c["error_type"]) == truth
    assert sum(bool(call["error_type"]) for call in calls) == failed
    assert {call["agent"] for call in calls} == {"my_agent"}
    assert {(call["tenant"]) for call in calls} == {"tenant"}
    assert {(call["user"]) for call in calls} <= {"someone", "a user"}
    tools = rows_of("SELECT tool_name FROM spans WHERE role = 'tool_run'", capsys)
    assert [row["tool_name"] for row in tools].count("get_weather") == framework.tools
