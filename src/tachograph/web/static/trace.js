// The waterfall of a trace: draws only the rows in sight, however many there are; the server sends them as columns.

const ROW_PX = 28; // as in the style sheet
const SPARE_ROWS = 12;
const [ERROR, NOISE, CALL, NOTIONAL, ESTIMATE, COMPUTED] = [1, 2, 4, 8, 16, 32];
const box = document.getElementById("fall");
const base = box.dataset.trace;
const panel = document.getElementById("panel");
const state = document.getElementById("fall-state");
const find = document.getElementById("fall-find");
const found = document.getElementById("fall-found");
const foldBox = document.getElementById("fall-fold");
const noiseBox = document.getElementById("fall-noise");

let data = null; // {duration, words, columns}
let parents, depths, sizes, hidden; // by row: shown parent, shown depth, rows right below it, steps folded into it
let closed = new Set(); // ids of collapsed rows
let visible = []; // rows in sight order
let selected = -1;
let lastPanel = "";
let hits = null; // by row: whether it holds what is searched; null = nothing is
let hitCount = 0;
const canvas = document.createElement("div");
canvas.className = "fall-canvas";

function shape() {
  const { parent, flags, at, id } = data.columns;
  const count = parent.length;
  const withNoise = noiseBox.checked;
  parents = new Int32Array(count).fill(-1);
  depths = new Int32Array(count);
  hidden = new Int32Array(count);
  sizes = new Int32Array(count);
  const below = new Map([[-1, []]]); // shown parent -> its rows; a parent always stands before its rows
  for (let row = 0; row < count; row++) {
    let above = parent[row];
    if (!withNoise && above >= 0 && flags[above] & NOISE) above = parents[above]; // already the nearest one shown
    parents[row] = above;
    depths[row] = above < 0 ? 0 : depths[above] + 1;
    if (!withNoise && flags[row] & NOISE) {
      if (above >= 0) hidden[above]++;
      continue;
    }
    if (!below.has(above)) below.set(above, []);
    below.get(above).push(row);
    if (above >= 0) sizes[above]++;
  }
  visible = [];
  const stack = [];
  const push = (rows) => {
    const sorted = rows.slice().sort((a, b) => at[a] - at[b] || a - b); // what moved up from a folded step is out of time
    for (let i = sorted.length - 1; i >= 0; i--) stack.push(sorted[i]);
  };
  push(below.get(-1));
  while (stack.length) {
    const row = stack.pop();
    visible.push(row);
    if (sizes[row] && !closed.has(id[row])) push(below.get(row));
  }
  canvas.style.height = `${visible.length * ROW_PX}px`;
  state.textContent = `${visible.length.toLocaleString("en")} of ${count.toLocaleString("en")} steps`;
}

function took(us) {
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

function element(tag, class_, text) {
  const made = document.createElement(tag);
  if (class_) made.className = class_;
  if (text !== undefined) made.textContent = text; // never markup: names are other people's text
  return made;
}

function costKind(flag) {
  return flag & NOTIONAL ? " plan" : flag & ESTIMATE ? " est" : flag & COMPUTED ? " calc" : "";
}

function rowName(row) {
  const { name, role, detail, flags, tokens: used, cost } = data.columns;
  const cell = element("span", "fall-name");
  cell.title = `${data.words[name[row]]} (level ${depths[row] + 1})`;
  cell.style.paddingInlineStart = `${Math.min(depths[row], 12) * 14 + 4}px`;
  const isOpen = !closed.has(data.columns.id[row]);
  const twist = element("span", "twist", sizes[row] ? (isOpen ? "▾" : "▸") : "");
  twist.dataset.twist = "1";
  const role_ = data.words[role[row]];
  const label = data.words[name[row]];
  const more = data.words[detail[row]];
  cell.append(twist, element("i", `dot mark-${role_ || "step"}`), element("bdi", "", label));
  if (more && more !== label) cell.append(" ", element("bdi", "faint", more));
  if (hidden[row]) {
    const inner = element("span", "inner", `+${hidden[row].toLocaleString("en")}`);
    inner.title = "inner steps folded";
    cell.append(inner);
  }
  if (flags[row] & CALL) {
    const price = cost[row] === null ? "unpriced" : money(cost[row]) + costKind(flags[row]);
    const spent = used[row] === null ? "unknown" : tokens(used[row]);
    cell.append(element("span", "fall-cost num", `${spent} · ${price}`));
  }
  return cell;
}

function rowBar(row) {
  const { at, took: lasted, flags, role } = data.columns;
  const whole = Math.max(1, data.duration);
  const cell = element("span", "fall-time");
  const left = Math.min(99.7, (at[row] / whole) * 100);
  const width = Math.max(0.25, Math.min(100 - left, (lasted[row] / whole) * 100));
  const kind = flags[row] & ERROR ? "error" : data.words[role[row]] || "step";
  const bar = element("span", `fall-bar fall-${kind}`);
  bar.style.left = `${left}%`;
  bar.style.width = `${width}%`;
  const label = element("span", "fall-took num", took(lasted[row]));
  if (width > 60) {
    label.classList.add("is-inside");
    label.style.right = `${100 - left - width + 0.8}%`;
  } else if (left + width > 78) label.style.right = `${100 - left + 0.6}%`;
  else label.style.left = `${left + width + 0.6}%`;
  cell.append(bar, label);
  return cell;
}

function drawRow(place) {
  const row = visible[place];
  const line = element("div", "fall-row");
  line.setAttribute("role", "row");
  line.setAttribute("aria-level", depths[row] + 1);
  if (sizes[row]) line.setAttribute("aria-expanded", !closed.has(data.columns.id[row]));
  line.setAttribute("aria-selected", row === selected);
  line.id = `fall-row-${row}`;
  line.dataset.place = place;
  if (data.columns.flags[row] & ERROR) line.classList.add("is-error");
  if (hits?.[row]) line.classList.add("is-hit");
  line.style.transform = `translateY(${place * ROW_PX}px)`;
  const left = rowName(row);
  left.setAttribute("role", "gridcell");
  line.append(left, rowBar(row));
  return line;
}

function draw() {
  const from = Math.max(0, Math.floor(box.scrollTop / ROW_PX) - SPARE_ROWS);
  const to = Math.min(visible.length, Math.ceil((box.scrollTop + box.clientHeight) / ROW_PX) + SPARE_ROWS);
  const lines = [];
  for (let place = from; place < to; place++) lines.push(drawRow(place));
  canvas.replaceChildren(...lines);
  box.setAttribute("aria-activedescendant", selected >= 0 ? `fall-row-${selected}` : "");
}

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
}

