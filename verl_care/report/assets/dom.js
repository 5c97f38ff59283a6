// Elements from data. Strings become text nodes and nothing else; there is no innerHTML in this page.
import { visible } from "./text.js";

const SVG = "http://www.w3.org/2000/svg";

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value == null || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (name === "vars") Object.entries(value).forEach(([key, v]) => node.style.setProperty(`--${key}`, v));
    else if (name === "value" || name === "checked") node[name] = value;
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.flat(2).filter((child) => child != null && child !== false));
  return node;
}

/** `el("a", {class: "x", href, onclick: f, vars: {p: 0.5}}, "text", node, [nodes])` */
export function el(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

export function svg(tag, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), attributes, children);
}

/** Text of a model or a data file: isolated from the direction of what is around it, and nothing in it unseen. */
export function said(text, className) {
  return el("bdi", { class: className ?? null }, visible(text));
}

/** The same, with the places marked where `needle` (lower case) stands. */
export function saidWith(text, needle, className) {
  const shown = visible(text);
  const node = el("bdi", { class: className ?? null });
  const lower = shown.toLowerCase();
  let end = 0;
  // A few letters change their length with their case: then places would be wrong, and nothing is marked.
  if (needle && lower.length === shown.length) {
    for (let at = lower.indexOf(needle); at >= 0; at = lower.indexOf(needle, end)) {
      node.append(shown.slice(end, at), el("mark", {}, shown.slice(at, at + needle.length)));
      end = at + needle.length;
    }
  }
  node.append(shown.slice(end));
  return node;
}

/** New children for a node; what takes the place of the element in focus gets the focus. */
export function renew(node, ...children) {
  const all = () => [...node.querySelectorAll("a, button, [tabindex]")];
  const at = all().indexOf(document.activeElement);
  node.replaceChildren(...children.flat());
  if (at >= 0) all()[at]?.focus({ preventScroll: true });
}

export const byId = (id) => document.getElementById(id);

/** Tell who does not see the page. */
export function announce(text) {
  byId("said").textContent = text;
}

/** A function that runs once, `wait` ms after the last of several calls. */
export function later(run, wait) {
  let timer = 0;
  return (...given) => {
    clearTimeout(timer);
    timer = setTimeout(() => run(...given), wait);
  };
}

/** A picture of the payload, read only when it comes into view. */
export function picture(source, alt) {
  const safe = /^data:image\/(?:webp|png|jpeg|gif|avif);base64,/.test(source ?? "");
  if (!safe) return el("span", { class: "no-picture" }, "no picture");
  return el("img", { src: source, alt: visible(alt), loading: "lazy", decoding: "async" });
}
