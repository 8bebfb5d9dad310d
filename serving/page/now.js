// The third tab: what the server does now, asked for every two seconds while it is shown.

import { fault, get } from "./api.js";
import { byId, el, milliseconds, number, percent, plain, show, svg } from "./dom.js";

const EVERY = 2000, KEPT = 90; // milliseconds; looks that the lines show
const seen = [];
let timer = 0, shown = false;

export function showNow() {
  if (shown) return;
  shown = true;
  const panel = byId("panel-now");
  if (!panel.childElementCount) show(panel, el("p", { class: "muted loading", role: "status" }, "Asking the server…"));
  look();
}

export function hideNow() {
  shown = false;
  clearTimeout(timer);
}

async function look() {
  clearTimeout(timer);
  if (!document.hidden) {
    try {
      const now = await get("/v1/now");
      seen.push(now);
      if (seen.length > KEPT) seen.shift();
      if (shown) draw(now);
    } catch (error) {
      if (shown) show(byId("panel-now"), fault(error));
    }
  }
  clearTimeout(timer);
  if (shown) timer = setTimeout(look, EVERY);
}

function draw(now) {
  const tile = (label, value, of, note, warn) => el("div", { class: warn ? "tile warn" : "tile" }, el("dt", {}, label), el("dd", {}, value), el("dd", { class: "muted note-line" }, note), el("dd", { class: "spark-box", "aria-hidden": "true" }, spark(seen.map(of))));
  const box = byId("recent-box");
  const scrolled = box ? [box.scrollTop, box.scrollLeft, document.activeElement === box] : null;
  show(byId("panel-now"),
    el("p", { class: "muted lede" }, `Of the last ${number(now.window_s)} seconds, looked at every ${EVERY / 1000} seconds.`),
    el("dl", { class: "tiles" },
      tile("Requests a second", number(now.requests_per_s, now.requests_per_s < 10 ? 1 : 0), (one) => one.requests_per_s, "all tasks"),
      tile("Median", milliseconds(now.p50_ms), (one) => one.p50_ms, "half are answered within"),
      tile("99th percentile", milliseconds(now.p99_ms), (one) => one.p99_ms, "1 in 100 takes longer"),
      tile("Degraded", percent(now.degraded, 1), (one) => one.degraded, "a step was cut or failed", now.degraded > 0.01),
      tile("Empty", percent(now.empty, 1), (one) => one.empty, "nothing was answered", now.empty > 0.01)),
    recent(now.recent));
  if (!scrolled) return;
  const again = byId("recent-box");
  [again.scrollTop, again.scrollLeft] = scrolled;
  if (scrolled[2]) again.focus({ preventScroll: true });
}

function spark(values) {
  const most = Math.max(...values, 1e-9);
  const at = (value, i) => `${values.length < 2 ? 100 : (100 * i) / (values.length - 1)} ${27 - (24 * value) / most}`;
  const line = `M${values.length < 2 ? `0 ${27 - (24 * values[0]) / most} L` : ""}${values.map(at).join(" L")}`;
  return svg("svg", { class: "spark", viewBox: "0 0 100 28", preserveAspectRatio: "none" },
    svg("path", { class: "area", d: `${line} L100 28 L0 28Z` }), svg("path", { class: "stroke", d: line }));
}

function recent(requests) {
  const columns = ["When", "Task", "Status", "Items", "Time", "Ordered by", "Degraded", "Stages"];
  return el("section", { class: "block" }, el("h2", {}, "Last requests"),
    requests.length === 0 ? el("p", { class: "muted" }, "None yet. Ask something in the first tab.")
      : el("div", { class: "table-box tall", id: "recent-box", tabindex: "0", role: "region", "aria-label": "Last requests" }, el("table", { class: "recent" },
        el("thead", {}, el("tr", {}, columns.map((name) => el("th", { scope: "col" }, name)))),
        el("tbody", {}, requests.map(row)))));
}

function row(one) {
  return el("tr", {},
    el("td", { class: "nowrap muted" }, new Date(one.at * 1000).toLocaleTimeString("en-GB")),
    el("th", { scope: "row", title: one.release }, plain(one.task)),
    el("td", {}, el("span", { class: one.status < 400 ? "status good" : "status bad" }, String(one.status))),
    el("td", { class: "figure" }, one.release ? number(one.items) : "–"), el("td", { class: "figure" }, milliseconds(one.ms)),
    el("td", {}, one.reranked.join(", ") || "–"), el("td", { class: one.degraded.length ? "warn-text" : "muted" }, one.degraded.join("; ") || "–"),
    el("td", {}, stages(one.timings_ms)));
}

function stages(timings) {
  const whole = Object.values(timings).reduce((sum, one) => sum + one, 0);
  if (!whole) return "–";
  const longest = Object.entries(timings).sort(([, a], [, b]) => b - a).slice(0, 2);
  return el("span", { class: "longest" }, longest.map(([name, took]) => `${plain(name)} ${percent(took / whole)}`).join(", "));
}
