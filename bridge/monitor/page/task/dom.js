// Elements of the task page. Texts are only ever text.

import { el, setText } from "../dom.js";
import { isoTime } from "../format.js";
import { address } from "../router.js";
import { relative, shortTime } from "./times.js";

export { el, setText };

export const button = (text, onclick, properties = {}) => el("button", { type: "button", class: "plain", onclick, ...properties }, text);

// Sets an attribute if it has another value; `null` removes it.
export function setAttribute(element, name, value) {
  if (value === null) element.removeAttribute(name);
  else if (element.getAttribute(name) !== String(value)) element.setAttribute(name, value);
}

// Fills a `<time>` with the time of day, and how long ago that is. The title has the complete time.
export function setTime(element, at, now, { ago = true } = {}) {
  const day = shortTime(at, now);
  setText(element, ago ? `${day} · ${relative(at, now)}` : day);
  const text = isoTime(at);
  setAttribute(element, "datetime", text);
  setAttribute(element, "title", text);
}

// A link to another view of the monitor. The shell shows it without loading the page again.
export const link = (params, text) => el("a", { href: address(params) }, text);

// Removes the rows of a Map whose keys are not among `kept`.
export function removeOthers(rows, kept) {
  for (const [key, { element }] of rows) {
    if (kept.has(key)) continue;
    element.remove();
    rows.delete(key);
  }
}

let sections = 0;

// A hidden section with a heading, which names it.
export function section(title, name, ...children) {
  const heading = el("h3", { id: `section-${(sections += 1)}` }, title);
  return el("section", { class: name, "aria-labelledby": heading.id, hidden: true }, heading, ...children);
}

// Copies a text, and says on the button whether that worked.
export async function copy(text, pressed) {
  const label = (pressed.dataset.label ??= pressed.textContent);
  let copied = true;
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    copied = copySelected(text);
  }
  pressed.textContent = copied ? "Copied" : "Not copied";
  setTimeout(() => (pressed.textContent = label), 1500);
}

// Without HTTPS there is no clipboard, but a selection can be copied.
function copySelected(text) {
  const area = el("textarea", { class: "unseen", value: text });
  document.body.append(area);
  area.select();
  try {
    return document.execCommand("copy");
  } finally {
    area.remove();
  }
}
