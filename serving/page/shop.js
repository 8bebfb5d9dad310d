// The first tab: asks, drops answers that something newer has overtaken, and shows what came.

import { fault, post } from "./api.js";
import { FIRST, asked, changed, heading, onChange, request, unordered } from "./asked.js";
import { cards } from "./cards.js";
import { openDetail } from "./detail.js";
import { byId, debounced, el, keepingFocus, several, show } from "./dom.js";
import { lookUp } from "./items.js";
import { moves } from "./moves.js";
import { startSide } from "./side.js";
import { timings } from "./timings.js";
import { startWhyNot } from "./why-not.js";

const MOST = 96; // items
const TYPING = 140; // milliseconds of rest before a search is sent
let asking = null, told = "", view = "cards", shown = null;

export function startShop() {
  const field = byId("query");
  const soon = debounced(() => changed({ query: field.value, about: "shopper", k: FIRST }), TYPING);
  field.addEventListener("input", soon);
  addEventListener("keydown", (event) => {
    const typing = event.target.matches?.("input, textarea, select, dialog *");
    if (event.key !== "/" || typing || byId("panel-shop").hidden || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    field.focus();
  });
  for (const name of ["cards", "moves"]) byId(`as-${name}`).addEventListener("click", () => showAs(name));
  startSide();
  startWhyNot();
  onChange(ask);
  changed();
}

function showAs(name) {
  view = name;
  for (const one of ["cards", "moves"]) byId(`as-${one}`).setAttribute("aria-pressed", String(one === name));
  draw();
}

async function ask() {
  const body = request();
  const text = JSON.stringify(body);
  if (text === told) return;
  told = text;
  asking?.abort();
  const own = asking = new AbortController();
  byId("answer").setAttribute("aria-busy", "true");
  byId("asked").textContent = heading();
  try {
    const { answers: [final, retrieved] } = await post("/v1/batch", { requests: [body, unordered(body)] }, own.signal);
    await lookUp(final.items.map((hit) => hit.item_id), `${final.release} ${final.index_revision}`, own.signal);
    if (own !== asking) return;
    shown = { body, final, retrieved };
    show(byId("error"));
    draw();
  } catch (error) {
    if (own !== asking || error.name === "AbortError") return;
    [shown, told] = [null, ""];
    for (const id of ["summary", "notes", "timings", "results", "more"]) show(byId(id));
    show(byId("error"), fault(error));
  } finally {
    if (own === asking) byId("answer").setAttribute("aria-busy", "false");
  }
}

function draw() {
  if (!shown) return;
  const { body, final, retrieved } = shown;
  const open = (hit) => openDetail(hit, body, final);
  byId("live").hidden = false;
  byId("live-name").textContent = final.release;
  byId("live-name").title = final.release;
  byId("summary").textContent = summary(final);
  show(byId("notes"), notes(final));
  show(byId("timings"), timings(final.timings_ms));
  keepingFocus(() => drawItems(final, retrieved, open), byId("asked"));
  const more = final.items.length === body.k && body.k < MOST;
  show(byId("more"), more && el("button", { type: "button", onclick: showMore }, "Show more"));
}

function drawItems(final, retrieved, open) {
  if (!final.items.length) show(byId("results"), el("p", { class: "empty" }, "No item passes. Loosen the filters, or search for something else."));
  else show(byId("results"), view === "cards" ? cards(final.items, open) : moves(retrieved.items, final.items, open));
}

function showMore() {
  const last = shown.final.items.at(-1).item_id;
  changed({ k: asked.k + FIRST });
  byId("results").querySelector(`[data-key$="${CSS.escape(last)}"]`)?.focus({ preventScroll: true }); // what follows is next
}

function summary(answer) {
  if (!answer.items.length) return "No items";
  const by = answer.reranked.length ? `ordered by ${answer.reranked.join(" and ")}` : "in the order of retrieval";
  return `${several(answer.items.length, "item")}, ${by}`;
}

// What the answer says of itself; what was cut or failed stands last in its notes.
function notes(answer) {
  const whole = answer.notes.length - answer.degraded.length;
  const told = answer.notes.map((note, i) => el("span", { class: i < whole ? "note" : "note warn" }, note));
  return [...told, answer.rules && el("span", { class: "note" }, `Rules: ${answer.rules}`)];
}
