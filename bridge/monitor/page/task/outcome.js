// The arguments of a task, its result or error, and why it waits.

import { shortened } from "../format.js";
import { isFinished, REASONS, waitsForRetry } from "../states.js";
import { el, section, setText, setTime } from "./dom.js";
import { errorText, isObject, time } from "./reading.js";
import { elapsed } from "./times.js";
import { createValue } from "./value.js";

const LONGEST_TEXT = 1000;

// Why a task is in its state: the reason, and when the next attempt starts.
export function createNotice() {
  const title = el("strong");
  const text = el("p");
  const at = el("time");
  const when = el("span", {}, " · ", at);
  const element = el("div", { class: "notice", hidden: true }, el("p", {}, title, when), text);

  function draw(task, now) {
    const notice = noticeOf(task, now);
    element.hidden = notice === null;
    if (notice === null) return;
    element.dataset.kind = notice.kind;
    setText(title, shortened(notice.title, LONGEST_TEXT));
    setText(text, shortened(notice.text, LONGEST_TEXT));
    text.hidden = notice.text === "";
    when.hidden = notice.at === null;
    if (notice.at !== null) setTime(at, notice.at, now, { ago: false });
  }

  return { element, draw };
}

function noticeOf(task, now) {
  const reason = typeof task.reason === "string" ? REASONS.get(task.reason) ?? task.reason : "";
  if (waitsForRetry(task)) return retryNotice(task, reason, now);
  if (task.state === "STALLED") return { kind: "warn", title: "Its worker is silent", text: reason, at: null };
  const requested = time(task.cancel_requested);
  if (requested !== null && !isFinished(task))
    return { kind: "warn", title: task.terminate === true ? "A stop by force was requested" : "Cancellation was requested", text: "", at: requested };
  return reason ? { kind: "idle", title: reason, text: "", at: null } : null;
}

// The countdown. A time that has passed means that no worker has taken the next attempt yet.
function retryNotice(task, reason, now) {
  const at = time(task.retry_at);
  const left = at === null ? 0 : at - now;
  const when = at === null ? "The next attempt waits" : left > 0 ? `The next attempt starts in ${elapsed(Math.ceil(left))}` : "The next attempt is due";
  const why = reason === task.error?.type ? "" : reason;
  return { kind: "warn", title: when, text: [errorText(task.error), why].filter(Boolean).join(" · "), at };
}

// The result of a task that went well, or the error with its traceback.
export function createOutcome() {
  const result = createValue("Result");
  const traceback = createValue("Details of the error");
  const error = el("p", { class: "error" });
  const summary = el("summary");
  const details = el("details", { open: true }, summary, traceback.element);
  const good = section("Result", "outcome", result.element);
  const bad = section("Error", "outcome", error, details);

  function draw(task) {
    const failure = isFinished(task) && isObject(task.error) ? task.error : null;
    good.hidden = !(task.state === "SUCCESS" && task.result !== undefined);
    if (!good.hidden) result.draw(task.result);
    bad.hidden = failure === null;
    if (failure === null) return;
    const text = errorText(failure);
    const told = typeof failure.traceback === "string" && failure.traceback !== "";
    setText(error, shortened(text, LONGEST_TEXT));
    details.hidden = !told && text.length <= LONGEST_TEXT;
    setText(summary, told ? "Traceback" : "Complete message");
    if (!details.hidden) traceback.draw(told ? failure.traceback : text);
  }

  return { elements: [bad, good], draw };
}

// The arguments, where the application lets them be seen.
export function createArguments() {
  const positional = createValue("Positional arguments");
  const named = createValue("Keyword arguments");
  const first = el("div", {}, el("h4", {}, "Positional"), positional.element);
  const second = el("div", {}, el("h4", {}, "Keyword"), named.element);
  const note = el("p", { class: "hint" }, "Some of them are left out or hidden.");
  const element = section("Arguments", "arguments", first, second, note);

  function draw(task) {
    element.hidden = task.args === undefined && task.kwargs === undefined;
    first.hidden = task.args === undefined;
    second.hidden = task.kwargs === undefined;
    note.hidden = task.arguments_changed !== true;
    if (!first.hidden) positional.draw(task.args);
    if (!second.hidden) named.draw(task.kwargs);
  }

  return { element, draw };
}
