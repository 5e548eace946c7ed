// The page: one stream of all tasks, drawn at most once a frame.

import { fold, follow, isFinished } from "/bridge/bridge.js";
import { setUpForms } from "./forms.js";
import { plural } from "./format.js";
import { Row, stateWord } from "./row.js";

const MOST_ROWS = 200;
const STATUS_WORDS = {
  connecting: "Connecting",
  open: "Live",
  reconnecting: "Reconnecting",
  refused: "Refused",
  closed: "Closed",
};

const list = document.querySelector("#tasks");
const announcer = document.querySelector("#announcer");
const rows = new Map();
const tasks = new Map();
const dirty = new Set();
let frame = 0;
let skew = 0;

function changed(task, event, id) {
  if (task === null) tasks.delete(id);
  // A part is listed under its whole: a thousand of them would push everything else off the page.
  else if (event.whole ?? task.whole) return remove(id);
  else tasks.set(id, task);
  if (event.type === "snapshot") rows.get(id)?.restart();
  // Seconds this clock is ahead of the worker's, so that running times do not jump.
  else if (event.at) skew = Date.now() / 1000 - event.at;
  if (event.type === "state") announce(task);
  touch(id);
}

function touch(id) {
  dirty.add(id);
  frame ||= requestAnimationFrame(draw);
}

function draw() {
  frame = 0;
  for (const id of dirty) {
    const task = tasks.get(id);
    if (task) drawOne(id, task);
    else remove(id);
  }
  dirty.clear();
  for (const id of [...rows.keys()].slice(0, -MOST_ROWS)) remove(id);
  count();
}

function drawOne(id, task) {
  let row = rows.get(id);
  if (!row) {
    row = new Row(id, cancel);
    place(row, task);
    rows.set(id, row);
  }
  row.show(task);
  row.tick(task, now());
}

// Newest first; the order is settled when a task is first seen.
function place(row, task) {
  row.since = task.queued_at ?? task.at ?? now();
  row.element.dataset.since = row.since;
  const older = [...list.children].find((element) => Number(element.dataset.since) < row.since);
  list.insertBefore(row.element, older ?? null);
}

function remove(id) {
  rows.get(id)?.element.remove();
  rows.delete(id);
  tasks.delete(id);
}

function count() {
  const all = [...tasks.values()];
  const failed = all.filter((task) => task.state === "FAILURE").length;
  const active = all.filter((task) => !isFinished(task)).length;
  const parts = [active && `${active} active`, failed && `${failed} failed`, all.length && plural(all.length, "task")];
  document.querySelector("#summary").textContent = parts.filter(Boolean).join(" · ");
  document.querySelector("#empty").hidden = all.length > 0;
}

const now = () => Date.now() / 1000 - skew;

function tick() {
  for (const [id, row] of rows) {
    const task = tasks.get(id);
    if (task && !isFinished(task)) row.tick(task, now());
  }
}

// Screen readers hear how tasks begin and end, not every step on the way.
function announce(task) {
  if (task.state === "STARTED" || isFinished(task)) announcer.textContent = `${task.name ?? "Task"} ${stateWord(task)}`;
}

function started({ id, name }) {
  if (tasks.has(id)) return;
  tasks.set(id, { ...fold(null, { type: "state", task: id, state: "PENDING", at: now() }), name });
  touch(id);
}

// What was asked for shows when the bridge tells it to everyone, so that all pages agree.
async function cancel(row) {
  row.cancel.disabled = true;
  row.complaint = false;
  const force = row.force ? "?terminate=1" : "";
  try {
    const response = await fetch(`/tasks/${encodeURIComponent(row.id)}${force}`, { method: "DELETE" });
    if (!response.ok) throw new Error((await response.json()).detail);
  } catch (error) {
    row.complain(error.message);
  }
  row.cancel.disabled = false;
  touch(row.id);
}

function status(state, detail) {
  const badge = document.querySelector("#connection");
  badge.dataset.state = state;
  badge.querySelector("span").textContent = STATUS_WORDS[state];
  document.querySelector("#refused").hidden = state !== "refused";
  document.querySelector("#refused-detail").textContent = detail ?? "";
}

setUpForms(started);
follow("/events", { types: ["token"], onChange: changed, onStatus: status });
setInterval(tick, 200);
