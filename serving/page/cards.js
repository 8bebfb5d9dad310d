// Items as cards, and the two buttons that every card has.

import { asked, changed, same, without } from "./asked.js";
import { el } from "./dom.js";
import { inStock, itemOf, price } from "./items.js";
import { picture } from "./art.js";

export function cards(hits, open) {
  return el("ol", { class: "cards" }, hits.map((hit, i) => card(hit, i + 1, open)));
}

function card(hit, place, open) {
  const item = { ...itemOf(hit.item_id), item_id: hit.item_id, title: hit.title };
  return el("li", { class: "card" },
    el("div", { class: "frame" }, picture(item), el("span", { class: "place" }, String(place)), moveBadge(hit.retrieval_rank, place)),
    el("div", { class: "card-text" },
      el("button", { class: "title", type: "button", "data-key": `item ${hit.item_id}`, "aria-haspopup": "dialog", onclick: () => open(hit) }, hit.title || hit.item_id),
      el("p", { class: "card-line" }, el("span", { class: "price" }, price(item)), stock(item)),
      el("div", { class: "card-buttons" }, addButton(hit, "history", "History"), addButton(hit, "cart", "Cart")),
    ));
}

export function stock(item) {
  const found = inStock(item);
  if (found === null) return null;
  return el("span", { class: `stock ${found ? "in" : "out"}` }, found ? "In stock" : "Sold out");
}

// How far an item moved from where retrieval had it.
export function moveBadge(from, to) {
  const by = from - to;
  if (!from || !by) return null;
  const words = `${by > 0 ? "up" : "down"} ${Math.abs(by)}, from place ${from} of retrieval`;
  return el("span", { class: `move ${by > 0 ? "up" : "down"}`, title: words }, el("span", { "aria-hidden": "true" }, `${by > 0 ? "↑" : "↓"} ${Math.abs(by)}`), el("span", { class: "sr" }, words));
}

// Puts an item into the history or the cart, or takes it out again.
export function addButton(hit, where, label) {
  const item = { item_id: hit.item_id, title: hit.title || hit.item_id };
  const inside = () => asked[where].some((one) => same(one, item));
  const button = el("button", { class: "add", type: "button", "data-key": `${where} ${item.item_id}`, "aria-pressed": String(inside()) },
    el("span", { "aria-hidden": "true" }, inside() ? "✓" : "+"), ` ${label}`, el("span", { class: "sr" }, `: ${item.title}`));
  button.addEventListener("click", () => {
    const on = !inside();
    button.setAttribute("aria-pressed", String(on));
    button.firstElementChild.textContent = on ? "✓" : "+";
    changed(on ? { [where]: [...asked[where], item] } : without(item, where));
  });
  return button;
}
