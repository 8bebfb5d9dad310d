// The releases of a bundle, who made which live, and moving between them: never without asking first.

import { fault, post } from "./api.js";
import { byId, day, el, number, show } from "./dom.js";

const MOVES = 12;
const HOW = { publish: "published", activate: "activated", rollback: "rolled back to" };

export function releases(listed, again) {
  const back = listed.rollback_to && listed.rollback_to !== listed.live;
  return el("section", { class: "block" },
    el("div", { class: "block-head" }, el("h2", {}, "Releases"),
      back && el("button", { type: "button", id: "roll-back", onclick: () => confirm({
        title: "Roll back?", path: "/v1/releases/rollback", button: "Roll back", again,
        text: ["Every shopper is then answered by ", el("code", {}, listed.rollback_to), " instead of ", el("code", {}, listed.live), ". Its files are verified first, and you can go forward again."],
      }) }, "Roll back…")),
    el("ol", { class: "releases" }, [...listed.releases].reverse().map((one) => line(one, listed, again))),
    listed.moves.length > 0 && el("details", { class: "moves-log" }, el("summary", {}, "Who activated what"),
      el("ol", {}, [...listed.moves].reverse().slice(0, MOVES).map((move) => el("li", {},
        el("span", { class: "muted small" }, day(move.at)), el("span", {}, `${move.who || "somebody"} ${HOW[move.how] || move.how} `, el("code", {}, move.release)))))));
}

function line(one, { live, rollback_to: before, moves }, again) {
  const by = moves.filter((move) => move.release === one.release).at(-1);
  const figures = Object.entries(one.figures).map(([task, value]) => `${task} ${number(value, 3)}`).join(", ");
  return el("li", { class: one.release === live ? "release is-live" : "release" },
    el("div", { class: "release-what" },
      el("p", {}, el("code", {}, one.release),
        one.release === live && el("span", { class: "badge live-badge" }, "Live"),
        one.release === before && el("span", { class: "badge" }, "Roll back goes here"),
        one.refused_by.length > 0 && el("span", { class: "badge bad" }, `Refused by ${one.refused_by.join(", ")}`)),
      el("p", { class: "muted small" }, `Made ${day(one.created)}${one.who ? ` by ${one.who}` : ""}${one.why ? `: ${one.why}` : ""}`),
      by && el("p", { class: "muted small" }, `Last ${HOW[by.how] || by.how} ${day(by.at)} by ${by.who || "somebody"}`),
      el("p", { class: "small" }, figures ? `nDCG@10: ${figures}` : "Not evaluated", ` · gates on: ${on(one.gates) || "none"}`)),
    one.release !== live && el("button", { type: "button", onclick: () => confirm({
      title: "Make this release live?", path: `/v1/releases/${encodeURIComponent(one.release)}/activate`, button: "Make live", again,
      text: ["Every shopper is then answered by ", el("code", {}, one.release), ". Its files are verified first."],
    }) }, "Make live…", el("span", { class: "sr" }, one.release)));
}

// The tasks that a gate lets a part of the second stage decide.
function on(gates) {
  return Object.entries(gates).filter(([, gate]) => gate.on === true || gate.features?.on === true).map(([task]) => task.replaceAll("_", " ")).join(", ");
}

function confirm({ title, text, path, button, again }) {
  const dialog = byId("confirm");
  const place = el("div", { role: "alert" });
  const cancel = el("button", { type: "button", onclick: () => dialog.close() }, "Cancel");
  const act = el("button", { type: "button", class: "danger" }, button);
  act.addEventListener("click", async () => {
    act.disabled = cancel.disabled = true;
    try {
      await post(path);
      dialog.close();
      await again();
    } catch (error) {
      show(place, fault(error));
    } finally {
      act.disabled = cancel.disabled = false;
    }
  });
  show(dialog, el("h2", { id: "confirm-title" }, title), el("p", {}, text), place, el("div", { class: "buttons" }, cancel, act));
  dialog.showModal();
  cancel.focus();
}
