// Why a response got the bonus, or did not: one sentence, computed from its numbers and its run's settings.
import { fixed, plural, rate, signed } from "./numbers.js";
import { capped, likely, TOLERANCE } from "./store.js";

/** `{verdict: "bonus" | "none" | "out", text}` */
export function why(response, group) {
  const { settings } = group.run;
  if (response.bonus == null) {
    const graded = group.split === "validation" ? "Validation: graded" : "Graded";
    return out(`${graded} only, no bonus was computed. ${grade(response)}.`);
  }
  const given = response.bonus > TOLERANCE;
  const verdict = given ? "bonus" : response.selected ? "none" : "out";
  const text = { hard, dense, refgen, none }[settings.bonus]?.(response, group, given);
  return { verdict, text: text ?? `Bonus ${fixed(response.bonus)}; the page does not know care.bonus ${settings.bonus}.` };
}

const out = (text) => ({ verdict: "out", text });

function grade({ accuracy }) {
  if (accuracy == null) return "Not graded";
  return `${accuracy >= 0.5 ? "Right" : accuracy > 0 ? "Partly right" : "Wrong"} (${accuracy.toFixed(1)})`;
}

/** Why it is not among the selected; null where it is. */
function notSelected(response, group) {
  if (response.selected) return null;
  const { accuracy_threshold: threshold } = group.run.settings;
  if (response.accuracy == null) return "Not graded, so it is not compared with the others.";
  if (response.accuracy <= threshold + TOLERANCE) {
    return `${grade(response)}: only responses with an accuracy above ${threshold} are compared.`;
  }
  if (!response.answer) {
    return `${grade(response)}, but it has no closed answer whose likelihood could be compared.`;
  }
  if (group.accuracy != null && response.accuracy < group.accuracy - TOLERANCE) {
    return `${grade(response)}, below the group’s mean accuracy ${fixed(group.accuracy)}: not compared.`;
  }
  return `${grade(response)}, but the record does not count it among the selected.`;
}

function hard(response, group, given) {
  const left = notSelected(response, group);
  if (left) return given ? `${left} Yet the record gives it a bonus of ${fixed(response.bonus)}.` : left;
  if (response.likelihood == null || group.threshold == null) {
    return `${grade(response)} and selected; the record holds no likelihood or threshold to compare.`;
  }
  const { settings } = group.run;
  const q = capped(response.likelihood, settings);
  const cap = q < response.likelihood - TOLERANCE ? `, counted as the cap ${rate(q)},` : "";
  const reaches = likely(response, group);
  const bar = `the group’s threshold ${rate(group.threshold)} − margin ${settings.consistency_margin}`;
  const [shown, of] = apart(response.likelihood, group.threshold);
  if (reaches !== given) {
    const relation = reaches ? "reaches" : "is below";
    const recorded = given ? `a bonus of ${fixed(response.bonus)}` : "no bonus";
    return `${grade(response)}; likelihood ${shown}${cap} ${relation} ${bar.replace(rate(group.threshold), of)}, yet the record has ${recorded}.`;
  }
  if (!reaches) return `${grade(response)}, but likelihood ${shown} is below ${bar.replace(rate(group.threshold), of)}.`;
  const sum = `${settings.bonus_coefficient} × ${response.accuracy.toFixed(1)} = ${fixed(response.bonus)}`;
  if (group.selected === 1) {
    return `${grade(response)}, and the only one selected, so its likelihood ${shown} is the threshold: ${sum}.`;
  }
  return `${grade(response)}, and likelihood ${shown}${cap} reaches ${bar.replace(rate(group.threshold), of)}: ${sum}.`;
}

/** Two likelihoods with as many digits as it takes to tell them apart. */
function apart(a, b) {
  for (const digits of [2, 3, 4]) {
    if (rate(a, digits) !== rate(b, digits)) return [rate(a, digits), rate(b, digits)];
  }
  return [rate(a), rate(b)];
}

function dense(response, group, given) {
  const { bonus_coefficient: factor } = group.run.settings;
  if (response.likelihood == null) return `${grade(response)}; without a likelihood there is no dense bonus.`;
  const product = `${factor} × accuracy ${fixed(response.accuracy, 1)} × likelihood ${rate(response.likelihood)}`;
  return `${grade(response)}: the dense bonus is ${product} = ${fixed(given ? response.bonus : 0)}.`;
}

function refgen(response, group) {
  const { bonus_coefficient: factor } = group.run.settings;
  return `${grade(response)}: the bonus is ${factor} × accuracy of the answer that the reference gave itself = ${fixed(response.bonus)}.`;
}

function none(response) {
  return `${grade(response)}: this run gives no bonus (care.bonus is none).`;
}

/** What the advantage comes from. */
export function whyAdvantage(response, group) {
  if (response.advantage == null || response.reward == null) return null;
  const rewards = group.responses.map((other) => other.reward).filter((reward) => reward != null);
  const average = rewards.reduce((sum, reward) => sum + reward, 0) / rewards.length;
  const equal = rewards.every((reward) => Math.abs(reward - average) < TOLERANCE);
  if (equal) return `All ${plural(rewards.length, "reward")} are ${fixed(average)}: the advantage is 0.`;
  return `Reward ${fixed(response.reward)} against the group’s mean ${fixed(average)}: advantage ${signed(response.advantage)}.`;
}

/** How the threshold came about, for the head of the group. */
export function whyThreshold(group) {
  const { settings } = group.run;
  const size = group.responses.length;
  if (group.split === "validation") return "Validation: responses are graded, nothing is selected and no bonus is given.";
  if (group.selected === 0) {
    return `Nobody is selected: no answered response has an accuracy above ${settings.accuracy_threshold} and at the group’s mean. No bonus.`;
  }
  const who = `${group.selected} of ${size} selected`;
  if (group.threshold == null) return `${who}; no likelihoods were recorded.`;
  const average = `their mean of min(likelihood, ${settings.confidence_upper_bound}) is the threshold ${rate(group.threshold)}`;
  const rule = { hard: `at or above it less the margin ${settings.consistency_margin} earns the bonus`, none: "this run gives no bonus" };
  return `${who}; ${average}; ${rule[settings.bonus] ?? `care.bonus is ${settings.bonus}`}.`;
}
