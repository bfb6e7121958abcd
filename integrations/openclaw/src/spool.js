/** The spool: a bounded folder of files to which whole lines are appended, each before OpenClaw goes on. */

import { createHmac, randomBytes } from "node:crypto";
import * as fs from "node:fs";
import * as os from "node:os";
import * as path from "node:path";

const PART_BYTES = 16 * 1024 * 1024;
const SPOOL_BYTES = 256 * 1024 * 1024;
const SPOOL_FILES = 4096;
const LINE_CHARS = 4 * 1024 * 1024;
const TEXT_CHARS = 256 * 1024;
const TAIL_CHARS = 64 * 1024;
const FAILURES = 5; // in a row: the disk will not come back soon, and trying costs the gateway time
const BEGINNINGS = new Set(["user", "message_received", "llm_input", "session_start", "session_end"]);
const TEXTS = ["text", "content", "params", "result", "error"];

const KEY = Symbol.for("tachograph.openclaw.1");

/** What one process has to remember. It outlives a reload of the plugin, which loads this module anew. */
export function state() {
  return (globalThis[KEY] ??= {
    content: contentMode(),
    isPlain: process.env.TACHOGRAPH_SENDERS === "plain",
    version: undefined,
    told: new Set(), // answers of models that were written, by their session and time
    part: 0,
    size: 0,
    isTorn: false,
    lost: 0,
    failures: 0,
  });
}

/** The folder of tachograph's data, found as tachograph finds it. */
function home() {
  const set = process.env.TACHOGRAPH_HOME;
  if (set) return path.resolve(set.replace(/^~(?=$|[\\/])/, os.homedir()));
  if (process.platform === "darwin") return path.join(os.homedir(), "Library", "Application Support", "tachograph");
  if (process.platform === "win32") {
    return path.join(process.env.LOCALAPPDATA || path.join(os.homedir(), "AppData", "Local"), "tachograph");
  }
  return path.join(process.env.XDG_DATA_HOME?.trim() || path.join(os.homedir(), ".local", "share"), "tachograph");
}

