// Draws the rows of a waterfall that are in sight, however many there are.

import { CALL, COMPUTED, ERROR, ESTIMATE, NOTIONAL, isOpen, steps, word } from "./trace-steps.js";
import { view, width } from "./trace-time.js";

export const ROW_PX = 28; // as in the style sheet
const SPARE_ROWS = 12;
const DEPTH_SHOWN = 12;
const FINEST = 0.15; // percent of the width: stretches nearer to each other are drawn as one

export function took(us) {
  if (us === null) return "–";
  if (us < 1000) return `${us} µs`;
  if (us < 999500) return `${Math.round(us / 1000)} ms`;
  const s = us / 1e6;
  if (s < 59.5) return `${s < 10 ? s.toFixed(1) : Math.round(s)} s`;
  const m = Math.floor(Math.round(s) / 60);
  return m < 60 ? `${m} m ${Math.round(s) % 60} s` : `${Math.floor(m / 60)} h ${m % 60} m`;
}

function money(nano) {
  const usd = nano / 1e9;
  return usd === 0 ? "$0" : usd < 1 ? `$${usd.toFixed(4)}` : `$${usd.toFixed(2)}`;
}

function tokens(n) {
  return n < 1000 ? `${n}` : n < 1e6 ? `${(n / 1e3).toPrecision(3)}k` : `${(n / 1e6).toPrecision(3)}M`;
}

export function element(tag, class_, text) {
  const made = document.createElement(tag);
  if (class_) made.className = class_;
  if (text !== undefined) made.textContent = text; // never markup: names are other people's text
  return made;
}

function costKind(flag) {
  return flag & NOTIONAL ? " plan" : flag & ESTIMATE ? " est" : flag & COMPUTED ? " calc" : "";
}

function price(row) {
  const { flags, tokens: used, cost } = steps.columns;
  const amount = cost[row] === null ? "unpriced" : money(cost[row]) + costKind(flags[row]);
  return `${used[row] === null ? "unknown" : tokens(used[row])} · ${amount}`;
}

function nameCell(row) {
  const depth = steps.depths[row];
  const cell = element("span", "fall-name");
  const [label, more] = [word("name", row), word("detail", row)];
  cell.setAttribute("role", "gridcell");
  cell.title = `${label} (level ${depth + 1})`;
  cell.style.paddingInlineStart = `${Math.min(depth, DEPTH_SHOWN) * 14 + 4}px`;
  const twist = element("span", "twist", steps.below[row] ? (isOpen(row) ? "▾" : "▸") : "");
  twist.dataset.twist = "1";
  twist.setAttribute("aria-hidden", "true");
  cell.append(twist);
  if (depth > DEPTH_SHOWN) cell.append(element("span", "inner", `${depth + 1}`)); // the level, where the indent ends
  cell.append(element("i", `dot mark-${word("role", row) || "step"}`), element("bdi", "", label));
  if (more && more !== label) cell.append(" ", element("bdi", "faint", more));
  if (steps.folded[row]) {
    const inner = element("span", "inner", `+${steps.folded[row].toLocaleString("en")}`);
    inner.title = "inner steps folded";
    cell.append(inner);
  }
  if (steps.columns.flags[row] & CALL) cell.append(element("span", "fall-cost num", price(row)));
  return cell;
}

const place = (us) => ((us - view.from) / width()) * 100;

function timeCell(row) {
  const { at, took: lasted, flags } = steps.columns;
  const own = steps.columns.self[row];
  const cell = element("span", "fall-time");
  cell.setAttribute("role", "gridcell");
  const [start, end] = [place(at[row]), place(at[row] + lasted[row])];
  const left = Math.max(0, Math.min(99.75, start));
  const right = Math.max(left + 0.25, Math.min(100, end));
  const label = element("span", "fall-took num", took(lasted[row]));
  if (lasted[row] === null) label.title = "unknown";
  if (own !== null && own > lasted[row] / 100 && own < lasted[row]) label.append(element("span", "fall-self", ` self ${took(own)}`));
  if (end < 0 || start > 100) {
    label.prepend(end < 0 ? "‹ " : "› "); // before or after what is in sight
    label.style[end < 0 ? "left" : "right"] = "0.6%";
  } else {
    const kind = flags[row] & ERROR ? "error" : word("role", row) || "step";
    const bar = element("span", `fall-bar fall-${kind}`);
    bar.style.left = `${left}%`;
    bar.style.width = `${right - left}%`;
    cell.append(bar, ...critical(row));
    if (right - left > 60) {
      label.classList.add("is-inside");
      label.style.right = `${100 - right + 0.8}%`;
    } else if (right > 72) label.style.right = `${100 - left + 0.6}%`;
    else label.style.left = `${right + 0.6}%`;
  }
  cell.append(label);
  return cell;
}

// The stretches of the critical path that are this row's, or of what is folded into it.
function critical(row) {
  const found = [];
  let [from, to] = [-1, -1];
  const add = () => {
    if (to < 0) return;
    const line = element("span", "fall-path");
    line.style.left = `${from}%`;
    line.style.width = `${Math.max(0.2, to - from)}%`;
    found.push(line);
  };
  for (let at = steps.firstStretch[row]; at >= 0; at = steps.nextStretch[at]) {
    const start = Math.max(0, place(steps.path.at[at]));
    const end = Math.min(100, place(steps.path.at[at] + steps.path.took[at]));
    if (end < 0 || start > 100) continue;
    if (to >= 0 && start - to < FINEST) to = Math.max(to, end);
    else {
      add();
      [from, to] = [start, end];
    }
  }
  add();
  return found;
}

function rowAt(at) {
  const row = steps.visible[at];
  const line = element("div", "fall-row");
  line.setAttribute("role", "row");
  line.setAttribute("aria-rowindex", at + 1);
  line.setAttribute("aria-level", steps.depths[row] + 1);
  if (steps.below[row]) line.setAttribute("aria-expanded", isOpen(row));
  line.setAttribute("aria-selected", row === steps.selected);
  line.id = `fall-row-${row}`;
  line.dataset.place = at;
  if (steps.columns.flags[row] & ERROR) line.classList.add("is-error");
  if (steps.hits?.[row]) line.classList.add("is-hit");
  line.style.transform = `translateY(${at * ROW_PX}px)`;
  line.append(nameCell(row), timeCell(row));
  return line;
}

export function draw(box, canvas) {
  const [top, height] = [box.scrollTop, box.clientHeight]; // read before anything is written
  const from = Math.max(0, Math.floor(top / ROW_PX) - SPARE_ROWS);
  const to = Math.min(steps.visible.length, Math.ceil((top + height) / ROW_PX) + SPARE_ROWS);
  const lines = [];
  for (let at = from; at < to; at++) lines.push(rowAt(at));
  canvas.style.height = `${steps.visible.length * ROW_PX}px`;
  canvas.replaceChildren(...lines);
  const at = steps.selected >= 0 ? steps.places[steps.selected] : -1;
  if (at >= from && at < to) box.setAttribute("aria-activedescendant", `fall-row-${steps.selected}`);
  else box.removeAttribute("aria-activedescendant");
  return { top: top / Math.max(1, steps.visible.length * ROW_PX), part: height / Math.max(1, steps.visible.length * ROW_PX) };
}
