/** Notes what Pi does, one line for each event, in tachograph's spool (SPOOL.md). What it means is not decided here. */

import { subscribe, unsubscribe } from "node:diagnostics_channel";
import type { ExtensionAPI } from "@earendil-works/pi-coding-agent";
import { branchOf, modeOfArguments, processFacts, startRelay } from "./process.ts";
import { checkFile, type Fields, type Live, now, state, write } from "./spool.ts";

// Payloads of Pi differ from version to version: everything is looked at as if it might be missing.
type Any = any;
type Note = (event: Any, ctx: Any, live: Live) => void;

const ERROR_CHARS = 2000;
const SUBAGENTS = 64;
const STEPS = 64; // as many tool results may stand between an answer and the newest entry
const REQUEST_IDS = new Set(["request-id", "x-request-id", "x-amzn-requestid", "apim-request-id", "x-goog-request-id"]);
// Tools that start no processes; a child's parent is the newest running tool that is none of these.
const CHILDLESS = new Set(["read", "edit", "write", "grep", "find", "ls"]);

export default function tachograph(pi: ExtensionAPI): void {
  if (process.env.TACHOGRAPH_DISABLED === "1") return;
  const me = Symbol("tachograph");
  let isWaiting = false; // for the first piece of an answer

  const on = (name: string, note: Note): void => {
    (pi.on as Any)(name, (event: Any, ctx: Any): void => {
      try {
        const live = liveOf(me, name, ctx);
        if (live === undefined) return;
        if (live.unsaved !== undefined) noteEntry(live, ctx, name === "turn_end");
        note(event, ctx, live);
      } catch {
        // Whatever it is, it must not reach Pi: a line is missing, the run goes on.
      }
    });
  };

  on("session_start", (event, ctx, live) => {
    const it = state();
    const isFirst = it.open_t === undefined;
    live.facts = { ...sessionFacts(ctx, pi), reason: event.reason, previous: event.previousSessionFile };
    const outer = [...it.sessions.values()].find((other) => other !== live && other.tools.size > 0);
    if (isFirst) live.facts = { ...processFacts(), ...live.facts };
    if (outer) live.facts.parent = process.env.TACHOGRAPH_PARENT;
    checkFile();
    noteModel(ctx.model);
    write(live, "session_start", isFirst ? { reason: event.reason } : live.facts);
    if (!outer) handDown(live);
    listen(it);
    if (isFirst) startRelay();
  });
  on("session_shutdown", (event, ctx, live) => {
    noteEntries(live, ctx);
    write(live, "session_shutdown", { reason: event.reason, target: event.targetSessionFile });
    const it = state();
    it.owners.set(ctx.sessionManager, CLOSED);
    if (event.reason !== "reload") it.sessions.delete(live.s);
  });
  on("session_info_changed", (event, _ctx, live) => write(live, "session_info_changed", { name: text(event.name) }));
  on("model_select", (event, _ctx, live) => {
    noteModel(event.model);
    const { model, previousModel, source } = event;
    write(live, "model_select", { model: modelFacts(model), previous: modelFacts(previousModel), source });
  });
  on("thinking_level_select", (event, _ctx, live) =>
    write(live, "thinking_level_select", { level: event.level, previous: event.previousLevel }),
  );

  on("input", (event, ctx, live) => {
    checkFile();
    noteEntries(live, ctx);
    const t = now();
    const { text: told, images, source } = event;
    const behavior = event.streamingBehavior ?? (ctx.isIdle() ? undefined : "queued");
    write(live, "input", { text: text(told), chars: told?.length, images: images?.length ?? 0, source, behavior }, t);
    if (behavior !== undefined) return;
    live.prompts += 1;
    live.prompt_t = t;
  });
  on("agent_start", (_event, _ctx, live) => write(live, "agent_start", {}));
  on("agent_end", (event, _ctx, live) => write(live, "agent_end", { messages: event.messages?.length }));
  on("agent_settled", (event, ctx, live) => {
    noteEntries(live, ctx);
    write(live, "agent_settled", { aborted: event.aborted });
    live.prompt_t = undefined;
  });
  on("turn_start", (event, _ctx, live) => {
    const t = now();
    write(live, "turn_start", { turn: event.turnIndex }, t);
    Object.assign(live, { turns: live.turns + 1, turn_t: t, turn_index: event.turnIndex });
    isWaiting = true;
  });
  on("turn_end", (event, _ctx, live) => {
    const { turnIndex: turn, outcome, messageEntryId: entry, toolResultEntryIds: results, message } = event;
    write(live, "turn_end", { turn, outcome, entry, results, stop: message?.stopReason });
    live.turn_t = live.turn_index = undefined;
  });

  on("before_provider_request", (event, ctx, live) => {
    const t = now();
    state().current = live.s;
    noteModel(ctx.model);
    write(live, "request", requestFacts(event.payload ?? {}, ctx, live), t);
    live.request_t = t;
    live.first_t = undefined;
    isWaiting = true;
  });
  on("after_provider_response", (event, _ctx, live) => {
    const headers = event.headers ?? {};
    write(live, "response", { status: event.status, ...answerFacts((name) => headers[name], Object.keys(headers)) });
  });
  (pi.on as Any)("message_update", (event: Any, ctx: Any): void => {
    if (!isWaiting) return; // all but the first of hundreds
    const kind = /^(text|thinking|toolcall)_/.exec(event.assistantMessageEvent?.type)?.[1];
    if (kind === undefined) return;
    isWaiting = false;
    try {
      const live = liveOf(me, "message_update", ctx);
      if (live) write(live, "first", { kind }, (live.first_t = now()));
    } catch {
      // As above.
    }
  });
  on("message_end", (event, _ctx, live) => {
    if (event.message?.role !== "assistant") return;
    isWaiting = false;
    write(live, "message_end", answer(event.message));
    live.unsaved = event.message.timestamp;
    live.request_t = live.first_t = undefined;
  });

  on("tool_execution_start", (event, _ctx, live) => {
    const t = now();
    const { toolCallId: id, toolName: name, parentToolCallId: parent } = event;
    write(live, "tool_start", { id, name, parent, args: text(event.args) }, t);
    live.tools.set(id, { id, name, t, parent });
    handDown(live);
  });
  on("tool_execution_end", (event, _ctx, live) => {
    live.tools.delete(event.toolCallId);
    handDown(live);
    write(live, "tool_end", toolFacts(event));
  });

  on("session_before_compact", (event, ctx, live) => {
    state().current = live.s;
    noteModel(ctx.model);
    const { reason, willRetry, preparation } = event;
    write(live, "compact_start", { reason, willRetry, tokensBefore: preparation?.tokensBefore });
  });
  on("session_compact", (event, ctx, live) => {
    const { compactionEntry: entry, reason, willRetry, fromExtension } = event;
    write(live, "compact_end", { ...summaryFacts(entry, ctx), tokensBefore: entry?.tokensBefore, reason, willRetry, fromExtension });
  });
  on("session_compact_failed", (event, _ctx, live) => {
    const { reason, errorMessage, aborted, willRetry, fromExtension } = event;
    write(live, "compact_failed", { reason, error: errorText(errorMessage), aborted, willRetry, fromExtension });
  });
  on("session_before_tree", (_event, _ctx, live) => {
    state().current = live.s;
    write(live, "tree_start", {});
  });
  on("session_tree", (event, ctx, live) =>
    write(live, "tree", { ...summaryFacts(event.summaryEntry, ctx), fromExtension: event.fromExtension }),
  );
  on("cache_warming_decision", (event, ctx, live) => {
    noteEntries(live, ctx);
    const { action, warmCost, missCost, continuationProbability: probability } = event;
    write(live, "cache_warming", { action, warmCost, missCost, probability });
  });

  on("user_bash", (event, _ctx, live) =>
    write(live, "user_bash", { command: text(event.command), exclude: event.excludeFromContext }),
  );
  for (const name of ["ui_prompt_start", "ui_prompt_end"]) {
    on(name, (event, _ctx, live) => write(live, name, { kind: event.kind, title: text(event.title) }));
  }
}

