// Who asks, what is in the cart, and the switches.

import { get } from "./api.js";
import { FIRST, asked, changed, onChange, without } from "./asked.js";
import { combobox } from "./combobox.js";
import { byId, day, debounced, el, plain, several, show } from "./dom.js";

const READ = 20, SHOWN = 5; // events of a shopper, and items in a row that are shown

export function startSide() {
  shopperBlock();
  cartBlock();
  controlsBlock();
  if (matchMedia("(max-width: 760px)").matches) byId("options").open = false;
}

function shopperBlock() {
  const find = async (prefix, signal) => {
    const found = await get(`/v1/users?k=8&prefix=${encodeURIComponent(prefix)}`, signal);
    return found.users.map((id) => ({ value: id, label: id }));
  };
  const field = combobox({ label: "Shopper, by id", placeholder: "Any shopper, by id", find, choose: ({ value }) => changed({ shopper: value, history: [], about: "shopper", k: FIRST }) });
  const below = el("div");
  show(byId("who"), field.node, below);
  let drawn = null;
  onChange(async () => {
    const now = asked.history.length ? asked.history : asked.shopper;
    if (now === drawn) return;
    drawn = now;
    if (!asked.history.length) field.input.value = asked.shopper;
    const content = asked.history.length ? built() : await known(asked.shopper);
    if (now === drawn) show(below, content);
  });
}

function built() {
  return [
    el("p", { class: "muted small" }, `${several(asked.history.length, "item")} that you clicked ${asked.history.length === 1 ? "stands" : "stand"} in for a shopper.`),
    chips(asked.history, "history"),
    el("button", { class: "link", type: "button", onclick: () => changed({ history: [] }) }, "Clear this history"),
  ];
}

async function known(shopper) {
  if (!shopper) return el("p", { class: "muted small" }, "Nobody in particular. Pick a shopper, or build a history with the + on items.");
  const clear = el("button", { class: "link", type: "button", onclick: () => changed({ shopper: "" }) }, "Nobody in particular");
  try {
    const found = await get(`/v1/users/${encodeURIComponent(shopper)}?k=${READ}`);
    if (!found.events.length) return [el("p", { class: "muted small" }, "Nothing is known of this shopper."), clear];
    return [el("ol", { class: "events" }, visits(found.events).slice(0, SHOWN).map(event)), clear];
  } catch (error) {
    return [el("p", { class: "muted small" }, `The history cannot be shown: ${error.message}`), clear];
  }
}

// What was done with the same item in a row is one line.
function visits(events) {
  const found = [];
  for (const one of events) {
    const last = found.at(-1);
    if (last && one.item_id && last.item_id === one.item_id) last.kinds.add(plain(one.event));
    else found.push({ ...one, kinds: new Set([plain(one.event)]) });
  }
  return found;
}

function event(one) {
  const what = one.query ? `searched for “${one.query}”` : one.title || one.item_id || "an item that is gone";
  return el("li", {}, el("span", { class: "event-what", title: what }, what),
    el("span", { class: "muted small" }, `${one.query ? "" : `${[...one.kinds].filter(Boolean).reverse().join(", ")} · `}${day(one.time)}`));
}

function chips(items, where) {
  return el("ul", { class: "chips" }, items.map((item) => el("li", {}, el("span", { title: item.title }, item.title),
    el("button", {
      type: "button", "aria-label": `Remove ${item.title}`,
      onclick: () => {
        changed(without(item, where));
        byId(`${where === "cart" ? "cart" : "who"}-title`).focus();
      },
    }, "×"))));
}

function cartBlock() {
  const draw = () => {
    if (!asked.cart.length) return show(byId("cart"), el("p", { class: "muted small" }, "Empty. Put items in with the + on them."));
    const on = asked.about === "cart";
    show(byId("cart"), chips(asked.cart, "cart"),
      el("button", { class: on ? "wide-button" : "wide-button primary", type: "button", onclick: () => changed({ about: on ? "shopper" : "cart" }) },
        on ? "Back to the shopper" : "What completes this cart?"));
  };
  onChange(draw);
  draw();
}

function controlsBlock() {
  const form = byId("controls");
  form.addEventListener("submit", (event) => event.preventDefault());
  show(form,
    switchRow("rerank", "Rerank", "the second stage orders the shortlist"),
    switchRow("rules", "Rules", "merchandising rules hold"),
    diversityRow(),
    field("filters", { placeholder: "price < 20 and in_stock = true" }, "Filters"),
    field("page", { placeholder: "any" }, "Page", " for rules", "inline"),
    field("audience", { placeholder: "country = DE, member = true" }, "Audience", " for rules"),
    field("deadline", { type: "number", min: "1", step: "1", placeholder: "none", inputmode: "numeric" }, "Deadline", " in ms", "inline"));
}

function field(name, attributes, label, note = "", how = "") {
  const input = el("input", { id: name, type: "text", autocomplete: "off", spellcheck: "false", ...attributes });
  input.addEventListener("input", debounced(() => changed({ [name]: input.value }), 300));
  return el("div", { class: `field ${how}` }, el("label", { for: name }, label, el("span", { class: "muted" }, note)), input);
}

function switchRow(name, label, about) {
  const box = el("input", { id: name, type: "checkbox", role: "switch", "aria-describedby": `${name}-about` });
  box.checked = asked[name];
  box.addEventListener("change", () => changed({ [name]: box.checked }));
  return el("div", { class: "switch-row" },
    el("label", { for: name }, label, el("span", { class: "muted small", id: `${name}-about` }, about)), box);
}

function diversityRow() {
  const told = el("output", { for: "diversity" }, "none");
  const range = el("input", { id: "diversity", type: "range", min: "0", max: "1", step: "0.05", value: "0" });
  const soon = debounced(changed, 150);
  range.addEventListener("input", () => {
    told.textContent = Number(range.value) ? Number(range.value).toFixed(2) : "none";
    soon({ diversity: Number(range.value) });
  });
  return el("div", { class: "field" }, el("div", { class: "field-head" }, el("label", { for: "diversity" }, "Diversity"), told), range);
}
