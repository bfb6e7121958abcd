// The page of a trace: fetches the steps, and does what mouse and keyboard ask of tree, times and panel.

import { ROW_PX, draw as drawRows, element, took } from "./trace-rows.js";
import { ERROR, fold, isNamed, isOpen, name, nextRow, search, shape, steps, take, unfold } from "./trace-steps.js";
import * as time from "./trace-time.js";

const PANEL_MS = 90; // between a step's selection and its panel: whoever walks through steps wants the last one's
const box = document.getElementById("fall");
const base = box.dataset.trace;
const trace = decodeURIComponent(base.split("/").pop());
const panel = document.getElementById("panel");
const state = document.getElementById("fall-state");
const find = document.getElementById("fall-find");
const found = document.getElementById("fall-found");
const foldBox = document.getElementById("fall-fold");
const noiseBox = document.getElementById("fall-noise");
const canvas = element("div", "fall-canvas");
const number = (n) => n.toLocaleString("en");

let lastPanel = "";
let panelTimer = 0;
let frame = 0;
const waiting = []; // what was asked for while only the first steps were there, and wants them all

function draw() {
  frame = 0;
  const { top, part } = drawRows(box, canvas);
  time.rowsInSight(top, part);
}

const drawSoon = () => (frame ||= requestAnimationFrame(draw));

function reshape() {
  steps.hasNoise = noiseBox.checked;
  shape();
  let row = steps.selected;
  while (row >= 0 && steps.places[row] < 0) row = steps.parents[row]; // what was folded away leaves its holder selected
  box.setAttribute("aria-rowcount", steps.of ? -1 : steps.visible.length);
  const [shown, others] = [number(steps.visible.length), ", the others are on their way"];
  state.textContent = steps.of ? `first ${shown} of ${number(steps.of)} spans${others}` : `${shown} of ${number(steps.count)} steps`;
  canvas.style.height = `${steps.visible.length * ROW_PX}px`;
  if (row >= 0 && row !== steps.selected) select(row);
  drawSoon();
  setTimeout(time.drawMap);
}

// -- the panel --------------------------------------------------------------------------------------------------------

async function showPanel(id) {
  lastPanel = id;
  const answer = await fetch(`${base}/panel?node=${encodeURIComponent(id)}`, { credentials: "same-origin" });
  if (lastPanel !== id) return; // another one was selected meanwhile
  if (!answer.ok) return panel.replaceChildren(element("p", "faint", "Nothing more is known of this step."));
  const opened = new Map([...panel.querySelectorAll("details[data-key]")].map((d) => [d.dataset.key, d.open]));
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  panel.replaceChildren(...page.body.childNodes);
  for (const one of panel.querySelectorAll("details[data-key]")) {
    if (opened.has(one.dataset.key)) one.open = opened.get(one.dataset.key);
  }
  panel.scrollTop = 0;
  tellTimes();
}

function tellTimes() {
  const told = document.getElementById("panel-time");
  const row = steps.selected;
  for (const button of document.querySelectorAll("[data-take], [data-take-raw], [data-take-from]")) {
    button.hidden = !navigator.clipboard;
  }
  if (!told || row < 0 || steps.of) return;
  const own = steps.columns.self[row] ?? steps.columns.took[row];
  const wait = steps.waits[row];
  const part = (wait / steps.duration) * 100;
  const share = part >= 0.1 ? `${part.toFixed(part < 10 ? 1 : 0)}%` : "under 0.1%";
  const waited = wait ? `on the critical path for ${took(Math.round(wait))} (${share} of the trace)` : "not on the critical path by itself";
  told.textContent = `Self time ${took(own)}, ${waited}.`;
}

// What is fetched for the clipboard is promised to it at once: browsers want it within the click.
async function copy(button) {
  const { take: text, takeFrom: address } = button.dataset;
  const label = button.textContent;
  try {
    if (address) {
      const told = fetch(address, { credentials: "same-origin" }).then(async (answer) => {
        if (!answer.ok) throw new Error(answer.statusText);
        return new Blob([await answer.text()], { type: "text/plain" });
      });
      await navigator.clipboard.write([new ClipboardItem({ "text/plain": told })]);
    } else await navigator.clipboard.writeText(text ?? panel.querySelector("[data-raw]").textContent);
    button.textContent = "copied";
  } catch {
    button.textContent = "not allowed"; // the browser says no: the text can still be marked
  }
  setTimeout(() => (button.textContent = label), 1500);
}

// -- selecting --------------------------------------------------------------------------------------------------------

