// A line chart: several runs, their running means, lines of reference, and a read-out that follows the pointer.
import { el, svg } from "./dom.js";
import { short, smooth, tickText, ticks } from "./numbers.js";

const HEIGHT = 168;
const EDGE = { left: 46, right: 10, top: 10, bottom: 22 };
const NEAR = 11; // labels of reference lines closer than this would overlap

/** All charts of a page point at the same step. */
const pointed = new EventTarget();

export class Chart {
  /** @param title text, `name` the metric as it is logged */
  constructor({ title, name }) {
    this.title = title;
    this.plot = svg("svg", { class: "plot", height: HEIGHT, "aria-hidden": "true" });
    this.readout = el("div", { class: "readout", hidden: true });
    this.last = el("span", { class: "chart-last" });
    this.frame = el("div", {
      class: "plot-frame", tabindex: 0, role: "img",
      onpointermove: (event) => this.#tell(this.#stepAt(event.clientX)),
      onpointerleave: () => this.#tell(null),
      onblur: () => this.#tell(null),
      onkeydown: (event) => this.#key(event),
    }, this.plot, this.readout);
    const known = name && name !== title ? el("code", { class: "chart-name" }, name) : null;
    this.node = el("figure", { class: "chart" }, el("figcaption", {}, el("span", {}, title), known, this.last), this.frame);
    this.series = [];
    new ResizeObserver(() => this.draw()).observe(this.frame);
    new IntersectionObserver(([entry]) => {
      this.inView = entry.isIntersecting;
      if (this.inView) this.draw();
    }, { rootMargin: "300px" }).observe(this.frame);
    pointed.addEventListener("step", ({ detail }) => this.#point(detail.step, detail.chart === this));
  }

  /** @param series [{name, color, dash, steps, values}], `references` [{label, value}], `weight` of the running mean */
  show(series, references, weight) {
    this.series = series.map((one) => ({ ...one, smooth: weight > 0 ? smooth(one.values, weight) : one.values }));
    this.references = references;
    this.smoothed = weight > 0;
    this.stale = true;
    this.steps = [...new Set(series.flatMap((one) => one.steps))].sort((a, b) => a - b);
    const ends = this.series.map((one) => ({ ...one, end: one.smooth.findLast((value) => value != null) }));
    this.last.replaceChildren(
      ...ends.slice(0, 3).map((one) => el("span", { vars: { run: one.color } }, short(one.end))),
    );
    const told = ends.map((one) => `${one.name} ends at ${short(one.end)}`).join(", ");
    this.frame.setAttribute("aria-label", `${this.title}: ${told}. Arrow keys read single steps.`);
    this.draw();
  }

  draw() {
    const width = this.frame.clientWidth;
    if (!this.inView || !width || (!this.stale && width === this.width)) return;
    [this.width, this.stale] = [width, false];
    const { low, high, marks } = this.#range();
    const [first, last] = [this.steps[0] ?? 0, this.steps.at(-1) ?? 1];
    this.x = (step) => EDGE.left + ((step - first) / (last - first || 1)) * (width - EDGE.left - EDGE.right);
    this.y = (value) => HEIGHT - EDGE.bottom - ((value - low) / (high - low)) * (HEIGHT - EDGE.top - EDGE.bottom);
    this.cursor = svg("line", { class: "cursor", y1: EDGE.top, y2: HEIGHT - EDGE.bottom, visibility: "hidden" });
    this.dots = svg("g", {});
    this.plot.setAttribute("width", width);
    this.plot.replaceChildren(
      ...this.#grid(marks, first, last, width), ...this.#referenceLines(low, high, width),
      ...this.series.flatMap((one) => this.#lines(one)), this.cursor, this.dots,
    );
  }

  #range() {
    const values = this.series.flatMap((one) => one.values).filter((value) => value != null);
    values.push(...this.references.map((reference) => reference.value));
    let [low, high] = values.reduce(([a, b], v) => [Math.min(a, v), Math.max(b, v)], [Infinity, -Infinity]);
    if (!values.length) [low, high] = [0, 1];
    const pad = high > low ? (high - low) * 0.06 : Math.abs(high) * 0.02 || 0.5;
    [low, high] = [low >= 0 && low < pad * 3 ? 0 : low - pad, high + pad];
    return { low, high, marks: ticks(low, high, 4) };
  }

  #grid(marks, first, last, width) {
    const step = marks[1] - marks[0];
    const rows = marks.flatMap((mark) => [
      svg("line", { class: "grid", x1: EDGE.left, x2: width - EDGE.right, y1: this.y(mark), y2: this.y(mark) }),
      svg("text", { class: "tick", x: EDGE.left - 7, y: this.y(mark) + 4, "text-anchor": "end" }, tickText(mark, step)),
    ]);
    const steps = last > first ? ticks(first, last, Math.max(2, Math.floor(width / 90))).filter(Number.isInteger) : [first];
    const columns = steps.map((mark) =>
      svg("text", { class: "tick", x: this.x(mark), y: HEIGHT - 5, "text-anchor": mark === last ? "end" : "middle" }, short(mark)),
    );
    return [...rows, ...columns];
  }

