// One task of the list. `show` updates the row and changes only what differs.

import { isFinished } from "/bridge/bridge.js";
import { el, setText } from "./dom.js";
import { clock, duration, number } from "./format.js";
import { outcome, Parts, tallied } from "./parts.js";
import { renderResult } from "./results.js";

const WORDS = {
  PENDING: "queued",
  RECEIVED: "received",
  STARTED: "running",
  RETRY: "retrying",
  SUCCESS: "done",
  FAILURE: "failed",
  REVOKED: "cancelled",
  STALLED: "stalled",
  IGNORED: "ignored",
  REJECTED: "rejected",
};

const REASONS = {
  revoked: "The task was cancelled before it started.",
  cancelled: "The task stopped itself after a request to cancel.",
  terminated: "The task was stopped by force.",
  expired: "The task expired before it started.",
};

const SHOWN_STEPS = 12;

const LONGEST_CAUSE = 300;

// A worker may already have the next attempt and wait for its time.
const waitsForRetry = ({ state, retry_at }) =>
  state === "RETRY" || (retry_at !== undefined && (state === "RECEIVED" || state === "PENDING"));

const shownState = (task) => (waitsForRetry(task) ? "RETRY" : task.state);

export const stateWord = (task) => WORDS[shownState(task)] ?? String(task.state).toLowerCase();

function retryWords({ state, attempt = 1, retry_at, error, reason }, now) {
  const left = Math.ceil(retry_at - now);
  const when = left > 0 ? `Retrying in ${duration(left)}` : "Retrying";
  const cause = error ? `${error.type ?? "Error"}: ${error.message ?? ""}` : String(reason ?? "");
  const shown = cause.length > LONGEST_CAUSE ? `${cause.slice(0, LONGEST_CAUSE)}…` : cause;
  return [`${when}, attempt ${state === "RETRY" ? attempt + 1 : attempt}`, shown].filter(Boolean).join(": ");
}

export class Row {
  constructor(id, cancel) {
    this.id = id;
    this.name = el("h3", {}, "task");
    this.chip = el("span", { className: "chip" });
    this.time = el("span", { className: "time" });
    this.cancel = el("button", { type: "button", className: "quiet" }, "Cancel");
    this.fill = el("div", { className: "fill" });
    this.bar = el("div", { className: "bar", role: "progressbar", ariaValueMin: "0", ariaValueMax: "100" }, this.fill);
    this.message = el("span", { className: "message" });
    this.numbers = el("span", { className: "numbers" });
    this.steps = el("ol", { className: "steps", hidden: true, ariaLabel: "Steps" });
    this.note = el("p", { className: "note", hidden: true });
    this.story = el("p", { className: "story", hidden: true });
    this.outcome = el("div", { className: "outcome", hidden: true });
    this.log = new Log();
    this.parts = new Parts(stateWord);
    this.foot = el("a", { className: "id", href: `/tasks/${encodeURIComponent(id)}` }, id);
    this.element = this.#layout();
    this.cancel.addEventListener("click", () => cancel(this));
    this.restart();
  }

