// One item, and why it stands where it does.

import { fault, post } from "./api.js";
import { changed } from "./asked.js";
import { picture } from "./art.js";
import { addButton, stock } from "./cards.js";
import { bar, byId, day, el, number, plain, show, signed } from "./dom.js";
import { itemOf, price } from "./items.js";

const LISTED = 8;
const OWN = new Set(["item_id", "title", "price", "image", "in_stock", "description"]);
const MICRO = 1e6;

export async function openDetail(hit, body, answer) {
  const dialog = byId("detail");
  const item = { ...itemOf(hit.item_id), item_id: hit.item_id, title: hit.title };
  const why = el("div", { class: "why-here", "aria-busy": "true" }, el("p", { class: "muted" }, "Asking why it stands here…"));
  const close = el("button", { class: "close", type: "button", "aria-label": "Close", onclick: () => dialog.close() }, "×");
  show(dialog, close, head(item, hit, answer, dialog), why, attributes(item));
  dialog.onclick = (event) => { if (event.target === dialog) dialog.close(); };
  dialog.onclose = () => { if (document.activeElement === document.body) byId("asked").focus(); }; // the list was drawn anew
  if (!dialog.open) dialog.showModal();
  dialog.scrollTop = 0;
  try {
    const found = (await post("/v1/explain", { request: body })).items.find((one) => one.item_id === hit.item_id);
    show(why, found?.explanation ? explained(found) : el("p", { class: "muted" }, "It is not in the answer any more."));
  } catch (error) {
    show(why, fault(error));
  } finally {
    why.setAttribute("aria-busy", "false");
  }
}

function head(item, hit, answer, dialog) {
  const place = answer.items.findIndex((one) => one.item_id === hit.item_id) + 1;
  const similar = () => {
    dialog.close();
    changed({ about: "similar", similarTo: { item_id: item.item_id, title: item.title || item.item_id } });
    byId("asked").focus();
  };
  return el("div", { class: "detail-head" }, el("div", { class: "frame" }, picture(item)),
    el("div", {},
      el("p", { class: "muted small" }, `Place ${place}, score ${number(hit.score, 3)}`),
      el("h2", { id: "detail-title" }, item.title || item.item_id),
      el("p", { class: "card-line" }, el("span", { class: "price" }, price(item)), stock(item)),
      el("div", { class: "card-buttons" }, addButton(hit, "history", "History"), addButton(hit, "cart", "Cart"),
        el("button", { class: "add", type: "button", onclick: similar }, "Similar items"))));
}

function explained(hit) {
  const { reasons, places, sources, events, words, rules } = hit.explanation;
  return [
    reasons.length > 0 && el("div", { class: "reasons" }, el("h3", {}, "In words"), el("ul", {}, reasons.map((one) => el("li", {}, one)))),
    el("h3", {}, "Its place after each step"), steps(places),
    table("What each source gave", Object.entries(sources).filter(([, one]) => one.share || one.proposed)
      .sort(([, a], [, b]) => b.share - a.share).map(([name, one]) => ({ name: plain(name), value: one.share, note: `place ${one.place}` }))),
    table("What each feature adds", largest(hit.contributions || {})),
    table("What each event of the history changes", events.map((one) => ({ name: one.title || one.item_id, value: one.effect, note: [plain(one.event), one.time ? day(one.time / MICRO) : ""].filter(Boolean).join(", ") }))),
    table("What each word changes", words.map((one) => ({ name: one.word, value: one.effect }))),
    rules.length > 0 && el("div", {}, el("h3", {}, "What rules did"), el("ul", {}, rules.map((one) => el("li", {}, `${one.rule} (${one.kind}): ${one.places ? `${one.places > 0 ? "up" : "down"} ${Math.abs(one.places)} by all rules` : "no move"}`)))),
  ].filter(Boolean);
}

const largest = (terms) => Object.entries(terms).sort(([, a], [, b]) => Math.abs(b) - Math.abs(a)).map(([name, value]) => ({ name: plain(name), value }));

function steps(places) {
  return el("ol", { class: "steps" }, Object.entries(places).map(([stage, place]) => el("li", {}, el("span", { class: "muted small" }, plain(stage)), el("strong", {}, String(place)))));
}

function table(title, rows) {
  if (!rows.length) return null;
  const most = Math.max(...rows.map((row) => Math.abs(row.value)), 1e-9);
  const line = ({ name, value, note }) => el("li", {},
    el("span", { class: "term", title: name }, name, note && el("span", { class: "muted small" }, note)),
    bar(Math.abs(value) / most, value < 0 ? "less" : ""), el("span", { class: "figure" }, signed(value)));
  return el("div", {}, el("h3", {}, title), el("ul", { class: "term-list" }, rows.slice(0, LISTED).map(line)),
    rows.length > LISTED && el("p", { class: "muted small" }, `and ${rows.length - LISTED} smaller ones`));
}

function attributes(item) {
  const rows = Object.entries(item).filter(([name, value]) => !OWN.has(name) && value !== null && value !== "" && !(Array.isArray(value) && !value.length));
  const written = (value) => (Array.isArray(value) ? value.join(" › ") : typeof value === "object" ? JSON.stringify(value) : String(value));
  return el("div", {}, el("h3", {}, "The item"), item.description && el("p", {}, String(item.description)),
    el("dl", { class: "facts" }, el("div", {}, el("dt", {}, "id"), el("dd", {}, item.item_id)),
      rows.map(([name, value]) => el("div", {}, el("dt", {}, plain(name)), el("dd", {}, written(value))))));
}
