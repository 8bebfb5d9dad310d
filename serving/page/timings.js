// A bar of how long each stage of an answer took.

import { el, milliseconds, plain } from "./dom.js";

const LEAST = 0.03; // of the whole: shorter stages are told together
const TONES = { read_user: 0, read_query: 1, encode: 2, permit: 3, retrieve: 4, score: 5, rank: 6, rerank: 6, arrange: 7, apply_rules: 7, diversify: 7, explain: 3, describe: 1 };

export function timings(stages) {
  const whole = Object.values(stages).reduce((sum, one) => sum + one, 0);
  if (!whole) return null;
  const long = Object.entries(stages).filter(([, took]) => took / whole >= LEAST);
  const rest = whole - long.reduce((sum, [, took]) => sum + took, 0);
  const parts = [...long.map(([name, took], i) => [plain(name), took, TONES[name] ?? i % 8]), ...(rest > 0 ? [["other", rest, "rest"]] : [])];
  return el("figure", { class: "timings", "aria-label": `Time by stage, ${milliseconds(whole)} in all` },
    el("div", { class: "timing-bar", "aria-hidden": "true" }, parts.map(([, took, tone]) => {
      const part = el("span", { class: `tone-${tone}` });
      part.style.flexGrow = String(took / whole);
      return part;
    })),
    el("figcaption", {}, el("strong", {}, milliseconds(whole)),
      parts.map(([name, took, tone]) => el("span", { class: "key" }, el("span", { class: `swatch tone-${tone}`, "aria-hidden": "true" }), `${name} `, el("span", { class: "figure" }, milliseconds(took))))));
}
