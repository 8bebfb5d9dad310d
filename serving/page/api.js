// Asks the server. Where it wants an API key, the page asks for one, and keeps it until the tab is closed.

import { byId, el, show } from "./dom.js";

const KEPT_AS = "shortlist-key";
let asking = null; // while the dialog is open: what it will give

export class Refused extends Error {
  constructor(status, detail, requestId) {
    super(detail);
    Object.assign(this, { status, requestId });
  }
}

export const get = (path, signal) => call("GET", path, undefined, signal);
export const post = (path, body = {}, signal) => call("POST", path, body, signal);

async function call(method, path, body, signal) {
  for (;;) {
    const key = sessionStorage.getItem(KEPT_AS);
    const response = await sent(method, path, body, signal, key);
    if (response.ok) return response.json();
    const problem = await response.json().catch(() => ({}));
    const detail = problem.detail || `the server answered ${response.status}`;
    if (response.status !== 401) throw new Refused(response.status, detail, problem.request_id);
    if (sessionStorage.getItem(KEPT_AS) === key) await newKey(key ? detail : "");
  }
}

async function sent(method, path, body, signal, key) {
  const headers = { Accept: "application/json" };
  if (key) headers.Authorization = `Bearer ${key}`;
  if (body !== undefined) headers["Content-Type"] = "application/json";
  try {
    return await fetch(path, { method, headers, signal, body: body === undefined ? undefined : JSON.stringify(body) });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refused(0, "the server cannot be reached; is it still running?");
  }
}

function newKey(fault) {
  asking ??= askForKey(fault).finally(() => { asking = null; });
  return asking;
}

function askForKey(fault) {
  const dialog = byId("key");
  const field = el("input", { type: "password", id: "key-value", autocomplete: "off", required: true });
  return new Promise((resolve, reject) => {
    const form = el("form", { method: "dialog" },
      el("h2", { id: "key-title" }, "This server asks for an API key"),
      el("p", { class: "muted" }, "It is kept in this tab until you close it. ", el("code", {}, "shortlist keys add BUNDLE"), " makes one."),
      fault && el("p", { class: "fault", role: "alert" }, fault),
      el("label", { for: "key-value" }, "API key"), field,
      el("div", { class: "buttons" }, el("button", { class: "primary", value: "use" }, "Use this key")),
    );
    show(dialog, form);
    dialog.addEventListener("close", () => {
      if (dialog.returnValue !== "use" || !field.value) return reject(new Refused(401, "an API key is needed; load the page again to give one"));
      sessionStorage.setItem(KEPT_AS, field.value.trim());
      byId("forget-key").hidden = false;
      resolve();
    }, { once: true });
    dialog.returnValue = "";
    dialog.showModal();
  });
}

export function startKey() {
  const button = byId("forget-key");
  button.hidden = !sessionStorage.getItem(KEPT_AS);
  button.addEventListener("click", () => {
    sessionStorage.removeItem(KEPT_AS);
    location.reload();
  });
}

// What went wrong, with the id by which the server's log has it.
export function fault(error) {
  return el("div", { class: "fault" }, el("p", {}, sentence(error.message)),
    error.requestId && el("p", { class: "small" }, "Request ", el("code", {}, error.requestId)));
}

function sentence(text) {
  const whole = text.charAt(0).toUpperCase() + text.slice(1);
  return /[.!?]$/.test(whole) ? whole : `${whole}.`;
}
