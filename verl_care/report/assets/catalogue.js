// Which curves the overview draws, under which heading, and what each is called.

/** [heading, [[metric as logged, or a test of its name; title]]] */
const SECTIONS = [
  ["What it learns", [
    ["care/accuracy", "Accuracy"],
    ["care/format", "Format"],
    ["care/bonus_rate", "Bonus rate of the selected"],
    ["care/likelihood_mean", "Likelihood of the selected"],
    [(name) => name.includes("consistency_") && !name.startsWith("val-"), (name) => titleOf(name)],
    ["care/selected_fraction", "Selected share"],
    ["care/no_answer_fraction", "Without an answer"],
    ["care/all_wrong_groups", "Groups all wrong"],
    ["care/all_correct_groups", "Groups all right"],
    ["care/equal_reward_groups", "Groups rewarded alike"],
  ]],
  ["How the policy moves", [
    ["response_length/mean", "Response length, tokens"],
    ["response_length/clip_ratio", "At the length limit"],
    ["care/reference_distance", "Distance of the reference"],
    [(name) => /^(actor\/(kl_loss|ppo_kl)|rollout_corr\/kl)$/.test(name), (name) => `KL (${name.split("/")[1]})`],
    ["actor/entropy", "Entropy"],
    [(name) => /^training\/rollout_probs_diff_(mean|max)$/.test(name), (name) => `Rollout–actor gap, ${name.split("_").at(-1)}`],
    [(name) => /^care\/.*log_prob.*(gap|diff)/.test(name), (name) => titleOf(name)],
    ["actor/grad_norm", "Gradient norm"],
  ]],
  ["Where the time goes, seconds", [
    ["timing_s/step", "Whole step"],
    [(name) => name.startsWith("timing_s/"), (name) => titleOf(name.slice("timing_s/".length))],
  ]],
];

/** "care/consistency_contradiction" -> "Consistency: contradiction" */
export function titleOf(name) {
  const words = name.replace(/^(care|actor|training)\//, "").replace("consistency_", "consistency: ").replace(/_/g, " ");
  return words.charAt(0).toUpperCase() + words.slice(1);
}

/** [{heading, charts: [{name, title}]}] of the metrics that the runs have; each metric once. */
export function sectionsOf(runs) {
  const names = namesOf(runs);
  const taken = new Set();
  return SECTIONS.map(([heading, wanted]) => ({
    heading,
    charts: wanted.flatMap(([which, title]) => {
      const found = names.filter((name) => !taken.has(name) && (which === name || (typeof which === "function" && which(name))));
      found.forEach((name) => taken.add(name));
      return found.map((name) => ({ name, title: typeof title === "function" ? title(name) : title }));
    }),
  })).filter(({ charts }) => charts.length);
}

export function namesOf(runs) {
  return [...new Set(runs.flatMap((run) => [...run.metrics.keys()]))].sort();
}

/** [{dataset, measure}] of all validations. */
export function validated(runs) {
  const found = new Map();
  for (const { dataset, values } of runs.flatMap((run) => run.validation)) {
    for (const measure of Object.keys(values)) found.set(JSON.stringify([dataset, measure]), { dataset, measure });
  }
  const order = (measure) => ["accuracy", "format"].indexOf(measure) + 1 || 3;
  return [...found.values()].sort(
    (a, b) => order(a.measure) - order(b.measure) || a.measure.localeCompare(b.measure) || a.dataset.localeCompare(b.dataset),
  );
}

/** A run's validations of one measure as a curve. */
export function validationCurve(run, dataset, measure) {
  const points = run.validation.filter((one) => one.dataset === dataset && measure in one.values).sort((a, b) => a.step - b.step);
  return { steps: points.map((one) => one.step), values: points.map((one) => one.values[measure]) };
}