const CLOSED = Symbol.for("tachograph.pi.closed");

/** The session an event belongs to, or undefined where another load of this extension speaks for it. */
function liveOf(me: symbol, event: string, ctx: Any): Live | undefined {
  const it = state();
  const manager = ctx.sessionManager;
  const owner = it.owners.get(manager);
  if (owner !== me) {
    if (owner !== undefined && !(owner === CLOSED && event === "session_start")) return undefined;
    it.owners.set(manager, me);
  }
  const s: string = manager.getSessionId();
  let live = it.sessions.get(s);
  if (live === undefined) {
    live = { s, facts: {}, session_t: now(), prompts: 0, turns: 0, tools: new Map(), entries: manager.getEntries().length };
    it.sessions.set(s, live);
    it.current = s;
    if (event !== "session_start") live.facts = { ...processFacts(), ...sessionFacts(ctx) };
  }
  return live;
}

function text<T>(told: T): T | undefined {
  return state().content === "none" ? undefined : told;
}

function errorText(told: unknown): string | undefined {
  if (typeof told !== "string") return undefined;
  return text(told.slice(0, ERROR_CHARS)) ?? /^\s*([45]\d\d)\b/.exec(told)?.[1];
}

function sessionFacts(ctx: Any, pi?: Any): Fields {
  const manager = ctx.sessionManager;
  return {
    mode: ctx.mode ?? modeOfArguments(ctx.hasUI),
    cwd: ctx.cwd,
    branch: branchOf(ctx.cwd),
    session_file: manager.getSessionFile?.(),
    parent_session: manager.getHeader?.()?.parentSession,
    name: text(manager.getSessionName?.()),
    leaf: manager.getLeafId?.() ?? undefined,
    model: modelFacts(ctx.model),
    thinking: ctx.thinkingLevel ?? pi?.getThinkingLevel?.(),
  };
}

