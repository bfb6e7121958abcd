/** Facts of the process that Pi does not tell, and the start of the relay. */

import { spawn } from "node:child_process";
import * as fs from "node:fs";
import * as os from "node:os";
import * as path from "node:path";
import { type Fields, home, isAlive, state } from "./spool.ts";

/** What is the same for all sessions of this process. */
export function processFacts(): Fields {
  const parent = state().parent;
  return {
    pid: process.pid,
    ppid: process.ppid,
    pi: piVersion(),
    node: process.versions.node,
    host: os.hostname(),
    user: userName(),
    resource: process.env.OTEL_RESOURCE_ATTRIBUTES || undefined,
    service: process.env.OTEL_SERVICE_NAME || undefined,
    traceparent: process.env.TRACEPARENT || undefined,
    parent,
    parent_alive: parent ? isAlive(Number(parent.split(";")[3])) : undefined,
    subagent: subagent(),
  };
}

function userName(): string | undefined {
  try {
    return os.userInfo().username;
  } catch {
    return undefined; // a container's user without a name
  }
}

/** The version in the package.json of the running program. */
function piVersion(): string | undefined {
  for (const start of [process.argv[1], process.execPath]) {
    try {
      for (let at = path.dirname(fs.realpathSync(start)), up = ""; at !== up; up = at, at = path.dirname(at)) {
        const file = path.join(at, "package.json");
        if (!fs.existsSync(file)) continue;
        const told = JSON.parse(fs.readFileSync(file, "utf8"));
        if (String(told.name).endsWith("/pi-coding-agent")) return String(told.version);
      }
    } catch {
      // Embedded in another program: the next place, or none.
    }
  }
  return undefined;
}

/** The name that sub-agent extensions give by `--append-system-prompt <folder>/prompt-<name>.md`. */
function subagent(): string | undefined {
  const at = process.argv.indexOf("--append-system-prompt");
  return at < 0 ? undefined : /(?:^|[\\/])prompt-([^\\/]+)\.md$/.exec(process.argv[at + 1] ?? "")?.[1];
}

/** How Pi was started, for versions that do not tell. */
export function modeOfArguments(hasUI: boolean): string {
  const at = process.argv.indexOf("--mode");
  if (at >= 0 && process.argv[at + 1] !== "text") return process.argv[at + 1];
  return hasUI && !process.argv.includes("-p") && !process.argv.includes("--print") ? "tui" : "print";
}

/** The branch that a folder is on, from the files of git. */
export function branchOf(cwd: string): string | undefined {
  try {
    for (let at = cwd, up = ""; at !== up; up = at, at = path.dirname(at)) {
      let git = path.join(at, ".git");
      const found = fs.statSync(git, { throwIfNoEntry: false });
      if (found === undefined) continue;
      if (found.isFile()) git = path.resolve(at, fs.readFileSync(git, "utf8").replace(/^gitdir:\s*/, "").trim());
      const head = fs.readFileSync(path.join(git, "HEAD"), "utf8").trim();
      return head.startsWith("ref:") ? head.replace(/^ref:\s*(refs\/heads\/)?/, "") : head.slice(0, 12);
    }
  } catch {
    // No repository that this user may read.
  }
  return undefined;
}

/** Start `tachograph relay` if it is installed and nothing of tachograph runs; a child leaves that to its parent. */
export function startRelay(): void {
  if (state().parent || process.env.TACHOGRAPH_RELAY === "off") return;
  if (isServed()) return;
  const program = onPath("tachograph");
  if (program === undefined) return;
  const env = { ...process.env };
  delete env.TACHOGRAPH_PARENT;
  const child = spawn(program, ["relay"], { detached: true, stdio: "ignore", windowsHide: true, cwd: os.homedir(), env });
  child.on("error", () => {}); // not startable after all: the next `tachograph up` reads the spool
  child.unref();
}

/** Whether a server or a relay runs: both say so in the same file. */
function isServed(): boolean {
  try {
    return isAlive(JSON.parse(fs.readFileSync(path.join(home(), "server.json"), "utf8")).pid);
  } catch {
    return false; // not there
  }
}

function onPath(name: string): string | undefined {
  const file = process.platform === "win32" ? `${name}.exe` : name;
  for (const folder of (process.env.PATH ?? "").split(path.delimiter)) {
    try {
      if (!path.isAbsolute(folder)) continue; // never what lies in the folder the agent works in
      fs.accessSync(path.join(folder, file), fs.constants.X_OK);
      return path.join(folder, file);
    } catch {
      // Not here.
    }
  }
  return undefined;
}
