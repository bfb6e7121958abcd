// The bar of what is chosen among the sessions: it comes with the first tick, and outlives a refresh of the list.

const form = document.getElementById("choose");
const chosen = new Set(); // their ids

function boxes() {
  return [...document.querySelectorAll('input[form="choose"]')];
}

function tell() {
  const count = chosen.size;
  const most = Number(form.dataset.most);
  form.hidden = !count;
  form.querySelector("[data-compare]").disabled = count < 2 || count > most;
  const hint = count < 2 ? "one more to compare" : count > most ? `${most} at most can be compared` : "";
  document.getElementById("chosen").textContent = `${count} chosen${hint ? `, ${hint}` : ""}`;
}

function restore() {
  for (const box of boxes()) box.checked = chosen.has(box.value);
}

function read() {
  for (const box of boxes()) {
    if (box.checked) chosen.add(box.value);
    else chosen.delete(box.value);
  }
  tell();
}

if (form) {
  form.querySelector('[type="reset"]').hidden = false;
  document.addEventListener("change", (event) => {
    if (event.target.matches('input[form="choose"]')) read();
  });
  form.addEventListener("reset", () => setTimeout(read)); // the boxes are emptied after this event
  document.addEventListener("tachograph:refreshed", () => {
    restore();
    read(); // what is no longer on the page is not chosen
  });
  addEventListener("pageshow", read); // the browser may have kept the ticks of an earlier visit
  read();
}
