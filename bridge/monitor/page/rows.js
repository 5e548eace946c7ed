// What the page keeps of each task: one small object, which is replaced when something changes. Pure.

import { fold } from "../../static/fold.js";
import { shortened } from "./format.js";

// Characters of each text. The page of a task shows all of them.
const MOST_TEXT = 300;
const MOST_TAGS = 8;

// The types that change a row. Others, such as logs, are not even parsed.
export const ROW_TYPES = new Set(["snapshot", "state", "progress", "cancel_requested"]);

const TEXTS = ["task", "state", "name", "worker", "reason", "canvas", "canvas_id", "parent", "root"];
const NUMBERS = [
  ...["attempt", "index", "queued_at", "started_at", "first_started_at", "ended_at", "retry_at", "cancel_requested"],
  "at",
];
const FIGURES = ["current", "total", "percent", "rate", "eta"];

// The row after one more event; `row` is null for a task that was not known.
export function foldRow(row, event) {
  if (event.type === "progress" && row) return withProgress(row, event);
  if (event.type === "snapshot") return compact(event, row);
  return compact(fold(row, event), row, event.at);
}

// A row from a state or a snapshot of any size and form. It keeps its place: `since` is when the task was queued, or
// when it was first heard of.
export function compact(task, before = null, at = undefined) {
  const row = {};
  for (const name of TEXTS) if (typeof task[name] === "string") row[name] = shortened(task[name], MOST_TEXT);
  for (const name of NUMBERS) if (Number.isFinite(task[name])) row[name] = task[name];
  // An id is never shortened: it says which task this is.
  row.task = task.task;
  row.state ??= "PENDING";
  row.terminate = task.terminate === true;
  row.tags = Array.isArray(task.tags) ? task.tags.slice(0, MOST_TAGS).map((tag) => shortened(String(tag), MOST_TEXT)) : NONE;
  // `fold` tells "no error" by the lack of the field.
  if (isObject(task.error)) row.error = errorOf(task.error);
  row.parts = partsOf(task.parts);
  row.progress = progressOf(task.progress);
  row.since = row.queued_at ?? before?.since ?? row.first_started_at ?? finite(at) ?? row.ended_at ?? row.at ?? 0;
  return row;
}

// What the snapshot of a canvas says of one of its parts.
export const partOf = (child, canvas) => ({ ...child, canvas_id: canvas, progress: { percent: child.percent } });

const NONE = Object.freeze([]);

const finite = (value) => (Number.isFinite(value) ? value : undefined);

function withProgress(row, event) {
  return { ...row, progress: progressOf(event), parts: event.parts ? partsOf(event.parts) : row.parts };
}

function errorOf(error) {
  return { type: shortened(String(error.type ?? "Error"), 100), message: shortened(String(error.message ?? ""), MOST_TEXT) };
}

// How many parts are in each state, of a canvas.
function partsOf(parts) {
  if (!isObject(parts)) return null;
  return new Map(Object.entries(parts).filter(([, count]) => Number.isFinite(count) && count >= 0).slice(0, 20));
}

function progressOf(event) {
  if (!isObject(event)) return null;
  const progress = {};
  for (const name of FIGURES) if (Number.isFinite(event[name])) progress[name] = event[name];
  for (const name of ["message", "step"]) if (typeof event[name] === "string") progress[name] = shortened(event[name], MOST_TEXT);
  return progress;
}

const isObject = (value) => value !== null && typeof value === "object" && !Array.isArray(value);

// What the search looks at.
export function textOf(row) {
  const { task, name, worker, tags, error, reason, progress } = row;
  const texts = [task, name, worker, ...tags, error?.type, error?.message, reason, progress?.message, progress?.step];
  return texts.filter(Boolean).join("\n").toLowerCase();
}
