// What is known of each watched topic, for all that watch it in this page.

import { fold, isFinished } from "./fold.js";
import { carriesTasks, hasState, isSeen, taskOf } from "./positions.js";

// Tasks of a feed. Above that, the oldest that have ended are forgotten.
export const KEPT_TASKS = 10_000;

// Milliseconds for which a topic is still watched after its last listener has left: often another one comes.
const LINGER = 1000;

// A snapshot replaces everything, whatever was seen.
const WITHOUT_POSITION = new Set(["snapshot", "reset", "end"]);

// `source` has `watch(topic, word)` and `unwatch(topic)`.
export function createTopics(source) {
  const entries = new Map();

  // Returns the entry of a topic, which is watched until `release` is called as often.
  function retain(topic) {
    let entry = entries.get(topic);
    if (!entry) {
      entry = { topic, uses: 0, word: "", value: carriesTasks(topic) ? new Map() : null, ended: false, refused: null };
      Object.assign(entry, { listeners: new Set(), timer: 0, array: null, synced: false });
      entries.set(topic, entry);
      source.watch(topic, "");
    }
    clearTimeout(entry.timer);
    entry.uses += 1;
    return entry;
  }

  function release(entry) {
    entry.uses -= 1;
    if (entry.uses > 0) return;
    entry.timer = setTimeout(() => {
      entries.delete(entry.topic);
      source.unwatch(entry.topic);
    }, LINGER);
    entry.timer.unref?.();
  }

  // One event of a stream. What was seen already is dropped, unless it has no position of its own.
  function apply({ topic, type, data, word }) {
    const entry = entries.get(topic);
    if (!entry || (!WITHOUT_POSITION.has(type) && isSeen(word, entry.word))) return;
    entry.word = type === "reset" ? "" : word;
    if (type === "position") return;
    if (!hasState(topic)) return applyMessage(entry, type, data);
    const event = parsed(type, data);
    if (event === null) return;
    try {
      applyEvent(entry, event);
    } catch (error) {
      console.error("an event could not be read:", error, event);
    }
  }

  function applyMessage(entry, type, data) {
    const message = { type, data, id: entry.word || null };
    if (type !== "reset") entry.value = message;
    notify(entry, message);
  }

  function applyEvent(entry, event) {
    const own = taskOf(entry.topic);
    if (event.type === "reset" && own === null) return forgetAll(entry, event);
    if (typeof event.task !== "string" || (own !== null && event.task !== own)) return;
    if (own === null) return applyToFeed(entry, event);
    entry.value = fold(entry.value, event);
    entry.ended ||= event.type === "end";
    notify(entry, event);
  }

  function applyToFeed(entry, event) {
    const task = fold(entry.value.get(event.task) ?? null, event);
    if (task === null) entry.value.delete(event.task);
    else entry.value.set(event.task, task);
    entry.array = null;
    if (entry.value.size > KEPT_TASKS) makeRoom(entry.value);
    notify(entry, event, event.task);
  }

  function forgetAll(entry, event) {
    const ids = [...entry.value.keys()];
    entry.value.clear();
    entry.array = null;
    for (const id of ids) notify(entry, event, id);
  }

  // What another tab knows of a topic, from `save`. What this page knows is kept if it is newer.
  function load(topic, { word, value, ended, refused }) {
    const entry = entries.get(topic);
    // A topic without a state goes on from where this page is.
    if (!entry || isSeen(word, entry.word) || (entry.word && !hasState(topic))) return;
    Object.assign(entry, { word, ended });
    if (refused !== null) refuse(topic, refused);
    else if (carriesTasks(topic)) loadFeed(entry, value);
    else if (value !== null) {
      entry.value = value;
      notify(entry, hasState(topic) ? { ...value, type: "snapshot" } : value);
    }
  }

  function loadFeed(entry, tasks) {
    const gone = [...entry.value.keys()].filter((id) => !tasks.has(id));
    entry.value = new Map(tasks);
    entry.array = null;
    for (const id of gone) notify(entry, { type: "reset" }, id);
    for (const [id, task] of tasks) notify(entry, { ...task, type: "snapshot" }, id);
  }

  function save(topic) {
    const { word, value, ended, refused } = entries.get(topic);
    return { word, value, ended, refused };
  }

  function refuse(topic, detail) {
    const entry = entries.get(topic);
    if (!entry) return;
    entry.refused = detail;
    notify(entry, { type: "refused", detail });
  }

  function close() {
    for (const entry of entries.values()) {
      clearTimeout(entry.timer);
      entry.listeners.clear();
    }
    entries.clear();
  }

  return { entries, retain, release, apply, load, save, refuse, close };
}

// One listener that fails does not keep the others from hearing.
function notify(entry, event, id) {
  for (const listener of [...entry.listeners]) {
    try {
      listener(entry.value, event, id);
    } catch (error) {
      // As for a listener of the browser's own: the error is reported, and nothing else stops.
      globalThis.reportError ? reportError(error) : console.error(error);
    }
  }
}

function parsed(type, data) {
  try {
    const event = JSON.parse(data);
    return event && typeof event === "object" && !Array.isArray(event) ? { ...event, type: event.type ?? type } : null;
  } catch {
    console.error("not a task event:", type, data.slice(0, 200));
    return null;
  }
}

function makeRoom(tasks) {
  let [oldest] = tasks.keys();
  for (const [id, task] of tasks) {
    if (!isFinished(task)) continue;
    oldest = id;
    break;
  }
  tasks.delete(oldest);
}
