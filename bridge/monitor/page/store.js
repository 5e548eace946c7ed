// All tasks that the page knows, as rows. They come from the feed and, page by page, from the server's list.

import { isFinished } from "./states.js";
import { compact, foldRow } from "./rows.js";

// Rows. Above that, those of the oldest tasks that have ended are forgotten.
export const MOST_ROWS = 50_000;

// `schedule(callback)` calls back when it is time to draw, see pace.js. `onEvent(at, worker)` hears of live events.
export function createStore({ schedule, onEvent = () => {}, most = MOST_ROWS }) {
  const rows = new Map();
  const listeners = new Set();
  let changed = new Set();
  let structural = false;
  let scheduled = false;
  // Events since a page of the list was asked for: the page may be older than they are.
  let recent = null;

  // One event of the feed, which is an object with a `type`.
  function apply(event) {
    if (event.type === "reset" && event.task === undefined) return clear();
    if (typeof event.task !== "string") return;
    const before = rows.get(event.task) ?? null;
    const row = foldRow(before, event);
    if (event.type !== "snapshot" && Number.isFinite(event.at)) onEvent(event.at, row.worker);
    recent?.push(event);
    set(before, row, event.type !== "progress");
  }

  function set(before, row, restructures) {
    rows.set(row.task, row);
    changed.add(row.task);
    structural ||= before === null || restructures;
    if (rows.size > store.most) forgetOldest();
    announce();
  }

  // What the server says of tasks, which may be older than `events` of them.
  function put(tasks, events = []) {
    const later = grouped(events);
    for (const task of tasks) {
      if (typeof task?.task !== "string") continue;
      const before = rows.get(task.task) ?? null;
      const row = (later.get(task.task) ?? []).reduce(foldRow, compact(task, before));
      set(before, row, true);
    }
  }

  // Before a page of the list is asked for. Returns a function that takes it.
  function expectPage() {
    const events = (recent = []);
    return (tasks) => {
      recent = null;
      put(tasks, events);
    };
  }

  // A twentieth at once, because finding the oldest takes time.
  function forgetOldest() {
    const oldestFirst = [...rows.values()].sort((a, b) => isFinished(b) - isFinished(a) || a.since - b.since);
    for (const { task } of oldestFirst.slice(0, Math.ceil(store.most / 20))) {
      rows.delete(task);
      changed.add(task);
    }
    structural = true;
  }

  function clear() {
    for (const id of rows.keys()) changed.add(id);
    rows.clear();
    structural = true;
    announce();
  }

  function announce() {
    if (scheduled) return;
    scheduled = true;
    schedule(notify);
  }

  function notify() {
    scheduled = false;
    const batch = { changed, structural };
    changed = new Set();
    structural = false;
    for (const listener of [...listeners]) listener(batch);
  }

  const store = {
    rows,
    // How many rows are kept.
    most,
    apply,
    put,
    expectPage,
    clear,
    get: (id) => rows.get(id) ?? null,
    // `listener({ changed, structural })`: ids of rows that changed or are gone, and whether more than progress did.
    subscribe(listener) {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
  };
  return store;
}

function grouped(events) {
  const found = new Map();
  for (const event of events) found.set(event.task, [...(found.get(event.task) ?? []), event]);
  return found;
}

