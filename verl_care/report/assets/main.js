// Put the page together: read the data, make the views, follow the address.
import { byId, el, renew, said } from "./dom.js";
import { Finder } from "./finder.js";
import { Groups } from "./groups.js";
import { help, listen } from "./keyboard.js";
import { follow } from "./live.js";
import { Overview } from "./overview.js";
import { linkTo, place, VIEWS } from "./router.js";
import { Store } from "./store.js";

const MAKE = { overview: Overview, groups: Groups, finder: Finder };
const LABELS = { overview: "Overview", groups: "Groups", finder: "Finder" };
const THEMES = ["auto", "light", "dark"];

function start() {
  const block = byId("payload");
  const store = new Store(JSON.parse(block.textContent), block.dataset.version);
  block.remove(); // megabytes that nobody needs twice
  const views = {};
  const places = {}; // view -> where the page was scrolled to
  const dialog = help();
  document.body.append(dialog);
  byId("starting").remove();
  byId("title").append(said(store.payload.title));
  byId("tools").append(
    ...(store.payload.live ? [follow(store)] : []), themeButton(),
    el("button", { type: "button", class: "tool", "aria-label": "Keys and signs (?)", title: "Keys and signs (?)", onclick: () => dialog.showModal() }, "?"));
  byId("skip").addEventListener("click", (event) => {
    event.preventDefault(); // the address is the reader's place
    byId("main").focus();
  });

  let current = null;
  const arrive = () => {
    const { view, params } = place();
    if (current) places[current] = scrollY;
    const isNew = !(view in views);
    if (isNew) {
      views[view] = new MAKE[view](store);
      byId("main").append(views[view].node);
    }
    for (const [name, { node }] of Object.entries(views)) node.hidden = name !== view;
    renew(byId("nav"), VIEWS.map((name) =>
      el("a", { href: linkTo(name, name === view ? params : views[name]?.params), "aria-current": name === view ? "page" : null }, LABELS[name])));
    views[view].show(params);
    if (view !== current) scrollTo(0, places[view] ?? 0);
    current = view;
  };
  addEventListener("hashchange", arrive);
  listen(views, dialog);
  arrive();
}

function themeButton() {
  const node = el("button", { type: "button", class: "tool theme" });
  const set = (theme) => {
    node.textContent = { auto: "◐", light: "☀", dark: "☾" }[theme];
    node.title = `Colours: ${theme}`;
    node.setAttribute("aria-label", node.title);
    if (theme === "auto") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = theme;
  };
  let theme = remembered();
  node.addEventListener("click", () => {
    theme = THEMES[(THEMES.indexOf(theme) + 1) % THEMES.length];
    set(theme);
    remember(theme);
  });
  set(theme);
  return node;
}

// A browser may forbid storage, to files above all: then the choice lasts as long as the page.
function remembered() {
  try {
    const theme = localStorage.getItem("verl_care-theme");
    return THEMES.includes(theme) ? theme : "auto";
  } catch {
    return "auto";
  }
}

function remember(theme) {
  try {
    localStorage.setItem("verl_care-theme", theme);
  } catch {
    // see above
  }
}

start();
