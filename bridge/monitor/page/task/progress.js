// How far a task is: a bar, the message and figures of the loop it is in, its open steps.

import { number, shortened } from "../format.js";
import { isFinished } from "../states.js";
import { el, setAttribute, setText } from "./dom.js";
import { stepName } from "./moments.js";
import { isCanvas, isObject, objects } from "./reading.js";
import { elapsed } from "./times.js";

const LONGEST_MESSAGE = 500;

export function createProgress() {
  const fill = el("div", { class: "fill" });
  const bar = el("div", { class: "bar", role: "progressbar", "aria-label": "Progress", "aria-valuemin": "0", "aria-valuemax": "100" }, fill);
  const message = el("span", { class: "message" });
  const figures = el("span", { class: "numbers" });
  const element = el("div", { class: "progress", hidden: true }, bar, el("div", { class: "line" }, message, figures));

  function draw(task) {
    const progress = isObject(task.progress) ? task.progress : {};
    const percent = percentOf(task, progress);
    const running = task.state === "STARTED";
    element.hidden = isCanvas(task) || (percent === null && !running);
    if (element.hidden) return;
    bar.classList.toggle("indeterminate", percent === null);
    setAttribute(bar, "aria-valuenow", percent === null ? null : Math.floor(percent));
    fill.style.transform = `scaleX(${percent === null ? 0 : percent / 100})`;
    setText(message, shortened(messageOf(task, progress), LONGEST_MESSAGE));
    setText(figures, figuresOf(progress, percent, isFinished(task)));
  }

  return { element, draw };
}

function percentOf(task, { percent, current, total }) {
  if (task.state === "SUCCESS") return 100;
  const value = Number.isFinite(percent) ? percent : Number.isFinite(current) && total > 0 ? (100 * current) / total : null;
  return value === null ? null : Math.min(100, Math.max(0, value));
}

function messageOf(task, progress) {
  if (task.state === "SUCCESS") return "";
  const open = objects(task.steps).filter(({ status }) => status === "started");
  return String(progress.message ?? progress.step ?? (isFinished(task) || !open.length ? "" : stepName(open.at(-1))));
}

function figuresOf({ current, total, rate, eta }, percent, ended) {
  const shown = [];
  if (Number.isFinite(current)) shown.push(Number.isFinite(total) && total > 0 ? `${number(current)} of ${number(total)}` : number(current));
  if (!ended && Number.isFinite(rate) && rate > 0) shown.push(`${number(rate)}/s`);
  if (!ended && Number.isFinite(eta)) shown.push(`${elapsed(eta)} left`);
  if (percent !== null) shown.push(`${Math.floor(percent)} %`);
  return shown.join(" · ");
}
