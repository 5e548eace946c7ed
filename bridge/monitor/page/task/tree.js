// The tree of tasks around one, as the rows of a Gantt chart. Pure.

import { isFinished } from "../states.js";
import { newestTime } from "./moments.js";
import { nameOf, time } from "./reading.js";

export const MOST_ROWS = 500;

// What the tree needs of the state of a task.
export function nodeOf(task) {
  const text = (value) => (typeof value === "string" && value ? value : null);
  const queued = time(task.queued_at);
  const started = time(task.first_started_at) ?? time(task.started_at);
  const ended = isFinished(task) ? time(task.ended_at) : null;
  return {
    id: String(task.task),
    name: nameOf(task),
    state: text(task.state) ?? "PENDING",
    parent: text(task.parent),
    canvas: text(task.canvas_id),
    index: Number.isInteger(task.index) ? task.index : Infinity,
    finished: isFinished(task),
    ...placed(queued, started, ended),
    newest: newestTime(task),
  };
}

// Clocks differ: a task waits before it starts, and ends after it.
function placed(queued, started, ended) {
  const from = started ?? ended;
  const wait = queued !== null && from !== null ? Math.min(queued, from) : queued;
  return { queued: wait, started, ended: ended === null ? null : Math.max(ended, from ?? ended) };
}

// The rows of a tree: parents before their children, those by their place in a group and then by time.
//
// `nodes` is a Map by id. A node whose parent is not among them, or is itself or below itself, is a root.
// Returns `{ rows, omitted }`; a row has `node`, `depth`, `children` (how many), `place` and `of` among its siblings.
export function rowsOf(nodes, collapsed = new Set(), most = MOST_ROWS) {
  const below = childrenOf(nodes);
  const rows = [];
  let omitted = 0;
  const stack = siblings(below.get(null) ?? [], 0).reverse();
  while (stack.length) {
    const row = stack.pop();
    const children = below.get(row.node.id) ?? [];
    if (rows.length < most) rows.push({ ...row, children: children.length });
    else omitted += 1;
    if (!collapsed.has(row.node.id)) stack.push(...siblings(children, row.depth + 1).reverse());
  }
  return { rows, omitted };
}

function siblings(nodes, depth) {
  const order = (node) => node.queued ?? node.started ?? Infinity;
  const sorted = [...nodes].sort((one, other) => compare(one.index, other.index) || compare(order(one), order(other)));
  return sorted.map((node, index) => ({ node, depth, place: index + 1, of: sorted.length }));
}

const compare = (one, other) => (one === other ? 0 : one < other ? -1 : 1);

function childrenOf(nodes) {
  const below = new Map();
  for (const node of nodes.values()) {
    const parent = above(node, nodes);
    if (below.has(parent)) below.get(parent).push(node);
    else below.set(parent, [node]);
  }
  return below;
}

// The parent of a node among `nodes`, or null. A circle is cut at its smallest id, so that each node has one place.
function above(node, nodes) {
  const candidate = [node.canvas, node.parent].find((id) => id !== null && id !== node.id && nodes.has(id)) ?? null;
  if (candidate === null) return null;
  const passed = new Set([node.id]);
  for (let at = nodes.get(candidate); at; ) {
    if (at.id === node.id) return [...passed].every((id) => node.id <= id) ? null : candidate;
    if (passed.has(at.id)) return candidate;
    passed.add(at.id);
    const next = [at.canvas, at.parent].find((id) => id !== null && id !== at.id && nodes.has(id));
    at = next === undefined ? null : nodes.get(next);
  }
  return candidate;
}

// From the first to the last time of all rows. `null` where no time is known.
export function spanOf(rows, now) {
  const times = rows.flatMap(({ node }) => [node.queued, node.started, node.ended, node.finished ? null : now]).filter((at) => at !== null);
  const known = rows.some(({ node }) => node.queued !== null || node.started !== null || node.ended !== null);
  return known ? { from: Math.min(...times), to: Math.max(...times) } : null;
}
