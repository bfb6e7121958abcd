"""A model provider on loopback that says what a script says, and keeps what it billed: the truth of client tests.

A scenario: {"match": {part of a user's prompt: [step, ...]}, "default": [step, ...], "fail": [{"at": n, "status": s}]}.
A step: text, thinking, tools [{"name" or "names", "input" or "inputs" by name}], stop, chunks, first_s (before the
answer), chunk_s (between pieces), drop_after (pieces), hold (after the first piece, until `release`), hang_s, usage,
error {status, body, headers, times, drop_after}.
A prompt may also bring its own steps: `SCRIPT:[...]`. A request without tools is answered with `aux_text`, unless
`steps_without_tools`. Run as a program: `python fake_llm.py --port 18080 --scenario FILE --log FILE`.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import gzip
import hashlib
import json
import re
import socket
import struct
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

import zstandard

from fake_apis import APIS, Answer, Json, Usage

_SECRET = {"authorization", "x-api-key", "x-goog-api-key", "api-key"}
_DONE: Json = {"text": "OK."}


class Turn(NamedTuple):
    """One message of a conversation, whatever API it came by."""

    role: str
    text: str


class Conversation(NamedTuple):
    """What a request says, whatever API it came by."""

    turns: list[Turn]
    tools: list[str]
    system: str


class FakeLlm:
    """The server; use it as a context. `log` holds a record for each request, in order of arrival."""

    def __init__(self, scenario: Json, port: int = 0, log_file: Path | None = None) -> None:
        self.scenario = scenario
        self.log: list[Json] = []
        self._log_file = log_file
        self._lock = threading.Lock()
        self._failures: Counter[str] = Counter()
        self._previous: dict[str, int] = {}
        self._server = ThreadingHTTPServer(("127.0.0.1", port), type("Request", (_Request,), {"llm": self}))
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._gates: dict[str, threading.Event] = {}
        self.stopping = threading.Event()

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    @property
    def billed(self) -> list[Json]:
        """The records of model calls, refused and broken ones included."""
        with self._lock:
            return [record for record in self.log if record["api"] in APIS]

    def __enter__(self) -> FakeLlm:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stopping.set()
        for name in list(self._gates):
            self.release(name)
        self._server.shutdown()
        self._server.server_close()

    def serve(self) -> None:
        """Run until interrupted."""
        self._server.serve_forever()

    def gate(self, name: str) -> threading.Event:
        """What a step with `hold` waits for."""
        with self._lock:
            return self._gates.setdefault(name, threading.Event())

    def release(self, name: str) -> None:
        """Let the answers go on that wait for this."""
        self.gate(name).set()

    def note(self, record: Json) -> Json:
        """Keep a record of a request and give it its number."""
        with self._lock:
            record["n"] = len(self.log) + 1
            self.log.append(record)
        return record

    def write(self, record: Json) -> None:
        """Append a finished record to the log file."""
        if self._log_file is not None:
            with self._lock, self._log_file.open("a", encoding="utf-8") as out:
                out.write(json.dumps(record) + "\n")

    def step(self, said: Conversation) -> Json:
        """The step that is due: as many as tool rounds followed the prompt that a script matches."""
        if not said.tools and not self.scenario.get("steps_without_tools"):
            return {"text": self.scenario.get("aux_text", "Scripted title")}
        steps, at = self._script(said)
        rest = [turn.role for turn in said.turns[at + 1 :]]
        index = sum(role == "tool" and rest[i - 1 : i] != ["tool"] for i, role in enumerate(rest))
        usable = [step for step in steps if _is_usable(step, said.tools)] or [_DONE]
        step = dict(usable[min(index, len(usable) - 1)])
        prompt = said.turns[at].text if 0 <= at < len(said.turns) else ""
        failing = step.pop("error", None)
        if failing is not None and self._is_failing(f"{index} {prompt} {json.dumps(failing)}", failing.get("times", 1)):
            step.update({"drop_after": failing["drop_after"]} if "drop_after" in failing else {"error": failing})
        return step

    def _script(self, said: Conversation) -> tuple[list[Json], int]:
        """The steps of the last prompt that a script matches, and where that prompt stands."""
        prompts = [i for i, turn in enumerate(said.turns) if turn.role == "user"]
        for i in reversed(prompts):
            text = said.turns[i].text
            if "SCRIPT:" in text:
                steps, _ = json.JSONDecoder().raw_decode(text.split("SCRIPT:", 1)[1].lstrip())
                return list(steps), i
            for part, steps in self.scenario.get("match", {}).items():
                if part in text or part in said.system:
                    return list(steps), i
        return list(self.scenario.get("default", [_DONE])), prompts[-1] if prompts else -1

    def _is_failing(self, key: str, times: int) -> bool:
        with self._lock:
            self._failures[key] += 1
            return self._failures[key] <= times

    def usage(self, body: bytes, step: Json, said: Conversation, model: str) -> Usage:
        """Tokens by the length of a request; what the conversation's last request sent is read from the cache."""
        total = max(12, len(body) // 4)
        key = hashlib.sha256(f"{model} {said.system} {said.turns[:1]}".encode()).hexdigest()
        with self._lock:
            read = min(self._previous.get(key, 0), total - 1)
            self._previous[key] = total
        fresh = total - read
        output = sum(len(step.get(name) or "") for name in ("text", "thinking"))
        output += sum(len(json.dumps(tool)) for tool in step.get("tools", []))
        told = {
            "input": fresh - fresh // 2,
            "cache_read": read,
            "cache_write": fresh // 2,
            "output": max(5, output // 4),
            "reasoning": len(step.get("thinking") or "") // 4,
        }
        return Usage(**(told | step.get("usage", {})))


class _Request(BaseHTTPRequestHandler):
    """One connection of a client."""

    llm: FakeLlm
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing on stderr: the log is the record."""

    def handle(self) -> None:
        """Requests until the client goes; one that is killed goes without a word."""
        with contextlib.suppress(ConnectionResetError, BrokenPipeError):
            super().handle()

    def do_GET(self) -> None:
        """The list of models; anything else is not there."""
        self.llm.write(self.llm.note({"t": time.time(), "api": "get", "path": self.path}))
        if (self.headers.get("upgrade") or "").lower() == "websocket":
            return self._json(426, {"error": {"message": "no websockets here", "type": "upgrade_required"}})
        if not self.path.split("?")[0].rstrip("/").endswith("/models"):
            return self._json(404, {"error": {"message": "no such path", "type": "not_found_error"}})
        names = self.llm.scenario.get("models", ["fake-large"])
        listed = [
            {"id": n, "object": "model", "type": "model", "display_name": n, "created": 1_700_000_000} for n in names
        ]
        full = self.llm.scenario.get("models_full", [])
        return self._json(200, {"object": "list", "data": listed, "has_more": False, "models": full})

    def do_POST(self) -> None:
        """A model call, or what belongs to one."""
        body = self._body()
        try:
            request = json.loads(body or b"{}")
        except ValueError:
            return self._json(400, {"error": {"message": "not JSON", "type": "invalid_request_error"}})
        api = _api(self.path.split("?")[0])
        headers = {key.lower(): value for key, value in self.headers.items() if key.lower() not in _SECRET}
        model = request.get("model") or _gemini_model(self.path)
        record = self.llm.note({"t": time.time(), "api": api, "path": self.path, "model": model, "headers": headers})
        record["stream"] = bool(request.get("stream")) or "streamGenerateContent" in self.path
        try:
            self._answer(api, request, body, record)
        except (BrokenPipeError, ConnectionResetError):
            record["status"] = "gone"
        record["t_end"] = time.time()
        self.llm.write(record)
        return None

    def _answer(self, api: str, request: Json, body: bytes, record: Json) -> None:
        if api in ("count_tokens", "countTokens"):
            return self._json(200, {"input_tokens": len(body) // 4, "totalTokens": len(body) // 4})
        if api == "embeddings":
            return self._json(200, _embeddings(request))
        if api not in APIS:
            return self._json(404, {"error": {"message": "no such path", "type": "not_found_error"}})
        said = conversation(api, request)
        record["offered"] = len(said.tools)
        step = self.llm.step(said)
        record["prompt"] = next((turn.text for turn in reversed(said.turns) if turn.role == "user"), "")[-200:]
        listed = [fail for fail in self.llm.scenario.get("fail", []) if fail["at"] == record["n"]]
        failing = listed[0] if listed else step.get("error")
        if failing:
            return self._fail(api, failing, record)
        if step.get("hang_s"):
            record["status"] = "hung"
            self.llm.stopping.wait(step["hang_s"])
            self.close_connection = True
            return None
        return self._speak(api, _answer(self.llm, step, said, request, body, record), step, record)

    def _fail(self, api: str, failing: Json, record: Json) -> None:
        status = failing["status"]
        record["status"] = status
        kind = {429: "rate_limit_error", 529: "overloaded_error", 401: "authentication_error"}.get(status, "api_error")
        error = {"type": kind, "code": kind, "message": f"scripted failure {status}"}
        body = failing.get("body") or ({"type": "error", "error": error} if api == "anthropic" else {"error": error})
        self._json(status, body, failing.get("headers"))

    def _speak(self, api: str, answer: Answer, step: Json, record: Json) -> None:
        """Send the answer, at once or piece by piece; the record says how far it came."""
        form = APIS[api]
        record.update(status=200, usage=answer.usage._asdict(), response_id=form.response_id(answer))
        record["tools"] = [name for _, name, _ in answer.tools]
        if not record["stream"]:
            _wait_first(step)
            return self._json(200, form.whole(answer))
        record["status"] = "gone"  # until all of it was taken
        self._stream_head(answer)
        _wait_first(step)
        sent = 0
        for event in form.stream(answer):
            if event.is_content:
                if sent == step.get("drop_after", -1):
                    return self._drop(record)
                if sent == 1 and "hold" in step:
                    self.llm.gate(step["hold"]).wait()
                sent += 1
                time.sleep(step.get("chunk_s", 0))
            name = f"event: {event.name}\n" if event.name else ""
            data = event.data if isinstance(event.data, str) else json.dumps(event.data)
            self._chunk(f"{name}data: {data}\n\n".encode())
            record.setdefault("t_first", time.time())
        self._chunk(b"")
        record["status"] = 200
        return None

    def _chunk(self, data: bytes) -> None:
        """A piece of a body of unknown length: a client can tell where it broke off. An empty one ends it."""
        self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
        self.wfile.flush()

    def _drop(self, record: Json) -> None:
        """Break the connection in the middle of an answer."""
        record["status"] = "dropped"
        self.close_connection = True
        # Closed at once and without a goodbye: the client sees a reset, as from a proxy that died.
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        socket.close(self.connection.detach())

    def _stream_head(self, answer: Answer) -> None:
        self.send_response(200)
        for name, value in _ids(answer.id).items():
            self.send_header(name, value)
        self.send_header("content-type", "text/event-stream")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        self.wfile.flush()

    def _json(self, status: int, value: Json, headers: dict[str, str] | None = None) -> None:
        body = json.dumps(value).encode()
        self.send_response(status)
        for name, text in {**_ids(f"{len(self.llm.log):06d}"), **(headers or {})}.items():
            self.send_header(name, text)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _body(self) -> bytes:
        if "chunked" in (self.headers.get("transfer-encoding") or "").lower():
            raw = b""
            while size := int(self.rfile.readline().split(b";")[0], 16):
                raw += self.rfile.read(size)
                self.rfile.readline()
            while self.rfile.readline().strip():
                pass
        else:
            raw = self.rfile.read(int(self.headers.get("content-length") or 0))
        packed = self.headers.get("content-encoding")
        if packed == "gzip":
            return gzip.decompress(raw)
        return zstandard.ZstdDecompressor().decompressobj().decompress(raw) if packed == "zstd" else raw


def _answer(llm: FakeLlm, step: Json, said: Conversation, request: Json, body: bytes, record: Json) -> Answer:
    number = record["n"]
    tools = [_chosen(tool, said.tools) for tool in step.get("tools", [])]
    called = [(f"{number:06d}{i}", name, given) for i, (name, given) in enumerate(t for t in tools if t)]
    model = str(record["model"])
    return Answer(
        id=f"{number:06d}",
        model=llm.scenario.get("response_model", {}).get(model, model),
        text=step.get("text") or ("" if called else "Done."),
        thinking=step.get("thinking", ""),
        tools=called,
        stop=step.get("stop", ""),
        chunks=step.get("chunks", 3),
        usage=llm.usage(body, step, said, model),
        request=request,
    )


def _wait_first(step: Json) -> None:
    time.sleep(float(step.get("first_s") or step.get("delay") or 0))


def _ids(number: str) -> dict[str, str]:
    return {"request-id": f"req_{number}", "x-request-id": f"req_{number}"}


def _named(tool: Json, offered: list[str]) -> str | None:
    """The offered tool that a step means: by its name, or by the end of it (MCP clients put a prefix before)."""
    names: list[str] = tool.get("names") or [tool["name"]]
    exact = next((name for name in names if name in offered), None)
    ending = (real for name in names for real in offered if real.lower().endswith(name.lower()))
    return exact or next(ending, None)


def _chosen(tool: Json, offered: list[str]) -> tuple[str, Any] | None:
    """Name and arguments of a call; `is_unknown` calls a tool that nobody offered."""
    name = tool["name"] if tool.get("is_unknown") else _named(tool, offered)
    return None if name is None else (name, tool.get("inputs", {}).get(name, tool.get("input", {})))


def _is_usable(step: Json, offered: list[str]) -> bool:
    tools = step.get("tools") or []
    return not tools or bool(step.get("text")) or any(_chosen(tool, offered) for tool in tools)


def _api(path: str) -> str:
    endings = {"/count_tokens": "count_tokens", "/messages": "anthropic", "/chat/completions": "chat"}
    endings |= {"/responses": "responses", "/embeddings": "embeddings", ":countTokens": "countTokens"}
    endings |= {":generateContent": "gemini", ":streamGenerateContent": "gemini"}
    return next((api for ending, api in endings.items() if path.endswith(ending)), "")


def _gemini_model(path: str) -> str:
    found = re.search(r"models/([^:/]+):", path)
    return found[1] if found else ""


def _embeddings(request: Json) -> Json:
    """Vectors that depend on the text alone."""
    given = request.get("input")
    texts = given if isinstance(given, list) and given and not isinstance(given[0], int) else [given]
    data: list[Json] = []
    for index, text in enumerate(texts):
        digest = hashlib.sha256(json.dumps(text).encode()).digest()
        vector: Any = [(digest[i % 32] - 128) / 128 for i in range(request.get("dimensions") or 8)]
        if request.get("encoding_format") == "base64":
            vector = base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()
        data.append({"object": "embedding", "index": index, "embedding": vector})
    usage = {"prompt_tokens": 7 * len(texts), "total_tokens": 7 * len(texts)}
    return {"object": "list", "model": request.get("model"), "data": data, "usage": usage}


def conversation(api: str, request: Json) -> Conversation:
    """The turns, offered tools and system prompt of a request."""
    read = {"anthropic": _anthropic, "chat": _chat, "responses": _responses, "gemini": _gemini}[api]
    return read(request)


def _text(content: Any) -> str:
    if isinstance(content, str):
        return content
    return "\n".join(part if isinstance(part, str) else part.get("text") or "" for part in content or [])


def _anthropic(request: Json) -> Conversation:
    turns = []
    for message in request.get("messages", []):
        content = message["content"]
        is_result = isinstance(content, list) and any(block.get("type") == "tool_result" for block in content)
        turns.append(Turn("tool" if is_result else message["role"], "" if is_result else _text(content)))
    return Conversation(turns, [str(t.get("name")) for t in request.get("tools") or []], _text(request.get("system")))


def _chat(request: Json) -> Conversation:
    turns = [Turn(m["role"], _text(m.get("content"))) for m in request.get("messages", [])]
    system = [turn.text for turn in turns if turn.role in ("system", "developer")]
    tools = [tool["function"]["name"] for tool in request.get("tools") or [] if "function" in tool]
    return Conversation([turn for turn in turns if turn.role not in ("system", "developer")], tools, "".join(system))


def _responses(request: Json) -> Conversation:
    given = request.get("input")
    turns = []
    for item in [{"role": "user", "content": given}] if isinstance(given, str) else given or []:
        kind = item.get("type", "message")
        if kind == "message" and item.get("role") in ("user", "assistant"):
            turns.append(Turn(item["role"], _text(item["content"])))
        elif kind.endswith("_output"):
            turns.append(Turn("tool", ""))
        elif kind.endswith("_call"):
            turns.append(Turn("assistant", ""))
    offered = request.get("tools") or []
    tools = [str(tool.get("name") or tool.get("type")) for tool in offered]
    for space in offered:
        if space.get("type") == "namespace":
            tools += [f"{space['name']}__{tool['name']}" for tool in space.get("tools", [])]
    return Conversation(turns, tools, request.get("instructions") or "")


def _gemini(request: Json) -> Conversation:
    turns = []
    for content in request.get("contents", []):
        parts = content.get("parts", [])
        is_result = any("functionResponse" in part for part in parts)
        role = "assistant" if content.get("role") == "model" else "tool" if is_result else "user"
        turns.append(Turn(role, _text(parts)))
    offered = [
        tool.get("functionDeclarations", tool.get("function_declarations", [])) for tool in request.get("tools") or []
    ]
    tools = [declared["name"] for some in offered for declared in some]
    return Conversation(turns, tools, _text((request.get("systemInstruction") or {}).get("parts")))


def main() -> None:
    """Serve a scenario until interrupted."""
    parser = argparse.ArgumentParser(description="a scripted model provider on loopback")
    parser.add_argument("--port", type=int, default=18080)
    parser.add_argument("--scenario", type=Path, required=True)
    parser.add_argument("--log", type=Path)
    given = parser.parse_args()
    FakeLlm(json.loads(given.scenario.read_text(encoding="utf-8")), given.port, given.log).serve()


if __name__ == "__main__":
    main()
