// The second tab: what the live release is made of, how good it is, and the releases before it.

import { fault, get } from "./api.js";
import { indexCurve } from "./curve.js";
import { bar, byId, bytes, day, el, milliseconds, number, percent, plain, show } from "./dom.js";
import { releases } from "./releases.js";

const FIGURES = ["ndcg@10", "mrr@10", "recall@10", "recall@100"];
const NAMES = { "ndcg@10": "nDCG@10", "mrr@10": "MRR@10", "recall@10": "Recall@10", "recall@100": "Recall@100" };

export async function showBundle() {
  const panel = byId("panel-bundle");
  if (!panel.childElementCount) show(panel, el("p", { class: "muted loading", role: "status" }, "Reading the bundle…"));
  try {
    const [about, listed] = await Promise.all([get("/v1/bundle"), get("/v1/releases")]);
    show(panel, head(about), releases(listed, showBundle), gates(about), quality(about.quality),
      el("div", { class: "pair" }, curve(about.index), sources(about.sources)), features(about.features));
  } catch (error) {
    show(panel, fault(error));
  }
}

const block = (title, about, ...children) => el("section", { class: "block" }, el("h2", {}, title), about && el("p", { class: "muted lede" }, about), ...children);

function head({ release, created, who, why, index, index_revision: revision }) {
  const fact = (label, value, note) => el("div", { class: "fact" }, el("dt", {}, label), el("dd", {}, value, note && el("span", { class: "muted small" }, note)));
  return el("div", { class: "bundle-head" },
    el("p", { class: "muted small" }, "The release that answers"), el("h2", { class: "release-name" }, release),
    el("dl", { class: "fact-row" },
      fact("Made", day(created), [who && `by ${who}`, why].filter(Boolean).join(", ")),
      fact("Items", number(index.items), `${number(index.dim)} numbers each`),
      fact("Index", index.kind, `recall@${index.recall_at} ${number(index.recall, 3)}, ${bytes(index.bytes)}`),
      fact("Updates since", number(revision), "of the live index")));
}

function gates({ gates: cards, verdicts }) {
  if (!cards.length) return null;
  const card = (one) => el("details", { class: "gate" },
    el("summary", {}, el("span", { class: `verdict ${one.verdict}` }, one.headline), el("span", { class: "gate-what" }, el("strong", {}, one.task), el("span", { class: "muted" }, one.part))),
    el("p", {}, one.meaning), el("dl", { class: "facts" }, Object.entries(one.facts).map(([name, value]) => el("div", {}, el("dt", {}, name), el("dd", {}, value)))));
  return block("Gates", "A part of the second stage answers only where held-out requests show that it helps.",
    el("ul", { class: "sentences" }, verdicts.map(sentence)), el("div", { class: "gates" }, cards.map(card)));
}

function sentence(text) {
  const [, task, rest] = /^([^:]+:)(.*)$/s.exec(text) || [null, "", text];
  return el("li", {}, task && el("strong", {}, task), rest);
}

// A choice between the tables of several tasks or orders.
function choice(label, options, draw) {
  const place = el("div");
  const select = el("select", { "aria-label": label }, options.map((one, i) => el("option", { value: String(i) }, one.title)));
  const drawn = () => show(place, draw(options[Number(select.value)]));
  select.addEventListener("change", drawn);
  select.value = "0";
  drawn();
  return [el("div", { class: "choice" }, select), place];
}

function quality(tasks) {
  if (!tasks.length) return block("Quality", null, el("p", { class: "muted" }, "This release was not evaluated."));
  const table = (title, n, stages, of) => el("div", { class: "table-box", tabindex: "0", role: "region", "aria-label": title },
    el("table", {}, el("caption", {}, title, el("span", { class: "muted" }, ` ${number(n)} requests`)),
      el("thead", {}, el("tr", {}, el("th", { scope: "col" }, "Stage"), of.map((name) => el("th", { scope: "col", class: "figure" }, NAMES[name])))),
      el("tbody", {}, ordered(stages).map((stage) => el("tr", { class: stage.stage === "final" ? "final" : stage.ours ? "" : "other" },
        el("th", { scope: "row" }, stage.title), of.map((name) => cell(stage.figures[name], best(stages, name))))))));
  return block("Quality", "Held-out requests, by stage. In grey: simpler ways of answering, for comparison.", ...choice("Task", tasks, (task) => {
    const of = FIGURES.filter((name) => task.stages.some((stage) => typeof stage.figures[name] === "number"));
    return [table(task.title, task.n, task.stages, of), task.slices.length > 0 && slices(task),
      task.sample && el("details", { class: "more-figures" }, el("summary", {}, "The sample that the text model read"), table("Sample", task.sample.n, task.sample.stages, of))];
  }));
}

