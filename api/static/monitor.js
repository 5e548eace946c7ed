// The monitor page. It reads one stream of all tasks.

import { connect, fold, isFinished } from "/bridge/bridge.js";
import { setUpForms } from "./forms.js";
import { plural } from "./format.js";
import { TaskList } from "./list.js";
import { Row, stateWord } from "./row.js";

const STATUS_WORDS = {
  connecting: "Connecting",
  open: "Live",
  reconnecting: "Reconnecting",
  refused: "Refused",
  idle: "Closed",
};

const announcer = document.querySelector("#announcer");
const list = new TaskList(document.querySelector("#tasks"), {
  makeRow: (id) => new Row(id, cancel),
  // A task that has ended has no more events, so its state is not needed.
  onDrop: (id, task) => isFinished(task) && feed.forget(id),
  onDraw: drawn,
});
let announced = "";
// Seconds that this clock is ahead of the workers' clocks, so that running times do not jump. A delayed event, for
// example after an outage, gives a larger value; the smallest value is the best.
let skew = Infinity;

function changed(task, event, id) {
  if (task === null) return list.forget(id);
  // A task of a canvas is listed under the canvas: a thousand of them would push everything else off the page.
  if (event.canvas_id ?? task.canvas_id) {
    list.remove(id);
    if (isFinished(task)) feed.forget(id);
    return;
  }
  if (event.type === "snapshot") list.restart(id);
  else if (event.at) skew = Math.min(skew, Date.now() / 1000 - event.at);
  if (event.type === "state") announce(task);
  list.put(id, task, task.queued_at ?? task.at ?? now());
}

function drawn() {
  list.forEachRow((row, task) => row.tick(task, now()));
  count();
  if (announced) announcer.textContent = announced;
  announced = "";
}

function count() {
  const all = list.tasks;
  const failed = all.filter((task) => task.state === "FAILURE").length;
  const active = all.filter((task) => !isFinished(task)).length;
  const parts = [active && `${active} active`, failed && `${failed} failed`, all.length && plural(all.length, "task")];
  document.querySelector("#summary").textContent = parts.filter(Boolean).join(" · ");
  document.querySelector("#empty").hidden = all.length > 0;
}

const now = () => Date.now() / 1000 - (Number.isFinite(skew) ? skew : 0);

function tick() {
  list.forEachRow((row, task) => isFinished(task) || row.tick(task, now()));
}

// Screen readers announce the start and the end of tasks, not each step.
function announce(task) {
  if (task.state === "STARTED" || isFinished(task)) announced = `${task.name ?? "Task"} ${stateWord(task)}`;
}

function started({ id, name }) {
  if (list.has(id)) return;
  list.put(id, { ...fold(null, { type: "state", task: id, state: "PENDING", at: now() }), name }, now());
}

// The request shows on the page when its event arrives, so that all pages show the same.
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
  list.redraw(row.id);
}

function status(state, detail) {
  const badge = document.querySelector("#connection");
  badge.dataset.state = state;
  badge.querySelector("span").textContent = STATUS_WORDS[state];
  document.querySelector("#refused").hidden = state !== "refused";
  document.querySelector("#refused-detail").textContent = detail ?? "";
}

setUpForms(started);
const bridge = connect({ url: "/events" });
const feed = bridge.topic("tasks");
feed.subscribe((tasks, event, id) => id === undefined || changed(tasks.get(id) ?? null, event, id));
bridge.onStatus(status);
setInterval(tick, 200);
