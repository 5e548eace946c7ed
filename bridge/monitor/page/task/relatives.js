// Which tasks belong to one: those above it, those below it, and the parts of its canvas. Pure.

import { isFinished } from "../states.js";
import { isCanvas, objects, time } from "./reading.js";
import { nodeOf } from "./tree.js";

const MOST_ABOVE = 20;
const MOST_BESIDE = 100;
const MOST = 500;

// The ids below each id. There may be tens of thousands of tasks, so each is added once and not looked for.
export function createIndex() {
  const below = new Map();

  function add({ task, parent, canvas_id }) {
    for (const id of [canvas_id, parent]) {
      if (typeof id !== "string" || id === task) continue;
      if (!below.has(id)) below.set(id, new Set());
      below.get(id).add(task);
    }
  }

  return { add, below: (id) => [...(below.get(id) ?? [])] };
}

// `task` is the state of the task, `rows` what the page knows of all tasks, and `answers` what the server said of
// those that were asked for, both Maps by id; an answer is `null` for a task that the server does not know. `index`
// has the rows and the answers.
//
// Returns `{ nodes, wanted }`: the nodes of the tree by id, and the ids to ask the server for.
export function relativesOf(task, { rows, answers, index }) {
  const found = new Map();
  const wanted = [];
  // The parts that the state of the task lists, and those that an earlier answer about its canvas lists.
  const [listed, beside] = [new Map(listedBy(task)), new Map()];
  const sources = [beside, answers, listed, rows];

  function add(id) {
    if (found.has(id) || found.size >= MOST) return;
    const known = id === task.task ? task : merged(id, sources);
    if (known !== null) found.set(id, nodeOf({ ...known, task: id }));
    if (id !== task.task && isWanted(id, known, answers)) wanted.push(id);
  }

  const line = above(task, (id) => merged(id, sources));
  for (const [id, child] of line.flatMap((each) => listedBy(answers.get(each)))) beside.set(id, child);
  for (const id of [task.task, ...line, ...listed.keys(), ...beside.keys()]) add(id);
  const queue = [task.task, ...listed.keys()];
  for (const id of queue) {
    if (found.size >= MOST) break;
    const children = index.below(id).filter((child) => !found.has(child));
    children.forEach(add);
    queue.push(...children);
  }
  for (const id of line.slice(0, 2)) for (const other of index.below(id).slice(0, MOST_BESIDE)) add(other);
  return { nodes: found, wanted };
}

// The parts that a canvas lists, by id. They are below it, whatever they say themselves.
function listedBy(canvas) {
  const children = objects(canvas?.children).filter(({ task }) => typeof task === "string" && task !== "" && task !== canvas.task);
  return children.map((child) => [child.task, { ...child, canvas_id: canvas.task }]);
}

// The ids of the parent and the canvas, and of those above them, the nearest first.
function above(task, known) {
  const line = [];
  const passed = new Set([task.task]);
  for (let queue = linksOf(task); queue.length && line.length < MOST_ABOVE; ) {
    const id = queue.shift();
    if (passed.has(id)) continue;
    passed.add(id);
    line.push(id);
    queue.push(...linksOf(known(id) ?? {}));
  }
  return line;
}

const linksOf = ({ parent, canvas_id, root }) => [parent, canvas_id, root].filter((id) => typeof id === "string" && id !== "");

// All that is known of a task. A later source counts more: what comes live is newer than an answer.
function merged(id, sources) {
  const known = sources.map((source) => source.get(id)).filter((each) => each !== null && each !== undefined);
  return known.length ? Object.assign({}, ...known.map(defined)) : null;
}

const defined = (object) => Object.fromEntries(Object.entries(object).filter(([name, value]) => name !== "__proto__" && value !== undefined && value !== null));

// A task is asked for once, and again when it has ended since. What lists the parts of a canvas is only in the answer.
function isWanted(id, known, answers) {
  const answer = answers.get(id);
  if (answer === undefined) return known === null || time(known.started_at) === null || !known.name || isCanvas(known);
  return answer !== null && known !== null && isFinished(known) && time(known.ended_at) === null && !isFinished(answer);
}
