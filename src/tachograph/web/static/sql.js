// Ctrl-Enter runs the query, Stop gives it up, a click on a name of the schema writes it, a chart is drawn when chosen.

const form = document.getElementById("sql");
const query = document.getElementById("query");
const state = document.getElementById("sql-state");
const stop = document.getElementById("stop");
const run = document.getElementById("run");
let timer = 0;

function rest() {
  clearInterval(timer);
  timer = 0;
  stop.hidden = true;
  run.disabled = false;
}

function begin() {
  const begun = performance.now();
  run.disabled = true;
  stop.hidden = false;
  state.textContent = "running";
  timer = setInterval(() => (stop.textContent = `Stop (${Math.round((performance.now() - begun) / 1000)} s)`), 1000);
}

function insert(text) {
  const before = query.value.slice(0, query.selectionStart);
  const space = before && !/[\s(.,"]$/.test(before) ? " " : "";
  query.setRangeText(space + text, query.selectionStart, query.selectionEnd, "end");
  query.focus();
}

query.addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || !(event.ctrlKey || event.metaKey)) return;
  event.preventDefault();
  if (!timer) form.requestSubmit();
});
form.addEventListener("submit", begin);
stop.addEventListener("click", () => {
  window.stop(); // the server notices that nobody waits any more, and stops the query
  rest();
  state.textContent = "stopped";
});
addEventListener("pageshow", rest);
document.addEventListener("click", (event) => {
  const pick = event.target.closest("[data-insert]");
  if (pick) insert(pick.dataset.insert);
});
for (const select of document.querySelectorAll("[data-redraw]")) select.addEventListener("change", () => form.requestSubmit());
for (const button of document.querySelectorAll("[data-draw]")) button.hidden = true;
if (query.dataset.position) {
  const at = [...query.value].length >= Number(query.dataset.position) ? [...query.value].slice(0, Number(query.dataset.position)).join("").length : 0;
  query.focus();
  query.setSelectionRange(at, at);
} else if (!query.value) query.focus({ preventScroll: true });
