// The order that retrieval gave and the final one side by side, with a line for each item that is in both.

import { el, svg } from "./dom.js";
import { moveBadge } from "./cards.js";

const ROW = 44, GAP = 28, WIDTH = 100; // of the drawing; rows are as high in the style sheet

export function moves(retrieved, final, open) {
  const left = placed(retrieved, final);
  const right = final.map((hit, i) => ({ hit, place: i + 1, y: i * ROW + ROW / 2 }));
  const height = Math.max(left.height, final.length * ROW);
  const lines = right.flatMap(({ hit, place, y }) => {
    const from = left.rows.find((row) => row.hit?.item_id === hit.item_id);
    return from ? [line(from, y, hit.retrieval_rank - place)] : [];
  });
  return el("div", { class: "moves" },
    column("Retrieval", "what the sources proposed", left.rows.map((row) => rowOf(row, final, open))),
    svg("svg", { class: "links", viewBox: `0 0 ${WIDTH} ${height}`, height, preserveAspectRatio: "none", "aria-hidden": "true" }, lines),
    column("Final", "what is answered", right.map((row) => rowOf(row, null, open))));
}

// Rows by their place in retrieval, with a gap where places are left out.
function placed(retrieved, final) {
  const byPlace = new Map();
  for (const hit of [...retrieved, ...final]) if (!byPlace.has(hit.retrieval_rank)) byPlace.set(hit.retrieval_rank, hit);
  const rows = [];
  let y = 0, before = 0;
  for (const place of [...byPlace.keys()].sort((a, b) => a - b)) {
    if (place > before + 1) {
      rows.push({ gap: place - before - 1 });
      y += GAP;
    }
    rows.push({ hit: byPlace.get(place), place, y: y + ROW / 2 });
    [y, before] = [y + ROW, place];
  }
  return { rows, height: y };
}

function line(from, to, by) {
  const tone = by > 0 ? "up" : by < 0 ? "down" : "level";
  return svg("path", { class: tone, d: `M0 ${from.y} C ${WIDTH / 2} ${from.y} ${WIDTH / 2} ${to} ${WIDTH} ${to}` });
}

function column(title, about, rows) {
  return el("section", { class: "column" }, el("h3", {}, title, el("span", { class: "muted" }, about)), el("ol", {}, rows));
}

function rowOf({ hit, place, gap }, final, open) {
  if (gap) return el("li", { class: "gap" }, `${gap} more`);
  const left = final !== null;
  const gone = left && !final.some((one) => one.item_id === hit.item_id);
  return el("li", { class: gone ? "row gone" : "row" },
    el("span", { class: "row-place" }, String(place)),
    gone ? el("span", { class: "row-title", title: hit.title }, hit.title || hit.item_id, el("span", { class: "sr" }, ", not in the answer"))
      : el("button", { class: "row-title", type: "button", "data-key": `${left ? "retrieved" : "final"} ${hit.item_id}`, "aria-haspopup": "dialog", title: hit.title, onclick: () => open(hit) }, hit.title || hit.item_id),
    left ? null : moveBadge(hit.retrieval_rank, place));
}
