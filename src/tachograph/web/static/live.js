// Keeps an open page up to date: when something was stored, fetches the page again and swaps the parts that changed.

const QUIET_MS = 2000; // between two refreshes, so that a busy agent does not keep the page from being read
const RETRY_MS = 3000;
const body = document.body;
const state = document.getElementById("live-state");
let source = null;
let timer = 0;
let lastRefresh = 0;
let isFetching = false;

function keepZone() {
  const zone = Intl.DateTimeFormat().resolvedOptions().timeZone;
  if (!zone || zone === body.dataset.zone) return false;
  const had = document.cookie.includes(`tz=${zone}`);
  document.cookie = `tz=${zone}; path=/; max-age=31536000; samesite=lax`;
  return !had; // where the server does not know the zone, asking again would not help
}

function openKeys(part) {
  return new Map([...part.querySelectorAll("details[data-key]")].map((d) => [d.dataset.key, d.open]));
}

function swap(part, fresh) {
  if (part.dataset.shown === fresh.innerHTML) return;
  const opened = openKeys(part);
  const focused = part.contains(document.activeElement) ? document.activeElement.getAttribute("href") : null;
  part.dataset.shown = fresh.innerHTML;
  part.replaceChildren(...fresh.childNodes);
  for (const details of part.querySelectorAll("details[data-key]")) {
    if (opened.has(details.dataset.key)) details.open = opened.get(details.dataset.key);
  }
  if (focused) part.querySelector(`a[href="${CSS.escape(focused)}"]`)?.focus({ preventScroll: true });
}

function isBusy() {
  const selection = getSelection();
  return isFetching || (selection && !selection.isCollapsed); // never takes away what somebody is marking
}

async function refresh() {
  timer = 0;
  if (document.hidden) return;
  if (isBusy()) return schedule();
  isFetching = true;
  lastRefresh = Date.now();
  try {
    const answer = await fetch(location.href, { credentials: "same-origin" });
    if (answer.redirected && new URL(answer.url).pathname === "/login") return location.reload();
    if (!answer.ok) return;
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    for (const part of document.querySelectorAll("[data-live]")) {
      const fresh = page.getElementById(part.id);
      if (fresh) swap(part, fresh);
    }
    if (page.body.dataset.sequence) body.dataset.sequence = page.body.dataset.sequence;
    document.dispatchEvent(new CustomEvent("tachograph:refreshed"));
  } catch {
    // The server is away: the event source below says when it is back.
  } finally {
    isFetching = false;
  }
}

function schedule() {
  if (!timer) timer = setTimeout(refresh, Math.max(150, lastRefresh + QUIET_MS - Date.now()));
}

function show(isLive) {
  if (!state) return;
  state.dataset.state = isLive ? "on" : "off";
  state.textContent = isLive ? "live" : "offline";
}

function connect() {
  if (source || document.hidden || !body.dataset.sequence) return;
  source = new EventSource("/live");
  source.onopen = () => show(true);
  source.onmessage = (event) => {
    if (event.data !== body.dataset.sequence) schedule();
  };
  source.onerror = () => {
    show(false);
    if (source?.readyState === EventSource.CLOSED) {
      disconnect();
      setTimeout(connect, RETRY_MS);
    }
  };
}

function disconnect() {
  source?.close();
  source = null;
}

// A browser opens few connections to one host: tabs that nobody looks at give theirs back.
document.addEventListener("visibilitychange", () => (document.hidden ? disconnect() : connect()));
addEventListener("pagehide", disconnect);
addEventListener("pageshow", connect);
document.addEventListener("tachograph:stale", schedule); // a page that silence changes as well
for (const part of document.querySelectorAll("[data-live]")) part.dataset.shown = part.innerHTML;
document.querySelector(".top nav [aria-current]")?.scrollIntoView({ inline: "center", block: "nearest" }); // narrow screens
if (keepZone()) refresh();
connect();