/** Whether texts may reach the disk; anything that is not understood says no. */
function contentMode() {
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

/** A sender, a peer or a conversation, by a name that says nothing about it outside this computer. */
export function pseudonym(name) {
  if (name === undefined || name === null || name === "") return undefined;
  const it = state();
  if (it.isPlain) return String(name);
  it.salt ??= salt();
  return createHmac("sha256", it.salt).update(String(name)).digest("hex").slice(0, 12);
}

/** The same for as long as the data is kept; where it cannot be kept, for this process. */
function salt() {
  const file = path.join(home(), "senders.salt");
  for (const attempt of [1, 2]) {
    try {
      const kept = fs.readFileSync(file);
      if (kept.length > 0) return kept;
    } catch {
      // Not made yet.
    }
    try {
      fs.mkdirSync(home(), { recursive: true, mode: 0o700 });
      const own = `${file}.${process.pid}.${attempt}`;
      fs.writeFileSync(own, randomBytes(32).toString("hex"), { mode: 0o600, flag: "wx" });
      try {
        fs.linkSync(own, file); // whole or not at all, and never over that of another process
      } finally {
        fs.rmSync(own, { force: true });
      }
    } catch {
      // Another process was faster, or nothing can be written here.
    }
  }
  try {
    return fs.readFileSync(file);
  } catch {
    return randomBytes(32);
  }
}

let anchor = Number.NaN;

/** Epoch milliseconds with a fraction. The fine clock stands still while a machine sleeps, so it is set anew then. */
function now() {
  const coarse = Date.now();
  const fine = performance.now();
  if (!(Math.abs(anchor + fine - coarse) < 20)) anchor = coarse - fine;
  return Math.round((anchor + fine) * 1000) / 1000;
}

/** Append one line. Never throws; where the disk refuses, lines are counted and, after some, no longer tried. */
export function write(e, fields) {
  const it = state();
  if (it.failures >= FAILURES) return;
  try {
    const t = now();
    if (it.fd === undefined || (it.size >= PART_BYTES && isBoundary(e, it.size))) openPart(it, t);
    if (it.lost) {
      const lost = it.lost;
      append(it, { e: "lost", t, lines: lost, why: "write_error", error: it.error });
      it.lost -= lost;
    }
    append(it, { e, t, ...fields });
    it.failures = 0;
  } catch (error) {
    it.failures += 1;
    it.lost += 1;
    it.error = String(error?.code ?? error);
  }
}

/** A part ends where something begins; twice the size is the end anywhere. */
function isBoundary(e, size) {
  return BEGINNINGS.has(e) || size >= 2 * PART_BYTES;
}

function openPart(it, t) {
  const fd = it.fd;
  it.fd = undefined;
  if (fd !== undefined) fs.closeSync(fd);
  const folder = path.join(home(), "spool", "openclaw");
  fs.mkdirSync(folder, { recursive: true, mode: 0o700 });
  const deleted = prune(folder);
  const start = (it.start ??= Math.floor(t));
  const file = path.join(folder, `${start}-${process.pid}-${it.part + 1}.jsonl`);
  const { O_APPEND, O_CREAT, O_EXCL, O_WRONLY } = fs.constants;
  it.fd = fs.openSync(file, O_APPEND | O_CREAT | O_EXCL | O_WRONLY, 0o600);
  Object.assign(it, { part: it.part + 1, size: 0, isTorn: false });
  append(it, { e: "open", t, v: 1, part: it.part, ...processFacts(it) });
  if (deleted) append(it, { e: "lost", t, bytes: deleted, why: "spool_full" });
}

function processFacts(it) {
  return {
    pid: process.pid,
    openclaw: it.version ?? "",
    node: process.versions.node,
    host: os.hostname(),
    user: userName(),
    content: it.content,
    senders: it.isPlain ? "plain" : "pseudonym",
    resource: process.env.OTEL_RESOURCE_ATTRIBUTES || undefined,
    service: process.env.OTEL_SERVICE_NAME || undefined,
  };
}

function userName() {
  try {
    return os.userInfo().username;
  } catch {
    return undefined; // a container's user without a name
  }
}

/** Delete the oldest parts until the folder is in bounds; returns the bytes deleted. */
function prune(folder) {
  const found = fs.readdirSync(folder).filter((name) => name.endsWith(".jsonl")).sort();
  const sizes = found.map((name) => fs.statSync(path.join(folder, name), { throwIfNoEntry: false })?.size ?? 0);
  let bytes = sizes.reduce((sum, size) => sum + size, 0) + PART_BYTES;
  let files = found.length;
  let deleted = 0;
  for (let i = 0; i < found.length && (bytes > SPOOL_BYTES || files > SPOOL_FILES); i++) {
    const [, pid] = found[i].split("-");
    if (Number(pid) !== process.pid && isAlive(Number(pid))) continue; // it may be writing it
    fs.rmSync(path.join(folder, found[i]), { force: true });
    files -= 1;
    bytes -= sizes[i];
    deleted += sizes[i];
  }
  return deleted;
}

function isAlive(pid) {
  try {
    return Number.isInteger(pid) && pid > 0 && process.kill(pid, 0);
  } catch (error) {
    return error.code === "EPERM"; // somebody else's, but there
  }
}

function append(it, line) {
  const bytes = Buffer.from(`${it.isTorn ? "\n" : ""}${encode(line)}\n`);
  it.isTorn = true;
  const written = fs.writeSync(it.fd, bytes);
  it.size += written;
  if (written < bytes.length) throw new Error("short write");
  it.isTorn = false;
}

function encode(line) {
  const quick = JSON.stringify(line);
  // JSON.stringify escapes the half of a character that something upstream cut in two; readers refuse that.
  if (quick.length <= TEXT_CHARS && !quick.includes("\\ud")) return quick;
  let cut = 0;
  const bounded = (_key, value) => {
    if (typeof value !== "string") return value;
    const over = value.length - TEXT_CHARS;
    if (over <= 0) return value.toWellFormed();
    cut += over;
    const head = value.slice(0, TEXT_CHARS - TAIL_CHARS);
    return `${head}\n[... ${over} characters left out ...]\n${value.slice(-TAIL_CHARS)}`.toWellFormed();
  };
  const text = JSON.stringify(line, bounded);
  if (text.length <= LINE_CHARS) return cut ? `${text.slice(0, -1)},"cut":${cut}}` : text;
  const rest = { ...line, cut: text.length + cut };
  for (const key of TEXTS) delete rest[key];
  return JSON.stringify(rest, bounded);
}
