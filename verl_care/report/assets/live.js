// Follow a running training: ask this page's own server for what is new, and say how that goes.
import { el } from "./dom.js";

const EVERY_MS = 2000;

export function follow(store) {
  const word = el("span", {}, "live");
  const node = el("span", { class: "live", role: "status" }, el("i", { class: "live-dot" }), word);
  const say = (text, ok) => {
    if (word.textContent !== text) word.textContent = text;
    node.classList.toggle("is-lost", !ok);
  };
  const ask = async () => {
    try {
      const answer = await fetch("/updates", { headers: { "If-None-Match": `"${store.version}"` }, cache: "no-store" });
      if (answer.status === 200) {
        store.update(await answer.json(), (answer.headers.get("ETag") ?? "").replaceAll('"', ""));
      }
      const ok = answer.status === 200 || answer.status === 304;
      say(ok ? "live" : "the run cannot be read", ok);
    } catch (error) {
      if (!(error instanceof TypeError)) throw error; // what fetch throws when nobody answers
      say("server ended", false);
    }
    setTimeout(ask, EVERY_MS);
  };
  setTimeout(ask, EVERY_MS);
  return node;
}
