// What is asked: a shopper or a history, a search, a cart, and the switches. Whoever changes it calls `changed`.

export const FIRST = 12; // items, before more are asked for

const listeners = [];

export const asked = {
  shopper: "", // empty: nobody in particular
  history: [], // {item_id, title}, oldest first; stands in for the shopper where there is one
  cart: [],
  query: "",
  about: "shopper", // or "cart", or "similar"
  similarTo: null, // {item_id, title}
  k: FIRST,
  rerank: true,
  rules: true,
  diversity: 0,
  filters: "",
  deadline: "",
  page: "", // where the answer is shown
  audience: "", // what is known of the shopper: "country = DE, member = true"
};

export const onChange = (call) => listeners.push(call);

export function changed(fields = {}) {
  Object.assign(asked, fields);
  for (const call of listeners) call();
}

const ids = (items) => items.map((one) => one.item_id);

// The body of /v1/batch, /v1/explain and /v1/why-not.
export function request() {
  const shown = { k: asked.k, diversity: asked.diversity, rules: asked.rules, language: "en" };
  if (asked.filters.trim()) shown.filters = asked.filters.trim();
  if (asked.page.trim()) shown.page = asked.page.trim();
  const audience = readAudience(asked.audience);
  if (Object.keys(audience).length) shown.audience = audience;
  if (asked.about === "similar") return { task: "similar", item_id: asked.similarTo.item_id, ...shown };
  shown.rerank = asked.rerank;
  if (Number(asked.deadline) > 0) shown.deadline_ms = Number(asked.deadline);
  if (asked.about === "cart") return { task: "complete_cart", items: ids(asked.cart), ...who(), ...shown };
  const query = asked.query.trim();
  return { ...(query ? { task: "search", query } : { task: "recommend" }), ...who({ given: true }), ...shown };
}

// What is known of a shopper, of text as rules compare it: truth values and numbers are told from words.
function readAudience(text) {
  const parts = text.split(",").map((part) => part.split("=").map((one) => one.trim()));
  return Object.fromEntries(parts.filter(([name, value]) => name && value).map(([name, value]) => [name, valueOf(value)]));
}

function valueOf(word) {
  if (word === "true" || word === "false") return word === "true";
  return Number.isFinite(Number(word)) ? Number(word) : word;
}

function who({ given = false } = {}) {
  if (asked.history.length) return given ? { history: ids(asked.history) } : {};
  return asked.shopper ? { user_id: asked.shopper } : {};
}

// The same request, as candidates were retrieved: nothing is ordered anew.
export function unordered(request) {
  const plain = { ...request, diversity: 0 };
  delete plain.deadline_ms;
  return request.task === "similar" ? plain : { ...plain, rerank: false };
}

export function heading() {
  if (asked.about === "similar") return `Similar to ${asked.similarTo.title}`;
  if (asked.about === "cart") return "Completes the cart";
  const whom = asked.history.length ? "this history" : asked.shopper || "anyone";
  return asked.query.trim() ? `Search for “${asked.query.trim()}”` : `Recommended for ${whom}`;
}

export const same = (a, b) => a.item_id === b.item_id;

// The fields that change where an item is taken out of the history or the cart: an empty cart is not completed.
export function without(item, where) {
  const others = asked[where].filter((one) => !same(one, item));
  return { [where]: others, ...(where === "cart" && !others.length && asked.about === "cart" ? { about: "shopper" } : {}) };
}
