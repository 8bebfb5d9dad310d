// The picture of an item: its own, or one that is drawn: a colour for its department, a shape for its category.

import { el, svg } from "./dom.js";
import { categories } from "./items.js";

const HUES = 1009, GOLDEN = 137.508, SPREAD = 36; // degrees: departments lie far apart, their items near
const WIDTH = 160, HEIGHT = 112;
const SHAPES = [rings, hills, tiles, waves, petals, stripes];

export function picture(item) {
  const url = secure(item.image);
  if (!url) return drawing(item);
  const image = el("img", { src: url, alt: "", loading: "lazy", decoding: "async", referrerpolicy: "no-referrer", class: "picture" });
  image.addEventListener("error", () => image.replaceWith(drawing(item)), { once: true });
  return image;
}

function secure(url) {
  try {
    return typeof url === "string" && new URL(url).protocol === "https:" ? url : "";
  } catch {
    return "";
  }
}

function drawing(item) {
  const [department = "", ...rest] = categories(item);
  const own = randoms(hash(item.item_id || item.title || ""));
  const shape = SHAPES[hash(rest.at(-1) || department || item.item_id || "") % SHAPES.length];
  const attributes = { class: "picture drawn", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, "aria-hidden": "true", preserveAspectRatio: "xMidYMid slice" };
  const drawn = svg("svg", attributes, svg("rect", { class: "ground", width: WIDTH, height: HEIGHT }), shape(own));
  drawn.style.setProperty("--own", Math.round(GOLDEN * (hash(department) % HUES) + SPREAD * (own() - 0.5)));
  return drawn;
}

function rings(own) {
  const x = 40 + 80 * own(), y = 36 + 40 * own();
  return [64, 46, 28, 12].map((r, i) => svg("circle", { class: `tone-${i % 3}`, cx: x, cy: y, r }));
}

function hills(own) {
  const sun = svg("circle", { class: "tone-2", cx: 30 + 100 * own(), cy: 24 + 14 * own(), r: 13 });
  const hill = (base, i) => {
    const a = 20 + 60 * own(), b = 80 + 60 * own();
    return svg("path", { class: `tone-${i}`, d: `M0 ${base} Q ${a} ${base - 46} ${(a + b) / 2} ${base - 8} T 160 ${base - 18} V112 H0Z` });
  };
  return [sun, hill(78, 0), hill(98, 1)];
}

function tiles(own) {
  const found = [];
  for (let x = 0; x < 4; x += 1) {
    for (let y = 0; y < 3; y += 1) {
      if (own() < 0.25) continue;
      found.push(svg("rect", { class: `tone-${Math.floor(3 * own())}`, x: 22 + 30 * x, y: 11 + 31 * y, width: 26, height: 27, rx: own() < 0.4 ? 13 : 4 }));
    }
  }
  return found;
}

function waves(own) {
  return [0, 1, 2, 3].map((i) => {
    const y = 22 + 23 * i, lift = 8 + 12 * own();
    return svg("path", { class: `line tone-${i % 3}`, d: `M-10 ${y} Q 20 ${y - lift} 50 ${y} T 110 ${y} T 170 ${y}` });
  });
}

function petals(own) {
  const n = 5 + Math.floor(4 * own()), turn = 90 * own();
  const petal = (i) => svg("ellipse", { class: `tone-${i % 2}`, cx: 80, cy: 28, rx: 12, ry: 26, transform: `rotate(${turn + (360 * i) / n} 80 56)` });
  return [...Array.from({ length: n }, (_, i) => petal(i)), svg("circle", { class: "tone-2", cx: 80, cy: 56, r: 11 })];
}

function stripes(own) {
  const turn = own() < 0.5 ? 24 : -24;
  const stripe = (i) => svg("rect", { class: `tone-${i % 3}`, x: 14 + 24 * i, y: -30, width: 6 + 12 * own(), height: 172, rx: 6 });
  return svg("g", { transform: `rotate(${turn} 80 56)` }, [0, 1, 2, 3, 4, 5].map(stripe));
}

function hash(text) {
  let value = 2166136261;
  for (let i = 0; i < text.length; i += 1) value = Math.imul(value ^ text.charCodeAt(i), 16777619);
  return value >>> 0;
}

function randoms(seed) {
  let value = seed || 1;
  return () => {
    value = (Math.imul(value, 1664525) + 1013904223) >>> 0;
    return value / 2 ** 32;
  };
}
