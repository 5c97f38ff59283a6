// A list of any length that holds only the rows in sight: all rows are equally high.
import { el } from "./dom.js";

const AROUND = 6; // rows beyond the edges

export class VirtualList {
  /** @param rowHeight () => pixels, `render` (item, index) => element, `head` stays above the rows */
  constructor({ rowHeight, render, label, className, head = null }) {
    Object.assign(this, { rowHeight, render, head, items: [], rows: new Map() });
    this.inside = el("div", { class: "virtual-inside", role: "list", "aria-label": label });
    this.node = el("div", { class: `virtual ${className}`, onscroll: () => this.#soon() }, head, this.inside);
    new ResizeObserver(() => this.#layout()).observe(this.node);
  }

  show(items) {
    this.items = items;
    this.rows.forEach((row) => row.remove());
    this.rows.clear();
    this.#layout();
  }

  /** Bring an item into sight, if it is not. */
  reveal(index) {
    if (index < 0) return;
    const [top, height] = [index * this.height, this.node.clientHeight - (this.head?.offsetHeight ?? 0)];
    if (top < this.node.scrollTop) this.node.scrollTop = top;
    else if (top + this.height > this.node.scrollTop + height) this.node.scrollTop = top + this.height - height;
    this.#draw();
  }

  focus(index) {
    this.reveal(index);
    this.rows.get(index)?.querySelector("a, button")?.focus({ preventScroll: true });
  }

  /** Index of the row that holds the focus; -1. */
  focused() {
    return [...this.rows].find(([, row]) => row.contains(document.activeElement))?.[0] ?? -1;
  }

  #layout() {
    const height = this.rowHeight();
    if (height !== this.height) {
      this.rows.forEach((row) => row.remove());
      this.rows.clear();
    }
    this.height = height;
    this.inside.style.height = `${this.items.length * height}px`;
    this.#draw();
  }

  #soon() {
    this.waiting ??= requestAnimationFrame(() => {
      this.waiting = null;
      this.#draw();
    });
  }

  #draw() {
    if (!this.node.clientHeight) return;
    const first = Math.max(0, Math.floor(this.node.scrollTop / this.height) - AROUND);
    const stop = Math.min(this.items.length, Math.ceil((this.node.scrollTop + this.node.clientHeight) / this.height) + AROUND);
    for (const [index, row] of this.rows) {
      if (index < first || index >= stop) {
        row.remove();
        this.rows.delete(index);
      }
    }
    for (let index = first; index < stop; index++) {
      if (!this.rows.has(index)) this.rows.set(index, this.#place(index));
    }
  }

  #place(index) {
    const row = el("div", { class: "virtual-row", role: "listitem", "aria-setsize": this.items.length, "aria-posinset": index + 1 },
      this.render(this.items[index], index));
    row.style.top = `${index * this.height}px`;
    row.style.height = `${this.height}px`;
    const after = [...this.rows].filter(([other]) => other > index).sort(([a], [b]) => a - b)[0];
    this.inside.insertBefore(row, after?.[1] ?? null); // the order of the page is that of the tab key
    return row;
  }
}
