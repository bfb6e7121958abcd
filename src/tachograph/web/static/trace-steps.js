// The steps of a trace as columns, and what is made of them: which are in sight, what a search finds. Knows no element.

export const [ERROR, NOISE, CALL, NOTIONAL, ESTIMATE, COMPUTED] = [1, 2, 4, 8, 16, 32]; // as the server sets them

export const steps = {
  count: 0,
  of: 0, // spans of the whole trace where these are its first ones alone, 0 = these are all
  state: "", // the same for the same rows
  duration: 1, // of the whole, µs
  words: [],
  columns: null, // id, name, role, detail, also, error (numbers into words), at, took, self (µs), flags, tokens, cost
  parents: null, // by row: the row that it stands below, -1 = none
  path: null, // the critical path: row, at and took of each stretch, in time
  waits: null, // by row: µs of the critical path that are its own
  selected: -1,
  hasNoise: false,
  closed: new Set(), // ids of collapsed rows
  above: null, // by row: the shown row that it stands below
  depths: null, // by row: as shown
  below: null, // by row: how many shown rows stand right below it
  folded: null, // by row: inner steps folded into it
  visible: [], // rows in order of sight
  places: null, // by row: its place in `visible`, -1 = folded away
  hits: null, // by row: whether it holds what is searched; null = nothing is
  hitCount: 0,
};

export const word = (column, row) => steps.words[steps.columns[column][row]];
export const isOpen = (row) => !steps.closed.has(steps.columns.id[row]);

// Without ids rows are known by their number until `name` gives them theirs.
export function take(told, trace) {
  const { state, words, path } = told;
  const columns = { ...told.columns };
  const count = columns.up.length;
  Object.assign(steps, { count, of: told.of ?? 0, state, duration: Math.max(1, told.duration), words, columns, path });
  steps.columns.id = columns.id ? whole(columns.id, trace) : Array.from(columns.up, (_, row) => `#${row}`);
  for (const column of ["name", "at"]) {
    let sum = 0; // told from row to row
    steps.columns[column] = columns[column].map((since) => (sum += since));
  }
  steps.parents = Int32Array.from(steps.columns.up, (up, row) => (up ? row - up : -1));
  steps.waits = new Float64Array(count);
  told.path.row.forEach((row, at) => {
    steps.waits[row] += told.path.took[at];
    let step = row; // an inner step is a part of the one that it is folded into
    while (steps.columns.flags[step] & NOISE && steps.parents[step] >= 0) step = steps.parents[step];
    if (step !== row) steps.waits[step] += told.path.took[at];
  });
}

const whole = (ids, trace) => ids.map((id) => (id.includes(":") ? id : `${trace}:${id}`));
export const isNamed = (row) => !steps.columns.id[row].startsWith("#");

export function name(ids, trace) {
  const named = whole(ids, trace);
  steps.closed = new Set([...steps.closed].map((id) => (id.startsWith("#") ? named[Number(id.slice(1))] : id)));
  steps.columns.id = named;
}

// Which rows are in sight: without inner steps, which what stands below them moves up from, and what is collapsed.
export function shape() {
  const { count, parents } = steps;
  const { flags, at } = steps.columns;
  const isShown = (row) => steps.hasNoise || !(flags[row] & NOISE);
  const above = new Int32Array(count).fill(-1);
  const depths = new Int32Array(count);
  const below = new Int32Array(count);
  const folded = new Int32Array(count);
  const first = new Int32Array(count + 1).fill(-1); // shown parent + 1 -> its last row; a chain back through `before`
  const before = new Int32Array(count).fill(-1);
  for (let row = 0; row < count; row++) {
    let holder = parents[row]; // a parent always stands before its rows
    if (holder >= 0 && !isShown(holder)) holder = above[holder];
    above[row] = holder;
    if (!isShown(row)) {
      if (holder >= 0) folded[holder]++;
      continue;
    }
    depths[row] = holder < 0 ? 0 : depths[holder] + 1;
    before[row] = first[holder + 1];
    first[holder + 1] = row;
    if (holder >= 0) below[holder]++;
  }
  Object.assign(steps, { above, depths, below, folded });
  const visible = [];
  const stack = [];
  const push = (holder) => {
    const from = stack.length;
    let isSorted = true;
    for (let row = first[holder + 1]; row >= 0; row = before[row]) {
      if (stack.length > from && at[stack[stack.length - 1]] < at[row]) isSorted = false;
      stack.push(row);
    }
    // What moved up from a folded step is out of time; the last one is taken first.
    if (!isSorted) stack.splice(from, Infinity, ...stack.slice(from).sort((a, b) => at[b] - at[a] || b - a));
  };
  push(-1);
  while (stack.length) {
    const row = stack.pop();
    visible.push(row);
    if (below[row] && isOpen(row)) push(row);
  }
  steps.visible = visible;
  steps.places = new Int32Array(count).fill(-1);
  visible.forEach((row, place) => (steps.places[row] = place));
  shapePath();
}

// The stretches of the critical path by the row in sight that they are drawn in.
function shapePath() {
  const { count, path, places, above } = steps;
  const holder = new Int32Array(count);
  for (let row = 0; row < count; row++) {
    holder[row] = places[row] >= 0 ? row : above[row] >= 0 ? holder[above[row]] : -1;
  }
  const number = path.row.length;
  steps.firstStretch = new Int32Array(count).fill(-1);
  steps.nextStretch = new Int32Array(number).fill(-1);
  for (let at = number - 1; at >= 0; at--) {
    const row = holder[path.row[at]];
    if (row < 0) continue;
    steps.nextStretch[at] = steps.firstStretch[row];
    steps.firstStretch[row] = at;
  }
}

export function fold(what) {
  const { columns, below, depths, closed } = steps;
  const depth = Number(what);
  if (what === "none" || depth) closed.clear();
  if (what === "none") return;
  for (let row = 0; row < steps.count; row++) {
    if (below[row] && (depth ? depths[row] >= depth - 1 : word("role", row) === what)) closed.add(columns.id[row]);
  }
}

// Opens everything around a row; says whether that changed anything.
export function unfold(row) {
  let isChanged = Boolean(steps.columns.flags[row] & NOISE) && !steps.hasNoise;
  if (isChanged) steps.hasNoise = true;
  for (let above = steps.parents[row]; above >= 0; above = steps.parents[above]) {
    isChanged = steps.closed.delete(steps.columns.id[above]) || isChanged;
  }
  return isChanged;
}

export function search(text) {
  const wanted = text.trim().toLowerCase();
  steps.hits = null;
  steps.hitCount = 0;
  if (!wanted || !steps.count) return;
  const { name, role, detail, also, error, id } = steps.columns;
  const inWord = steps.words.map((one) => one.toLowerCase().includes(wanted));
  steps.hits = new Uint8Array(steps.count);
  for (let row = 0; row < steps.count; row++) {
    const isSaid = inWord[name[row]] || inWord[role[row]] || inWord[detail[row]];
    if (isSaid || inWord[also[row]] || inWord[error[row]] || id[row].includes(wanted)) {
      steps.hits[row] = 1;
      steps.hitCount++;
    }
  }
}

// The next row of which something is true, all round; -1 = none.
export function nextRow(isWanted, by = 1) {
  const { count, selected } = steps;
  const from = selected < 0 && by < 0 ? 0 : selected;
  for (let step = 1; step <= count; step++) {
    const row = (((from + step * by) % count) + count) % count;
    if (isWanted(row)) return row;
  }
  return -1;
}
