// The keys of the list. help.js tells them to people.

import { isTyping } from "../help.js";

export function setUpKeys({ list, scroller, filters, navigate, toggle, params }) {
  const MOVES = new Map([
    ["ArrowDown", () => list.place + 1],
    ["ArrowUp", () => list.place - 1],
    ["PageDown", () => list.place + list.page],
    ["PageUp", () => list.place - list.page],
    ["Home", () => 0],
    ["End", () => list.rows.length - 1],
  ]);

  function pressed(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented || document.querySelector("dialog[open]")) return;
    if (isTyping(event) ? typing(event) : moving(event)) event.preventDefault();
  }

  function typing({ target, key }) {
    if (target !== filters.search) return false;
    if (key === "ArrowDown") list.moveTo(Math.max(0, list.place));
    else if (key === "Escape" && !target.value) list.moveTo(Math.max(0, list.place));
    else return false;
    return true;
  }

  function moving({ key, target }) {
    if (key === "/") return filters.focus() || true;
    const isControl = target.closest?.("button, summary");
    const inList = scroller.contains(target);
    // Other parts of the page keep their keys; from the page itself the arrows go into the list.
    if (!inList && target !== document.body && target.id !== "main") return false;
    if (MOVES.has(key)) {
      list.moveTo(MOVES.get(key)());
      return true;
    }
    const row = list.rows[list.place];
    if (!row || !inList || isControl) return false;
    if (key === "Enter" && target.getAttribute("role") === "row") return navigate({ task: row.task }) || true;
    const isOpen = params().open?.includes(row.task);
    if ((key === "ArrowRight" && row.parts && !isOpen) || (key === "ArrowLeft" && isOpen)) return toggle(row.task) || true;
    return false;
  }

  document.addEventListener("keydown", pressed);
  return () => document.removeEventListener("keydown", pressed);
}
