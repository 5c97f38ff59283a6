// Second view: one group at a time, what it saw, what it said, and what each response was given.
import { announce, el, renew, said } from "./dom.js";
import { dotClass, mediaOf, questionOf } from "./media.js";
import { count, plural, short } from "./numbers.js";
import { go, groupLink } from "./router.js";
import { responseRow } from "./response.js";
import { groupScale } from "./scale.js";
import { questionText, snippet } from "./text.js";
import { Trail } from "./trail.js";
import { VirtualList } from "./virtual.js";
import { whyThreshold } from "./why.js";

const ROW = 58;
const ORDERS = {
  reward: ["reward", (a, b) => (b.reward ?? b.accuracy ?? 0) - (a.reward ?? a.accuracy ?? 0) || (b.likelihood ?? -1) - (a.likelihood ?? -1)],
  likelihood: ["likelihood", (a, b) => (b.likelihood ?? -1) - (a.likelihood ?? -1)],
  sampled: ["order of sampling", () => 0],
  length: ["length", (a, b) => (b.length ?? b.text.length) - (a.length ?? a.text.length)],
};

/** A group to begin with: of its selected, some got the bonus and some did not. */
function telling({ responses }) {
  const selected = responses.filter((response) => response.selected);
  return selected.some((response) => response.bonus > 0) && selected.some((response) => response.bonus === 0);
}

