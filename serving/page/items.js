// What the catalogue knows of items, asked for once for each state of the index.

import { get } from "./api.js";

const MOST = 100; // ids in one call
let known = new Map();
let state = "";

// Looks up what is not known yet; `place` is the release and the revision that answered.
export async function lookUp(ids, place, signal) {
  if (place !== state) [known, state] = [new Map(), place];
  const missing = [...new Set(ids)].filter((id) => !known.has(id));
  for (let from = 0; from < missing.length; from += MOST) {
    const part = missing.slice(from, from + MOST);
    const found = await get(`/v1/items?${part.map((id) => `id=${encodeURIComponent(id)}`).join("&")}`, signal);
    for (const item of found.items) known.set(item.item_id, item);
  }
  return known;
}

export const itemOf = (id) => known.get(id) || {};

export const categories = (item) => [item.category].flat().filter(Boolean).map(String);

export function price(item) {
  if (typeof item.price !== "number") return "";
  const currency = /^[A-Z]{3}$/.test(item.currency || "") ? { style: "currency", currency: item.currency } : { minimumFractionDigits: 2, maximumFractionDigits: 2 };
  return item.price.toLocaleString("en", currency);
}

// Whether it can be bought: true, false, or null where the catalogue does not say.
export function inStock(item) {
  for (const name of ["in_stock", "available", "availability", "stock"]) {
    const value = item[name];
    if (typeof value === "boolean") return value;
    if (typeof value === "number") return value > 0;
    if (typeof value === "string") return !/^(out|sold|no|false|0)/i.test(value);
  }
  return null;
}
