// Where the reader is, kept in the address: every group, response and search has a link, and Back works.

export const VIEWS = ["overview", "groups", "finder"];

/** `#/groups?run=a&step=3` -> {view: "groups", params: {run: "a", step: "3"}} */
export function place() {
  const [path, query] = location.hash.slice(1).split("?", 2);
  const view = VIEWS.includes(path.slice(1)) ? path.slice(1) : VIEWS[0];
  return { view, params: Object.fromEntries(new URLSearchParams(query ?? "")) };
}

export function linkTo(view, params = {}) {
  const known = Object.entries(params).filter(([, value]) => value != null && value !== "" && value !== false);
  const query = new URLSearchParams(known).toString();
  return `#/${view}${query ? `?${query}` : ""}`;
}

/** The link of a group, or of one of its responses (numbered from 1). */
export function groupLink(group, number = null) {
  return linkTo("groups", {
    run: group.run.name,
    step: group.step,
    q: group.question.key,
    split: group.split === "train" ? null : group.split,
    n: group.ordinal,
    response: number,
  });
}

/** Go there, at once: who calls this finds the view drawn. With `replace` the former place is not kept for Back. */
export function go(link, replace = false) {
  if (link === location.hash) return;
  history[replace ? "replaceState" : "pushState"](null, "", link);
  dispatchEvent(new HashChangeEvent("hashchange"));
}
