// Builds elements and writes values. Every text becomes a text node: nothing that a shop says is read as markup.

const SVG = "http://www.w3.org/2000/svg";

export function el(name, attributes = {}, ...children) {
  return filled(document.createElement(name), attributes, children);
}

export function svg(name, attributes = {}, ...children) {
  return filled(document.createElementNS(SVG, name), attributes, children);
}

function filled(node, attributes, children) {
  for (const [key, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
    else if (key === "value") node.value = value;
    else node.setAttribute(key, value === true ? "" : String(value));
  }
  node.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return node;
}

export const byId = (id) => document.getElementById(id);

export function show(place, ...children) {
  place.replaceChildren(...children.flat().filter(Boolean));
}

// Draws anew, and gives the focus back to what has the same key; to `instead` where that is gone.
export function keepingFocus(draw, instead) {
  const key = document.activeElement?.dataset.key;
  draw();
  if (!key || document.activeElement?.dataset.key === key) return;
  (document.querySelector(`main [data-key="${CSS.escape(key)}"]`) ?? instead).focus({ preventScroll: true });
}

// A bar of a share from 0 to 1, as wide as its box.
export function bar(share, tone = "") {
  const fill = el("span", { class: `bar-fill ${tone}` });
  fill.style.width = `${Math.max(0, Math.min(1, share)) * 100}%`;
  return el("span", { class: "bar", "aria-hidden": "true" }, fill);
}

export function number(value, digits = 0) {
  if (typeof value !== "number" || !Number.isFinite(value)) return "–";
  return value.toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: digits });
}

export function milliseconds(value) {
  if (typeof value !== "number") return "–";
  return `${number(value, value < 10 ? 2 : value < 100 ? 1 : 0)} ms`;
}

export const signed = (value, digits = 3) => `${value < 0 ? "−" : "+"}${number(Math.abs(value), digits)}`;

export const percent = (value, digits = 0) => `${number(100 * value, digits)} %`;

export function bytes(value) {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let at = 0;
  while (value >= 1000 && at < units.length - 1) [value, at] = [value / 1000, at + 1];
  return `${number(value, value < 10 && at ? 1 : 0)} ${units[at]}`;
}

export function day(when) {
  const date = typeof when === "number" ? new Date(when * 1000) : new Date(when);
  if (Number.isNaN(date.getTime())) return String(when || "–");
  const clock = { day: "numeric", month: "short", year: "numeric", hour: "2-digit", minute: "2-digit" };
  return date.toLocaleString("en-GB", clock);
}

export const plain = (name) => name.replaceAll("_", " ");

export const several = (n, one, many = `${one}s`) => `${number(n)} ${n === 1 ? one : many}`;

export function debounced(call, wait) {
  let timer = 0;
  return (...given) => {
    clearTimeout(timer);
    timer = setTimeout(() => call(...given), wait);
  };
}