function select(row, isQuiet) {
  selected = row;
  const place = visible.indexOf(row);
  const top = place * ROW_PX;
  if (top < box.scrollTop) box.scrollTop = top;
  else if (top + ROW_PX > box.scrollTop + box.clientHeight) box.scrollTop = top + ROW_PX - box.clientHeight;
  draw();
  const id = data.columns.id[row];
  if (!isQuiet && id !== lastPanel) showPanel(id);
  const address = new URL(location.href);
  address.searchParams.set("node", id);
  history.replaceState(null, "", address);
}

function toggle(row, isOpen) {
  const id = data.columns.id[row];
  if (isOpen ?? closed.has(id)) closed.delete(id);
  else closed.add(id);
  reshape();
}

function fold(what) {
  const { id, role } = data.columns;
  const depth = Number(what);
  const isClosed = (row) => (depth ? depths[row] >= depth - 1 : data.words[role[row]] === what);
  if (what === "none") closed.clear();
  else if (depth) closed = new Set(id.filter((_, row) => sizes[row] && isClosed(row)));
  else id.forEach((one, row) => sizes[row] && isClosed(row) && closed.add(one));
  reshape();
}

function reshape() {
  shape();
  const shown = new Set(visible);
  let row = selected;
  while (row >= 0 && !shown.has(row)) row = data.columns.parent[row]; // what was folded away leaves its holder selected
  if (row >= 0 && row !== selected) select(row);
  else draw();
}

function reveal(row) {
  let isFolded = false;
  if (data.columns.flags[row] & NOISE && !noiseBox.checked) {
    noiseBox.checked = true;
    isFolded = true;
  }
  for (let above = data.columns.parent[row]; above >= 0; above = data.columns.parent[above]) {
    isFolded = closed.delete(data.columns.id[above]) || isFolded;
  }
  if (isFolded) shape();
  select(row);
}

function next(isWanted, by = 1) {
  const count = data.columns.id.length;
  const from = selected < 0 && by < 0 ? 0 : selected;
  for (let step = 1; step <= count; step++) {
    const row = (((from + step * by) % count) + count) % count;
    if (isWanted(row)) return reveal(row);
  }
  state.textContent = "nothing found";
}

function search() {
  const wanted = find.value.trim().toLowerCase();
  const { name, role, detail, also, error, id } = data.columns;
  hits = null;
  hitCount = 0;
  if (wanted) {
    const inWord = data.words.map((word) => word.toLowerCase().includes(wanted));
    hits = new Uint8Array(name.length);
    for (let row = 0; row < name.length; row++) {
      const isNamed = inWord[name[row]] || inWord[role[row]] || inWord[detail[row]];
      if (isNamed || inWord[also[row]] || inWord[error[row]] || id[row].includes(wanted)) {
        hits[row] = 1;
        hitCount++;
      }
    }
  }
  sayFound();
}