function modelFacts(model: Any): Fields | undefined {
  if (!model) return undefined;
  const { provider, id, api, contextWindow, maxTokens, cost } = model;
  return { provider, id, api, contextWindow, maxTokens, cost };
}

function requestFacts(payload: Any, ctx: Any, live: Live): Fields {
  const { provider, id: model, api } = ctx.model ?? {};
  const system: string | undefined = ctx.getSystemPrompt?.();
  const isNew = system !== live.system;
  live.system = system;
  return {
    provider,
    model,
    api,
    requested: typeof payload.model === "string" ? payload.model : undefined,
    stream: payload.stream,
    messages: (payload.messages ?? payload.input ?? payload.contents)?.length,
    tools: (payload.tools ?? payload.config?.tools ?? payload.toolConfig?.tools)?.length ?? 0,
    max_tokens: payload.max_tokens ?? payload.max_completion_tokens ?? payload.max_output_tokens,
    temperature: payload.temperature,
    system: isNew ? text(system) : undefined,
    system_chars: system?.length,
  };
}

/** Of an answer's headers, only those that name the request or say when to come back. */
function answerFacts(value: (name: string) => unknown, names: string[]): Fields {
  const ids: Fields = {};
  let retry_after: unknown;
  for (const name of names) {
    const lower = name.toLowerCase();
    if (REQUEST_IDS.has(lower)) ids[lower] = value(name);
    else if (lower === "retry-after") retry_after = value(name);
  }
  return { ids: Object.keys(ids).length ? ids : undefined, retry_after };
}

function answer(message: Any): Fields {
  const { provider, model, api, responseModel, responseId, usage, timestamp, durationMs } = message;
  const blocks: Any[] = Array.isArray(message.content) ? message.content : [];
  const calls = blocks.filter((block) => block?.type === "toolCall");
  return {
    provider,
    model,
    api,
    responseModel,
    responseId,
    usage,
    stop: message.stopReason,
    raw_stop: message.rawStopReason,
    error: errorText(message.errorMessage),
    diagnostics: text(message.diagnostics),
    thinking: message.thinkingLevel,
    provider_thinking: message.providerThinkingLevel,
    timestamp,
    durationMs,
    content: text(blocks)?.map(plain),
    tools: calls.length ? calls.map(({ id, name }) => ({ id, name })) : undefined,
  };
}

/** A block without what is neither text nor small: image data and the signatures of providers. */
function plain(block: Any): unknown {
  if (typeof block !== "object" || block === null) return block;
  const { data, textSignature, thinkingSignature, thoughtSignature, ...rest } = block;
  return typeof data === "string" ? { ...rest, chars: data.length } : rest;
}

function toolFacts(event: Any): Fields {
  const { toolCallId: id, toolName: name, parentToolCallId: parent, isError, durationMs } = event;
  const result = event.result ?? {};
  const content: Any[] = Array.isArray(result.content) ? result.content : [];
  const said = isError ? content.find((block) => typeof block?.text === "string")?.text : undefined;
  const children = result.details?.results;
  return {
    id,
    name,
    parent,
    isError,
    durationMs,
    result: text(content)?.map(plain),
    error: said === undefined ? undefined : text(said.slice(0, ERROR_CHARS)),
    usage: result.usage,
    exit: result.structuredContent?.exit_code,
    subagents: Array.isArray(children) ? children.slice(0, SUBAGENTS).filter((r) => r?.usage).map(subagentFacts) : undefined,
  };
}

