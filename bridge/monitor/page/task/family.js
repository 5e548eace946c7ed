// Parents, children and canvas of a task, as a tree with a Gantt chart. What the page does not know is asked for.

import { number } from "../format.js";
import { section, setText, el } from "./dom.js";
import { createGantt } from "./gantt.js";
import { isObject } from "./reading.js";
import { createIndex, relativesOf } from "./relatives.js";

// Requests at once, and milliseconds between two looks at all tasks that the page knows. The clock ticks each second.
const AT_ONCE = 2;
const EVERY = 900;
const MOST_ANSWERS = 500;

export function createFamily({ store, api }, changed) {
  const gantt = createGantt();
  const note = el("p", { class: "hint", hidden: true });
  const element = section("Related tasks", "family", gantt.element, note);
  const answers = new Map();
  const asking = new Set();
  let nodes = new Map();
  let waiting = [];
  let looked = -Infinity;
  let stale = true;
  let closed = false;
  const index = createIndex();
  for (const row of store.rows.values()) index.add(row);
  const stop = store.subscribe(learn);

  function learn({ changed, structural }) {
    if (!structural) return;
    stale = true;
    for (const id of changed) if (store.rows.has(id)) index.add(store.rows.get(id));
  }

  function draw(task, now) {
    if (!look(task)) return;
    element.hidden = nodes.size < 2;
    if (element.hidden) return;
    setText(element.firstElementChild, task.parts ? "Parts" : "Related tasks");
    gantt.draw(nodes, task.task, now);
    const omitted = omittedOf(task);
    note.hidden = omitted === "";
    setText(note, omitted);
  }

  // Whether it was time to look again: there may be hundreds of rows to draw.
  function look(task) {
    if (performance.now() - looked < (stale ? EVERY / 4 : EVERY)) return false;
    [looked, stale] = [performance.now(), false];
    const found = relativesOf(task, { rows: store.rows, answers, index });
    nodes = found.nodes;
    waiting = found.wanted.filter((each) => !asking.has(each));
    ask();
    return true;
  }

  function ask() {
    while (!closed && asking.size < AT_ONCE && waiting.length && answers.size < MOST_ANSWERS) {
      const wanted = waiting.shift();
      asking.add(wanted);
      askFor(wanted);
    }
  }

  // What fails for another reason than that nothing is known is asked for again.
  async function askFor(wanted) {
    try {
      const answer = await api.task(wanted);
      answers.set(wanted, isObject(answer) ? answer : null);
      if (isObject(answer)) index.add({ ...answer, task: wanted });
    } catch (error) {
      if (error.status === 404) answers.set(wanted, null);
    }
    asking.delete(wanted);
    if (closed) return;
    stale = true;
    changed();
    ask();
  }

  return {
    element,
    draw,
    close() {
      closed = true;
      stop();
    },
  };
}

// The server lists the parts of a canvas that matter most.
function omittedOf({ parts, children }) {
  if (!parts || typeof parts !== "object" || !Array.isArray(children)) return "";
  const total = Object.values(parts).reduce((sum, each) => sum + (Number.isFinite(each) ? each : 0), 0);
  return total > children.length ? `${number(children.length)} of ${number(total)} parts are listed: those that failed or run, and then the newest.` : "";
}
