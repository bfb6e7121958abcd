/** Notes what OpenClaw's agents do, one line for each hook, in tachograph's spool (SPOOL.md); decides nothing. */

import { pseudonym, state, write } from "./spool.js";

const ERROR_CHARS = 2000;
const TOLD_MAX = 2000;
// Loads of the plugin in which no agent runs. Runs use the hooks of whichever other load came last.
const INERT = new Set(["cli-metadata", "setup-only", "setup-runtime"]);
// How much earlier than a run's end by its own clock an answer of it may have begun.
const SLACK_MS = 5000;
// The parts of a session key that are followed by the id of a person or a conversation.
const PEERS = /:(direct|dm|user|group|channel|room):(.+?)(?=:(?:thread|topic):|$)/g;

// What is noted of each hook; OpenClaw's payloads differ from version to version, so anything may be missing.
const NOTES = {
  gateway_start: ({ port }) => ({ port }),
  gateway_stop: ({ reason }) => ({ reason }),
  session_start: ({ resumedFrom }) => ({ resumedFrom }),
  session_end: ({ reason, messageCount, durationMs, nextSessionId }) => ({ reason, messageCount, durationMs, nextSessionId }),
  message_received: (event, ctx) => ({
    ...conversation(event, ctx),
    sender: pseudonym(event.senderId ?? ctx.senderId ?? event.from),
    messageId: event.messageId,
    at: event.timestamp,
    text: text(event.content),
    chars: event.content?.length,
    media: event.media?.length,
  }),
  message_sent: (event, ctx) => ({
    ...conversation(event, ctx),
    messageId: event.messageId,
    chars: event.content?.length,
    success: event.success,
    error: errorText(event.error),
  }),
  llm_input: (event, ctx) => ({
    provider: event.provider,
    model: event.model,
    trigger: ctx.trigger,
    job: ctx.jobId,
    cwd: ctx.workspaceDir,
    channel: ctx.messageProvider ?? ctx.channel,
    account: ctx.accountId,
    sender: pseudonym(ctx.senderId),
    provenance: ctx.inputProvenance?.kind,
    chars: event.prompt?.length,
    systemChars: event.systemPrompt?.length,
    history: event.historyMessages?.length,
    images: event.imagesCount,
    tools: event.tools?.length,
  }),
  llm_output: ({ usage, resolvedRef, harnessId, reasoningEffort, fastMode }) =>
    ({ usage, resolvedRef, harnessId, reasoningEffort, fastMode }),
  agent_end: (event, ctx) => {
    late(event, place(event, ctx));
    return { success: event.success, error: errorText(event.error), durationMs: event.durationMs };
  },
  model_call_started: ({ callId, provider, model, api, transport }) => ({ callId, provider, model, api, transport }),
  model_call_ended: ({ callId, provider, model, durationMs, outcome, errorCategory, failureKind, ...rest }) => ({
    ...{ callId, provider, model, durationMs, outcome, errorCategory, failureKind },
    firstByteMs: rest.timeToFirstByteMs,
    requestBytes: rest.requestPayloadBytes,
    responseBytes: rest.responseStreamBytes,
    requestIdHash: rest.upstreamRequestIdHash,
  }),
  before_tool_call: (event, ctx) => ({
    id: event.toolCallId ?? ctx.toolCallId,
    name: event.toolName,
    kind: event.toolKind,
    channel: ctx.requester?.channel,
    sender: pseudonym(ctx.requester?.senderId),
    params: text(event.params),
  }),
  after_tool_call: (event, ctx) => ({
    id: event.toolCallId ?? ctx.toolCallId,
    name: event.toolName,
    durationMs: event.durationMs,
    status: event.result?.details?.status,
    exit: event.result?.details?.exitCode,
    isError: event.error === undefined ? undefined : true,
    error: errorText(event.error),
    result: text(event.result?.content ?? event.result),
  }),
  before_compaction: ({ messageCount, compactingCount, tokenCount }) => ({ messageCount, compactingCount, tokenCount }),
  after_compaction: ({ messageCount, compactedCount, tokenCount, previousSessionId }) =>
    ({ messageCount, compactedCount, tokenCount, previousSessionId }),
  before_reset: ({ reason }) => ({ reason }),
  subagent_spawned: (event, ctx) => ({
    child: key(event.childSessionKey ?? ctx.childSessionKey),
    parent: key(ctx.requesterSessionKey),
    childAgent: event.agentId,
    label: text(event.label),
    mode: event.mode,
    model: event.resolvedModel,
  }),
  subagent_ended: (event, ctx) => ({
    child: key(event.targetSessionKey ?? ctx.childSessionKey),
    parent: key(ctx.requesterSessionKey),
    kind: event.targetKind,
    reason: event.reason,
    outcome: event.outcome,
    error: errorText(event.error),
  }),
  cron_changed: (event) => {
    if (event.action !== "started" && event.action !== "finished") return undefined;
    const { action, jobId, status, durationMs, error } = event;
    return { action, job: jobId, name: text(event.job?.name), status, durationMs, error: errorText(error) };
  },
};

