// The table of the first and the last validation of each data set, with what others published for it.
import { el, said } from "./dom.js";
import { count, rate, short } from "./numbers.js";
import { titleOf, validated } from "./catalogue.js";

export function resultsTable(store) {
  const runs = store.runs.filter((run) => run.validation.length);
  if (!runs.length) return el("p", { class: "empty" }, "No validation yet. The first one of a run appears here as “before”.");
  const measures = [...new Set(validated(runs).map(({ measure }) => measure))];
  const datasets = [...new Set(runs.flatMap((run) => run.validation.map((one) => one.dataset)))].sort();
  const head = ["Data set", runs.length > 1 && "Run", "Questions", "Steps", ...measures.map(titleOf)].filter(Boolean);
  return el("div", { class: "table-frame", tabindex: 0, role: "region", "aria-label": "Before and after" },
    el("table", { class: "results" },
      el("thead", {}, el("tr", {}, head.map((title) => el("th", { scope: "col" }, said(title))))),
      datasets.map((dataset) => el("tbody", {}, rowsOf(dataset, runs, measures, store.payload.published)))));
}

function rowsOf(dataset, runs, measures, published) {
  const rows = runs.flatMap((run) => {
    const all = run.validation.filter((one) => one.dataset === dataset).sort((a, b) => a.step - b.step);
    if (!all.length) return [];
    const [first, last] = [all[0], all.at(-1)];
    const steps = first === last ? short(first.step) : `${short(first.step)} → ${short(last.step)}`;
    const name = runs.length > 1 && el("td", {}, el("i", { class: "swatch", vars: { run: run.color } }), said(run.name));
    return [[name, el("td", {}, count(last.questions)), el("td", {}, steps), measures.map((one) => cell(first, last, one))]];
  });
  const others = publishedRow(dataset, runs, measures, published);
  return [
    ...rows.map((cells, i) => el("tr", {}, el("th", { scope: "row" }, i === 0 ? said(dataset) : ""), ...cells)),
    others,
  ];
}

function cell(first, last, measure) {
  const [before, after] = [first.values[measure], last.values[measure]];
  if (after == null) return el("td", { class: "muted" }, "–");
  if (first === last || before == null) return el("td", {}, el("b", {}, shown(after)));
  const change = after - before;
  const way = Math.abs(change) < 5e-4 ? "" : change > 0 ? "is-up" : "is-down";
  return el("td", {},
    el("span", { class: "muted" }, `${shown(before)} → `), el("b", {}, shown(after)),
    el("span", { class: `change ${way}` }, `${change >= 0 ? "+" : "−"}${shown(Math.abs(change))}`));
}

const shown = (value) => (Math.abs(value) <= 1 ? rate(value, 3) : short(value));

function publishedRow(dataset, runs, measures, published) {
  const here = published.filter((one) => one.dataset === dataset);
  if (!here.length) return null;
  const cells = measures.map((measure) => {
    const values = here.filter((one) => one.metric === measure).sort((a, b) => b.value - a.value);
    return el("td", {}, values.map((one) => el("span", { class: "published-one" }, said(one.method), ` ${shown(one.value)}`)));
  });
  return el("tr", { class: "published" }, el("th", { scope: "row" }, "published"), runs.length > 1 && el("td"), el("td"), el("td"), cells);
}
