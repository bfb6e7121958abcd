"""Sends steps to PostHog as events of its LLM analytics; settings as those of its extension for Pi."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from tachograph.config import BadValueError
from tachograph.destinations import Destination, Option, base_url, made, one_of, parse, seconds, text, truth
from tachograph.errors import Busy, ConfigError, Rejected
from tachograph.forwarders import posthog_events, steps
from tachograph.forwarders.contract import STEPS, Accepted, Item, Memory, Part, Step
from tachograph.forwarders.posthog_windows import Windows

if TYPE_CHECKING:
    from tachograph.forwarders.http import HttpClient

NAME: Final = "posthog"
CLOUD: Final = "https://us.i.posthog.com"
# Addresses that people see in their browser, and PostHog's own clients replace as well.
_PAGES: Final = {
    "https://app.posthog.com": CLOUD,
    "https://us.posthog.com": CLOUD,
    "https://eu.posthog.com": "https://eu.i.posthog.com",
}
_PATHS: Final = {"events": "/batch/", "large": "/i/v0/ai/batch/"}
_PROBE_PATH: Final = "/flags/?v=2"
_PARTS_MAX: Final = 250
_BYTES_MAX: Final = 5 * 1024 * 1024  # of a request, as PostHog's own clients
_EVENT_BYTES: Final = 900 * 1024  # above, an event is dropped from /batch/ without a word
_LARGE_BYTES: Final = 8 * 1000 * 1000  # and above, from the other
_MINUTE_NS: Final = 60_000_000_000
_JSON: Final = {"content-type": "application/json"}


def project_key(value: Any) -> str:
    """A project's key; a personal one is another thing, and secret."""
    given = text(value)
    if given.startswith("phx_"):
        raise BadValueError("the key of a project (phc_...), not of a person")
    return given


def host(value: Any) -> str:
    """An address; of PostHog's own pages, the one that takes events beside it."""
    given = base_url(value)
    return _PAGES.get(given, given)


def pairs(value: Any) -> dict[str, str]:
    """A table of texts, or one text: `name:value,name:value`."""
    if isinstance(value, str):
        given = [one.partition(":") for one in value.split(",") if one.strip()]
        if any(not sign or not name.strip() for name, sign, _ in given):
            raise BadValueError("name:value,name:value")
        return {name.strip(): said.strip() for name, _, said in given}
    if isinstance(value, dict) and all(isinstance(one, str) for one in value.values()):
        return dict(value)
    raise BadValueError("a table of texts, or name:value,name:value")


def number(value: Any) -> float:
    """A number above 0, also as a text."""
    try:
        given = 0.0 if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        given = 0.0
    if not 0 < given < 1e9:
        raise BadValueError("a number above 0")
    return given


def length(value: Any) -> int:
    """A whole number above 0, also as a text."""
    given = number(value)
    if given != int(given):
        raise BadValueError("a whole number above 0")
    return int(given)


OPTIONS: Final = (
    Option("api_key", "text", None, project_key, "The project's key.", 'api_key = "phc_..."', is_secret=True),
    Option("host", "URL", CLOUD, host, "Where PostHog is: its cloud (US) if not said.", f'host = "{CLOUD}"'),
    Option("privacy_mode", "true or false", False, truth, "Whether texts and errors stay here.", "privacy_mode = true"),
    Option(
        "trace_grouping",
        "mode",
        "message",
        one_of("message", "session"),
        "What one trace is: a prompt (message), or a session.",
        'trace_grouping = "session"',
    ),
    Option(
        "session_window_minutes",
        "number",
        60,
        number,
        "After so long without a step, a session counts as a new one.",
        "session_window_minutes = 60",
    ),
    Option("project_name", "text", "the session's", text, "`$ai_project_name`.", 'project_name = "web"'),
    Option(
        "agent_name",
        "text",
        "the project, and /name of a sub-agent",
        text,
        "`$ai_agent_name`.",
        'agent_name = "coder"',
    ),
    Option("tags", "table or text", "none", pairs, "Properties of every event.", 'tags = "team:core,tier:gold"'),
    Option(
        "max_attribute_length",
        "characters",
        12_000,
        length,
        "How long a text in a tool's input or output may be.",
        "max_attribute_length = 12000",
    ),
    Option("distinct_id", "text", "the user", text, "Whose events these are.", 'distinct_id = "build-bot"'),
    Option("timeout", "seconds", 10, seconds, "How long a request may take, with its answer.", "timeout = 5"),
    Option("certificate", "path", "the system's", text, "Authorities to trust (PEM).", 'certificate = "/etc/ca.pem"'),
)
_SETTINGS: Final = (
    *("api_key", "host", "trace_grouping", "session_window_minutes", "project_name", "agent_name", "tags"),
    *("max_attribute_length", "distinct_id"),
)


