// Keys of a conversation: j and k go from prompt to prompt, o opens or folds the steps of the one in view.

const prompts = () => [...document.querySelectorAll("section.prompt")];
const TOP = 90; // what is nearer to the top of the window than this is being read

function current(all) {
  const focused = document.activeElement?.closest?.("section.prompt");
  if (focused) return all.indexOf(focused);
  return all.findLastIndex((one) => one.getBoundingClientRect().top < TOP);
}

function go(step) {
  const all = prompts();
  const at = current(all) + step;
  if (at >= all.length) return document.querySelector(".turn-pages [rel=next]")?.focus();
  if (at < 0) return document.querySelector(".turn-pages [rel=prev]")?.focus();
  all[at].setAttribute("tabindex", "-1");
  all[at].focus({ preventScroll: true });
  all[at].scrollIntoView({ block: "start" });
  if (all[at].id) history.replaceState(null, "", `#${all[at].id}`);
}

function fold() {
  const all = prompts();
  const one = all[Math.max(0, current(all))];
  if (!one) return;
  const inside = [...one.querySelectorAll(".step > details")];
  const isOpen = inside.some((details) => !details.open);
  for (const details of inside) details.open = isOpen;
}

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, textarea, select")) return;
  if (event.key === "j") go(1);
  else if (event.key === "k") go(-1);
  else if (event.key === "o") fold();
  else return;
  event.preventDefault();
});

// What scrolls can be scrolled with keys as well.
function makeReachable(root) {
  for (const one of root.querySelectorAll("pre, .words")) if (one.scrollHeight > one.clientHeight) one.tabIndex = 0;
}

document.addEventListener("toggle", (event) => event.target.open && makeReachable(event.target), true);
document.addEventListener("tachograph:refreshed", () => makeReachable(document));
makeReachable(document);
