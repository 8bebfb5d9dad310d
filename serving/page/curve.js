// Recall against the time of a query, for every index that was measured, drawn as SVG.

import { el, milliseconds, number, svg } from "./dom.js";

const STEPS = [0.01, 0.02, 0.05, 0.1, 0.2]; // of recall, between lines
const WIDTH = 640, HEIGHT = 300;
const LEFT = 52, RIGHT = 20, TOP = 18, BOTTOM = 54;

export function indexCurve(index) {
  const points = index.curve;
  if (!points.length) return el("p", { class: "muted" }, "Nothing was measured for this index.");
  const scale = scales(points, index.target);
  const kinds = [...new Set(points.map((point) => point.kind))];
  const label = `Recall at ${index.recall_at} against milliseconds of a query: ${kinds.map((kind) => `${kind} up to recall ${number(Math.max(...of(points, kind).map((one) => one.recall)), 3)}`).join(", ")}`;
  return el("figure", { class: "curve" },
    svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": label },
      axes(scale), index.target && target(scale, index.target), kinds.map((kind, i) => drawn(of(points, kind), i, scale, index))),
    el("figcaption", {}, kinds.map((kind, i) => el("span", { class: "key" }, el("span", { class: `swatch tone-${tone(i)}`, "aria-hidden": "true" }), kind === index.kind ? `${kind}, taken` : kind))));
}

const of = (points, kind) => points.filter((one) => one.kind === kind).sort((a, b) => a.milliseconds - b.milliseconds);
const tone = (i) => [4, 2, 6, 0, 5, 3, 1, 7][i % 8];

function scales(points, goal) {
  const times = points.map((point) => point.milliseconds), found = points.map((point) => point.recall);
  const room = points.length > 1 ? 0.15 : 1; // decades beside what was measured
  const first = Math.log10(Math.min(...times)) - room, last = Math.log10(Math.max(...times)) + room;
  const least = Math.min(...found, goal ?? 1);
  const step = STEPS.find((one) => (1 - least) / one < 5) ?? STEPS.at(-1);
  const low = Math.max(0, 1 - step * Math.ceil((1 - least) / step + 0.25));
  return {
    low, step, first, last,
    x: (ms) => LEFT + ((Math.log10(ms) - first) / (last - first)) * (WIDTH - LEFT - RIGHT),
    y: (recall) => TOP + ((1 - recall) / (1 - low)) * (HEIGHT - TOP - BOTTOM),
  };
}

function axes({ low, step, first, last, x, y }) {
  const rows = Array.from({ length: Math.round((1 - low) / step) + 1 }, (_, i) => 1 - step * i);
  const ticks = [1, 2, 5].flatMap((n) => Array.from({ length: 12 }, (_, i) => n * 10 ** (i - 6))).filter((ms) => Math.log10(ms) > first && Math.log10(ms) < last);
  return svg("g", { class: "axes" },
    rows.flatMap((recall) => [svg("line", { x1: LEFT, x2: WIDTH - RIGHT, y1: y(recall), y2: y(recall) }), svg("text", { x: LEFT - 8, y: y(recall) + 4, "text-anchor": "end" }, number(recall, 2))]),
    ticks.map((ms) => svg("text", { x: x(ms), y: HEIGHT - BOTTOM + 18, "text-anchor": "middle" }, String(Number(ms.toPrecision(1))))),
    svg("text", { x: LEFT, y: 10, "text-anchor": "start" }, "recall"),
    svg("text", { x: WIDTH - RIGHT, y: HEIGHT - 6, "text-anchor": "end" }, "milliseconds of a query"));
}

function target({ y }, goal) {
  return svg("g", { class: "goal" }, svg("line", { x1: LEFT, x2: WIDTH - RIGHT, y1: y(goal), y2: y(goal) }),
    svg("text", { x: WIDTH - RIGHT, y: y(goal) - 6, "text-anchor": "end" }, `wanted: ${number(goal, 2)}`));
}

function drawn(points, i, { x, y }, index) {
  const path = points.map((point, at) => `${at ? "L" : "M"}${x(point.milliseconds)} ${y(point.recall)}`).join(" ");
  return svg("g", { class: `tone-${tone(i)}` }, points.length > 1 && svg("path", { d: path }),
    points.map((point) => {
      const taken = point.kind === index.kind && point.recall === index.recall;
      return svg("circle", { cx: x(point.milliseconds), cy: y(point.recall), r: taken ? 7 : 4, class: taken ? "taken" : "" },
        svg("title", {}, `${point.kind}: recall ${number(point.recall, 3)} in ${milliseconds(point.milliseconds)}`));
    }));
}