export class Groups {
  constructor(store) {
    this.store = store;
    this.run = el("select", { "aria-label": "Run", onchange: () => this.#filter() });
    this.split = el("select", { "aria-label": "Split", onchange: () => this.#filter() },
      [["", "all splits"], ["train", "training"], ["validation", "validation"]].map(([value, label]) => el("option", { value }, label)));
    this.order = el("select", { "aria-label": "Order of the responses", onchange: () => this.#responses() },
      Object.entries(ORDERS).map(([value, [label]]) => el("option", { value }, `by ${label}`)));
    this.count = el("span", { class: "muted" });
    this.list = new VirtualList({ rowHeight: () => ROW, render: (group) => this.#item(group), label: "Groups", className: "group-list" });
    this.trail = new Trail(store);
    this.head = el("header", { class: "group-head" });
    this.seen = el("div", {});
    this.rows = el("ol", { class: "responses" });
    this.rule = el("div", { class: "rule" });
    this.detail = el("article", { class: "group" }, this.head, this.seen, this.trail.node,
      el("div", { class: "block-head" }, el("h2", {}, "Responses"), this.order), this.rule, this.rows);
    this.empty = el("p", { class: "empty" }, "No groups were recorded. A training run writes them as it goes: groups.jsonl.zst in its folder.");
    this.side = el("details", { class: "side", open: matchMedia("(min-width: 900px)").matches },
      el("summary", {}, "All groups ", this.count), el("div", { class: "side-tools" }, this.run, this.split), this.list.node);
    this.node = el("div", { class: "view groups" }, el("h1", { class: "sr-only" }, "Groups"), this.side, this.detail, this.empty);
    store.addEventListener("change", () => this.#changed());
    this.#choices();
    if (store.groups.some((group) => group.split === "train")) this.split.value = "train";
    this.#filter();
  }

  /** @param params as `router.groupLink` writes them */
  show(params) {
    const asked = params.run != null ? this.store.group(params) : null;
    this.missing = params.run != null && !asked;
    this.group = asked ?? this.group ?? this.listed.find(telling) ?? this.listed[0];
    this.node.classList.toggle("is-empty", !this.group);
    if (!this.group) return;
    if (!this.listed.includes(this.group)) {
      this.run.value = this.split.value = "";
      this.#filter();
    }
    this.#draw();
    if (params.response) this.#mark(Number(params.response));
  }

  /** The group `by` places further on in the list. */
  move(by) {
    const to = this.listed[this.listed.indexOf(this.group) + by];
    if (to) go(groupLink(to));
  }

  #choices() {
    const { runs, groups } = this.store;
    const names = [["", "all runs"], ...runs.map((run) => [String(run.index), run.name])];
    const kept = this.run.value;
    this.run.replaceChildren(...names.map(([value, label]) => el("option", { value }, snippet(label, 60))));
    this.run.value = kept;
    this.run.hidden = runs.length < 2;
    this.split.hidden = new Set(groups.map((group) => group.split)).size < 2;
    this.#filter();
  }

  #filter() {
    const [run, split] = [this.run.value, this.split.value];
    this.listed = this.store.groups
      .filter((group) => (run === "" || group.run.index === Number(run)) && (split === "" || group.split === split))
      .sort((a, b) => a.run.index - b.run.index || a.step - b.step || a.at - b.at);
    this.count.textContent = count(this.listed.length);
    this.list.show(this.listed);
  }

  #changed() {
    const { group } = this;
    const top = this.list.node.scrollTop;
    this.#choices();
    this.list.node.scrollTop = top;
    this.group = group ? this.store.byId.get(group.name) ?? this.listed[0] : this.listed[0];
    this.node.classList.toggle("is-empty", !this.group);
    const same = group && JSON.stringify(this.group?.responses) === JSON.stringify(group.responses);
    if (this.group && !same) this.#draw();
    else if (this.group) this.#around();
  }

  #item(group) {
    const { question } = group;
    return el("a", { class: "group-item", href: groupLink(group), "aria-current": group === this.group ? "true" : null },
      el("span", { class: "group-item-top" }, el("i", { class: "swatch", vars: { run: group.run.color } }),
        el("b", {}, `step ${short(group.step)}`), group.split === "validation" && el("span", { class: "flag" }, "validation"),
        el("span", { class: "dots" }, group.responses.slice(0, 12).map((response) => el("i", { class: dotClass(response) })))),
      el("span", { class: "group-item-text" }, el("bdi", {}, snippet(questionText(question), 80))));
  }

  #draw() {
    const { group } = this;
    this.seen.replaceChildren(questionOf(group), mediaOf(group.question, this.store.images));
    this.rule.replaceChildren(el("p", {}, whyThreshold(group)), groupScale(group) ?? "");
    this.#responses();
    this.#around();
    announce(`Step ${group.step}, group ${this.listed.indexOf(group) + 1} of ${this.listed.length}`);
  }

  /** What stands around the group: its place in the list and in the training. */
  #around() {
    const { group } = this;
    const at = this.listed.indexOf(group);
    const { question } = group;
    const button = (label, text, to) => el("button", { type: "button", class: "step-button", "aria-label": label, title: label, disabled: !to, onclick: () => go(groupLink(to)) }, text);
    const tags = Object.entries(question.tags ?? {}).map(([name, value]) => el("span", { class: "tag-chip" }, said(`${name}: ${value}`)));
    renew(this.head,
      el("div", { class: "group-title" }, el("h2", {}, `Step ${short(group.step)}`),
        el("span", { class: "run-name" }, el("i", { class: "swatch", vars: { run: group.run.color } }), said(group.run.name)),
        el("span", { class: "spacer" }), el("span", { class: "muted place" }, `${count(at + 1)} of ${count(this.listed.length)}`),
        button("Previous group (k)", "←", this.listed[at - 1]), button("Next group (j)", "→", this.listed[at + 1])),
      el("p", { class: "group-facts" }, group.split === "validation" ? "validation" : "training", " · ", said(question.data_source), " · ",
        said(question.id), " · ", said(question.problem_type), tags),
      this.missing ? el("p", { class: "warning" }, "The group of this link is not on this page; here is another.") : "");
    this.trail.show(group);
    this.list.rows.forEach((row, index) => {
      const link = row.querySelector("a");
      if (this.listed[index] === group) link.setAttribute("aria-current", "true");
      else link.removeAttribute("aria-current");
    });
    this.list.reveal(at);
  }

  #responses() {
    const { group } = this;
    const compare = ORDERS[this.order.value][1];
    const order = group.responses.map((_, i) => i).sort((a, b) => compare(group.responses[a], group.responses[b]) || a - b);
    this.rows.replaceChildren(...order.map((number) => responseRow(group, number)));
    this.rows.setAttribute("aria-label", plural(order.length, "response"));
  }

  #mark(number) {
    const row = this.rows.querySelector(`#response-${number}`);
    if (!row) return;
    row.classList.add("is-linked");
    requestAnimationFrame(() => {
      row.scrollIntoView({ block: "center" });
      row.focus({ preventScroll: true });
    });
  }
}
