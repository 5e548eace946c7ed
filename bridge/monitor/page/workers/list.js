// The workers as a table. On a phone each is a card.

import { isoTime, number, plural } from "../format.js";
import { el, link, removeOthers, setAttribute, setText } from "../task/dom.js";
import { elapsed, relative } from "../task/times.js";

// Tasks of a worker that are shown before the reader asks for all of them.
const SHOWN_TASKS = 8;
const HEADS = ["Worker", "State", "Runs", "Done", "Failed"];

export function createList() {
  const body = el("tbody", { role: "rowgroup" });
  const head = el("tr", { role: "row" }, ...HEADS.map((name) => el("th", { role: "columnheader", scope: "col" }, name)));
  const element = el("table", { role: "table", "aria-label": "Workers", hidden: true }, el("thead", { role: "rowgroup" }, head), body);
  const rows = new Map();

  function draw(workers, now) {
    element.hidden = workers.length === 0;
    const names = new Set(workers.map((worker) => worker.name));
    removeOthers(rows, names);
    workers.forEach((worker, index) => {
      if (!rows.has(worker.name)) rows.set(worker.name, createRow(worker.name));
      const row = rows.get(worker.name);
      if (body.children[index] !== row.element) body.insertBefore(row.element, body.children[index] ?? null);
      row.draw(worker, now);
    });
  }

  return { element, draw };
}

function createRow(name) {
  const [chip, seen] = [el("span", { class: "chip" }), el("time")];
  const tasks = el("ul");
  const more = el("button", { type: "button", class: "quiet", hidden: true, onclick: showAll });
  const others = el("span", { class: "hint", hidden: true });
  const idle = el("span", { class: "hint" }, "nothing");
  const [succeeded, failed] = [el("td", { role: "cell", "data-head": "Done" }), el("td", { role: "cell", "data-head": "Failed" })];
  const element = el(
    "tr",
    { role: "row" },
    el("th", { role: "rowheader", scope: "row" }, link({ worker: name }, name)),
    el("td", { role: "cell", class: "alive" }, chip, " ", seen),
    el("td", { role: "cell", class: "runs" }, idle, tasks, more, others),
    succeeded,
    failed,
  );
  const shown = new Map();
  let all = false;
  let last = null;

  function showAll() {
    all = true;
    draw(...last);
  }

  function draw(worker, now) {
    last = [worker, now];
    element.dataset.alive = worker.alive;
    setText(chip, worker.alive ? "alive" : "silent");
    drawSeen(worker, now);
    const wanted = all ? worker.running : worker.running.slice(0, SHOWN_TASKS);
    drawTasks(wanted, now);
    idle.hidden = worker.active > 0;
    more.hidden = wanted.length === worker.running.length;
    setText(more, `Show ${plural(worker.running.length - wanted.length, "more task")}`);
    others.hidden = !more.hidden || worker.active === worker.running.length;
    setText(others, `and ${plural(worker.active - worker.running.length, "more task")}`);
    setText(succeeded, number(worker.succeeded));
    setText(failed, number(worker.failed));
    failed.toggleAttribute("data-some", worker.failed > 0);
  }

  function drawSeen({ alive, lastSeen, since }, now) {
    const at = alive ? since : lastSeen ?? since;
    seen.hidden = at === null;
    if (at === null) return;
    setText(seen, alive ? `for ${elapsed(now - at)}` : `last seen ${relative(at, now)}`);
    for (const attribute of ["title", "datetime"]) setAttribute(seen, attribute, isoTime(at));
  }

  function drawTasks(running, now) {
    const ids = new Set(running.map(({ task }) => task));
    removeOthers(shown, ids);
    for (const { task, name: called, from } of running) {
      if (!shown.has(task)) shown.set(task, createTask(task, called));
      const item = shown.get(task);
      if (!item.element.parentNode) tasks.append(item.element);
      setText(item.length, from === null ? "" : elapsed(now - from));
    }
  }

  return { element, draw };
}

function createTask(id, name) {
  const length = el("span", { class: "hint" });
  const shown = link({ task: id }, name);
  shown.title = id;
  return { element: el("li", {}, shown, " ", length), length };
}
