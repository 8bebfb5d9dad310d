// A field that offers what begins as typed; arrows, Enter and Escape do what they do everywhere.

import { debounced, el, show } from "./dom.js";

let made = 0;

// `find(text, signal)` gives options {value, label, note}; `choose(option)` is called with the one that is taken.
export function combobox({ label, placeholder, find, choose, kept = "" }) {
  const id = `list-${++made}`;
  const list = el("ul", { id, role: "listbox", "aria-label": label, class: "options-list", hidden: true });
  const input = el("input", {
    id: `${id}-input`, type: "text", role: "combobox", placeholder, autocomplete: "off", spellcheck: "false",
    "aria-expanded": "false", "aria-controls": id, "aria-autocomplete": "list", value: kept,
  });
  let options = [], at = -1, looking = null;

  const close = () => {
    looking?.abort();
    list.hidden = true;
    input.setAttribute("aria-expanded", "false");
    input.removeAttribute("aria-activedescendant");
  };
  const take = (option) => {
    close();
    input.value = option.value;
    choose(option);
  };
  const mark = (to) => {
    list.children[at]?.setAttribute("aria-selected", "false");
    at = to;
    const marked = list.children[at];
    if (!marked) return;
    marked.setAttribute("aria-selected", "true");
    marked.scrollIntoView({ block: "nearest" });
    input.setAttribute("aria-activedescendant", marked.id);
  };
  const offer = (found) => {
    [options, at] = [found, -1];
    show(list, found.map((option, i) => el("li", {
      id: `${id}-${i}`, role: "option", "aria-selected": "false",
      onmousedown: (event) => { event.preventDefault(); take(option); },
    }, el("span", {}, option.label), option.note && el("span", { class: "muted" }, option.note))));
    list.hidden = !found.length;
    input.setAttribute("aria-expanded", String(found.length > 0));
  };
  const look = async () => {
    looking?.abort();
    const own = looking = new AbortController();
    try {
      const found = await find(input.value.trim(), own.signal);
      if (own === looking && !own.signal.aborted && document.activeElement === input) offer(found);
    } catch {
      close(); // what is typed can still be taken with Enter
    }
  };
  const soon = debounced(look, 120);
  input.addEventListener("input", soon);
  input.addEventListener("focus", () => { input.select(); soon(); });
  input.addEventListener("blur", close);
  input.addEventListener("keydown", (event) => {
    const open = !list.hidden;
    if (event.key === "ArrowDown" && !open) soon();
    else if (event.key === "ArrowDown") mark(Math.min(at + 1, options.length - 1));
    else if (event.key === "ArrowUp" && open) mark(Math.max(at - 1, 0));
    else if (event.key === "Escape" && open) close();
    else if (event.key === "Enter") take(open && at >= 0 ? options[at] : { value: input.value.trim(), label: input.value.trim() });
    else return;
    event.preventDefault();
  });
  return { input, node: el("div", { class: "combobox" }, el("label", { class: "sr", for: input.id }, label), input, list) };
}
