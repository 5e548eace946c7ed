// One stream for all tabs of a browser. The tab that holds a lock is the leader: it has the stream and passes events
// on. If it closes or crashes, the browser gives the lock to another tab; if it is frozen, another tab takes the lock.

import { createLeader } from "./leader.js";

// What the tabs say to each other. Tabs with another version of it do not share.
const VERSION = 1;
// Milliseconds. A leader that does not answer within this time is frozen.
const ANSWER = 5000;

export const canShare = () => Boolean(globalThis.navigator?.locks && globalThis.BroadcastChannel);

// `topics` is the store of this page; it calls `watch` and `unwatch`. `openPool(listeners)` opens streams. Tabs of one
// `name` share. `heartbeat` is in seconds.
export function createShare({ name, topics, heartbeat, openPool, onStatus }) {
  const lock = `bridge/${VERSION}:${name}`;
  const lockOf = (tab) => `${lock}:tab:${tab}`;
  const tab = crypto.randomUUID();
  const channel = new BroadcastChannel(lock);
  const present = new AbortController();
  const quiet = 2 * heartbeat * 1000 + ANSWER;
  let waiting = null;
  let own = null; // what this tab does as the leader
  let leader = null; // the id of the tab that leads
  let heard = performance.now();
  let checking = false;
  let announcing = false;
  let closed = false;

  channel.onmessage = ({ data }) => closed || receive(data);
  const post = (kind, fields = {}) => closed || channel.postMessage({ kind, from: tab, ...fields });

  desynchronise();
  // A tab holds a lock of its own while it lives, so that the leader learns of its end.
  hold(lockOf(tab), { signal: present.signal }, () => {
    stand();
    announce();
    return new Promise((resolve) => present.signal.addEventListener("abort", resolve));
  });
  const watchdog = setInterval(() => performance.now() - heard > quiet && topics.entries.size && check(), ANSWER);

  // Waits for the lock, or takes it from a frozen tab, and leads while it is held.
  async function stand(steal = false) {
    waiting?.abort();
    const mine = (waiting = new AbortController());
    await hold(lock, steal ? { steal } : { signal: mine.signal }, lead);
    if (closed || mine !== waiting) return;
    retire();
    stand();
    announce();
  }

  function lead() {
    if (closed) return;
    leader = tab;
    own = createLeader({ tab, topics, lockOf, hold, openPool, onStatus, post });
    return own.done;
  }

  function retire() {
    own?.close();
    own = null;
    desynchronise();
  }

  // Until the leader has sent the state of a topic, its events are not for this tab.
  function desynchronise() {
    for (const entry of topics.entries.values()) entry.synced = false;
  }

  // Tells the leader all that this tab watches, and where it is.
  function announce() {
    if (own || announcing) return;
    announcing = true;
    queueMicrotask(() => {
      announcing = false;
      if (own || closed) return;
      const open = [...topics.entries.values()].filter((entry) => !entry.ended && entry.refused === null);
      post("want", { wanted: open.map(({ topic, word, synced }) => [topic, word, !synced]) });
      if (open.some((entry) => !entry.synced)) setTimeout(() => open.some((entry) => !entry.synced) && check(), ANSWER);
    });
  }

  function receive(message) {
    const { kind, from } = message;
    if (kind === "lead") follow(from);
    if (own) return own.receive(message);
    if (kind === "want" || kind === "ping") return;
    leader ??= from;
    if (from !== leader) return;
    heard = performance.now();
    if (kind === "event" && topics.entries.get(message.event.topic)?.synced) topics.apply(message.event);
    else if (kind === "state" && message.to === tab) synchronise(message);
    else if (kind === "status") onStatus(message.status, message.detail);
    else if (kind === "refused") topics.refuse(message.topic, message.detail);
  }

  function follow(from) {
    leader = from;
    heard = performance.now();
    // The lock was taken from this tab while it was frozen.
    if (own) retire();
    desynchronise();
    announce();
  }

  function synchronise({ topic, saved }) {
    const entry = topics.entries.get(topic);
    if (!entry) return;
    entry.synced = true;
    topics.load(topic, saved);
  }

  async function check() {
    if (checking || own || closed) return;
    checking = true;
    const before = heard;
    const until = performance.now() + ANSWER * (1 + Math.random() / 4);
    post("ping");
    await new Promise((resolve) => setTimeout(resolve, until - performance.now()));
    checking = false;
    if (own || closed || heard !== before) return;
    // After this tab itself was frozen, the answer may still be on its way.
    if (performance.now() - until > ANSWER / 2) check();
    else stand(true);
  }

  return {
    watch: (topic, word) => (own ? own.watch(topic, word) : announce()),
    unwatch: (topic) => (own ? own.unwatch(topic) : announce()),
    close() {
      closed = true;
      clearInterval(watchdog);
      waiting?.abort();
      own?.close();
      present.abort();
      channel.close();
    },
  };
}

// Resolves when the lock is given back, was taken by another tab, or is not waited for any more.
async function hold(name, options, callback) {
  try {
    await navigator.locks.request(name, options, callback);
  } catch (error) {
    if (error?.name !== "AbortError") throw error;
  }
}
