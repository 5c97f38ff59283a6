// The configuration of every run, all keys searchable, and where runs differ.
import { el, later, said } from "./dom.js";
import { plural } from "./numbers.js";

const MOST = 2000; // rows drawn at once

export class Config {
  constructor(store) {
    this.store = store;
    this.search = el("input", {
      type: "search", placeholder: "Key or value", "aria-label": "Search the configuration", "data-search": true,
      oninput: later(() => this.show(), 80),
    });
    this.different = el("input", { type: "checkbox", checked: store.runs.length > 1, onchange: () => this.show() });
    this.count = el("span", { class: "muted" });
    this.table = el("div", { class: "table-frame config-frame", tabindex: 0, role: "region", "aria-label": "Configuration" });
    const only = store.runs.length > 1 && el("label", { class: "check" }, this.different, "only differences");
    this.node = el("section", { class: "block" },
      el("div", { class: "block-head" }, el("h2", {}, "Configuration"), this.search, only, this.count), this.table);
  }

  show() {
    const { runs } = this.store;
    const needle = this.search.value.trim().toLowerCase();
    const keys = [...new Set(runs.flatMap((run) => [...run.config.keys()]))];
    // the method's own keys first: they are what one comes for
    keys.sort((a, b) => b.startsWith("care.") - a.startsWith("care.") || (a < b ? -1 : 1));
    const rows = keys.map((key) => ({ key, values: runs.map((run) => valueOf(run, key)) }));
    const found = rows.filter(({ key, values }) => {
      if (this.different.checked && runs.length > 1 && !differs(values)) return false;
      return !needle || key.toLowerCase().includes(needle) || values.some((value) => value.toLowerCase().includes(needle));
    });
    this.count.textContent = keys.length ? `${plural(found.length, "key")} of ${keys.length}` : "";
    this.table.replaceChildren(keys.length ? table(runs, found.slice(0, MOST)) : el("p", { class: "empty" }, "No configuration was recorded."));
    if (keys.length && !found.length) {
      const why = needle ? "No key or value holds this text." : "The runs have the same configuration.";
      this.table.replaceChildren(el("p", { class: "empty" }, why));
    }
  }
}

function valueOf(run, key) {
  if (!run.config.has(key)) return "";
  const value = run.config.get(key);
  return value === null ? "null" : String(value);
}

const differs = (values) => values.some((value) => value !== values[0]);

function table(runs, rows) {
  const names = runs.map((run) => el("th", { scope: "col" }, el("i", { class: "swatch", vars: { run: run.color } }), said(run.name)));
  return el("table", { class: "config" },
    runs.length > 1 && el("thead", {}, el("tr", {}, el("th", { scope: "col" }, "Key"), names)),
    el("tbody", {}, rows.map(({ key, values }) => {
      const cells = values.map((value) => el("td", {}, value === "" ? el("span", { class: "muted" }, "not set") : said(value)));
      return el("tr", { class: runs.length > 1 && differs(values) ? "is-different" : null }, el("th", { scope: "row" }, said(key)), cells);
    })));
}