export default {
  id: "tachograph",
  name: "Tachograph",
  description: "Notes what agents do, for how long and at what cost, in a local spool.",
  register(api) {
    if (process.env.TACHOGRAPH_DISABLED === "1") return;
    if (INERT.has(api.registrationMode)) return;
    state().version = api.runtime?.version;
    for (const [name, note] of Object.entries(NOTES)) {
      on(api, name, (event, ctx) => {
        const told = note(event, ctx);
        if (told !== undefined) write(name, { ...place(event, ctx), ...told });
      });
    }
    on(api, "before_message_write", (event, ctx) => message(event.message, place(event, ctx)));
  },
};

/** Every handler returns at once, and nothing: OpenClaw goes on as if nobody had listened. */
function on(api, name, note) {
  const handler = (event, ctx) => {
    try {
      note(event ?? {}, ctx ?? {});
    } catch {
      // Whatever it is, it must not reach the gateway: a line is missing, the agent goes on.
    }
  };
  try {
    api.on(name, handler);
  } catch {
    // This version knows no such hook.
  }
}

/** Where it happened: session key and id, run, agent, and OpenClaw's own trace. */
function place(event, ctx) {
  const trace = ctx.trace ?? event.trace;
  return {
    k: key(ctx.sessionKey ?? event.sessionKey),
    s: ctx.sessionId ?? event.sessionId,
    r: ctx.runId ?? event.runId,
    a: ctx.agentId ?? event.agentId,
    tr: trace?.traceId ? [trace.traceId, trace.spanId, trace.parentSpanId] : undefined,
  };
}

function key(told) {
  if (typeof told !== "string" || told === "") return undefined;
  return told.replace(PEERS, (_, kind, id) => `:${kind}:${pseudonym(id)}`);
}

function conversation(event, ctx) {
  return {
    channel: ctx.channelId,
    account: ctx.accountId,
    conversation: pseudonym(ctx.conversationId ?? event.to ?? event.from),
  };
}

/** The answers of a run that were not written: harnesses without messages of their own tell them at its end. */
function late(event, where) {
  const since = Date.now() - (event.durationMs ?? 0) - SLACK_MS;
  for (const told of Array.isArray(event.messages) ? event.messages : []) {
    if (told?.role === "assistant" && told.timestamp >= since) message(told, { ...where, late: true });
  }
}

/** A prompt or an answer of a model, once; what tools said is told by their own hooks. */
function message(told, where) {
  const note = { user: prompt, assistant: answer }[told?.role];
  if (note === undefined) return;
  const seen = state().told;
  const name = `${where.k ?? where.s} ${told.role} ${told.timestamp} ${told.responseId ?? ""}`;
  if (seen.has(name)) return;
  if (seen.size >= TOLD_MAX) seen.clear();
  seen.add(name);
  write(told.role, { ...where, timestamp: told.timestamp, ...note(told) });
}

function prompt({ content }) {
  return { text: text(content), chars: typeof content === "string" ? content.length : undefined };
}

function answer(told) {
  const { provider, model, api, responseId, responseModel, usage, errorCode, errorType } = told;
  const blocks = Array.isArray(told.content) ? told.content : [];
  const tools = blocks.filter((block) => block?.type === "toolCall").map(({ id, name }) => ({ id, name }));
  return {
    ...{ provider, model, api, responseId, responseModel, usage, errorCode, errorType },
    stop: told.stopReason,
    error: errorText(told.errorMessage),
    tools: tools.length ? tools : undefined,
    content: text(blocks)?.map(plain),
  };
}

/** A block without what is neither text nor small: image data and the signatures of providers. */
function plain(block) {
  if (typeof block !== "object" || block === null) return block;
  const { data, textSignature, thinkingSignature, thoughtSignature, ...rest } = block;
  return typeof data === "string" ? { ...rest, chars: data.length } : rest;
}

function text(told) {
  return state().content === "none" ? undefined : told;
}

function errorText(told) {
  if (told === undefined || told === null) return undefined;
  const said = String(told?.message ?? told).slice(0, ERROR_CHARS);
  return text(said) ?? /^\s*([45]\d\d)\b/.exec(said)?.[1];
}
