// Why an item is not among those answered, and what would bring it in.

import { fault, get, post } from "./api.js";
import { request } from "./asked.js";
import { combobox } from "./combobox.js";
import { byId, el, plain, show, signed } from "./dom.js";

const OFFERED = 6, TERMS = 6;
let asking = null;

export function startWhyNot() {
  let taken = "";
  const ask = () => (field.input.value.trim() ? answer(taken || field.input.value.trim()) : null);
  const field = combobox({
    label: "Item, by title or id", placeholder: "Title or id of an item", find: items,
    choose: ({ value, label }) => {
      taken = value;
      field.input.value = label;
      ask();
    },
  });
  field.input.addEventListener("input", () => { taken = ""; });
  const form = el("form", { class: "ask-row" }, field.node, el("button", { class: "primary", type: "submit" }, "Ask why not"));
  form.addEventListener("submit", (event) => { event.preventDefault(); ask(); });
  show(byId("why-not"), form);
}

async function items(text, signal) {
  if (!text) return [];
  const [byId, byTitle] = await Promise.all([
    get(`/v1/items?id=${encodeURIComponent(text)}`, signal),
    get(`/v1/search?k=${OFFERED}&query=${encodeURIComponent(text)}`, signal),
  ]);
  const found = new Map([...byId.items, ...byTitle.items].map((item) => [item.item_id, item.title]));
  return [...found].map(([id, title]) => ({ value: id, label: title || id, note: id }));
}

async function answer(item) {
  asking?.abort();
  const own = asking = new AbortController();
  const place = byId("why-not-answer");
  try {
    const found = await post("/v1/why-not", { request: request(), item_id: item }, own.signal);
    if (own === asking) show(place, told(found));
  } catch (error) {
    if (own === asking && error.name !== "AbortError") show(place, fault(error));
  }
}

function told(found) {
  const terms = Object.entries(found.terms).slice(0, TERMS);
  return el("div", { class: "why" },
    el("p", { class: "why-head" }, el("span", { class: "stage" }, plain(found.stage)), el("strong", {}, found.title || found.item_id)),
    el("p", {}, found.reason),
    Object.keys(found.places).length > 0 && el("p", { class: "muted small" }, "Its places: ", Object.entries(found.places).map(([stage, place]) => `${plain(stage)} ${place}`).join(", ")),
    terms.length > 0 && el("dl", { class: "terms" }, el("div", { class: "terms-head" }, el("dt", {}, "What it lacks"), el("dd", {}, "score")),
      terms.map(([name, less]) => el("div", {}, el("dt", {}, plain(name)), el("dd", {}, signed(-less))))),
    found.change && el("p", { class: "change" }, found.change.text));
}
