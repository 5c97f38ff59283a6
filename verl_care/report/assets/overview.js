// First view: what came out, how it went, and with which settings.
import { Chart } from "./chart.js";
import { namesOf, sectionsOf, titleOf, validated, validationCurve } from "./catalogue.js";
import { Config } from "./config.js";
import { el, renew, said } from "./dom.js";
import { plural, short } from "./numbers.js";
import { resultsTable } from "./results.js";

export class Overview {
  constructor(store) {
    this.store = store;
    this.charts = new Map(); // metric -> Chart: they stay when data come in
    this.wanted = []; // metrics that the reader added
    this.smoothing = el("input", {
      type: "range", min: 0, max: 0.98, step: 0.02, value: 0.6, id: "smoothing", oninput: () => this.#curves(),
    });
    this.weight = el("output", { for: "smoothing" });
    this.facts = el("p", { class: "facts" });
    this.notes = el("details", { class: "notes" });
    this.results = el("div", {});
    this.legend = el("div", { class: "legend", role: "group", "aria-label": "Runs shown" });
    this.sections = el("div", {});
    this.names = el("datalist", { id: "metric-names" });
    this.more = el("input", {
      type: "search", list: "metric-names", placeholder: "Add any logged metric", "aria-label": "Add a curve of any logged metric",
      onchange: () => this.#add(),
    });
    this.config = new Config(store);
    const smoothing = el("label", { class: "slider" }, "Smoothing", this.smoothing, this.weight);
    this.node = el("div", { class: "view overview" },
      el("h1", { class: "sr-only" }, "Overview"), this.facts, this.notes,
      el("section", { class: "block" }, el("div", { class: "block-head" }, el("h2", {}, "Before and after")), this.results),
      el("div", { class: "curve-tools" }, this.legend, smoothing, this.more, this.names),
      this.sections, this.config.node);
    store.addEventListener("change", () => this.#all());
    store.addEventListener("runs", () => this.#curves());
    this.#all();
  }

  show() {}

  #all() {
    const { runs, groups, responses, payload } = this.store;
    const steps = Math.max(0, ...runs.flatMap((run) => [...run.metrics.values()].map((metric) => metric.steps.at(-1) ?? 0)));
    this.facts.replaceChildren(
      [plural(runs.length, "run"), plural(steps, "step"), plural(groups.length, "group"), plural(responses.length, "response"), `made ${when(payload.made)}`].join(" · "));
    const notes = payload.notes ?? [];
    this.notes.hidden = !notes.length;
    this.notes.replaceChildren(el("summary", {}, plural(notes.length, "note")), el("ul", {}, notes.map((note) => el("li", {}, said(note)))));
    this.results.replaceChildren(resultsTable(this.store));
    this.names.replaceChildren(...namesOf(runs).map((name) => el("option", { value: name })));
    this.#curves();
    this.config.show();
  }

  #add() {
    const name = this.more.value.trim();
    if (!namesOf(this.store.runs).includes(name)) return;
    this.wanted = [name, ...this.wanted.filter((other) => other !== name)];
    this.more.value = "";
    this.#curves();
  }

  #curves() {
    const weight = Number(this.smoothing.value);
    this.weight.textContent = weight.toFixed(2);
    renew(this.legend, this.store.runs.map((run) => this.#legendOf(run)));
    const added = { heading: "Added", charts: this.wanted.map((name) => ({ name, title: titleOf(name) })) };
    const [learns, ...others] = sectionsOf(this.store.runs);
    const sections = [added, learns, this.#validation(), ...others];
    const shown = sections.filter((section) => section?.charts.length).map(({ heading, charts }) =>
      el("section", { class: "curves" }, el("h2", {}, heading), el("div", { class: "chart-grid" }, charts.map((one) => this.#chart(one, heading, weight)))));
    const none = el("p", { class: "empty" }, "Nothing is logged yet: curves appear with the first step.");
    renew(this.sections, shown.length ? shown : [none]);
  }

  #validation() {
    const charts = validated(this.store.runs).map(({ dataset, measure }) => ({
      name: JSON.stringify([dataset, measure]), title: `${titleOf(measure)} · ${dataset}`, dataset, measure,
    }));
    const several = charts.filter(({ dataset, measure }) =>
      this.store.runs.some((run) => validationCurve(run, dataset, measure).steps.length > 1));
    return { heading: "Validation", charts: several };
  }

  #chart({ name, title, dataset, measure }, heading, weight) {
    const key = `${heading} ${name}`;
    if (!this.charts.has(key)) this.charts.set(key, new Chart({ title: said(title).textContent, name: dataset ? null : name }));
    const chart = this.charts.get(key);
    const series = this.store.shownRuns().flatMap((run) => {
      const curve = dataset ? validationCurve(run, dataset, measure) : run.metrics.get(name);
      return curve?.steps.length ? [{ name: said(run.name).textContent, color: run.color, dash: run.dash, ...curve }] : [];
    });
    const published = this.store.payload.published.filter((one) => one.dataset === dataset && one.metric === measure);
    const references = published.map((one) => ({ label: `${said(one.method).textContent} ${short(one.value)}`, value: one.value }));
    chart.show(series, dataset ? references : [], dataset ? 0 : weight);
    return chart.node;
  }

  #legendOf(run) {
    return el("button", {
      class: "legend-run", type: "button", "aria-pressed": String(!this.store.hidden.has(run.name)), vars: { run: run.color },
      onclick: () => this.store.toggleRun(run),
    }, el("i", { class: "swatch" }), said(run.name));
  }
}

/** "2026-11-21T14:09:11Z" -> "2026-11-21 14:09 UTC"; what is no time stands as it is. */
export function when(time) {
  const found = /^(\d{4}-\d\d-\d\d)T(\d\d:\d\d)/.exec(time);
  return found ? `${found[1]} ${found[2]} UTC` : said(time).textContent;
}