function select(row, isQuiet) {
  steps.selected = row;
  const top = steps.places[row] * ROW_PX;
  if (top < box.scrollTop) box.scrollTop = top;
  else if (top + ROW_PX > box.scrollTop + box.clientHeight) box.scrollTop = top + ROW_PX - box.clientHeight;
  time.keepInSight(row);
  drawSoon();
  if (!isNamed(row)) return; // the page selects it again once its id is known
  const id = steps.columns.id[row];
  if (!isQuiet && id !== lastPanel) {
    clearTimeout(panelTimer);
    panelTimer = setTimeout(showPanel, PANEL_MS, id);
  }
  const address = new URL(location.href);
  address.searchParams.set("node", id);
  address.hash = "";
  history.replaceState(null, "", address);
}

function toggle(row, isWanted) {
  const id = steps.columns.id[row];
  if (isWanted ?? !isOpen(row)) steps.closed.delete(id);
  else steps.closed.add(id);
  reshape();
}

function reveal(row) {
  if (unfold(row)) {
    noiseBox.checked = steps.hasNoise;
    shape();
    reshape();
  }
  select(row);
}

function jump(isWanted, by) {
  const row = nextRow(isWanted, by);
  if (row >= 0) reveal(row);
  else if (steps.of) waiting.push(() => jump(isWanted, by));
  else state.textContent = "nothing found";
}

const nextError = (by) => jump((row) => steps.columns.flags[row] & ERROR, by);

function sayFound() {
  const { hits, hitCount, selected } = steps;
  let before = 0;
  if (hits?.[selected]) for (let row = 0; row <= selected; row++) before += hits[row];
  if (!hits) found.textContent = "";
  else if (!hitCount) found.textContent = "nothing found";
  else found.textContent = before ? `${number(before)} of ${number(hitCount)}` : `${number(hitCount)} found`;
}

function findNext(by) {
  if (!steps.hitCount && steps.of) waiting.push(() => findNext(by));
  if (!steps.hitCount) return;
  jump((row) => steps.hits[row], by);
  sayFound();
}

function last() {
  if (steps.of) waiting.push(last);
  else select(steps.visible[steps.visible.length - 1]);
}

function foldTo(what) {
  if (steps.of) waiting.push(() => foldTo(what)); // once more for the others
  fold(what);
  reshape();
}

function move(places) {
  const place = steps.selected < 0 ? -1 : steps.places[steps.selected];
  select(steps.visible[Math.max(0, Math.min(steps.visible.length - 1, place + places))]);
}

function inward() {
  const row = steps.selected;
  if (row < 0 || !steps.below[row]) return;
  if (isOpen(row)) move(1);
  else toggle(row, true);
}

function outward() {
  const row = steps.selected;
  if (row < 0) return;
  if (steps.below[row] && isOpen(row)) toggle(row, false);
  else if (steps.above[row] >= 0) select(steps.above[row]);
}

function zoom(factor) {
  const { at, took: lasted } = steps.columns;
  time.zoom(factor, steps.selected < 0 ? undefined : at[steps.selected] + lasted[steps.selected] / 2);
}

const page = () => Math.max(1, Math.floor(box.clientHeight / ROW_PX));
const KEYS = {
  ArrowDown: () => move(1),
  ArrowUp: () => move(-1),
  PageDown: () => move(page()),
  PageUp: () => move(-page()),
  Home: () => select(steps.visible[0]),
  End: last,
  ArrowRight: inward,
  ArrowLeft: outward,
  Enter: () => steps.selected >= 0 && panel.focus(),
  e: () => nextError(1),
  E: () => nextError(-1),
  n: () => findNext(1),
  N: () => findNext(-1),
  "/": () => find.focus(),
  "+": () => zoom(0.5),
  "=": () => zoom(0.5),
  "-": () => zoom(2),
  z: () => steps.selected >= 0 && time.showStep(steps.selected),
  0: time.showWhole,
  "<": () => time.pan(-0.25),
  ">": () => time.pan(0.25),
};

function listenToRows() {
  box.addEventListener("scroll", drawSoon, { passive: true });
  addEventListener("resize", drawSoon);
  box.addEventListener("click", (event) => {
    const line = event.target.closest("[data-place]");
    if (!line) return;
    const row = steps.visible[Number(line.dataset.place)];
    if (event.target.dataset.twist && steps.below[row]) return toggle(row);
    select(row);
    if (innerWidth < 1000) panel.scrollIntoView({ block: "start" });
  });
  box.addEventListener("dblclick", (event) => {
    const line = event.target.closest(".fall-time") && event.target.closest("[data-place]");
    if (line) time.showStep(steps.visible[Number(line.dataset.place)]);
  });
  box.addEventListener("keydown", (event) => {
    const act = KEYS[event.key];
    if (!act || event.ctrlKey || event.metaKey || event.altKey || !steps.visible.length) return;
    event.preventDefault();
    act();
  });
  time.onChange(drawSoon);
  time.listen(box, (part) => (box.scrollTop = part * canvas.clientHeight - box.clientHeight / 2));
}