def from_environment(environ: Mapping[str, str]) -> Destination | None:
    """The destination that `POSTHOG_*` names, None where there is no `POSTHOG_API_KEY`."""
    environ = {name: value for name, value in environ.items() if value.strip()}
    if not environ.get("POSTHOG_API_KEY"):
        return None
    options = {option.name: option for option in OPTIONS}
    values: dict[str, Any] = {}
    for name in _SETTINGS:
        variable = f"POSTHOG_{name.upper()}"
        if environ.get(variable):
            values[name] = parse(options[name], environ[variable], variable)
    # These two words and no others count, as they do for PostHog's extension.
    values["enabled"] = environ.get("POSTHOG_ENABLED") != "false"
    if environ.get("POSTHOG_PRIVACY_MODE") == "true":
        values["privacy_mode"], values["privacy"] = True, "none"
    return made(NAME, NAME, "POSTHOG_API_KEY", values)


def address(destination: Destination) -> str:
    """Where it sends, to show."""
    from tachograph.forwarders.http import shown  # with no destination it is not needed

    return shown(destination.options.get("host", CLOUD))


def make(destination: Destination, environment: Mapping[str, str]) -> PostHog:
    """A forwarder to the destination; raises ConfigError where the key is missing."""
    from tachograph.forwarders.http import TIMEOUT_S, HttpClient  # as in `address`
    from tachograph.forwarders.tls import Tls

    options = destination.options
    if not options.get("api_key"):
        raise ConfigError(f"{destination.where}: got no api_key; expected the project's", 'api_key = "phc_..."')
    client = HttpClient(
        options.get("host", CLOUD),
        timeout_s=options.get("timeout", TIMEOUT_S),
        tls=Tls(authority=options.get("certificate", "")),
        environment=environment,
    )
    shaping = posthog_events.Shaping(
        is_private=options.get("privacy_mode", False) or destination.privacy == "none",
        trace_grouping=options.get("trace_grouping", "message"),
        project_name=options.get("project_name", ""),
        agent_name=options.get("agent_name", ""),
        distinct_id=options.get("distinct_id", ""),
        tags=options.get("tags", {}),
        max_attribute_length=options.get("max_attribute_length", 12_000),
    )
    return PostHog(client, options["api_key"], shaping, options.get("session_window_minutes", 60))


class PostHog:
    """One PostHog project."""

    feeds: tuple[str, ...] = (STEPS,)
    derived_signal = "traces"
    takes_changes = False  # an event is there for ever
    parts_max = _PARTS_MAX
    bytes_max = _BYTES_MAX

    def __init__(
        self, client: HttpClient, api_key: str, shaping: posthog_events.Shaping, window_minutes: float
    ) -> None:
        self._client = client
        self._api_key = api_key
        self._shaping = shaping
        self._silence_ns = round(window_minutes * _MINUTE_NS)

    def convert(self, items: Sequence[Item], memory: Memory) -> list[Part]:
        """Forwarder.convert."""
        windows = Windows(memory, self._silence_ns)
        parts = []
        for item in items:
            if isinstance(item.record, Step):
                for event in posthog_events.events(item.record, windows.name(item.record), self._shaping):
                    body = self._encoded(event)
                    route = "events" if len(body) <= _EVENT_BYTES else "large"
                    parts.append(Part(item, route, body, len(body)))
        windows.keep()
        return parts

    def _encoded(self, event: dict[str, Any]) -> bytes:
        body = steps.to_json(event).encode()
        if len(body) > _LARGE_BYTES:
            longest = self._shaping.max_attribute_length
            cut = {name: posthog_events.cut(value, longest) for name, value in event["properties"].items()}
            body = steps.to_json(event | {"properties": cut}).encode()
        return body

    def send(self, route: str, parts: Sequence[Part]) -> Accepted:
        """Forwarder.send."""
        key = steps.to_json(self._api_key).encode()
        body = b'{"api_key":%b,"batch":[%b]}' % (key, b",".join(part.value for part in parts))
        return self._post(_PATHS[route], body)

    def probe(self) -> Accepted:
        """Forwarder.probe: a question about feature flags, which is answered only with a key that is right."""
        return self._post(_PROBE_PATH, steps.to_json({"api_key": self._api_key, "distinct_id": NAME}).encode())

    def _post(self, path: str, body: bytes) -> Accepted:
        try:
            return Accepted(str(self._client.post(path, body, _JSON)))
        except (Busy, Rejected, ConfigError) as error:
            error.what = error.what.replace(self._api_key, "[redacted]")  # some answers repeat the key they refuse
            error.args = (error.what,)
            raise

    def close(self) -> None:
        """Forwarder.close."""
        self._client.close()
