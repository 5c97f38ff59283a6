// The table of the first and the last validation of each data set, with what others published for it.
import { el, said } from "./dom.js";
import { plural, short } from "./numbers.js";
import { titleOf, validated } from "./catalogue.js";

// The share of responses of which a measure can tell stands behind the measure, not in a column of its own.
const KNOWN = "_known";

export function resultsTable(store) {
  const runs = store.runs.filter((run) => run.validation.length);
  if (!runs.length) return el("p", { class: "empty" }, "No validation yet. The first one of a run appears here as “before”.");
  const measures = [...new Set(validated(runs).map(({ measure }) => measure))].filter((measure) => !measure.endsWith(KNOWN));
  const datasets = [...new Set(runs.flatMap((run) => run.validation.map((one) => one.dataset)))].sort();
  const head = ["Data set, run", ...measures.map(titleOf)];
  return el("div", { class: "table-frame", tabindex: 0, role: "region", "aria-label": "Before and after" },
    el("table", { class: "results" },
      el("thead", {}, el("tr", {}, head.map((title) => el("th", { scope: "col" }, said(title))))),
      datasets.map((dataset) => el("tbody", {}, rowsOf(dataset, runs, measures, store.payload.published)))));
}

function rowsOf(dataset, runs, measures, published) {
  const found = runs.flatMap((run) => {
    const all = run.validation.filter((one) => one.dataset === dataset).sort((a, b) => a.step - b.step);
    return all.length ? [{ run, first: all[0], last: all.at(-1) }] : [];
  });
  const asked = plural(found[0].last.questions, "question");
  const title = el("tr", { class: "dataset" }, el("th", { scope: "rowgroup", colspan: measures.length + 1 }, said(dataset), el("span", { class: "muted" }, asked)));
  const rows = found.map(({ run, first, last }) => {
    const steps = first === last ? `step ${first.step}` : `step ${first.step} → ${last.step}`;
    const name = el("th", { scope: "row" }, el("i", { class: "swatch", vars: { run: run.color } }), said(run.name), el("span", { class: "muted" }, steps));
    return el("tr", {}, name, measures.map((measure) => cell(first, last, measure)));
  });
  return [title, ...rows, publishedRow(dataset, measures, published)];
}

function cell(first, last, measure) {
  const [before, after] = [first.values[measure], last.values[measure]];
  if (after == null) return el("td", { class: "muted" }, "–");
  const known = knownShare(last.values[measure + KNOWN]);
  if (first === last || before == null) return el("td", {}, el("b", {}, shown(after)), known);
  const change = after - before;
  const way = Math.abs(change) < 5e-4 ? "" : change > 0 ? "is-up" : "is-down";
  return el("td", {},
    el("span", { class: "muted" }, `${shown(before)} → `), el("b", {}, shown(after)), " ",
    el("span", { class: `change ${way}` }, `${change >= 0 ? "+" : "−"}${shown(Math.abs(change))}`), known);
}

function knownShare(share) {
  if (share == null || share > 0.9995) return null;
  return el("span", { class: "muted", title: "Of the other responses the measure cannot tell." }, ` of ${(100 * share).toFixed(0)} %`);
}

const shown = (value) => (Math.abs(value) <= 1 ? value.toFixed(3) : short(value));

function publishedRow(dataset, measures, published) {
  const here = published.filter((one) => one.dataset === dataset);
  if (!here.length) return null;
  const cells = measures.map((measure) => {
    const values = here.filter((one) => one.metric === measure).sort((a, b) => b.value - a.value);
    return el("td", {}, values.map((one) => el("span", { class: "published-one" }, said(one.method), ` ${shown(one.value)}`)));
  });
  return el("tr", { class: "published" }, el("th", { scope: "row" }, "published"), cells);
}
