// One row of the list. Its element is used again for another task, so `show` sets everything; it touches only what differs.

import { el, setText } from "../dom.js";
import { ago, dateTime, duration, isoTime } from "../format.js";
import { address } from "../router.js";
import { isFinished, shownState } from "../states.js";
import { durationOf } from "./query.js";
import { chipOf, figuresOf, messageOf, nameOf, partsOf, percentShown } from "./words.js";

let rows = 0;

const cell = (name, ...children) => el("span", { role: "gridcell", className: `cell ${name}` }, ...children);

// `settings.canCancel`, `clock`, `isOpen(id)` and `isPart(row)` say what a row offers.
export class Row {
  constructor(options) {
    this.options = options;
    this.row = null;
    this.name = el("span", { className: "name" });
    this.id = el("span", { className: "id" });
    this.link = el("a", { className: "open", tabIndex: -1 }, this.name, this.id);
    this.parts = el("button", { type: "button", className: "expand plain", tabIndex: -1 });
    this.chip = el("span", { className: "chip" });
    this.fill = el("span", { className: "fill" });
    this.bar = el("span", { className: "bar", role: "progressbar", ariaValueMin: "0", ariaValueMax: "100" }, this.fill);
    this.message = el("span", { className: "message" });
    this.figures = el("span", { className: "figures" });
    this.worker = el("span", {});
    this.queued = el("time", {});
    this.duration = el("span", {});
    this.cancel = el("button", { type: "button", className: "quiet cancel", tabIndex: -1 });
    this.element = this.#layout();
  }

  #layout() {
    return el(
      "div",
      { role: "row", className: "row", id: `row-${++rows}`, tabIndex: -1 },
      cell("state", this.chip),
      cell("task", this.link, this.parts),
      cell("progress", this.bar, el("span", { className: "line" }, this.message, this.figures)),
      cell("worker", this.worker),
      cell("queued", this.queued),
      cell("duration", this.duration),
      cell("actions", this.cancel),
    );
  }

  place(index, height) {
    if (this.index === index && this.height === height) return;
    [this.index, this.height] = [index, height];
    this.element.style.transform = `translateY(${index * height}px)`;
    this.element.ariaRowIndex = String(index + 2);
  }

  show(row) {
    const other = this.row?.task !== row.task;
    this.row = row;
    if (other) this.#showTask(row);
    setText(this.name, nameOf(row));
    setText(this.chip, chipOf(row));
    this.element.dataset.state = shownState(row);
    this.element.classList.toggle("part", this.options.isPart(row));
    this.#showProgress(row);
    this.#showParts(row);
    this.#showCancel(row);
    setText(this.worker, row.worker ?? "");
    this.tick();
  }

  // What does not change as long as the row is that of this task.
  #showTask(row) {
    setText(this.id, row.task);
    this.link.href = address({ task: row.task });
    this.element.dataset.task = row.task;
    this.queued.dateTime = isoTime(row.since);
    this.queued.title = dateTime(row.since);
  }

  // The times, which go on without an event.
  tick() {
    const { clock } = this.options;
    const { row } = this;
    const seconds = durationOf(row, clock.nowOf(row));
    // A running time is shown in whole seconds, a final time exactly.
    setText(this.duration, seconds === undefined ? "" : duration(isFinished(row) || seconds < 1 ? seconds : Math.floor(seconds)));
    setText(this.queued, row.since ? ago(clock.now() - row.since) : "");
    setText(this.message, messageOf(row, clock.nowOf(row)));
  }

  #showProgress(row) {
    const percent = percentShown(row);
    if (percent === undefined) this.bar.removeAttribute("aria-valuenow");
    else this.bar.ariaValueNow = String(Math.round(percent));
    this.bar.ariaLabel = `Progress of ${nameOf(row)}`;
    this.bar.ariaValueText = [chipOf(row), messageOf(row, this.options.clock.nowOf(row))].filter(Boolean).join(", ");
    this.bar.classList.toggle("indeterminate", percent === undefined && row.state === "STARTED");
    this.fill.style.transform = `scaleX(${(percent ?? 0) / 100})`;
    setText(this.figures, figuresOf(row));
  }

  #showParts(row) {
    this.parts.hidden = !row.parts;
    if (!row.parts) return;
    const open = this.options.isOpen(row.task);
    this.parts.ariaExpanded = String(open);
    setText(this.parts, partsOf(row.parts));
    this.parts.ariaLabel = `${partsOf(row.parts)} of ${nameOf(row)}`;
  }

  // Of a group, the page of the group cancels all parts. The second press stops by force, because a task may never
  // check for requests.
  #showCancel(row) {
    const asked = row.cancel_requested !== undefined;
    this.cancel.hidden = !this.options.settings.canCancel || isFinished(row) || Boolean(row.parts);
    if (this.cancel.hidden) return;
    this.force = asked && !row.terminate;
    this.cancel.disabled = this.options.isPending(row.task) || (asked && row.terminate);
    setText(this.cancel, asked ? "Stop by force" : "Cancel");
    this.cancel.ariaLabel = `${asked ? "Stop" : "Cancel"} ${nameOf(row)} ${row.task.slice(0, 8)}${asked ? " by force" : ""}`;
  }

  // Only the current row is reached with Tab, so that Tab leaves the list.
  setCurrent(current) {
    const index = current ? 0 : -1;
    if (this.element.tabIndex === index) return;
    for (const element of [this.element, this.link, this.parts, this.cancel]) element.tabIndex = index;
  }
}
