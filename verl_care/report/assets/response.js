// One response of a group as a row: the verdict and its reason, the text, the likelihood, the numbers.
import { el, said } from "./dom.js";
import { count, fixed, rate, signed } from "./numbers.js";
import { passage, tokens } from "./passage.js";
import { groupLink } from "./router.js";
import { likelihoodScale } from "./scale.js";
import { why, whyAdvantage } from "./why.js";

const VERDICTS = { bonus: "bonus", none: "no bonus", out: "not compared" };

export function responseRow(group, number) {
  const response = group.responses[number];
  const { verdict, text } = why(response, group);
  const badge = response.bonus == null ? "graded" : verdict === "bonus" ? `bonus ${signed(response.bonus)}` : VERDICTS[verdict];
  return el("li", { class: "response", id: `response-${number + 1}`, tabindex: -1 },
    el("div", { class: "response-head" },
      el("a", { class: "response-number", href: groupLink(group, number + 1), title: "Link to this response" }, `#${number + 1}`),
      el("span", { class: `verdict is-${verdict}` }, badge),
      flags(response).map((flag) => el("span", { class: "flag" }, flag)),
      el("p", { class: "why" }, text)),
    el("div", { class: "response-body" }, passage(response), tokens(response), measuresOf(response)),
    el("div", { class: "response-side" }, el("div", { class: "scale-frame" },
      likelihoodScale(response, group), el("span", { class: "scale-number" }, rate(response.likelihood))),
      numbersOf(response), advantageOf(response, group)));
}

function advantageOf(response, group) {
  const text = whyAdvantage(response, group);
  return text && el("p", { class: "why-advantage" }, text);
}

function flags({ finish, format }) {
  return [finish === "length" && "cut off", format === 0 && "no format"].filter(Boolean);
}

function numbersOf(response) {
  const shown = [
    ["accuracy", fixed(response.accuracy)],
    ["format", fixed(response.format, 0)],
    ["bonus", response.bonus == null ? "–" : signed(response.bonus)],
    ["reward", fixed(response.reward)],
    ["advantage", signed(response.advantage)],
    ["tokens", count(response.length)],
  ];
  return el("dl", { class: "numbers" }, shown.map(([name, value]) => el("div", { class: `number is-${name}` }, el("dt", {}, name), el("dd", {}, value))));
}

function measuresOf({ measures }) {
  const names = Object.keys(measures).sort();
  if (!names.length) return null;
  return el("p", { class: "measures" }, names.map((name) => {
    const value = measures[name];
    const kind = value == null ? "is-unknown" : value >= 0.5 ? "is-good" : "is-bad";
    const word = value == null ? "unknown" : value === 1 ? "consistent" : value === 0 ? "inconsistent" : rate(value);
    return el("span", { class: `measure ${kind}` }, said(name), el("b", {}, value === 0 && name === "contradiction" ? "contradicts" : word));
  }));
}
