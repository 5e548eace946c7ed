// The dialog with the keys of the page, and the keys that every view has.

import { el } from "./dom.js";

const KEYS = [
  ["/", "Search"],
  ["↑ ↓, Home, End, Page ↑ ↓", "Move in the list"],
  ["Enter", "Open the task"],
  ["→ ←", "Show or hide the parts of a group"],
  ["Escape", "Leave the search, close a dialog, go back to the list"],
  ["g t, g w", "Go to the tasks, to the workers"],
  ["?", "This help"],
];

export const isTyping = ({ target }) => Boolean(target.closest?.("input, textarea, select, [contenteditable]"));

const isPlain = (event) => !event.ctrlKey && !event.metaKey && !event.altKey && !event.defaultPrevented;

export function setUpHelp(button) {
  const close = el("button", { type: "button" }, "Close");
  const lines = KEYS.flatMap(([keys, words]) => [el("dt", {}, el("kbd", {}, keys)), el("dd", {}, words)]);
  const title = el("h2", { id: "help-title" }, "Keyboard");
  const dialog = el("dialog", { id: "help-dialog", "aria-labelledby": "help-title" }, title, el("dl", {}, ...lines), close);
  document.body.append(dialog);
  const open = () => dialog.open || dialog.showModal();
  button.addEventListener("click", open);
  close.addEventListener("click", () => dialog.close());
  document.addEventListener("keydown", (event) => {
    if (event.key !== "?" || isTyping(event) || !isPlain(event)) return;
    event.preventDefault();
    open();
  });
}

// `g` and then a letter goes to a view; Escape in a view other than the list goes back to the list.
export function setUpKeys(shell) {
  let before = 0;
  document.addEventListener("keydown", (event) => {
    if (isTyping(event) || !isPlain(event) || document.querySelector("dialog[open]")) return;
    const follows = performance.now() - before < 1500;
    before = event.key === "g" ? performance.now() : 0;
    if (follows && event.key === "t") shell.navigate({});
    else if (follows && event.key === "w") shell.navigate({ view: "workers" });
    else if (event.key === "Escape" && (shell.params.task || shell.params.view)) shell.back();
    else return;
    event.preventDefault();
  });
}
