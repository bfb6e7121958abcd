// The filter box: offers what may follow while one writes (a combobox), and keeps filters by name in this browser.
// `/` puts the cursor into it. Everything shown is set as text.

const WAIT_MS = 90; // after a key, before the server is asked
const KEPT_MAX = 50;
const NAME_MAX = 60;

function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

class Offers {
  constructor(input) {
    this.input = input;
    this.list = element("ul", { class: "offers", id: `${input.id}-offers`, role: "listbox", "aria-label": "What may follow" });
    this.list.hidden = true;
    this.offers = [];
    this.at = -1;
    this.timer = 0;
    this.asking = null;
    input.after(this.list);
    const roles = { role: "combobox", "aria-autocomplete": "list", "aria-expanded": "false", "aria-controls": this.list.id };
    for (const [key, value] of Object.entries(roles)) input.setAttribute(key, value);
    input.addEventListener("input", () => this.soon());
    input.addEventListener("keydown", (event) => this.key(event));
    input.addEventListener("blur", () => this.close());
    this.list.addEventListener("mousedown", (event) => event.preventDefault()); // the cursor stays in the box
    this.list.addEventListener("click", (event) => {
      const row = event.target.closest("li");
      if (row) this.take(Number(row.dataset.at));
    });
  }

  get isOpen() { return !this.list.hidden; }

  soon() {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.ask(), WAIT_MS);
  }

  async ask() {
    this.asking?.abort();
    this.asking = new AbortController();
    const written = this.input.value.slice(0, this.input.selectionStart ?? this.input.value.length);
    const asked = new URLSearchParams({ table: this.input.dataset.filter, q: written });
    try {
      const answer = await fetch(`/complete?${asked}`, { credentials: "same-origin", signal: this.asking.signal });
      if (answer.ok && document.activeElement === this.input) this.show((await answer.json()).offers);
    } catch {
      // Asked anew before the answer came, or the server is away: the box works without offers.
    }
  }

  show(offers) {
    this.offers = offers;
    this.list.replaceChildren(...offers.map((offer, at) => {
      const name = element("bdi");
      name.textContent = offer.shown;
      const what = element("span");
      what.textContent = offer.what;
      const row = element("li", { id: `${this.list.id}-${at}`, role: "option", "aria-selected": "false" }, name, what);
      row.dataset.at = at;
      return row;
    }));
    this.list.hidden = !offers.length;
    this.input.setAttribute("aria-expanded", String(this.isOpen));
    this.mark(-1);
  }

  mark(at) {
    this.at = at;
    for (const row of this.list.children) row.setAttribute("aria-selected", String(Number(row.dataset.at) === at));
    if (at < 0) return this.input.removeAttribute("aria-activedescendant");
    this.input.setAttribute("aria-activedescendant", this.list.children[at].id);
    this.list.children[at].scrollIntoView({ block: "nearest" });
  }

  close() {
    clearTimeout(this.timer);
    this.asking?.abort();
    this.show([]);
  }

  take(at) {
    const rest = this.input.value.slice(this.input.selectionStart ?? this.input.value.length);
    const text = this.offers[at].text;
    this.input.value = text + rest.trimStart();
    this.input.setSelectionRange(text.length, text.length);
    this.close();
    this.input.focus();
    if (!text.endsWith(" ")) this.ask(); // a field: its values next
  }

  key(event) {
    const { key } = event;
    if (key === "ArrowDown" || key === "ArrowUp") {
      event.preventDefault();
      if (!this.isOpen) return this.ask();
      const count = this.offers.length;
      const step = key === "ArrowDown" ? 1 : -1;
      this.mark(this.at < 0 && step < 0 ? count - 1 : (this.at + step + count) % count);
    } else if (key === "Escape" && this.isOpen) {
      event.preventDefault(); // or the browser empties the box
      this.close();
    } else if ((key === "Enter" || (key === "Tab" && !event.shiftKey)) && this.at >= 0) {
      event.preventDefault();
      this.take(this.at);
    }
  }
}

function keptFilters() {
  try {
    const kept = JSON.parse(localStorage.getItem("filters") || "{}");
    const pairs = Object.entries(kept && typeof kept === "object" ? kept : {});
    return new Map(pairs.filter(([, query]) => typeof query === "string").slice(0, KEPT_MAX));
  } catch {
    return new Map(); // storage may be forbidden, or hold something else
  }
}