// nDCG@10 of each slice: the final order, those it was made of, and the best of the simpler ways.
function slices(task) {
  const parts = [{ title: "all", n: task.n, stages: task.stages }, ...task.slices];
  const ours = ["final", "features", "fused", "retrieval"].filter((name) => parts.some((part) => part.stages.some((stage) => stage.stage === name)));
  const title = (name) => parts[0].stages.find((stage) => stage.stage === name)?.title ?? plain(name);
  const simpler = (stages) => ordered(stages).find((stage) => !stage.ours);
  return el("div", { class: "table-box", tabindex: "0", role: "region", "aria-label": "By slice" }, el("table", {}, el("caption", {}, "By slice", el("span", { class: "muted" }, "nDCG@10")),
    el("thead", {}, el("tr", {}, ["Slice", "Requests", ...ours.map(title), "best other"].map((name) => el("th", { scope: "col" }, name)))),
    el("tbody", {}, parts.map((part) => el("tr", {}, el("th", { scope: "row" }, part.title), el("td", { class: "figure" }, number(part.n)),
      ours.map((name) => cell(part.stages.find((stage) => stage.stage === name)?.figures["ndcg@10"], best(part.stages, "ndcg@10"))),
      el("td", { class: "figure muted" }, simpler(part.stages) ? `${number(simpler(part.stages).figures["ndcg@10"], 3)} ${simpler(part.stages).title}` : "–"))))));
}

const ordered = (stages) => [...stages].sort((a, b) => (b.figures["ndcg@10"] ?? -1) - (a.figures["ndcg@10"] ?? -1) || (b.stage === "final") - (a.stage === "final"));

const best = (stages, name) => Math.max(...stages.map((stage) => stage.figures[name] ?? 0));

function cell(value, most) {
  if (typeof value !== "number") return el("td", { class: "figure muted" }, "–");
  return el("td", { class: value === most ? "figure best" : "figure" }, bar(value), el("span", {}, number(value, 3)));
}

function curve(index) {
  return block("Index", index.why && `${index.why.charAt(0).toUpperCase()}${index.why.slice(1)}.`, indexCurve(index),
    el("p", { class: "muted small" }, `Recall@${index.recall_at} against exact search over ${index.queries}; the median time of a query sent alone.`),
    index.curve.length > 1 && el("details", {}, el("summary", {}, "All measurements"), measurements(index.curve)));
}

function measurements(points) {
  const own = new Set(["kind", "rows", "recall", "recall_low", "milliseconds", "bytes", "build_seconds"]);
  const set = (point) => Object.entries(point).filter(([name]) => !own.has(name)).map(([name, value]) => `${plain(name)} ${value}`).join(", ") || "–";
  return el("div", { class: "table-box", tabindex: "0", role: "region", "aria-label": "All measurements" }, el("table", {},
    el("thead", {}, el("tr", {}, ["Kind", "Set to", "Recall", "Time", "Memory", "Vectors"].map((name) => el("th", { scope: "col" }, name)))),
    el("tbody", {}, points.map((point) => el("tr", {}, el("th", { scope: "row" }, point.kind), el("td", { class: "nowrap" }, set(point)),
      el("td", { class: "figure" }, number(point.recall, 3)), el("td", { class: "figure" }, milliseconds(point.milliseconds)),
      el("td", { class: "figure" }, bytes(point.bytes)), el("td", { class: "figure" }, number(point.rows)))))));
}

const shares = (rows, two = false) => el("ul", { class: two ? "shares two" : "shares" }, rows.map(({ name, note, value, text }) => el("li", {},
  el("span", { class: "term" }, name, note && el("span", { class: "muted small" }, note)), bar(value), el("span", { class: "figure" }, text))));

function sources(orders) {
  if (!orders.length) return null;
  return block("Sources", "Candidates come from all of them; their weighted scores make one order. A weight of 0 is not read.", ...choice("Sources of the order", orders, ({ weights }) => {
    const most = Math.max(...weights.map((one) => one.weight), 1e-9);
    return shares(weights.map((one) => ({ name: one.title, value: one.weight / most, text: number(one.weight, 2) })));
  }));
}

function features(orders) {
  if (!orders.length) return block("Features", null, el("p", { class: "muted" }, "No ranker over features answers in this release."));
  return block("Features by gain", null, ...choice("Features of the order", orders, (order) => {
    const most = Math.max(...order.features.map((one) => one.share), 1e-9);
    return [el("p", { class: "muted lede" }, `${order.kind}, which reads ${order.read} features. Each bar is ${order.measure}.`),
      shares(order.features.map((one) => ({ name: plain(one.feature), note: one.about, value: one.share / most, text: percent(one.share, 1) })), true)];
  }));
}
