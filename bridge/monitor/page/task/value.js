// A value of any size as text: an argument, a result, a traceback.

import { size } from "../format.js";
import { button, copy, el, setText } from "./dom.js";
import { cut } from "./lines.js";

const SHOWN = 10_000;

// Returns `{ element, draw(value) }`. A value that is the same object as before is not looked at again.
export function createValue(name) {
  let shown = NOTHING;
  let text = "";
  const box = el("pre", { tabindex: "0", role: "region", "aria-label": name });
  const all = button("Show all", () => ((box.textContent = text), (all.hidden = true)), { class: "quiet" });
  const copied = button("Copy", () => copy(text, copied), { class: "quiet copy", "aria-label": `Copy: ${name}` });
  const element = el("div", { class: "value" }, box, copied, all);

  function draw(value) {
    if (Object.is(value, shown)) return;
    shown = value;
    text = asText(value);
    const { shown: beginning, more } = cut(text, SHOWN);
    setText(box, more ? `${beginning}…` : beginning);
    setText(all, `Show all (${size(text.length)})`);
    all.hidden = more === 0;
  }

  return { element, draw };
}

const NOTHING = Symbol("nothing");

export function asText(value) {
  if (typeof value === "string") return value;
  return JSON.stringify(value, null, 2) ?? String(value);
}
