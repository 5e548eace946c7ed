// Watches Celery tasks live. No dependencies, no build step. docs/browser.md of the project describes it.
//
//   import { connect } from "/bridge/bridge.js";
//   const bridge = connect({ url: "/events" });
//   const task = bridge.task(id);
//   task.subscribe((state) => console.log(state.state, state.progress?.percent));

import { createPool } from "./pool.js";
import { carriesTasks, TAG_PREFIX, taskOf, TASK_PREFIX } from "./positions.js";
import { reasonOf } from "./refusal.js";
import { canShare, createShare } from "./share.js";
import { createTokens, keyOf } from "./tokens.js";
import { createTopics } from "./topics.js";

export { fold, isFinished } from "./fold.js";

export function connect({ url, getToken, share = false, shareKey = "", heartbeat = 15, cancelUrl } = {}) {
  const address = new URL(url ?? "/events", globalThis.document?.baseURI ?? NOWHERE).href;
  if (!(heartbeat > 0)) throw new TypeError("heartbeat is a number of seconds above 0, the BRIDGE_HEARTBEAT of the server.");
  const tokens = createTokens(getToken);
  const statusListeners = new Set();
  const topics = createTopics({ watch: (...it) => source?.watch(...it), unwatch: (topic) => source?.unwatch(topic) });
  const streams = { url: address, tokens, heartbeat };
  let status = { status: "idle", detail: "" };
  let source = null;
  let closed = false;

  if (share && canShare()) {
    joinTabs();
    addEventListener("pagehide", leaveTabs);
    addEventListener("pageshow", rejoinTabs);
  } else {
    source = createPool({ ...streams, onStatus: report, onEvent: topics.apply, onRefused: topics.refuse });
  }

  // Tabs share only what all of them may read: those of one URL, one `shareKey` and one kind of token.
  async function joinTabs() {
    let key;
    for (let failures = 0; key === undefined; failures++) {
      key = await tokens.get().then(keyOf).catch((error) => report("reconnecting", String(error?.message ?? error)));
      if (key === undefined) await new Promise((resolve) => setTimeout(resolve, Math.min(30, 2 ** failures) * 1000));
    }
    if (closed || source) return;
    const name = JSON.stringify([address, String(shareKey), key]);
    const openPool = (listeners) => createPool({ ...streams, ...listeners });
    source = createShare({ name, topics, heartbeat, openPool, onStatus: report });
  }

  // A page in the back/forward cache must not lead.
  function leaveTabs() {
    source?.close();
    source = null;
  }

  function rejoinTabs({ persisted }) {
    if (persisted && !closed) joinTabs();
  }

  function report(name, detail = "") {
    if (closed || (status.status === name && status.detail === detail)) return;
    status = { status: name, detail };
    for (const listener of [...statusListeners]) listener(name, detail);
  }

  function onStatus(listener) {
    statusListeners.add(listener);
    listener(status.status, status.detail);
    return () => statusListeners.delete(listener);
  }

  async function cancel(id, { terminate = false } = {}) {
    const asked = cancelAddress(id, terminate);
    const response = await fetch(asked, { method: "DELETE", headers: { Accept: "application/json", ...(await tokens.headers()) } });
    if (!response.ok) throw new Error(await reasonOf(response));
  }

  function cancelAddress(id, terminate) {
    if (typeof cancelUrl === "function") return cancelUrl(id, { terminate });
    const path = (cancelUrl ?? `${address.replace(/[?#].*$/, "")}/{id}`).replace("{id}", () => encodeURIComponent(id));
    const asked = new URL(path, address);
    if (terminate) asked.searchParams.set("terminate", "1");
    return asked.href;
  }

  function topic(name) {
    if (typeof name !== "string" || name === "") throw new TypeError("The name of a topic is text and not empty.");
    const id = taskOf(name);
    const handle = createHandle(topics, name);
    return id === null ? handle : Object.assign(handle, { id, cancel: (options) => cancel(id, options) });
  }

  function close() {
    closed = true;
    source?.close();
    topics.close();
    statusListeners.clear();
    globalThis.removeEventListener?.("pagehide", leaveTabs);
    globalThis.removeEventListener?.("pageshow", rejoinTabs);
  }

  return {
    topic,
    task: (id) => topic(TASK_PREFIX + id),
    tag: (tag) => topic(TAG_PREFIX + tag),
    get status() {
      return status;
    },
    onStatus,
    close,
  };
}

// Rendered on a server, a page opens no stream, so any base serves.
const NOWHERE = "http://localhost/";

// Watches one topic for one part of a page: closing it does not concern others that watch the same topic.
function createHandle(topics, name) {
  const stops = new Set();
  let closed = false;
  let entry = null;

  // The topic is watched from the first listener to the last.
  function subscribe(listener) {
    if (closed) throw new Error(`${name}: this was closed; ask the bridge for another one.`);
    entry = topics.retain(name);
    const watched = entry;
    // Each call is a subscription of its own, also with the same function.
    const hear = (...event) => listener(...event);
    watched.listeners.add(hear);
    const stop = () => {
      if (!stops.delete(stop)) return;
      watched.listeners.delete(hear);
      topics.release(watched);
    };
    stops.add(stop);
    if (watched.refused !== null) hear(watched.value, { type: "refused", detail: watched.refused });
    else if (!isBlank(watched.value)) hear(watched.value, null);
    return stop;
  }

  // The same object until something changes.
  function getSnapshot() {
    const known = entry ?? topics.entries.get(name);
    if (!known) return carriesTasks(name) ? NO_TASKS : null;
    return carriesTasks(name) ? (known.array ??= [...known.value.values()]) : known.value;
  }

  function close() {
    closed = true;
    for (const stop of [...stops]) stop();
  }

  return {
    topic: name,
    subscribe,
    getSnapshot,
    get state() {
      return getSnapshot();
    },
    get refused() {
      return (entry ?? topics.entries.get(name))?.refused ?? null;
    },
    // Forgets one task of a feed, which the page does not need any more.
    forget(id) {
      const known = topics.entries.get(name);
      if (known && carriesTasks(name) && known.value.delete(id)) known.array = null;
    },
    close,
  };
}

const NO_TASKS = Object.freeze([]);

const isBlank = (value) => value === null || (value instanceof Map && value.size === 0);
