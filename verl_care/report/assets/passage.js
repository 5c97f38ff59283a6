// The text of a response: its answer marked, each token shaded by how likely the reference found it; long ones folded.
import { el, said } from "./dom.js";
import { count, rate } from "./numbers.js";
import { answerSpan, pieces } from "./text.js";

const SHOWN = 1500; // characters before it is folded
const ENDING = 500; // of a folded text, its last ones: the answer stands there
const BLOCK = 10_000; // characters of a long text that are laid out at once, when they come into view

export function passage(response) {
  const node = el("div", { class: "passage" });
  const parts = pieces(response);
  const length = response.text.length;
  if (length <= SHOWN + ENDING + 200) {
    node.append(...parts.map(show), ...tail(response));
    return node;
  }
  const folded = () => {
    const [before, after] = [clip(parts, 0, SHOWN), clip(parts, length - ENDING, length)];
    const answer = answerSpan(response);
    const hidden = answer && answer.stop <= length - ENDING && answer.start >= SHOWN ? middle(parts) : [];
    const open = button(`… ${count(length - SHOWN - ENDING)} characters folded: show all ${count(length)}`, "false", unfolded);
    node.replaceChildren(...before.map(show), open, ...hidden.map(show), ...after.map(show), ...tail(response));
  };
  const unfolded = () => node.replaceChildren(button("fold", "true", folded), ...parts.flatMap(blocks), ...tail(response));
  folded();
  return node;
}

const button = (text, expanded, onclick) => el("button", { class: "fold", type: "button", "aria-expanded": expanded, onclick }, text);
const middle = (parts) => parts.filter((part) => part.kind === "answer");

function tail({ cut, text }) {
  if (cut > 0) return [el("p", { class: "muted note" }, `… and ${count(cut)} characters that the page leaves out`)];
  return text === "" ? [el("span", { class: "muted" }, "(an empty response)")] : [];
}

/** The parts of [start, stop), counted over all parts. */
function clip(parts, start, stop) {
  let at = 0;
  return parts.flatMap((part) => {
    const [from, to] = [Math.max(start - at, 0), Math.min(stop - at, part.text.length)];
    at += part.text.length;
    return from < to ? [{ ...part, text: part.text.slice(from, to) }] : [];
  });
}

function blocks(part) {
  const { text, kind } = part;
  if (kind || text.length <= BLOCK) return [show(part)];
  const found = [];
  for (let start = 0, stop; start < text.length; start = stop) {
    stop = start + BLOCK;
    if (/[\udc00-\udfff]/.test(text[stop] ?? "")) stop++; // not through the middle of a character
    found.push(said(text.slice(start, stop), "text-block"));
  }
  return found;
}

function show({ text, kind, logProb }) {
  if (kind === "tag") return el("span", { class: "tag" }, text);
  if (kind !== "answer") return said(text);
  if (logProb == null) return el("mark", { class: "answer" }, said(text));
  const p = Math.exp(logProb);
  return el("mark", { class: "answer is-scored", vars: { p: p.toFixed(3) }, title: `reference likelihood ${rate(p, 3)}` }, said(text));
}

/** The answer's tokens with their likelihoods, as a list. */
export function tokens(response) {
  const scored = (response.answer_tokens ?? []).filter((token) => token.log_prob != null);
  if (!scored.length) return null;
  const shown = scored.slice(0, 24).map((token) => {
    const p = Math.exp(token.log_prob);
    return el("span", { class: "token", vars: { p: p.toFixed(3) } }, el("code", {}, said(token.text)), ` ${rate(p)}`);
  });
  const more = scored.length > 24 ? ` and ${count(scored.length - 24)} more` : "";
  return el("p", { class: "tokens" }, "Answer’s tokens ", shown, more);
}