function subagentFacts({ agent, status, exitCode, usage, model, stopReason }: Any): Fields {
  return { agent, status, exitCode, usage, model, stopReason };
}

function summaryFacts(entry: Any, ctx: Any): Fields {
  const { provider, id: model } = ctx.model ?? {};
  return { entry: entry?.id, usage: entry?.usage, provider, model, summary: text(entry?.summary) };
}

/** Pi stores a message after it told us of it: note its entry as soon as it is there. */
function noteEntry(live: Live, ctx: Any, isLast: boolean): void {
  const manager = ctx.sessionManager;
  let entry = manager.getLeafEntry();
  for (let step = 0; entry && step < STEPS; step++) {
    if (entry.message?.role === "assistant" && entry.message.timestamp === live.unsaved) {
      write(live, "message_entry", { entry: entry.id, timestamp: live.unsaved });
      live.unsaved = undefined;
      return;
    }
    entry = entry.parentId ? manager.getEntry(entry.parentId) : undefined;
  }
  if (isLast) live.unsaved = undefined;
}

/** Session entries that no event tells of: what cache warming cost, how a user's command ended. */
function noteEntries(live: Live, ctx: Any): void {
  const entries: Any[] = ctx.sessionManager.getEntries();
  for (const entry of entries.slice(live.entries)) {
    const at = Date.parse(entry.timestamp);
    if (entry.type === "usage") {
      const { id, kind, provider, model, usage } = entry;
      write(live, "usage", { entry: id, kind, provider, model, usage, at });
    } else if (entry.message?.role === "bashExecution") {
      const { exitCode, cancelled, truncated } = entry.message;
      write(live, "user_bash_end", { entry: entry.id, at, exitCode, cancelled, truncated });
    }
  }
  live.entries = entries.length;
}

/** Tell processes that are started from now on which session and tool run they come from. */
function handDown(live: Live): void {
  let newest = "";
  for (const { id, name } of live.tools.values()) if (!newest || !CHILDLESS.has(String(name))) newest = String(id);
  process.env.TACHOGRAPH_PARENT = `${live.s};${newest};${state().open_t};${process.pid}`;
}

/** Remember where a model lives: HTTP requests to other places are nobody's business here. */
function noteModel(model: Any): void {
  if (typeof model?.baseUrl === "string" && URL.canParse(model.baseUrl)) state().origins.add(new URL(model.baseUrl).origin);
}

/** Watch the HTTP requests to models: the only sign of attempts that an SDK repeats by itself. */
function listen(it: ReturnType<typeof state>): void {
  it.unsubscribe?.();
  const note = (phase: string, facts: (message: Any) => Fields) => (message: Any) => {
    try {
      const request = message.request;
      let n = it.requests.get(request);
      if (n === undefined) {
        if (phase !== "create" || !it.origins.has(String(request.origin))) return;
        it.requests.set(request, (n = it.request_count += 1));
      }
      const live = it.sessions.get(it.current ?? "");
      if (live) write(live, "http", { phase, n, ...facts(message) });
    } catch {
      // As in the handlers: this runs inside Pi's HTTP client.
    }
  };
  const notes: Record<string, (message: unknown) => void> = {
    create: note("create", ({ request }) => ({
      method: request.method,
      origin: String(request.origin),
      path: String(request.path).split("?")[0], // what follows may hold a key
    })),
    headers: note("headers", ({ response }) => {
      const raw: string[] = response.headers.map(String);
      const at = (name: string) => raw[raw.indexOf(name) + 1];
      return { status: response.statusCode, ...answerFacts(at, raw.filter((_, i) => i % 2 === 0)) };
    }),
    trailers: note("trailers", () => ({})),
    error: note("error", ({ error }) => ({ error: typeof error?.code === "string" ? error.code : String(error?.name ?? "error") })),
  };
  for (const [phase, heard] of Object.entries(notes)) subscribe(`undici:request:${phase}`, heard);
  it.unsubscribe = () => {
    for (const [phase, heard] of Object.entries(notes)) unsubscribe(`undici:request:${phase}`, heard);
  };
}
