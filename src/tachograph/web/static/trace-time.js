// The time of a waterfall: which part of it is in sight, the axis above the bars, and the small map of the whole.

import { ERROR, steps, word } from "./trace-steps.js";

const SHORTEST_US = 20; // a window any shorter shows nothing more
const DRAG_PX = 4; // less is a click
const TICKS = 4;
const ROLES = { prompt: "--prompt", model_call: "--call", tool_run: "--tool", agent: "--agent", turn: "--turn", session: "--turn" };
const map = document.getElementById("fall-map");
const canvas = document.createElement("canvas");
const frame = map.querySelector(".map-window");
const band = map.querySelector(".map-band");
const axis = document.getElementById("fall-axis");
const whole = document.getElementById("fall-whole");

export const view = { from: 0, to: 1 }; // µs from the start

let changed = () => {};
export const onChange = (act) => (changed = act);

export const isWhole = () => view.from <= 0 && view.to >= steps.duration;
export const width = () => view.to - view.from;

export function show(from, to) {
  const shortest = Math.min(SHORTEST_US, steps.duration);
  const length = Math.min(steps.duration, Math.max(shortest, to - from));
  const middle = (from + to) / 2;
  view.from = Math.max(0, Math.min(steps.duration - length, middle - length / 2));
  view.to = view.from + length;
  whole.disabled = isWhole();
  drawAxis();
  drawFrame();
  changed();
}

export const showWhole = () => show(0, steps.duration);
export const pan = (part) => show(view.from + width() * part, view.to + width() * part);

export function zoom(factor, around = (view.from + view.to) / 2) {
  const at = Math.max(view.from, Math.min(view.to, around));
  show(at - (at - view.from) * factor, at + (view.to - at) * factor);
}

export function showStep(row) {
  const { at, took } = steps.columns;
  const spare = Math.max(took[row] * 0.1, 10);
  show(at[row] - spare, at[row] + took[row] + spare);
}

// Moves the window so that a step is in it; its length stays.
export function keepInSight(row) {
  const { at, took } = steps.columns;
  if (at[row] <= view.to && at[row] + took[row] >= view.from) return;
  const middle = at[row] + Math.min(took[row], width()) / 2;
  show(middle - width() / 2, middle + width() / 2);
}

function moment(us, step) {
  if (us <= 0) return "0";
  if (steps.duration < 1000) return `${Math.round(us)} µs`;
  if (steps.duration < 1e6) return `${(us / 1000).toFixed(step < 1000 ? 2 : 0)} ms`;
  const digits = Math.max(0, Math.min(5, Math.ceil(-Math.log10(step / 1e6) + 0.3)));
  if (us < 120e6) return `${(us / 1e6).toFixed(digits)} s`;
  const minutes = Math.floor(us / 60e6);
  const rest = ((us - minutes * 60e6) / 1e6).toFixed(digits).padStart(digits ? digits + 3 : 2, "0");
  return minutes < 60 ? `${minutes}:${rest}` : `${Math.floor(minutes / 60)}:${String(minutes % 60).padStart(2, "0")}:${rest}`;
}

function drawAxis() {
  const step = width() / TICKS;
  axis.replaceChildren();
  for (let tick = 0; tick <= TICKS; tick++) {
    const label = document.createElement("span");
    label.textContent = moment(view.from + tick * step, step);
    axis.append(label);
  }
}

// -- the map ----------------------------------------------------------------------------------------------------------

export function drawMap() {
  const scale = devicePixelRatio || 1;
  const [wide, high] = [map.clientWidth * scale, map.clientHeight * scale];
  if (!wide || !steps.count) return;
  [canvas.width, canvas.height] = [wide, high];
  const paint = canvas.getContext("2d");
  const style = getComputedStyle(document.documentElement);
  const colours = new Map(Object.entries(ROLES).map(([role, name]) => [role, style.getPropertyValue(name)]));
  const [plain, bad] = ["--step", "--bad"].map((name) => style.getPropertyValue(name));
  const { at, took, flags } = steps.columns;
  const rows = steps.visible;
  const each = Math.max(scale, high / Math.max(rows.length, 12));
  const draw = (row, place, colour, least) => {
    paint.fillStyle = colour;
    const left = Math.min(wide - least, (at[row] / steps.duration) * wide);
    const top = (place / Math.max(rows.length, 12)) * high;
    paint.fillRect(left, Math.min(top, high - each), Math.max(least, (took[row] / steps.duration) * wide), each);
  };
  rows.forEach((row, place) => draw(row, place, colours.get(word("role", row)) ?? plain, scale));
  rows.forEach((row, place) => flags[row] & ERROR && draw(row, place, bad, 2 * scale));
  drawFrame();
}

