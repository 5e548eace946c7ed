// What the page says of an id of which nothing is known.

import { el, setText } from "./dom.js";

const REASONS = [
  "The id is not complete, or belongs to another application.",
  "The task ended long ago, and what was kept of it is gone.",
  "It was started by a program that does not call install(app, url), or that uses another URL or namespace.",
  "It is about to be queued. Then it appears here by itself.",
];

export function createUnknown() {
  const title = el("h2");
  const id = el("code", { class: "id" });
  const detail = el("p", { class: "complaint", hidden: true });
  const reasons = el("div", {}, el("p", {}, "What could be the reason:"), el("ul", {}, ...REASONS.map((reason) => el("li", {}, reason))));
  const element = el("div", { class: "unknown", hidden: true }, title, id, detail, reasons);

  // `problem` is a sentence of the server, which refused to tell or failed.
  function draw(shownId, { problem, waiting }) {
    setText(title, waiting ? "Looking for the task…" : problem ? "This task cannot be shown" : "Nothing is known of this task");
    setText(id, shownId);
    setText(detail, problem);
    detail.hidden = !problem;
    reasons.hidden = waiting || Boolean(problem);
  }

  return { element, draw };
}

// Whether a state says nothing: what the server tells of an id that it does not know.
export function isBlank(task) {
  if (task === null) return true;
  if (task.state !== "PENDING") return false;
  const empty = (value) => value === undefined || value === null || (Array.isArray(value) && value.length === 0);
  return ["name", "queued_at", "attempt", "canvas", "parts", "cancel_requested", "progress", "steps", "events", "children"].every((name) => empty(task[name]));
}
