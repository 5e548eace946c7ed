// A tree of tasks with their times to scale, as a `treegrid`: arrow keys move, open and close, Enter shows a task.

import { duration, number } from "../format.js";
import { stateWord } from "../states.js";
import { el, link, removeOthers, setAttribute, setText } from "./dom.js";
import { scaleOf } from "./scale.js";
import { createAxis, placeBar } from "./timeline.js";
import { elapsed } from "./times.js";
import { rowsOf, spanOf } from "./tree.js";

const TICKS = 4;

export function createGantt() {
  const axis = createAxis();
  const body = el("tbody", { role: "rowgroup" });
  const heads = ["Task", "State", "Duration"].map((name) => el("th", { role: "columnheader", scope: "col" }, name));
  const chart = el("th", { role: "columnheader", scope: "col", class: "chart" }, el("span", { class: "unseen" }, "Times"), axis.element);
  const table = el("table", { role: "treegrid", "aria-label": "Tasks and their times" });
  table.append(el("thead", { role: "rowgroup" }, el("tr", { role: "row" }, ...heads, chart)), body);
  const note = el("p", { class: "hint", hidden: true });
  const element = el("div", { class: "gantt" }, table, note);
  const drawn = new Map();
  const collapsed = new Set();
  let last = null;
  let focused = null;

  function draw(nodes, current, now) {
    last = [nodes, current, now];
    const { rows, omitted } = rowsOf(nodes, collapsed);
    const span = spanOf(rows, now);
    const scale = span && scaleOf(span.from, span.to, TICKS);
    if (scale) axis.draw(scale);
    place(rows);
    if (!rows.some(({ node }) => node.id === focused)) focused = rows.some(({ node }) => node.id === current) ? current : rows[0]?.node.id;
    for (const row of rows) drawn.get(row.node.id).draw(row, { current, scale, now, collapsed, focused });
    note.hidden = omitted === 0;
    setText(note, `${number(omitted)} more tasks are not shown.`);
  }

  // Rows are made once, and moved only if their order changed.
  function place(rows) {
    const wanted = new Set(rows.map(({ node }) => node.id));
    removeOthers(drawn, wanted);
    rows.forEach(({ node }, index) => {
      if (!drawn.has(node.id)) drawn.set(node.id, createRow(node.id, () => toggle(node.id)));
      const { element: row } = drawn.get(node.id);
      if (body.children[index] !== row) body.insertBefore(row, body.children[index] ?? null);
    });
  }

  function toggle(id) {
    if (!collapsed.delete(id)) collapsed.add(id);
    draw(...last);
  }

  function moveTo(row) {
    if (!row) return;
    focused = row.dataset.id;
    draw(...last);
    drawn.get(focused)?.element.focus();
  }

  table.addEventListener("focusin", ({ target }) => (focused = target.closest("tbody tr")?.dataset.id ?? focused));
  table.addEventListener("keydown", (event) => {
    const row = event.target.closest("tbody tr");
    if (!row || event.altKey || event.ctrlKey || event.metaKey) return;
    if (!press(event.key, row)) return;
    event.preventDefault();
    event.stopPropagation();
  });

  function press(key, row) {
    const level = Number(row.getAttribute("aria-level"));
    const expanded = row.getAttribute("aria-expanded");
    const rows = [...body.children];
    const at = rows.indexOf(row);
    if (key === "ArrowDown") moveTo(rows[at + 1]);
    else if (key === "ArrowUp") moveTo(rows[at - 1]);
    else if (key === "Home") moveTo(rows[0]);
    else if (key === "End") moveTo(rows.at(-1));
    else if (key === "ArrowRight" && expanded === "false") toggle(row.dataset.id);
    else if (key === "ArrowRight" && expanded === "true") moveTo(rows[at + 1]);
    else if (key === "ArrowLeft" && expanded === "true") toggle(row.dataset.id);
    else if (key === "ArrowLeft") moveTo(rows.slice(0, at).findLast((each) => Number(each.getAttribute("aria-level")) < level));
    else if (key === "Enter") row.querySelector("a").click();
    else return false;
    return true;
  }

  return { element, draw };
}

// The parts of a canvas have numbers, because their names are often the same.
const titleOf = ({ id, name, index }) => (Number.isFinite(index) ? `${index + 1}. ${name || id}` : name || id);

function lengthOf({ started, ended, finished }, now) {
  if (started === null || (finished && ended === null)) return "";
  return finished ? duration(ended - started) : elapsed(now - started);
}

function createRow(id, toggle) {
  const fold = el("span", { class: "fold", "aria-hidden": "true", onclick: toggle });
  const name = link({ task: id }, id);
  name.tabIndex = -1;
  const label = el("div", { class: "name" }, fold, name);
  const state = el("td", { role: "gridcell", class: "state" });
  const length = el("td", { role: "gridcell", class: "length" });
  const [wait, run] = [el("i", { class: "bar-of-time", "data-state": "wait" }), el("i", { class: "bar-of-time" })];
  const track = el("span", { class: "track", "aria-hidden": "true" }, wait, run);
  const element = el("tr", { role: "row" }, el("td", { role: "gridcell" }, label), state, length, el("td", { role: "gridcell", class: "chart" }, track));
  element.dataset.id = id;

  function draw({ node, depth, children, place, of }, { current, scale, now, collapsed, focused }) {
    setText(name, titleOf(node));
    name.title = id;
    label.style.paddingInlineStart = `${Math.min(depth, 12) * 0.875}rem`;
    element.tabIndex = id === focused ? 0 : -1;
    element.dataset.state = node.state;
    for (const [attribute, value] of [["aria-level", depth + 1], ["aria-posinset", place], ["aria-setsize", of]]) setAttribute(element, attribute, value);
    setAttribute(element, "aria-expanded", children ? String(!collapsed.has(id)) : null);
    setAttribute(element, "aria-current", id === current ? "true" : null);
    setText(fold, children ? (collapsed.has(id) ? "▸" : "▾") : "");
    setText(state, stateWord(node));
    const until = node.ended ?? (node.finished ? null : now);
    setText(length, lengthOf(node, now));
    drawBars(node, until, scale);
  }

  function drawBars(node, until, scale) {
    const [begin, end] = [node.started ?? node.ended ?? until, until ?? node.started];
    wait.hidden = !scale || node.queued === null || begin === null;
    run.hidden = !scale || node.started === null;
    if (!wait.hidden) placeBar(wait, scale, node.queued, Math.max(begin, node.queued));
    if (!run.hidden) placeBar(run, scale, node.started, Math.max(node.started, end));
  }

  return { element, draw };
}
