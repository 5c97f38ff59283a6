// Third view: find responses among all of them, by what matters, by a word, in the order of any number.
import { el, later, renew, said, saidWith } from "./dom.js";
import { FILTERS, filtered, numbersOf, sorted } from "./filters.js";
import { count, fixed, plural, rate, short, signed } from "./numbers.js";
import { go, groupLink, linkTo, place } from "./router.js";
import { answerSpan, answered, questionText, snippet } from "./text.js";
import { VirtualList } from "./virtual.js";

const WIDE = matchMedia("(min-width: 760px)");
const COLUMNS = [
  ["accuracy", "accuracy", (value) => fixed(value)],
  ["likelihood", "likelihood", (value) => rate(value)],
  ["bonus", "bonus", (value) => (value == null ? "–" : signed(value))],
  ["reward", "reward", (value) => fixed(value)],
  ["advantage", "advantage", (value) => signed(value)],
  ["length", "tokens", (value) => count(value)],
];

export class Finder {
  constructor(store) {
    this.store = store;
    this.search = el("input", {
      type: "search", class: "finder-search", placeholder: "Search in responses, questions, ids", "aria-label": "Search text",
      "data-search": true, oninput: later(() => this.#searched(), 60),
      onblur: () => this.#searched(), // a list drawn later would take the focus from what was gone to
    });
    this.chips = el("div", { class: "chips", role: "group", "aria-label": "Filters" });
    this.choices = Object.fromEntries(["run", "split", "dataset", "type"].map((name) => [name, this.#select(name)]));
    this.sort = this.#select("sort");
    this.way = el("button", { type: "button", class: "step-button", onclick: () => this.#set({ rising: this.params.rising ? null : "1" }) });
    this.count = el("p", { class: "found", role: "status" });
    this.clear = el("button", { type: "button", class: "link", onclick: () => go(linkTo("finder")) }, "clear all");
    this.heads = el("div", { class: "finder-heads", "aria-hidden": "true" });
    this.list = new VirtualList({ rowHeight: () => (WIDE.matches ? 62 : 122), render: (entry) => this.#row(entry), label: "Responses", className: "finder-list", head: this.heads });
    this.nothing = el("p", { class: "empty" });
    this.node = el("div", { class: "view finder" }, el("h1", { class: "sr-only" }, "Finder"),
      el("div", { class: "finder-tools" }, this.search, this.chips,
        el("div", { class: "finder-choices" }, Object.values(this.choices), el("label", { class: "sort" }, "sort by", this.sort), this.way)),
      el("div", { class: "finder-count" }, this.count, this.clear), this.list.node, this.nothing);
    store.addEventListener("change", () => {
      this.#offer();
      if (this.params && place().view === "finder") this.#find(true);
    });
    this.#offer();
  }

  show(params) {
    const same = this.params && linkTo("", params) === linkTo("", this.params);
    this.params = params;
    if (document.activeElement !== this.search) this.search.value = params.text ?? "";
    for (const [name, select] of Object.entries({ ...this.choices, sort: this.sort })) select.value = params[name] ?? select.options[0]?.value ?? "";
    this.#find(same);
  }

  /** j and k move the focus over the results. */
  move(by) {
    const at = this.list.focused();
    const first = Math.floor(this.list.node.scrollTop / this.list.height);
    this.list.focus(Math.max(0, Math.min(this.list.items.length - 1, at < 0 ? first : at + by)));
  }

  #searched() {
    if (place().view === "finder") this.#set({ text: this.search.value.trim() || null }, true);
  }

  #select(name) {
    return el("select", { "aria-label": name, onchange: (event) => this.#set({ [name]: event.target.value || null }) });
  }

  #set(changes, replace = false) {
    go(linkTo("finder", { ...this.params, ...changes }), replace);
  }

  /** What can be chosen, from the data that are there. */
  #offer() {
    const { groups, measures, responses, runs } = this.store;
    const offer = (select, all, values) => {
      select.replaceChildren(el("option", { value: "" }, all), ...values.map((value) => el("option", { value }, snippet(value, 60))));
      select.hidden = values.length < 2;
    };
    const each = (of) => [...new Set(groups.map(of))].sort();
    offer(this.choices.run, "all runs", runs.map((run) => run.name));
    offer(this.choices.split, "all splits", each((group) => group.split));
    offer(this.choices.dataset, "all data sets", each((group) => group.question.data_source));
    offer(this.choices.type, "all types", each((group) => group.question.problem_type));
    this.numbers = numbersOf(measures);
    this.sort.replaceChildren(el("option", { value: "" }, "order recorded"), ...Object.entries(this.numbers).map(([key, [label]]) => el("option", { value: key }, snippet(label, 60))));
    // no such measure is not the same as none found
    this.totals = new Map(FILTERS.map(({ id, test, needs }) => [id, needs && !measures.some(needs) ? null : responses.filter(test).length]));
  }

  #find(keepPlace) {
    const { params, store } = this;
    const chosen = new Set((params.f ?? "").split(",").filter(Boolean));
    const tests = FILTERS.filter(({ id }) => chosen.has(id)).map(({ test }) => test);
    this.words = (params.text ?? "").toLowerCase();
    const found = filtered(store.responses, { ...params, tests, words: this.words });
    const [, number] = this.numbers[params.sort] ?? [];
    const [top, focused] = [this.list.node.scrollTop, this.list.focused()];
    this.list.show(number ? sorted(found, number, Boolean(params.rising)) : found);
    this.list.node.scrollTop = keepPlace ? top : 0;
    if (keepPlace && focused >= 0) this.list.focus(focused);
    this.count.replaceChildren(el("b", {}, count(found.length)), ` of ${plural(store.responses.length, "response")}`);
    this.clear.hidden = !Object.keys(params).length;
    this.way.hidden = !number;
    this.way.textContent = params.rising ? "↑" : "↓";
    this.way.setAttribute("aria-label", params.rising ? "Lowest first" : "Highest first");
    this.way.title = params.rising ? "Lowest first" : "Highest first";
    this.nothing.hidden = found.length > 0;
    this.nothing.textContent = store.responses.length ? "No response is like this. Take a filter away, or another word." : "No responses were recorded.";
    this.#chips(chosen);
    this.#heads();
  }

  #chips(chosen) {
    renew(this.chips, FILTERS.map(({ id, label, why }) => {
      const title = this.totals.get(id) == null ? `${why}. No such measure was recorded.` : why;
      const flip = () => {
        if (!chosen.delete(id)) chosen.add(id);
        this.#set({ f: [...chosen].join(",") || null });
      };
      return el("button", { type: "button", class: "chip", "aria-pressed": String(chosen.has(id)), title, "data-id": id, onclick: flip },
        label, el("span", { class: "chip-count" }, count(this.totals.get(id))));
    }));
  }

  #heads() {
    const { sort, rising } = this.params;
    this.heads.replaceChildren(el("span", {}, "Response"), ...COLUMNS.map(([key, label]) => {
      const flip = () => this.#set({ sort: key, rising: sort === key && !rising ? "1" : null });
      return el("button", { type: "button", tabindex: -1, class: sort === key ? "is-sorted" : null, onclick: flip }, label, sort === key && (rising ? " ↑" : " ↓"));
    }));
  }

  #row(entry) {
    const { group, response, number } = entry;
    const cells = COLUMNS.map(([key, label, show]) => el("span", { class: `cell is-${key}`, "data-label": label }, show(this.numbers[key][1](entry))));
    const other = this.params.sort && !COLUMNS.some(([key]) => key === this.params.sort) && this.numbers[this.params.sort];
    const also = other && el("span", { class: "flag" }, `${snippet(other[0], 40)} ${short(other[1](entry))}`);
    const graded = response.accuracy == null ? "is-unknown" : response.accuracy >= 0.5 ? "is-right" : "is-wrong";
    return el("a", { class: "found-row", href: groupLink(group, number + 1) },
      el("span", { class: "found-text" },
        el("span", { class: "found-meta" }, el("i", { class: `dot ${graded}${response.bonus > 0 ? " has-bonus" : ""}` }),
          el("i", { class: "swatch", vars: { run: group.run.color } }), el("b", {}, `step ${short(group.step)} #${number + 1}`),
          group.split === "validation" && el("span", { class: "flag" }, "validation"), also,
          said(snippet(questionText(group.question), 90), "muted")),
        el("span", { class: "found-words" }, answerOf(entry), saidWith(this.#glimpse(entry), this.words))),
      ...cells);
  }

  /** Of the response: around the word that is searched, else the end of the reasoning. */
  #glimpse({ response }) {
    const at = this.words ? response.text.toLowerCase().indexOf(this.words) : -1;
    if (at >= 0) return snippet(response.text, 120, at - 30);
    const ending = response.text.slice(0, answerSpan(response)?.start ?? response.text.length).slice(-400);
    const reasoning = ending.replace(/(?:<\/?(?:think|answer)>|[ \t\r\n])+$/, "").replace(/^\s*<think>/, "");
    return snippet(reasoning, 85, reasoning.length - 85);
  }
}

function answerOf({ response }) {
  const answer = answered(response);
  return answer == null ? null : el("b", { class: "found-answer" }, said(snippet(answer, 20)));
}
