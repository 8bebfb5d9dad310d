// The tabs, and what each shows.

import { startKey } from "./api.js";
import { byId } from "./dom.js";
import { showBundle } from "./bundle.js";
import { hideNow, showNow } from "./now.js";
import { startShop } from "./shop.js";

const TABS = ["shop", "bundle", "now"];
const SHOWN = { bundle: showBundle, now: showNow };

function select(name, { focus = false } = {}) {
  for (const one of TABS) {
    const tab = byId(`tab-${one}`);
    const on = one === name;
    tab.setAttribute("aria-selected", String(on));
    tab.tabIndex = on ? 0 : -1;
    byId(`panel-${one}`).hidden = !on;
    if (on && focus) tab.focus();
  }
  if (name !== "now") hideNow();
  SHOWN[name]?.();
  if (location.hash.slice(1) !== name) history.replaceState(null, "", `#${name}`);
}

function byKey(event) {
  const at = TABS.findIndex((name) => byId(`tab-${name}`) === event.target);
  const to = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: TABS.length - 1 }[event.key];
  if (at < 0 || to === undefined) return;
  event.preventDefault();
  select(TABS[(to + TABS.length) % TABS.length], { focus: true });
}

function start() {
  for (const name of TABS) byId(`tab-${name}`).addEventListener("click", () => select(name));
  document.querySelector("[role=tablist]").addEventListener("keydown", byKey);
  addEventListener("hashchange", () => TABS.includes(location.hash.slice(1)) && select(location.hash.slice(1)));
  startKey();
  startShop();
  select(TABS.includes(location.hash.slice(1)) ? location.hash.slice(1) : "shop");
}

start();
