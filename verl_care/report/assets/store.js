// The payload, indexed: runs with their settings, groups with their names, and all responses in one list.
import { mean } from "./numbers.js";

/** What care_base.yaml says where a run's configuration does not. */
const SETTINGS = {
  bonus: "hard",
  bonus_coefficient: 0.5,
  confidence_upper_bound: 0.95,
  consistency_margin: 0,
  accuracy_threshold: 0.1,
};
const LISTS = ["images", "questions", "groups"];
export const TOLERANCE = 1e-6;

export class Store extends EventTarget {
  constructor(payload, version) {
    super();
    this.hidden = new Set(); // names of runs that curves leave out
    this.load(payload, version);
  }

  load(payload, version) {
    this.payload = payload;
    this.version = version;
    this.images = payload.images;
    this.questions = payload.questions;
    this.runs = payload.runs.map((run, index) => ({
      ...run,
      index,
      color: `var(--run-${index % 8})`,
      dash: index < 8 ? null : "5 3",
      config: new Map(Object.entries(run.config)),
      metrics: new Map(Object.entries(run.metrics)),
      settings: settingsOf(run.config),
    }));
    this.groups = [];
    this.responses = [];
    this.byId = new Map();
    this.byQuestion = new Map();
    payload.groups.forEach((group) => this.#add(group));
    this.measures = [...new Set(this.responses.flatMap(({ response }) => Object.keys(response.measures)))].sort();
  }

  /** Of each list its first `keep` items hold, and `add` follows; the rest of the payload is new. */
  update(changes, version) {
    const payload = { ...changes };
    for (const name of LISTS) {
      const { keep, add } = changes[name];
      payload[name] = [...this.payload[name].slice(0, keep), ...add];
    }
    this.load(payload, version);
    this.dispatchEvent(new Event("change"));
  }

  #add(data) {
    const question = this.questions[data.question];
    const run = this.runs[data.run];
    const group = { ...data, run, question, questionAt: data.question, at: this.groups.length };
    const accuracies = data.responses.map((response) => response.accuracy);
    group.accuracy = mean(accuracies);
    group.selected = data.responses.filter((response) => response.selected).length;
    group.name = groupName(run.name, data.step, data.split, question.key, 1);
    for (let n = 2; this.byId.has(group.name); n++) {
      group.ordinal = n;
      group.name = groupName(run.name, data.step, data.split, question.key, n);
    }
    const right = (a) => a != null && a >= 0.5;
    group.allRight = accuracies.length > 0 && accuracies.every(right);
    group.allWrong = accuracies.length > 0 && accuracies.every((a) => a != null && a <= run.settings.accuracy_threshold);
    this.byId.set(group.name, group);
    this.groups.push(group);
    if (!this.byQuestion.has(data.question)) this.byQuestion.set(data.question, []);
    this.byQuestion.get(data.question).push(group);
    data.responses.forEach((response, number) => this.responses.push({ group, response, number }));
  }

  group({ run, step, q, split, n }) {
    return this.byId.get(groupName(run, Number(step), split ?? "train", q, Number(n ?? 1)));
  }

  /** The groups of the same question, in the order of the training. */
  history(group) {
    return [...this.byQuestion.get(group.questionAt)].sort((a, b) => a.step - b.step);
  }

  shownRuns() {
    return this.runs.filter((run) => !this.hidden.has(run.name));
  }

  toggleRun(run) {
    if (!this.hidden.delete(run.name)) this.hidden.add(run.name);
    this.dispatchEvent(new Event("runs"));
  }
}

/** What a link names a group by; a lone surrogate does not survive a link, so it is none here either. */
function groupName(run, step, split, key, ordinal) {
  return JSON.stringify([run ?? "", step, split, key ?? "", ordinal].map((v) => (v.toWellFormed ? v.toWellFormed() : v)));
}

function settingsOf(config) {
  const found = { ...SETTINGS };
  for (const name of Object.keys(SETTINGS)) found[name] = config[`care.${name}`] ?? found[name];
  return found;
}

/** q = min(p, cap), which is what is compared. */
export function capped(likelihood, settings) {
  return Math.min(likelihood, settings.confidence_upper_bound);
}

/** Whether the likelihood alone would call a response consistent; null where it says nothing. */
export function likely(response, group) {
  if (!response.selected || response.likelihood == null || group.threshold == null) return null;
  const { settings } = group.run;
  return capped(response.likelihood, settings) >= group.threshold - settings.consistency_margin - TOLERANCE;
}

/** The verdicts of judges: measures named judge-... */
export function verdicts(response) {
  return Object.entries(response.measures).filter(([name, value]) => name.startsWith("judge") && value != null);
}
