// How many tasks are in which group of states. Parts of a canvas count in their canvas.

import { plural } from "./format.js";
import { groupOf, isFinished } from "./states.js";

// Counts all rows again only when more than progress has changed.
export function createCounts(store) {
  let stale = true;
  let found = count([]);
  store.subscribe(({ structural }) => (stale ||= structural));

  return {
    current() {
      if (stale) found = count(store.rows.values());
      stale = false;
      return found;
    },
  };
}

export function count(rows) {
  const counts = { all: 0, active: 0, running: 0, failed: 0, done: 0 };
  for (const row of rows) {
    if (row.canvas_id !== undefined) continue;
    counts.all += 1;
    if (!isFinished(row)) counts.active += 1;
    const group = groupOf(row);
    if (Object.hasOwn(counts, group)) counts[group] += 1;
  }
  return counts;
}

export function titleOf({ running, failed }, title) {
  return [running && `${running} running`, failed && `${failed} failed`, title].filter(Boolean).join(" · ");
}

export const summaryOf = ({ done, failed }) => `${plural(done, "task")} done, ${failed} failed.`;

const most = (count) => (count > 99 ? "99+" : String(count));

// A picture with the number of tasks that run, and a mark if one has failed. It is made of numbers only.
export function iconOf({ running, failed }) {
  const colour = failed ? "#b3261e" : "#0d7468";
  const text = running ? most(running) : "!";
  const size = text.length > 2 ? 13 : text.length > 1 ? 17 : 21;
  const mark = failed && running ? '<circle cx="26" cy="6" r="6" fill="#fff"/><circle cx="26" cy="6" r="4.5" fill="#b3261e"/>' : "";
  const picture =
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32"><rect width="32" height="32" rx="7" fill="${colour}"/>` +
    `<text x="16" y="${16 + size * 0.36}" font-family="sans-serif" font-weight="700" font-size="${size}" fill="#fff" text-anchor="middle">${text}</text>${mark}</svg>`;
  return `data:image/svg+xml,${encodeURIComponent(picture)}`;
}