function keep(filters) {
  try {
    localStorage.setItem("filters", JSON.stringify(Object.fromEntries(filters)));
    return true;
  } catch {
    return false;
  }
}

function addressOf(query) {
  const asked = new URLSearchParams(location.search);
  asked.delete("page");
  asked.set("q", query);
  return `${location.pathname}?${asked}`;
}

class Kept {
  constructor(form, input) {
    this.input = input;
    this.button = element("button", { type: "button", "aria-expanded": "false", "aria-controls": `${input.id}-kept` }, "Saved");
    this.panel = element("div", { class: "kept-list", id: `${input.id}-kept`, role: "group", "aria-label": "Saved filters" });
    this.panel.hidden = true;
    this.box = element("div", { class: "kept" }, this.button, this.panel);
    form.append(this.box);
    this.button.addEventListener("click", () => this.toggle(this.panel.hidden));
    this.box.addEventListener("keydown", (event) => {
      if (event.key === "Escape" && !this.panel.hidden) {
        this.toggle(false);
        this.button.focus();
      }
    });
    document.addEventListener("click", (event) => {
      if (!event.composedPath().includes(this.box)) this.toggle(false);
    });
  }

  toggle(isOpen) {
    this.panel.hidden = !isOpen;
    this.button.setAttribute("aria-expanded", String(isOpen));
    if (isOpen) this.draw();
  }

  draw(said = "") {
    const filters = keptFilters();
    const rows = [...filters].map(([name, query]) => this.row(name, query));
    const note = element("p", { role: "status" });
    note.textContent = said || (rows.length ? "" : "Nothing saved in this browser yet.");
    note.hidden = !note.textContent;
    this.panel.replaceChildren(element("ul", {}, ...rows), note, this.maker());
  }

  row(name, query) {
    const code = element("code");
    code.textContent = query;
    const label = element("bdi");
    label.textContent = name;
    const drop = element("button", { type: "button", class: "quiet", title: "Forget" }, "×");
    drop.setAttribute("aria-label", `Forget ${name}`);
    drop.addEventListener("click", () => {
      const filters = keptFilters();
      filters.delete(name);
      keep(filters);
      this.draw();
      this.button.focus();
    });
    return element("li", {}, element("a", { href: addressOf(query) }, label, code), drop);
  }

  maker() {
    const query = this.input.value.trim();
    if (!query) {
      const hint = element("p");
      hint.textContent = "Write a filter, then save it here under a name.";
      return hint;
    }
    const name = element("input", { type: "text", placeholder: "Name of this filter", "aria-label": "Name of this filter", maxlength: NAME_MAX });
    const save = element("button", { type: "button" }, "Save");
    const store = () => {
      if (!name.value.trim()) return name.focus();
      const done = keep(keptFilters().set(name.value.trim(), query));
      this.draw(done ? "Saved." : "This browser keeps nothing for this page.");
      this.button.focus();
    };
    save.addEventListener("click", store);
    name.addEventListener("keydown", (event) => {
      if (event.key !== "Enter") return;
      event.preventDefault(); // it stands in the form of the filter itself
      store();
    });
    return element("div", { class: "kept-new" }, name, save);
  }
}

function isWriting(target) {
  return target.isContentEditable || ["INPUT", "TEXTAREA", "SELECT"].includes(target.tagName);
}

function showPlace(input) {
  const told = document.getElementById("q-error");
  const at = Number(/character (\d+)/.exec(told?.textContent ?? "")?.[1] ?? 0);
  if (at > 0 && at <= input.value.length) input.setSelectionRange(at - 1, input.value.length);
}

const box = document.querySelector("input[data-filter]");
if (box) {
  new Offers(box);
  new Kept(box.form, box);
  document.addEventListener("keydown", (event) => {
    if (event.key !== "/" || event.ctrlKey || event.metaKey || event.altKey || isWriting(event.target)) return;
    event.preventDefault();
    box.focus();
    box.select();
    if (box.getAttribute("aria-invalid")) showPlace(box);
  });
}
