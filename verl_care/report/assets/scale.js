// The likelihood of one response on a line from 0 to 1, with the group's threshold and the cap drawn across.
import { rate } from "./numbers.js";
import { svg } from "./dom.js";

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
