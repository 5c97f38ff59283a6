// Keys: between groups and results, to the search, to the help.
import { el } from "./dom.js";
import { go, linkTo, place, VIEWS } from "./router.js";

const KEYS = [
  ["1 2 3", "overview, groups, finder"],
  ["j k  or  → ←", "next and previous group; in the finder, result"],
  ["/", "search"],
  ["Enter", "open the result in focus"],
  ["← →  on a chart", "read single steps"],
  ["Esc", "leave a field"],
  ["?", "this help"],
];

export function help() {
  const close = () => node.close();
  const node = el("dialog", { class: "help", "aria-label": "Keys", onclick: (event) => event.target === node && close() },
    el("h2", {}, "Keys"),
    el("dl", {}, KEYS.map(([key, what]) => [el("dt", {}, el("kbd", {}, key)), el("dd", {}, what)])),
    el("h2", {}, "Signs"),
    el("ul", { class: "signs" },
      el("li", {}, el("i", { class: "dot is-right has-bonus" }), "right, got the bonus"),
      el("li", {}, el("i", { class: "dot is-right" }), "right, no bonus"),
      el("li", {}, el("i", { class: "dot is-wrong" }), "wrong"),
      el("li", {}, el("i", { class: "dot is-unknown" }), "not graded")),
    el("button", { type: "button", class: "primary", onclick: close, autofocus: true }, "Close"));
  return node;
}

/** @param views {groups, finder}, `dialog` from `help` */
export function listen(views, dialog) {
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || dialog.open || event.defaultPrevented) return;
    const typing = event.target.matches("input, select, textarea");
    if (typing) {
      if (event.key === "Escape") event.target.blur();
      return;
    }
    const run = actionOf(event.key, views, dialog);
    if (!run) return;
    event.preventDefault();
    run();
  });
}

function actionOf(key, views, dialog) {
  const { view } = place();
  const by = { j: 1, ArrowRight: 1, k: -1, ArrowLeft: -1, ...(view === "finder" ? { ArrowDown: 1, ArrowUp: -1 } : {}) }[key];
  if (by && view in views) return () => views[view].move(by);
  if (key === "?") return () => dialog.showModal();
  if (key === "/") return search;
  if (["1", "2", "3"].includes(key)) return () => go(linkTo(VIEWS[Number(key) - 1]));
  return null;
}

function search() {
  const inView = () => [...document.querySelectorAll("[data-search]")].find((field) => field.offsetParent !== null);
  if (!inView()) go(linkTo("finder"));
  inView()?.focus();
}
