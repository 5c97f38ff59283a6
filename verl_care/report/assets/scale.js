// Likelihoods on a line from 0 to 1, with the group's threshold and the cap: of one response, and of a whole group.
import { rate } from "./numbers.js";
import { svg } from "./dom.js";
import { groupLink } from "./router.js";

const [WIDTH, HEIGHT, MIDDLE] = [100, 22, 11];

export function likelihoodScale(response, group) {
  const { confidence_upper_bound: cap, consistency_margin: margin } = group.run.settings;
  const { likelihood } = response;
  const { threshold } = group;
  const x = (p) => `${(p * WIDTH).toFixed(2)}%`;
  const across = (p, className) => svg("line", { x1: x(p), x2: x(p), y1: 1, y2: HEIGHT - 1, class: className });
  return svg(
    "svg",
    { class: "scale", role: "img", height: HEIGHT, "aria-label": labelOf(likelihood, threshold) },
    svg("line", { x1: 0, x2: "100%", y1: MIDDLE, y2: MIDDLE, class: "scale-rail" }),
    cap < 1 && svg("rect", { x: x(cap), y: MIDDLE - 3, width: x(1 - cap), height: 6, class: "scale-capped" }),
    likelihood != null && svg("line", { x1: 0, x2: x(likelihood), y1: MIDDLE, y2: MIDDLE, class: "scale-value" }),
    threshold != null && margin > 0 && across(Math.max(0, threshold - margin), "scale-margin"),
    threshold != null && across(threshold, "scale-threshold"),
    likelihood != null &&
      svg("circle", { cx: x(likelihood), cy: MIDDLE, r: 4.5, class: `scale-dot${response.selected ? " is-selected" : ""}` }),
  );
}

function labelOf(likelihood, threshold) {
  const of = likelihood == null ? "no likelihood" : `likelihood ${rate(likelihood)}`;
  return threshold == null ? of : `${of}, threshold ${rate(threshold)}`;
}

const [LANE, RADIUS, CLOSE] = [19, 9, 0.028];

/** All responses of a group as numbered discs on one line; those that stand close are put above each other. */
export function groupScale(group) {
  const placed = lanes(group.responses);
  if (!placed.length) return null;
  const { confidence_upper_bound: cap, consistency_margin: margin } = group.run.settings;
  const { threshold } = group;
  const rail = Math.max(1, ...placed.map(({ lane }) => lane + 1)) * LANE + 20;
  const x = (p) => `${p * WIDTH}%`;
  const discs = placed.map(({ response, number, lane }) =>
    svg("svg", { x: x(response.likelihood), y: rail - 14 - lane * LANE, class: "disc-place" },
      svg("a", { href: groupLink(group, number + 1), class: discClass(response), "aria-label": `response ${number + 1}: ${labelOf(response.likelihood, threshold)}` },
        svg("circle", { r: RADIUS }), svg("text", { y: 4, "text-anchor": "middle" }, String(number + 1)))));
  const right = threshold != null && threshold > 0.5;
  return svg("svg", { class: "group-scale", height: rail + 22, role: "group", "aria-label": "Likelihoods of the group" },
    svg("line", { x1: 0, x2: "100%", y1: rail, y2: rail, class: "scale-rail" }),
    cap < 1 && svg("rect", { x: x(cap), y: rail - 3, width: x(1 - cap), height: 6, class: "scale-capped" }),
    [0, 0.25, 0.5, 0.75, 1].map((p) => svg("text", { x: x(p), y: rail + 17, class: "tick", "text-anchor": p === 0 ? "start" : p === 1 ? "end" : "middle" }, p)),
    threshold != null && margin > 0 &&
      svg("line", { x1: x(threshold - margin), x2: x(threshold - margin), y1: 18, y2: rail + 6, class: "scale-margin" }),
    threshold != null && [
      svg("line", { x1: x(threshold), x2: x(threshold), y1: 4, y2: rail + 6, class: "scale-threshold" }),
      svg("text", { x: x(threshold), y: 12, dx: right ? -7 : 7, "text-anchor": right ? "end" : "start", class: "threshold-label" }, `threshold ${rate(threshold)}`),
    ],
    discs);
}

function discClass({ bonus, selected }) {
  return `disc ${bonus > 0 ? "has-bonus" : selected ? "is-selected" : "is-out"}`;
}

function lanes(responses) {
  const order = responses.map((response, number) => ({ response, number })).filter(({ response }) => response.likelihood != null);
  order.sort((a, b) => a.response.likelihood - b.response.likelihood);
  const last = []; // lane -> the last likelihood in it
  for (const one of order) {
    const free = last.findIndex((p) => one.response.likelihood - p >= CLOSE);
    one.lane = free < 0 ? last.length : free;
    last[one.lane] = one.response.likelihood;
  }
  return order;
}
