// One question through training: every time it was asked, as a column of its responses, and a slider over them.
import { el, said } from "./dom.js";
import { dotClass } from "./media.js";
import { plural, short } from "./numbers.js";
import { go, groupLink } from "./router.js";

export class Trail {
  constructor(store) {
    this.store = store;
    this.node = el("section", { class: "trail", "aria-label": "This question through training" });
    this.history = [];
  }

  /** The slider stays the same element while it is dragged over the groups of one question. */
  show(group) {
    const history = this.store.history(group);
    const same = history.length === this.history.length && history.every((other, i) => other === this.history[i]);
    if (!same || !this.own?.includes(group)) this.#build(history, group);
    if (history.length < 2) return;
    const at = this.own.indexOf(group);
    this.slider.value = at;
    this.slider.setAttribute("aria-valuetext", `step ${group.step}, ${at + 1} of ${this.own.length}`);
    this.step.textContent = short(group.step);
    for (const [other, node] of this.columns) {
      if (other === group) node.setAttribute("aria-current", "true");
      else node.removeAttribute("aria-current");
    }
    reveal(this.columns.get(group));
  }

  #build(history, group) {
    this.history = history;
    this.own = history.filter((other) => other.run === group.run);
    this.node.hidden = history.length < 2;
    if (history.length < 2) return;
    this.step = el("output", { for: "trail-slider" });
    this.slider = el("input", {
      type: "range", id: "trail-slider", min: 0, max: this.own.length - 1, step: 1, disabled: this.own.length < 2,
      oninput: (event) => go(groupLink(this.own[Number(event.target.value)]), true),
    });
    this.columns = new Map(history.map((other) => [other, column(other)]));
    const runs = this.store.runs.filter((run) => history.some((other) => other.run === run));
    const steps = new Set(history.map((other) => other.step)).size;
    this.node.replaceChildren(
      el("div", { class: "trail-head" }, el("h3", {}, "This question through training"),
        el("span", { class: "muted" }, `recorded ${history.length} times, at ${plural(steps, "step")}`),
        el("label", { class: "slider" }, "Step", this.slider, this.step)),
      ...runs.map((run) => el("div", { class: "trail-run" },
        runs.length > 1 && el("span", { class: "trail-name" }, el("i", { class: "swatch", vars: { run: run.color } }), said(run.name)),
        el("div", { class: "trail-steps" }, history.filter((other) => other.run === run).map((other) => this.columns.get(other))))));
  }
}

/** Scroll the strip, and not the page, to a column. */
function reveal(node) {
  const strip = node.parentElement;
  const [left, right] = [node.offsetLeft - strip.offsetLeft, node.offsetLeft - strip.offsetLeft + node.offsetWidth];
  if (left < strip.scrollLeft || right > strip.scrollLeft + strip.clientWidth) strip.scrollLeft = left - strip.clientWidth / 2;
}

function column(group) {
  const order = [...group.responses].sort((a, b) => (b.bonus ?? 0) - (a.bonus ?? 0) || (b.accuracy ?? 0) - (a.accuracy ?? 0));
  const right = group.responses.filter((response) => response.accuracy >= 0.5).length;
  const told = `step ${group.step}${group.split === "validation" ? ", validation" : ""}: ${right} of ${group.responses.length} right`;
  return el("a", { class: "trail-step", href: groupLink(group), "aria-label": told, title: told },
    el("span", { class: "dots" }, order.slice(0, 16).map((response) => el("i", { class: dotClass(response) }))),
    el("span", { class: "trail-number" }, short(group.step)));
}