  #referenceLines(low, high, width) {
    let above = -Infinity;
    const inside = this.references.filter(({ value }) => value >= low && value <= high);
    return inside.sort((a, b) => b.value - a.value).flatMap(({ label, value }) => {
      const y = this.y(value);
      const line = svg("line", { class: "reference", x1: EDGE.left, x2: width - EDGE.right, y1: y, y2: y });
      if (y - above < NEAR) return [line];
      above = y;
      return [line, svg("text", { class: "reference-label", x: EDGE.left + 4, y: y - 3 }, label)];
    });
  }

  #lines(one) {
    const path = (values, className) =>
      svg("path", { d: this.#path(one.steps, values), class: className, vars: { run: one.color }, "stroke-dasharray": one.dash });
    const few = one.steps.length <= 12;
    const points = few ? one.steps.map((step, i) => [step, one.values[i]]).filter(([, value]) => value != null) : [];
    return [
      this.smoothed && path(one.values, "line raw"),
      path(one.smooth, "line"),
      ...points.map(([step, value]) => svg("circle", { class: "point", cx: this.x(step), cy: this.y(value), r: 3, vars: { run: one.color } })),
    ].filter(Boolean);
  }

  /** Many points on one pixel column become their lowest and highest. */
  #path(steps, values) {
    const columns = [];
    steps.forEach((step, i) => {
      const at = Math.round(this.x(step));
      if (values[i] == null) columns.push(null);
      else if (columns.at(-1)?.at === at) columns.at(-1).values.push(values[i]);
      else columns.push({ at, values: [values[i]] });
    });
    let pen = "M";
    return columns.map((column) => {
      if (!column) return (pen = "M"), "";
      const { at, values: all } = column;
      const shown = all.length < 3 ? all : [all[0], Math.min(...all), Math.max(...all), all.at(-1)];
      const drawn = shown.map((value, i) => `${i ? "L" : pen}${at} ${this.y(value).toFixed(1)}`).join("");
      pen = "L";
      return drawn;
    }).join("");
  }

  // ------------------------------------------------------------------ the read-out

  #tell(step) {
    pointed.dispatchEvent(Object.assign(new Event("step"), { detail: { step, chart: this } }));
  }

  #stepAt(clientX) {
    if (!this.x || !this.steps.length) return null;
    const at = clientX - this.frame.getBoundingClientRect().left;
    return this.steps.reduce((best, step) => (Math.abs(this.x(step) - at) < Math.abs(this.x(best) - at) ? step : best));
  }

  #key(event) {
    const move = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!move || !this.steps.length) return;
    event.preventDefault();
    event.stopPropagation();
    const from = this.steps.indexOf(this.step);
    const to = from < 0 ? this.steps.length - 1 : Math.max(0, Math.min(this.steps.length - 1, from + move));
    this.#tell(this.steps[to]);
  }

  #point(step, own) {
    this.step = step;
    if (!this.inView || !this.x) return;
    const there = step != null && step >= this.steps[0] && step <= this.steps.at(-1);
    const at = there ? this.x(step) : 0;
    this.cursor.setAttribute("visibility", there ? "visible" : "hidden");
    this.cursor.setAttribute("x1", at);
    this.cursor.setAttribute("x2", at);
    const found = there ? this.series.map((one) => ({ ...one, i: one.steps.indexOf(step) })).filter(({ i }) => i >= 0) : [];
    this.dots.replaceChildren(...found.filter((one) => one.smooth[one.i] != null).map((one) =>
      svg("circle", { class: "cursor-dot", cx: at, cy: this.y(one.smooth[one.i]), r: 3.5, vars: { run: one.color } }),
    ));
    this.readout.hidden = !own || !found.length;
    if (this.readout.hidden) return;
    this.readout.replaceChildren(el("div", { class: "readout-step" }, `step ${step}`), ...found.map((one) => this.#reading(one)));
    this.readout.classList.toggle("is-left", at > this.width / 2);
  }

  #reading(one) {
    const raw = this.smoothed ? el("span", { class: "muted" }, ` raw ${short(one.values[one.i])}`) : null;
    return el("div", { class: "reading" },
      el("i", { class: "swatch", vars: { run: one.color } }), el("bdi", {}, one.name), el("b", {}, short(one.smooth[one.i]), raw));
  }
}
