// The figures of a task: its id, worker, times and relatives.

import { duration } from "../format.js";
import { isFinished } from "../states.js";
import { el, link, setText, setTime } from "./dom.js";
import { attemptsOf } from "./moments.js";
import { elapsed, time } from "./times.js";

export function createFacts() {
  const element = el("dl", { class: "facts" });
  const rows = new Map();

  // One fact: a value is made once, and `fill` sets what it shows.
  function show(name, value, fill, tag = "span") {
    let row = rows.get(name);
    if (!row && value === null) return;
    if (!row) {
      const shown = el(tag);
      row = { shown, box: el("div", {}, el("dt", {}, name), el("dd", {}, shown)), value: null };
      rows.set(name, row);
      element.append(row.box);
    }
    row.box.hidden = value === null;
    if (value !== null) fill(row.shown, value, row);
  }

  const showTime = (name, at, now) => show(name, at, (shown, value) => setTime(shown, value, now), "time");
  const showText = (name, text) => show(name, text, setText);
  const showLink = (name, id, params) =>
    show(name, id, (shown, value, row) => {
      if (row.value === value) return;
      row.value = value;
      shown.replaceChildren(link(params(value), value));
    });

  function draw(task, now) {
    showText("Id", String(task.task));
    showLink("Worker", text(task.worker), () => ({ view: "workers" }));
    const attempts = attemptsOf(task);
    const first = time(task.first_started_at) ?? attempts[0]?.from ?? null;
    const number = Number.isInteger(task.attempt) && task.attempt > 1 ? `${task.attempt}` : null;
    showText("Attempt", number);
    showTime("Queued", time(task.queued_at), now);
    showTime("Started", first, now);
    const ended = isFinished(task) ? time(task.ended_at) : null;
    showTime("Ended", ended, now);
    showText("Waited", waitOf(time(task.queued_at), first));
    showText(ended === null ? "Elapsed" : "Duration", first === null ? null : ended === null ? elapsed(now - first) : duration(ended - first));
    show(ended === null ? "Duration" : "Elapsed", null);
    showLink("Parent", text(task.parent), (id) => ({ task: id }));
    showLink("Root", task.root === task.task || task.root === task.parent ? null : text(task.root), (id) => ({ task: id }));
    showLink("Canvas", task.canvas_id === task.task ? null : text(task.canvas_id), (id) => ({ task: id }));
    showText("Tags", Array.isArray(task.tags) && task.tags.length ? task.tags.map(String).join(", ") : null);
  }

  return { element, draw };
}

const text = (value) => (typeof value === "string" && value ? value : null);

const waitOf = (queued, started) => (queued === null || started === null || started - queued < 0.001 ? null : duration(started - queued));
