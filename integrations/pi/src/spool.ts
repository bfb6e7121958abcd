/** The spool: a bounded folder of files to which whole lines are appended, each before Pi goes on. */

import * as fs from "node:fs";
import * as os from "node:os";
import * as path from "node:path";

export type Fields = Record<string, unknown>;

/** What is remembered of one session, so that a new part of the spool can say what the parts before told. */
export interface Live {
  s: string;
  facts: Fields;
  session_t: number;
  prompts: number;
  prompt_t?: number;
  turns: number;
  turn_t?: number;
  turn_index?: number;
  request_t?: number;
  first_t?: number;
  tools: Map<string, Fields>;
  /** Timestamp of the assistant message whose session entry is not known yet. */
  unsaved?: number;
  /** How many session entries have been looked at. */
  entries: number;
  system?: string;
}

/** What one process has to remember. It outlives /reload, which loads this module anew. */
export interface State {
  /** TACHOGRAPH_PARENT as this process inherited it. */
  parent?: string;
  content: string;
  sessions: Map<string, Live>;
  /** Which load of the extension speaks for a session: it may be installed twice. */
  owners: WeakMap<object, symbol>;
  origins: Set<string>;
  requests: WeakMap<object, number>;
  request_count: number;
  current?: string;
  unsubscribe?: () => void;
  open_t?: number;
  fd?: number;
  part: number;
  size: number;
  is_torn: boolean;
  lost: number;
  failures: number;
  error?: string;
}

const PART_BYTES = 16 * 1024 * 1024;
const SPOOL_BYTES = 256 * 1024 * 1024;
const SPOOL_FILES = 4096;
const LINE_CHARS = 4 * 1024 * 1024;
const TEXT_CHARS = 256 * 1024;
const TAIL_CHARS = 64 * 1024;
const FAILURES = 5; // in a row: the disk will not come back soon, and trying costs Pi time
const TEXTS = ["text", "content", "args", "result", "system", "summary", "diagnostics", "command", "error"];

const KEY = Symbol.for("tachograph.pi.1");

export function state(): State {
  const shared = globalThis as unknown as Record<symbol, State | undefined>;
  return (shared[KEY] ??= {
    parent: process.env.TACHOGRAPH_PARENT || undefined,
    content: contentMode(),
    sessions: new Map(),
    owners: new WeakMap(),
    origins: new Set(),
    requests: new WeakMap(),
    request_count: 0,
    part: 0,
    size: 0,
    is_torn: false,
    lost: 0,
    failures: 0,
  });
}

/** The folder of tachograph's data, found as tachograph finds it. */
export function home(): string {
  const set = process.env.TACHOGRAPH_HOME;
  if (set) return path.resolve(set.replace(/^~(?=$|[\\/])/, os.homedir()));
  if (process.platform === "darwin") return path.join(os.homedir(), "Library", "Application Support", "tachograph");
  if (process.platform === "win32") {
    return path.join(process.env.LOCALAPPDATA || path.join(os.homedir(), "AppData", "Local"), "tachograph");
  }
  return path.join(process.env.XDG_DATA_HOME?.trim() || path.join(os.homedir(), ".local", "share"), "tachograph");
}