function sayFound() {
  let before = 0;
  if (hits?.[selected]) for (let row = 0; row <= selected; row++) before += hits[row];
  const all = hitCount.toLocaleString("en");
  if (!hits) found.textContent = "";
  else if (!hitCount) found.textContent = "nothing found";
  else found.textContent = before ? `${before.toLocaleString("en")} of ${all}` : `${all} found`;
}

function findNext(by) {
  if (!hitCount) return;
  next((row) => hits[row], by);
  sayFound();
}

function move(places) {
  const place = selected < 0 ? -1 : visible.indexOf(selected);
  select(visible[Math.max(0, Math.min(visible.length - 1, place + places))]);
}

const KEYS = {
  ArrowDown: () => move(1),
  ArrowUp: () => move(-1),
  PageDown: () => move(Math.floor(box.clientHeight / ROW_PX)),
  PageUp: () => move(-Math.floor(box.clientHeight / ROW_PX)),
  Home: () => select(visible[0]),
  End: () => select(visible[visible.length - 1]),
  ArrowRight: () => selected >= 0 && (closed.has(data.columns.id[selected]) ? toggle(selected, true) : sizes[selected] && move(1)),
  ArrowLeft: () => {
    if (selected < 0) return;
    if (sizes[selected] && !closed.has(data.columns.id[selected])) toggle(selected, false);
    else if (parents[selected] >= 0) select(parents[selected]);
  },
  Enter: () => selected >= 0 && panel.focus(),
  e: () => next((row) => data.columns.flags[row] & ERROR),
  E: () => next((row) => data.columns.flags[row] & ERROR, -1),
  n: () => findNext(1),
  N: () => findNext(-1),
  "/": () => find.focus(),
};

function listen() {
  box.addEventListener("scroll", () => requestAnimationFrame(draw), { passive: true });
  addEventListener("resize", () => requestAnimationFrame(draw));
  box.addEventListener("click", (event) => {
    const line = event.target.closest("[data-place]");
    if (!line) return;
    const row = visible[Number(line.dataset.place)];
    if (event.target.dataset.twist && sizes[row]) return toggle(row);
    select(row);
    if (innerWidth < 1000) panel.scrollIntoView({ block: "start" });
  });
  box.addEventListener("keydown", (event) => {
    const act = KEYS[event.key];
    if (!act || event.ctrlKey || event.metaKey || event.altKey || !visible.length) return;
    event.preventDefault();
    act();
  });
  panel.addEventListener("keydown", (event) => event.key === "Escape" && box.focus());
  noiseBox.addEventListener("change", reshape);
  find.addEventListener("input", () => (search(), draw()));
  find.addEventListener("keydown", (event) => {
    if (event.key === "Enter") findNext(event.shiftKey ? -1 : 1);
    else if (event.key === "Escape") box.focus();
    else return;
    event.preventDefault();
  });
  document.getElementById("fall-after").addEventListener("click", () => findNext(1));
  document.getElementById("fall-before").addEventListener("click", () => findNext(-1));
  document.addEventListener("click", (event) => {
    const link = event.target.closest("a[data-node]");
    const row = link && !event.ctrlKey && !event.metaKey ? data.columns.id.indexOf(link.dataset.node) : -1;
    if (row < 0) return;
    event.preventDefault();
    reveal(row);
    box.focus();
  });
  document.getElementById("fall-error").addEventListener("click", KEYS.e);
  foldBox.addEventListener("change", () => {
    fold(foldBox.value);
    foldBox.value = ""; // rows are opened and closed by hand as well, so that no choice stays true
  });
}

async function load() {
  const answer = await fetch(`${base}/rows`, { credentials: "same-origin" });
  if (!answer.ok) return false;
  const kept = data && selected >= 0 ? data.columns.id[selected] : box.dataset.selected;
  data = await answer.json();
  const trace = decodeURIComponent(base.split("/").pop());
  data.columns.id = data.columns.id.map((id) => (id.includes(":") ? id : `${trace}:${id}`));
  selected = kept ? data.columns.id.indexOf(kept) : -1;
  shape();
  search();
  return true;
}

if (await load()) {
  box.classList.add("is-drawn");
  box.tabIndex = 0;
  box.setAttribute("role", "treegrid");
  box.setAttribute("aria-label", "Steps of the trace");
  box.replaceChildren(canvas);
  document.getElementById("fall-tools").hidden = false;
  lastPanel = box.dataset.selected;
  listen();
  if (selected >= 0) select(selected, true);
  draw();
  document.addEventListener("tachograph:refreshed", async () => (await load()) && draw());
}
