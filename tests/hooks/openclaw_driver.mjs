/** Calls the OpenClaw plugin's hooks as a gateway does, with one {hook, event, ctx} for each line of standard input. */

import { readFileSync } from "node:fs";

const { default: plugin } = await import(process.argv[2]);
const handlers = {};
const refused = new Set((process.env.REFUSED ?? "").split(","));
const api = {
  registrationMode: process.env.MODE ?? "full",
  runtime: { version: "2026.9.6" },
  on(name, handler) {
    if (refused.has(name)) throw new Error(`blocked: ${name}`);
    (handlers[name] ??= []).push(handler);
  },
};
plugin.register(api);
const said = [];
for (const line of readFileSync(0, "utf8").split("\n").filter(Boolean)) {
  let { hook, event, ctx } = JSON.parse(line);
  if (event?.message?.content === "loop") event.message.content = [event];
  if (event === "trap") event = new Proxy({}, { get: () => { throw new Error("trap"); } });
  for (const handler of handlers[hook] ?? []) said.push(handler(event, ctx));
}
console.log(JSON.stringify({ hooks: Object.keys(handlers), said: said.filter((answer) => answer !== undefined) }));