/** Whether texts may reach the disk; anything that is not understood says no. */
function contentMode(): string {
  let set = process.env.TACHOGRAPH_CONTENT;
  if (!set) {
    try {
      const top = fs.readFileSync(path.join(home(), "tachograph.toml"), "utf8").split(/^\s*\[/m)[0];
      set = /^\s*content\s*=\s*["']([^"']*)["']/m.exec(top)?.[1];
    } catch {
      // No settings file: the default holds.
    }
  }
  return set === undefined || set === "redacted" ? "redacted" : set === "full" ? "full" : "none";
}

let anchor = Number.NaN;

/** Epoch milliseconds with a fraction. The fine clock stands still while a machine sleeps, so it is set anew then. */
export function now(): number {
  const coarse = Date.now();
  const fine = performance.now();
  if (!(Math.abs(anchor + fine - coarse) < 20)) anchor = coarse - fine;
  return Math.round((anchor + fine) * 1000) / 1000;
}

/** Append one line. Never throws; where the disk refuses, lines are counted and, after some, no longer tried. */
export function write(live: Live, e: string, fields: Fields, t: number = now()): void {
  const it = state();
  if (it.failures >= FAILURES) return;
  try {
    if (it.fd === undefined || (it.size >= PART_BYTES && isBoundary(e, it.size))) openPart(it, live, t);
    if (it.lost) {
      const lost = it.lost;
      append(it, { e: "lost", t, s: live.s, lines: lost, why: "write_error", error: it.error });
      it.lost -= lost;
    }
    append(it, { e, t, s: live.s, ...fields });
    it.failures = 0;
  } catch (error) {
    it.failures += 1;
    it.lost += 1;
    it.error = String((error as NodeJS.ErrnoException)?.code ?? error);
  }
}

/** A part ends where little is under way; twice the size is the end anywhere. */
function isBoundary(e: string, size: number): boolean {
  return e === "turn_start" || e === "input" || e === "session_start" || size >= 2 * PART_BYTES;
}

/** Begin a new part if somebody deleted the file under us. */
export function checkFile(): void {
  const it = state();
  if (it.fd !== undefined && fs.fstatSync(it.fd).nlink === 0) closePart(it);
}

function closePart(it: State): void {
  const fd = it.fd;
  it.fd = undefined;
  if (fd !== undefined) fs.closeSync(fd);
}

function openPart(it: State, live: Live, t: number): void {
  closePart(it);
  const folder = path.join(home(), "spool", "pi");
  fs.mkdirSync(folder, { recursive: true, mode: 0o700 });
  const isFirst = it.open_t === undefined;
  const deleted = isFirst ? prune(folder) : 0;
  const opened = (it.open_t ??= t);
  const file = path.join(folder, `${Math.floor(opened)}-${process.pid}-${it.part + 1}.jsonl`);
  const { O_APPEND, O_CREAT, O_EXCL, O_WRONLY } = fs.constants;
  it.fd = fs.openSync(file, O_APPEND | O_CREAT | O_EXCL | O_WRONLY, 0o600);
  Object.assign(it, { part: it.part + 1, size: 0, is_torn: false });
  const others = [...it.sessions.values()].filter((other) => other !== live);
  for (const each of isFirst ? [live] : [live, ...others]) {
    const carry = isFirst ? undefined : carried(it, each);
    append(it, { e: "open", t, s: each.s, v: 1, part: it.part, ...each.facts, content: it.content, carry });
  }
  if (deleted) append(it, { e: "lost", t, s: live.s, bytes: deleted, why: "spool_full" });
}

function carried(it: State, live: Live): Fields {
  const { session_t, prompts, prompt_t, turns, turn_t, turn_index, request_t, first_t } = live;
  const tools = live.tools.size ? [...live.tools.values()] : undefined;
  return { open_t: it.open_t, session_t, prompts, prompt_t, turns, turn_t, turn_index, tools, request_t, first_t };
}

/** Delete the oldest parts of processes that are gone until the folder is in bounds; returns the bytes deleted. */
function prune(folder: string): number {
  const found = fs.readdirSync(folder).filter((name) => name.endsWith(".jsonl")).sort();
  const sizes = found.map((name) => fs.statSync(path.join(folder, name), { throwIfNoEntry: false })?.size ?? 0);
  let bytes = sizes.reduce((sum, size) => sum + size, 0);
  let files = found.length;
  let deleted = 0;
  for (let i = 0; i < found.length && (bytes > SPOOL_BYTES || files > SPOOL_FILES); i++) {
    if (isAlive(Number(found[i].split("-")[1]))) continue;
    fs.rmSync(path.join(folder, found[i]), { force: true });
    files -= 1;
    bytes -= sizes[i];
    deleted += sizes[i];
  }
  return deleted;
}

export function isAlive(pid: number): boolean {
  try {
    return Number.isInteger(pid) && pid > 0 && process.kill(pid, 0);
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "EPERM"; // somebody else's, but there
  }
}

function append(it: State, line: Fields): void {
  const bytes = Buffer.from(`${it.is_torn ? "\n" : ""}${encode(line)}\n`);
  it.is_torn = true;
  const written = fs.writeSync(it.fd as number, bytes);
  it.size += written;
  if (written < bytes.length) throw new Error("short write");
  it.is_torn = false;
}

function encode(line: Fields): string {
  const quick = JSON.stringify(line);
  // JSON.stringify escapes the half of a character that something upstream cut in two; readers refuse that.
  if (quick.length <= TEXT_CHARS && !quick.includes("\\ud")) return quick;
  let cut = 0;
  const bounded = (_key: string, value: unknown): unknown => {
    if (typeof value !== "string") return value;
    const left_out = value.length - TEXT_CHARS;
    if (left_out <= 0) return whole(value);
    cut += left_out;
    const head = value.slice(0, TEXT_CHARS - TAIL_CHARS);
    return whole(`${head}\n[... ${left_out} characters left out ...]\n${value.slice(-TAIL_CHARS)}`);
  };
  const text = JSON.stringify(line, bounded);
  if (text.length <= LINE_CHARS) return cut ? `${text.slice(0, -1)},"cut":${cut}}` : text;
  const rest = { ...line, cut: text.length + cut };
  for (const key of TEXTS) delete (rest as Fields)[key];
  return JSON.stringify(rest, bounded);
}

/** Replace lone surrogates (String.prototype.toWellFormed, which Node has from 20 on). */
function whole(text: string): string {
  return (text as unknown as { toWellFormed(): string }).toWellFormed();
}
