// What the model was shown: the frames it saw with their times, the images, the question and its options.
import { el, picture, said } from "./dom.js";
import { fixed, plural } from "./numbers.js";
import { answered, lettered, questionText } from "./text.js";

let large = false; // pictures, for as long as the page is open

export function mediaOf(question, images) {
  const clips = question.clips.map((clip, i) => clipStrip(clip, images, question.clips.length > 1 ? ` ${i + 1}` : ""));
  const pictures = question.images.map((image, i) => imageOf(image, images, question.images.length > 1 ? ` ${i + 1}` : ""));
  if (!clips.length && !pictures.length) return el("p", { class: "muted" }, "This question has text alone.");
  const media = el("div", { class: large ? "media is-large" : "media" }, clips, pictures);
  const flip = ({ target }) => {
    large = media.classList.toggle("is-large");
    target.setAttribute("aria-pressed", String(large));
  };
  media.querySelector("h3").append(el("button", { type: "button", class: "link", "aria-pressed": String(large), onclick: flip }, "larger"));
  return media;
}

function clipStrip({ path, frames, reason }, images, number) {
  const shown = frames.map(({ image, time }) =>
    el("figure", { class: "frame" }, picture(images[image], `frame at ${fixed(time)} seconds`), el("figcaption", {}, `${fixed(time)} s`)));
  const title = `Clip${number}: ${plural(frames.length, "frame")}, as the model saw them`;
  return el("section", { class: "clip" },
    el("h3", {}, el("span", {}, title), el("code", { class: "path" }, said(path))),
    shown.length ? el("div", { class: "film", tabindex: 0, role: "group", "aria-label": title }, shown) : null,
    reason && el("p", { class: "warning" }, said(reason)));
}

function imageOf({ path, image, reason }, images, number) {
  return el("section", { class: "clip" },
    el("h3", {}, el("span", {}, `Image${number}`), el("code", { class: "path" }, said(path))),
    image == null ? null : el("figure", { class: "frame is-image" }, picture(images[image], "image of the prompt")),
    reason && el("p", { class: "warning" }, said(reason)));
}

/** Question and options; the truth is marked, and so is how many responses answered what. */
export function questionOf(group) {
  const { question } = group;
  const answers = group.responses.map(answered);
  const options = lettered(question.options).map(({ letter, text }, at) => {
    const names = [letter, text.trim(), question.options[at].trim()].filter(Boolean);
    const isTruth = names.includes(question.truth.trim());
    const votes = group.responses.filter((_, i) => names.includes(answers[i]));
    return el("li", { class: isTruth ? "option is-truth" : "option" },
      el("span", { class: "option-text" }, said(text), isTruth && el("span", { class: "truth-mark" }, "truth")),
      el("span", { class: "votes", title: `${plural(votes.length, "response")} answered this` },
        votes.map((response) => el("i", { class: dotClass(response) })), votes.length ? ` ${votes.length}` : ""));
  });
  const truth = options.length ? null : el("p", { class: "open-truth" }, "Truth: ", said(question.truth));
  return el("section", { class: "question" },
    el("p", { class: "question-text" }, said(questionText(question))),
    options.length ? el("ol", { class: "options" }, options) : truth,
    el("details", { class: "prompt" }, el("summary", {}, "The whole prompt"), el("pre", {}, said(question.prompt))));
}

/** One response as a dot: filled when right, ringed when it got the bonus. */
export function dotClass({ accuracy, bonus }) {
  const grade = accuracy == null ? "is-unknown" : accuracy >= 0.5 ? "is-right" : "is-wrong";
  return `dot ${grade}${bonus > 0 ? " has-bonus" : ""}`;
}