  #layout() {
    return el(
      "li",
      { className: "task" },
      el("div", { className: "head" }, this.name, this.chip, this.time, this.cancel),
      this.bar,
      el("div", { className: "line" }, this.message, this.numbers),
      this.steps,
      this.note,
      this.story,
      this.outcome,
      this.parts.element,
      el("div", { className: "foot" }, this.log.element, this.foot),
    );
  }

  // A snapshot replaced the state: what was drawn from single events is drawn again.
  restart() {
    this.tokens = 0;
    this.drawn = null;
    this.story.replaceChildren();
    this.log.restart();
  }

  show(task) {
    const finished = isFinished(task);
    // What was started together has no button: which tasks to revoke is known to none but who started it.
    const isCanvas = Boolean(task.parts);
    setText(this.name, isCanvas ? `${task.canvas ?? "canvas"} of ${task.name ?? "tasks"}` : (task.name ?? "task"));
    setText(this.chip, task.attempt > 1 && !waitsForRetry(task) ? `${stateWord(task)} · attempt ${task.attempt}` : stateWord(task));
    this.element.dataset.state = shownState(task);
    this.foot.ariaLabel = `Task ${this.id} as JSON`;
    this.cancel.hidden = finished || isCanvas;
    this.cancel.ariaLabel = `Cancel ${task.name ?? "task"} ${this.id.slice(0, 8)}`;
    this.#showNote(task, finished);
    this.#showProgress(task, finished);
    this.#showSteps(task);
    this.#showStory(task);
    this.#showOutcome(task, finished);
    this.log.show(task);
    this.parts.show(task);
  }

  tick(task, now) {
    const from = task.first_started_at ?? task.started_at ?? task.queued_at;
    // A running time is shown in tenths of a second, a final time exactly.
    const until = task.ended_at ?? Math.max(from, Math.round(now * 10) / 10);
    setText(this.time, from === undefined ? "" : duration(until - from));
    if (this.countsDown) this.say(retryWords(task, now));
  }

  // After the first request, a second press stops by force, because a task may never check for requests.
  #showNote(task, finished) {
    const asked = task.cancel_requested !== undefined && !finished;
    this.element.classList.toggle("asked", asked);
    this.force = asked && !task.terminate;
    setText(this.cancel, asked ? "Stop by force" : "Cancel");
    if (asked) this.cancel.disabled = task.terminate === true;
    this.countsDown = waitsForRetry(task) && !asked && !this.complaint;
    if (task.state === "STALLED") this.say("The worker of this task no longer sends heartbeats.");
    else if (task.terminate && asked) this.say("Stop by force requested.");
    else if (asked) this.say("Cancellation requested. The task stops at its next check, or does not start.");
    else if (!this.countsDown && (!this.complaint || finished)) this.note.hidden = true;
  }

  complain(text) {
    this.complaint = true;
    this.say(text);
  }

  say(text) {
    this.note.hidden = false;
    setText(this.note, text);
  }

  #showProgress(task, finished) {
    const progress = task.progress ?? {};
    const percent = task.state === "SUCCESS" ? 100 : progress.percent;
    this.bar.ariaLabel = `Progress of ${task.name ?? "task"}`;
    if (percent === undefined) this.bar.removeAttribute("aria-valuenow");
    else this.bar.ariaValueNow = String(Math.round(percent));
    // A canvas that failed shows no percentage: its percentage counts work, and a failed task has done some of it.
    const failed = task.parts && finished && task.state !== "SUCCESS";
    const words = failed ? outcome(task.parts) : task.parts ? tallied(task.parts) : (progress.message ?? "");
    this.bar.ariaValueText = [stateWord(task), words].filter(Boolean).join(", ");
    this.bar.classList.toggle("indeterminate", percent === undefined && task.state === "STARTED");
    this.fill.style.setProperty("transform", `scaleX(${Math.min(100, Math.max(0, percent ?? 0)) / 100})`);
    setText(this.message, words);
    setText(this.numbers, failed ? "" : figures(progress, percent, finished));
  }

  #showSteps(task) {
    const steps = task.state === "SUCCESS" ? [] : (task.steps ?? []).slice(-SHOWN_STEPS);
    const drawn = JSON.stringify(steps);
    if (drawn === this.drawnSteps) return;
    this.drawnSteps = drawn;
    const items = steps.map(({ name, status, path }) => {
      const words = (path ?? [name]).join(" / ");
      const item = el("li", { ariaLabel: `${words}: ${status}` }, words);
      item.dataset.status = status;
      return item;
    });
    this.steps.replaceChildren(...items);
    this.steps.hidden = !items.length;
  }

  #showStory(task) {
    if (task.state === "SUCCESS") {
      this.story.hidden = true;
      return;
    }
    const fresh = [];
    for (let i = task.events.length - 1; i >= 0; i--) {
      const { type, data } = task.events[i];
      if (type !== "token") continue;
      if (data.index < this.tokens) break;
      fresh.push(data);
    }
    if (!fresh.length) return;
    fresh.reverse();
    if (fresh[0].index > this.tokens) this.story.append("… ");
    this.story.append(fresh.map((token) => token.text).join(""));
    this.tokens = fresh.at(-1).index + 1;
    this.story.hidden = false;
  }

  #showOutcome(task, finished) {
    if (!finished || this.drawn === task.state) return;
    this.drawn = task.state;
    const { type, message } = task.error ?? {};
    let parts = [];
    if (task.state === "SUCCESS" && task.result !== undefined && task.result !== null) {
      parts = renderResult(task.name, task.result);
    } else if (task.reason && !task.error) {
      parts = [el("p", { className: "reason" }, REASONS[task.reason] ?? task.reason)];
    } else if (task.error) {
      parts = [el("p", { className: "error" }, el("strong", {}, type ?? "Error"), ` ${message ?? ""}`)];
    }
    this.outcome.replaceChildren(...parts.filter(Boolean));
    this.outcome.hidden = !parts.length;
  }
}

function figures({ current, total, rate, eta }, percent, finished) {
  const parts = [];
  if (current !== undefined && total) parts.push(`${number(current)} of ${number(total)}`);
  else if (current) parts.push(number(current));
  if (!finished && rate) parts.push(`${number(rate)}/s`);
  if (!finished && eta !== undefined && eta !== null) parts.push(`${duration(eta)} left`);
  if (percent !== undefined) parts.push(`${Math.floor(percent)} %`);
  return parts.join(" · ");
}

// The log and custom events of a task. They are drawn only while the log is open.
class Log {
  constructor() {
    this.summary = el("summary", {});
    this.list = el("ol", {});
    this.element = el("details", { className: "log", hidden: true }, this.summary, this.list);
    this.element.addEventListener("toggle", () => this.task && this.#draw());
    this.restart();
  }

  restart() {
    this.next = 0;
    this.count = 0;
    this.counted = 0;
    this.list.replaceChildren();
  }

  show(task) {
    this.task = task;
    const end = task.omitted + task.events.length;
    for (; this.counted < end; this.counted++) {
      const event = task.events[this.counted - task.omitted];
      if (event && event.type !== "token") this.count++;
    }
    this.element.hidden = this.count === 0;
    setText(this.summary, `Log (${number(this.count)})`);
    this.#draw();
  }

  #draw() {
    if (!this.element.open) return;
    const { events, omitted } = this.task;
    const fresh = events.slice(Math.max(0, this.next - omitted)).filter((event) => event.type !== "token");
    this.next = omitted + events.length;
    this.list.append(...fresh.map(entry));
  }
}

const stepWords = ({ type, name, status, path }) => (type === "step" ? `${(path ?? [name]).join(" / ")} ${status}` : null);

function entry(event) {
  const level = event.type === "log" ? event.level : event.type;
  const words = event.type === "log" ? event.message : stepWords(event) ?? JSON.stringify(event.data);
  const item = el("li", {}, el("time", {}, clock(event.at)), el("span", { className: "level" }, level), el("span", {}, words));
  item.dataset.level = level;
  return item;
}
