// What stands in place of the list, and below it.

import { el, setText } from "../dom.js";
import { number } from "../format.js";

export function createEmpty() {
  const title = el("strong", {});
  const words = el("p", {});
  const clear = el("a", { href: "?" }, "Show all tasks");
  const element = el("div", { className: "empty" }, title, words, clear);

  function show({ hidden, filtered, loading }) {
    element.hidden = hidden;
    clear.hidden = !filtered;
    setText(title, loading ? "Loading …" : filtered ? "No task matches these filters." : "No tasks yet.");
    setText(words, loading || filtered ? "" : "A task appears here as soon as it is queued.");
  }

  return { element, show };
}

// How much of what is kept the page knows. `more` loads older tasks.
export function createFoot(more) {
  const words = el("span", {});
  const button = el("button", { type: "button", className: "plain", hidden: true }, "Load older tasks");
  const element = el("p", { className: "foot" }, words, button);
  button.addEventListener("click", more);

  function show({ total, complete, error, known, most }) {
    const full = !complete && !error && known >= most;
    button.hidden = !full;
    if (error) setText(words, `Older tasks could not be loaded. ${error}`);
    else if (full) setText(words, `The newest ${number(known)} of ${number(total)} tasks are loaded.`);
    else if (!complete && total > known) setText(words, `Loading ${number(total)} tasks …`);
    else setText(words, "");
    element.hidden = words.textContent === "";
  }

  return { element, show };
}
