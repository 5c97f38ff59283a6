// What the finder can ask of a response, and what it can sort by. An entry is {group, response, number}.
import { likely, verdicts } from "./store.js";

const right = ({ response }) => response.accuracy != null && response.accuracy >= 0.5;
const contradicts = ({ response }) => response.measures.contradiction === 0;

/** [{id, label, why, test, needs}]; several at once must all hold. `needs` says of a measure whether the test asks it. */
export const FILTERS = [
  {
    id: "contradiction", label: "Right, reasoning contradicts",
    why: "Accuracy of at least 0.5, and the reasoning concludes in another option than the one answered",
    needs: (measure) => measure === "contradiction",
    test: (entry) => right(entry) && contradicts(entry),
  },
  { id: "bonus", label: "Got the bonus", why: "The bonus is above 0", test: ({ response }) => response.bonus > 0 },
  {
    id: "refused", label: "Selected, no bonus", why: "Compared with the others, and below the threshold",
    test: ({ response }) => response.selected && response.bonus === 0,
  },
  {
    id: "judge", label: "Judge ≠ likelihood",
    why: "A judge’s verdict is one way, and the likelihood against the group’s threshold is the other",
    needs: (measure) => measure.startsWith("judge"),
    test: ({ response, group }) => {
      const says = likely(response, group);
      return says != null && verdicts(response).some(([, value]) => value >= 0.5 !== says);
    },
  },
  { id: "all-wrong", label: "Group all wrong", why: "No response of the group is right", test: ({ group }) => group.allWrong },
  { id: "all-right", label: "Group all right", why: "Every response of the group is right", test: ({ group }) => group.allRight },
  { id: "cut", label: "Cut off", why: "Stopped by the limit of the response’s length", test: ({ response }) => response.finish === "length" },
  { id: "no-format", label: "No format", why: "Not <think>…</think><answer>…</answer>", test: ({ response }) => response.format === 0 },
];

const NUMBERS = {
  step: ["step", ({ group }) => group.step],
  accuracy: ["accuracy", ({ response }) => response.accuracy],
  likelihood: ["likelihood", ({ response }) => response.likelihood],
  gap: ["likelihood less threshold", ({ response, group }) =>
    response.likelihood == null || group.threshold == null ? null : response.likelihood - group.threshold],
  bonus: ["bonus", ({ response }) => response.bonus],
  reward: ["reward", ({ response }) => response.reward],
  advantage: ["advantage", ({ response }) => response.advantage],
  length: ["tokens", ({ response }) => response.length],
  characters: ["characters", ({ response }) => response.text.length + (response.cut ?? 0)],
};

/** {key: [label, entry => number or null]}, with the measures of these responses. */
export function numbersOf(measures) {
  return { ...NUMBERS, ...Object.fromEntries(measures.map((name) => [`measure ${name}`, [name, ({ response }) => response.measures[name]]])) };
}

/** Keep what every chosen filter, choice and word holds for; entries stay in their order. */
export function filtered(entries, { tests, run, split, dataset, type, words }) {
  return entries.filter((entry) => {
    const { group } = entry;
    if (run != null && group.run.name !== run) return false;
    if (split != null && group.split !== split) return false;
    if (dataset != null && group.question.data_source !== dataset) return false;
    if (type != null && group.question.problem_type !== type) return false;
    return tests.every((test) => test(entry)) && (!words || holds(entry, words));
  });
}

/** Whether the response, its question or its id holds the words; lower case is made once for each. */
function holds(entry, words) {
  const { question } = entry.group;
  entry.lower ??= entry.response.text.toLowerCase();
  question.lower ??= `${question.id}\n${question.question ?? question.prompt}\n${question.options.join("\n")}`.toLowerCase();
  return entry.lower.includes(words) || question.lower.includes(words);
}

/** By a number, highest first; what has none comes last either way. */
export function sorted(entries, number, rising) {
  const keyed = entries.map((entry) => ({ entry, value: number(entry) ?? null }));
  const way = rising ? 1 : -1;
  keyed.sort((a, b) => (a.value == null) - (b.value == null) || way * (a.value - b.value) || a.entry.group.at - b.entry.group.at || a.entry.number - b.entry.number);
  return keyed.map(({ entry }) => entry);
}
