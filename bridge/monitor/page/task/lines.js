// The lines of a log: step, log and custom events of a task as text, filtered. Pure.

import { isoTime } from "../format.js";
import { isObject, time } from "./reading.js";

// The levels of Python's logging, from the least to the most important. What is no log counts as info.
export const LEVELS = Object.freeze(["debug", "info", "warning", "error", "critical"]);

// Characters of a line that the page shows until it is asked for all of it.
export const SHOWN_CHARACTERS = 1000;

// A line is made once for an event, which is never changed.
const made = new WeakMap();

// `{ at, level, type, text }` of an event. `level` is one of LEVELS.
export function lineOf(event) {
  let line = made.get(event);
  if (!line) made.set(event, (line = { at: time(event.at), level: levelOf(event), type: String(event.type), text: textOf(event) }));
  return line;
}

function levelOf({ type, level, status }) {
  if (type === "step") return status === "failed" ? "error" : "info";
  const name = String(level).toLowerCase();
  if (type !== "log") return "info";
  if (name === "warn") return "warning";
  if (name === "fatal") return "critical";
  return LEVELS.includes(name) ? name : "info";
}

function textOf(event) {
  if (event.type === "log") return textOfValue(event.message);
  if (event.type === "step") return `${Array.isArray(event.path) ? event.path.join(" / ") : event.name} ${event.status}`;
  const { type, v, task, at, canvas_id, data, ...rest } = event;
  const shown = data === undefined && isObject(rest) && Object.keys(rest).length ? rest : data;
  return textOfValue(shown);
}

const textOfValue = (value) => (typeof value === "string" ? value : JSON.stringify(value) ?? "");

// Whether a line is at least of that level and has the text, in whatever case.
export function isWanted(line, { level = "debug", search = "" }) {
  if (LEVELS.indexOf(line.level) < LEVELS.indexOf(level)) return false;
  if (!search) return true;
  const sought = search.toLowerCase();
  return line.text.toLowerCase().includes(sought) || line.type.toLowerCase().includes(sought);
}

// The beginning of a text, and how many characters follow. A pair of surrogates is not parted.
export function cut(text, most = SHOWN_CHARACTERS) {
  if (text.length <= most) return { shown: text, more: 0 };
  const parts = /[\uD800-\uDBFF]/.test(text[most - 1]);
  const length = parts ? most - 1 : most;
  return { shown: text.slice(0, length), more: text.length - length };
}

// The file that a reader downloads: one line of text for each event, in parts, because all of it may be megabytes.
export function* fileOf(events, omitted) {
  if (omitted > 0) yield `# ${omitted} earlier lines were not kept.\n`;
  for (const event of events) {
    const { at, level, type, text } = lineOf(event);
    yield `${at === null ? "-" : isoTime(at)} ${type === "log" ? level.toUpperCase() : type} ${text}\n`;
  }
}

// A file name that no system refuses.
export const fileName = (id) => `task-${String(id).replace(/[^\w.-]+/g, "_").slice(0, 80)}.log`;