let scroll = { top: 0, part: 1 }; // of the rows, as parts of all

export function rowsInSight(top, part) {
  scroll = { top, part };
  drawFrame();
}

function drawFrame() {
  const left = (view.from / steps.duration) * 100;
  frame.style.left = `${Math.min(99.5, left)}%`;
  frame.style.width = `${Math.max(0.5, (width() / steps.duration) * 100)}%`;
  const part = Math.max(0.08, Math.min(1, scroll.part)); // thinner could not be seen
  frame.style.top = `${Math.min(1 - part, scroll.top) * 100}%`;
  frame.style.height = `${part * 100}%`;
}

// Dragging over `area` marks a part of what is between `from` and `to` there; a click is left to `clicked`.
function drag(area, box, mark, span, chosen, clicked) {
  area.addEventListener("pointerdown", (down) => {
    if (down.button || down.pointerType === "touch") return;
    const place = box(down);
    if (!place) return;
    const at = (event) => Math.max(0, Math.min(1, (event.clientX - place.left) / place.width));
    const first = at(down);
    let isDrag = false;
    const move = (event) => {
      isDrag ||= Math.abs(event.clientX - down.clientX) > DRAG_PX;
      if (isDrag) mark(Math.min(first, at(event)), Math.max(first, at(event)), place);
    };
    const end = (event) => {
      removeEventListener("pointermove", move);
      removeEventListener("pointerup", end);
      removeEventListener("pointercancel", end);
      mark(0, 0, null);
      if (event.type === "pointercancel") return;
      const { from, to } = span();
      const where = (part) => from + (to - from) * part;
      if (isDrag) chosen(where(Math.min(first, at(event))), where(Math.max(first, at(event))));
      else clicked?.(where(first), (down.clientY - place.top) / place.height);
    };
    addEventListener("pointermove", move);
    addEventListener("pointerup", end);
    addEventListener("pointercancel", end);
  });
}

export function listen(rows, goTo) {
  map.prepend(canvas);
  const onMap = (from, to) => {
    band.hidden = to <= from;
    band.style.left = `${from * 100}%`;
    band.style.width = `${(to - from) * 100}%`;
  };
  drag(map, () => pick(map.getBoundingClientRect()), onMap, () => ({ from: 0, to: steps.duration }), show, (us, part) => {
    show(us - width() / 2, us + width() / 2);
    goTo(part);
  });
  map.addEventListener("dblclick", showWhole);
  map.addEventListener(
    "wheel",
    (event) => {
      event.preventDefault();
      const { left, width: wide } = map.getBoundingClientRect();
      zoom(event.deltaY > 0 ? 1.25 : 0.8, ((event.clientX - left) / wide) * steps.duration);
    },
    { passive: false },
  );
  dragRows(rows);
  document.getElementById("fall-nearer").addEventListener("click", () => zoom(0.5));
  document.getElementById("fall-farther").addEventListener("click", () => zoom(2));
  whole.addEventListener("click", showWhole);
  addEventListener("resize", () => requestAnimationFrame(drawMap));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawMap);
  new MutationObserver(drawMap).observe(document.documentElement, { attributes: true, attributeFilter: ["data-theme"] });
}

const pick = ({ left, top, width: wide, height }) => ({ left, top, width: wide, height });

function dragRows(rows) {
  const shade = document.createElement("div");
  shade.className = "map-band fall-shade";
  shade.hidden = true;
  rows.parentElement.append(shade);
  const onRows = (from, to, place) => {
    shade.hidden = to <= from;
    if (!place) return;
    const card = rows.parentElement.getBoundingClientRect();
    const list = rows.getBoundingClientRect();
    shade.style.left = `${place.left - card.left + from * place.width}px`;
    shade.style.width = `${(to - from) * place.width}px`;
    shade.style.top = `${list.top - card.top}px`;
    shade.style.height = `${list.height}px`;
  };
  const isOnBars = (event) => {
    const cell = event.target.closest(".fall-time");
    return cell && pick(cell.getBoundingClientRect());
  };
  const chosen = (from, to) => {
    // What ends a drag is no click on the row below it.
    const ignore = (event) => event.stopPropagation();
    addEventListener("click", ignore, { capture: true });
    setTimeout(() => removeEventListener("click", ignore, { capture: true }), 50);
    show(from, to);
  };
  drag(rows, isOnBars, onRows, () => ({ ...view }), chosen);
}
