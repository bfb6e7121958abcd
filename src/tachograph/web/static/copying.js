// Buttons that copy what stands beside them; they are only there where the browser can.

const told = document.getElementById("copied");

async function copy(button) {
  try {
    await navigator.clipboard.writeText(button.parentElement.querySelector("pre").textContent);
    button.textContent = "copied";
  } catch {
    button.textContent = "not allowed"; // the browser says no: the text can still be marked
  }
  if (told) told.textContent = button.textContent;
  setTimeout(() => (button.textContent = "copy"), 1500);
}

function reveal() {
  if (!navigator.clipboard) return;
  for (const button of document.querySelectorAll("[data-copy]")) button.hidden = false;
}

document.addEventListener("click", (event) => {
  const button = event.target.closest("[data-copy]");
  if (button) copy(button);
});
document.addEventListener("tachograph:refreshed", reveal);
reveal();
