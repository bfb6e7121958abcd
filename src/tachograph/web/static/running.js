// Lets the clocks of running sessions tick, by the server's time; asks anew now and then, as silence tells something too.

const TICK_MS = 1000;
const ANEW_MS = 20_000;
let ahead = 0; // of this clock before the server's

function two(big, small, names) {
  return small ? `${big} ${names[0]} ${small} ${names[1]}` : `${big} ${names[0]}`;
}

function words(ms) {
  const seconds = Math.max(0, Math.floor(ms / 1000));
  if (seconds < 60) return `${seconds} s`;
  if (seconds < 3600) return two(Math.floor(seconds / 60), seconds % 60, ["m", "s"]);
  const minutes = Math.floor(seconds / 60);
  if (minutes < 1440) return two(Math.floor(minutes / 60), minutes % 60, ["h", "m"]);
  return two(Math.floor(minutes / 1440), Math.floor((minutes % 1440) / 60), ["d", "h"]);
}

function tick() {
  for (const clock of document.querySelectorAll("[data-since]")) {
    const text = words(Date.now() - ahead - Number(clock.dataset.since));
    if (clock.textContent !== text) clock.textContent = text;
  }
}

function compare() {
  const now = document.getElementById("running")?.dataset.now;
  if (now) ahead = Date.now() - Number(now);
}

compare();
tick();
setInterval(tick, TICK_MS);
setInterval(() => document.dispatchEvent(new CustomEvent("tachograph:stale")), ANEW_MS);
document.addEventListener("tachograph:refreshed", tick);
