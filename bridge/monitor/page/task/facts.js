// The figures of a task: its id, worker, times and relatives.

import { duration } from "../format.js";
import { isFinished } from "../states.js";
import { attemptsOf } from "./attempts.js";
import { el, link, setText, setTime } from "./dom.js";
import { time } from "./reading.js";
import { elapsed } from "./times.js";

export function createFacts() {
  const element = el("dl", { class: "facts" });
  const rows = new Map();

  // One fact: a value is made once, and `fill` sets what it shows.
  function show(name, value, fill, tag = "span") {
    let row = rows.get(name);
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
  // `values` are made into links when they change.
  const showLinks = (name, values, paramsOf) =>
    show(name, values.length ? values : null, (shown, _, row) => {
      const value = JSON.stringify(values);
      if (row.value === value) return;
      row.value = value;
      shown.replaceChildren(...values.flatMap((each, index) => [index ? ", " : "", link(paramsOf(each), each)]));
    });

  function draw(task, now) {
    showText("Id", String(task.task));
    showLinks("Worker", texts(task.worker), () => ({ view: "workers" }));
    const attempts = attemptsOf(task);
    const first = time(task.first_started_at) ?? attempts[0]?.from ?? null;
    const number = Number.isInteger(task.attempt) && task.attempt > 1 ? `${task.attempt}` : null;
    showText("Attempt", number);
    showTime("Queued", time(task.queued_at), now);
    showTime("Started", first, now);
    const ended = isFinished(task) ? time(task.ended_at) : null;
    showTime("Ended", ended, now);
    showText("Waited", waitOf(time(task.queued_at), first));
    showText("Elapsed", first === null || ended !== null ? null : elapsed(now - first));
    showText("Duration", first === null || ended === null ? null : duration(ended - first));
    showLinks("Parent", texts(task.parent), toTask);
    showLinks("Root", texts(task.root).filter((id) => id !== task.task && id !== task.parent), toTask);
    showLinks("Canvas", texts(task.canvas_id).filter((id) => id !== task.task), toTask);
    showLinks("Tags", Array.isArray(task.tags) ? task.tags.flatMap(texts) : [], (tag) => ({ tag }));
  }

  return { element, draw };
}

const texts = (value) => (typeof value === "string" && value ? [value] : []);

const toTask = (id) => ({ task: id });

const waitOf = (queued, started) => (queued === null || started === null || started - queued < 0.001 ? null : duration(started - queued));