function listenToTools() {
  panel.addEventListener("keydown", (event) => event.key === "Escape" && box.focus());
  noiseBox.addEventListener("change", reshape);
  document.getElementById("fall-path").addEventListener("change", (event) => {
    box.classList.toggle("has-path", event.target.checked);
  });
  find.addEventListener("input", () => (search(find.value), sayFound(), drawSoon()));
  find.addEventListener("keydown", (event) => {
    if (event.key === "Enter") findNext(event.shiftKey ? -1 : 1);
    else if (event.key === "Escape") box.focus();
    else return;
    event.preventDefault();
  });
  document.getElementById("fall-after").addEventListener("click", () => findNext(1));
  document.getElementById("fall-before").addEventListener("click", () => findNext(-1));
  document.getElementById("fall-error").addEventListener("click", () => nextError(1));
  foldBox.addEventListener("change", () => {
    foldTo(foldBox.value);
    foldBox.value = ""; // rows are opened and closed by hand as well, so that no choice stays true
  });
  document.addEventListener("click", (event) => {
    const button = event.target.closest("[data-take], [data-take-raw], [data-take-from]");
    if (button) return copy(button);
    const link = event.target.closest("a[data-node]");
    const row = link && !event.ctrlKey && !event.metaKey ? steps.columns.id.indexOf(link.dataset.node) : -1;
    if (row < 0) return;
    event.preventDefault();
    reveal(row);
    box.focus();
  });
}

async function fetched(what) {
  const answer = await fetch(`${base}/${what}`, { credentials: "same-origin" });
  return answer.ok ? await answer.json() : null;
}

async function load() {
  const told = await fetched("rows");
  if (!told) return false;
  const ids = told.columns.id ? null : fetched("rows?ids=1"); // those of a long trace come after its rows
  if (ids && (steps.count || box.dataset.selected)) {
    const named = await ids; // what is selected or folded is known by its id
    if (named?.state === told.state) told.columns.id = named.id;
  }
  show(told);
  if (!told.columns.id) nameRows(told.state, await ids);
  return true;
}

function show(told) {
  const kept = steps.count && steps.selected >= 0 ? steps.columns.id[steps.selected] : box.dataset.selected;
  const [wasWhole, { from, to }] = [!steps.count || time.isWhole(), time.view];
  take(told, trace);
  steps.selected = kept ? steps.columns.id.indexOf(kept) : -1;
  search(find.value);
  reshape();
  if (wasWhole) time.showWhole();
  else time.show(from, to);
  sayFound();
}

function nameRows(state, named) {
  if (named?.state !== state || steps.state !== state) return; // it has grown meanwhile: so have the next rows
  name(named.id, trace);
  if (steps.selected >= 0) select(steps.selected);
  if (find.value) {
    search(find.value);
    sayFound();
  }
  drawSoon();
}

// What the server says of a long trace only when its tree is made.
async function showFacts() {
  const facts = document.getElementById("facts");
  if (!("frame" in facts.dataset)) return;
  const answer = await fetch(location.href, { credentials: "same-origin" });
  if (!answer.ok) return;
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  facts.replaceChildren(...page.getElementById("facts").childNodes);
  facts.dataset.shown = facts.innerHTML;
  delete facts.dataset.frame;
}

function become() {
  box.classList.add("is-drawn", "has-path");
  box.tabIndex = 0;
  box.setAttribute("role", "treegrid");
  box.setAttribute("aria-label", "Steps of the trace");
  canvas.setAttribute("role", "rowgroup");
  box.replaceChildren(canvas);
  for (const id of ["fall-tools", "fall-map", "fall-keys"]) document.getElementById(id).hidden = false;
  lastPanel = box.dataset.selected;
}

// Rows are taken one answer after the other, whatever asked for them.
let loading = Promise.resolve();
const loadNext = () => (loading = loading.catch(() => false).then(load));

// The first steps of a long trace come with the page, and can be used while all of them are on their way.
function begin() {
  const told = JSON.parse(box.dataset.begun ?? "null");
  delete box.dataset.begun;
  if (told?.columns.up.length) show(told);
  return steps.count > 0;
}

async function loadOthers() {
  const had = steps.selected;
  if (!(await loadNext().catch(() => false))) state.textContent = "The other steps did not come: reload the page.";
  else if (had < 0 && steps.selected >= 0) reveal(steps.selected); // what the address names is none of the first
  for (const act of waiting.splice(0)) act();
  tellTimes();
  performance.mark("trace:whole");
  showFacts();
}

const isBegun = begin();
if (isBegun || (await loadNext())) {
  become();
  listenToRows();
  listenToTools();
  if (steps.selected >= 0 && steps.places[steps.selected] < 0) reveal(steps.selected);
  else if (steps.selected >= 0) select(steps.selected, true);
  cancelAnimationFrame(frame);
  draw();
  tellTimes();
  performance.mark("trace:ready");
  if (isBegun) requestAnimationFrame(() => setTimeout(loadOthers)); // once these are seen
  else showFacts();
  document.addEventListener("tachograph:refreshed", loadNext);
}
