// Text that a model wrote, made safe to look at: what would be invisible or would turn the line around is named.

/** Controls, format characters (bidirectional ones too), line separators and lone surrogates; not tab and newline. */
const UNSEEN = /(?:(?![\t\n])[\p{Cc}\p{Cf}\p{Cs}\u2028\u2029])+/gu;
const STACKED = /\p{M}{4,}/gu;
const TEMPLATE_TAG = /<\/?(?:think|answer)(?:>|$)/g; // a token may hold the last bracket: ">A"

const NAMED = 8; // unseen characters in a row that are named; the others are counted

function namesOf(run) {
  const characters = [...run];
  const codes = characters.slice(0, NAMED).map((one) => `‹U+${one.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}›`);
  return codes.join("") + (characters.length > NAMED ? `‹+${characters.length - NAMED} unseen›` : "");
}

/** The text with unseen characters written as their codes, and stacks of combining marks cut short. */
export function visible(text) {
  return text
    .replace(/\r\n/g, "\n")
    .replace(UNSEEN, namesOf)
    .replace(STACKED, (marks) => `${marks.slice(0, 2)}‹+${[...marks].length - 2} combining›`);
}

/** On one line, at most `length` characters, from `start` on. */
export function snippet(text, length, start = 0) {
  const from = Math.max(0, start);
  const part = text.slice(from, from + length + 1).replace(/[ \t\r\n]+/g, " "); // \s would take unseen characters with it
  const short = part.length > length ? `${part.slice(0, length)}…` : part;
  return visible((from > 0 ? "…" : "") + short);
}

/** Index of UTF-16 units for an index of code points, which Python counts in. */
export function unitIndex(text, codePoints) {
  if (!/[\ud800-\udfff]/.test(text)) return codePoints;
  let units = 0;
  for (let seen = 0; seen < codePoints && units < text.length; seen++) {
    units += text.codePointAt(units) > 0xffff ? 2 : 1;
  }
  return units;
}

/** The answer's place in `response.text`, in UTF-16 units; null where there is none. */
export function answerSpan({ text, answer }) {
  if (!answer) return null;
  const [start, stop] = [unitIndex(text, answer.start), unitIndex(text, answer.stop)];
  return start < stop && stop <= text.length ? { start, stop } : null;
}

/**
 * Cut a response into pieces: `{text}`, `{text, kind: "tag"}`, `{text, kind: "answer", logProb?}`.
 * The answer's tokens are pieces of their own where they can be found around its place: a token is often ">A".
 */
export function pieces(response) {
  const span = answerSpan(response);
  if (!span) return tagPieces(response.text);
  const tokens = response.answer_tokens ?? [];
  const joined = tokens.map((token) => token.text).join("");
  const place = joined ? response.text.lastIndexOf(joined, span.start) : -1;
  const covers = place >= 0 && place <= span.start && place + joined.length >= span.stop;
  const marked = covers
    ? tokens.map((token) => ({ text: token.text, kind: "answer", logProb: token.log_prob }))
    : [{ text: response.text.slice(span.start, span.stop), kind: "answer" }];
  const [start, stop] = covers ? [place, place + joined.length] : [span.start, span.stop];
  return [...tagPieces(response.text.slice(0, start)), ...marked, ...tagPieces(response.text.slice(stop))];
}

/** The template's tags apart from what stands between them; no more than fifty, the rest is plain. */
function tagPieces(text) {
  const found = [];
  let end = 0;
  for (const match of text.matchAll(TEMPLATE_TAG)) {
    if (found.length > 100) break;
    if (match.index > end) found.push({ text: text.slice(end, match.index) });
    found.push({ text: match[0], kind: "tag" });
    end = match.index + match[0].length;
  }
  if (end < text.length) found.push({ text: text.slice(end) });
  return found;
}

/** What the response answers, stripped; null without an answer. */
export function answered(response) {
  const span = answerSpan(response);
  return span ? response.text.slice(span.start, span.stop).trim() : null;
}

/** Options with their letters, [{letter: "B", text: "B. peel"}]; those without one get it from their place. */
export function lettered(options) {
  const own = options.map((option) => /^\s*([A-Z])[.):]/.exec(option)?.[1] ?? null);
  if (own.some((letter) => letter != null)) return options.map((text, i) => ({ letter: own[i], text }));
  return options.map((option, i) => ({ letter: letterAt(i), text: `${letterAt(i)}. ${option}` }));
}

const letterAt = (place) => (place < 26 ? String.fromCharCode(65 + place) : String(place + 1));

/** The question without the prompt's frame, where only the whole prompt was recorded. */
export function questionText({ question, prompt, options }) {
  if (question != null) return question;
  const user = prompt.lastIndexOf("\nuser\n");
  const first = options.length ? prompt.indexOf(lettered(options)[0].text, Math.max(0, user)) : -1;
  let text = prompt.slice(user < 0 ? 0 : user + 6, first < 0 ? prompt.length : first).trim();
  for (const ending of ["assistant", "Options:"]) {
    if (text.endsWith(ending)) text = text.slice(0, -ending.length).trimEnd();
  }
  text = text.replace(/<(?:video|image)>/g, "").trim();
  return text || prompt;
}
