// What the leading tab does for all tabs: it has the streams, and tells the others what comes.

import { hasState, isSeen } from "./positions.js";

// Milliseconds for which a new leader waits for the other tabs, so that its first request names all their topics.
const GATHER = 500;
// Milliseconds between two signs of life.
const BEAT = 5000;

// `post(kind, fields)` speaks to the other tabs, `hold` and `lockOf` are those of share.js.
export function createLeader({ tab, topics, lockOf, hold, openPool, onStatus, post }) {
  const followers = new Map();
  let status = { status: "connecting", detail: "" };
  let said = 0;
  let started = false;
  let finish;
  const done = new Promise((resolve) => (finish = resolve));

  const pool = openPool({ onEvent, onRefused, onStatus: report, onLife: beat });
  say("lead");
  gather();

  // Waits until every other tab has said what it watches, and opens the streams.
  async function gather() {
    const { held } = await navigator.locks.query();
    const prefix = lockOf("");
    const others = held.map(({ name }) => name.startsWith(prefix) && name.slice(prefix.length)).filter((id) => id && id !== tab);
    const until = performance.now() + GATHER;
    while (performance.now() < until && !others.every((id) => followers.has(id)))
      await new Promise((resolve) => setTimeout(resolve, 10));
    started = true;
    for (const entry of topics.entries.values()) start(entry);
  }

  function start(entry) {
    entry.synced = true;
    if (entry.ended || entry.refused !== null) return;
    pool.watch(entry.topic, hasState(entry.topic) ? entry.word : oldest(entry));
  }

  // What has no state is read again from where the last tab is. Each tab drops what it has seen.
  function oldest({ topic, word }) {
    for (const follower of followers.values()) {
      const other = follower.topics.get(topic)?.word;
      if (!word || isSeen(other, word)) word = other ?? word;
    }
    return word;
  }

  function watch(topic, word) {
    topics.entries.get(topic).synced = true;
    if (started) pool.watch(topic, word);
  }

  function receive(message) {
    if (message.kind === "want") admit(message);
    else if (message.kind === "ping") say("beat");
  }

  function admit({ from, wanted }) {
    const follower = followers.get(from) ?? welcome(from);
    const names = new Set(wanted.map(([topic]) => topic));
    for (const [topic, { entry }] of follower.topics) {
      if (names.has(topic)) continue;
      follower.topics.delete(topic);
      topics.release(entry);
    }
    for (const [topic, word, fresh] of wanted) {
      const known = follower.topics.has(topic);
      if (!known) follower.topics.set(topic, { word, entry: topics.retain(topic) });
      if (!known || fresh) tell(from, topic, word);
    }
    say("status", status);
  }

  function tell(to, topic, word) {
    const current = pool.wordOf(topic);
    if (started && !hasState(topic) && current !== word && isSeen(word, current)) pool.watch(topic, word);
    say("state", { to, topic, saved: topics.save(topic) });
  }

  // The lock of a tab is free when the tab is gone.
  function welcome(from) {
    const follower = { topics: new Map(), left: new AbortController() };
    followers.set(from, follower);
    hold(lockOf(from), { signal: follower.left.signal }, () => dismiss(from));
    return follower;
  }

  function dismiss(from) {
    const follower = followers.get(from);
    if (!follower) return;
    followers.delete(from);
    follower.left.abort();
    for (const { entry } of follower.topics.values()) topics.release(entry);
  }

  function onEvent(event) {
    topics.apply(event);
    if (followers.size) say("event", { event });
  }

  function onRefused(topic, detail) {
    topics.refuse(topic, detail);
    say("refused", { topic, detail });
  }

  function report(name, detail = "") {
    status = { status: name, detail };
    onStatus(name, detail);
    say("status", status);
  }

  function beat() {
    if (performance.now() - said > BEAT) say("beat");
  }

  function say(kind, fields) {
    said = performance.now();
    post(kind, fields);
  }

  function close() {
    pool.close();
    for (const from of [...followers.keys()]) dismiss(from);
    finish();
  }

  return { done, watch, unwatch: (topic) => pool.unwatch(topic), receive, close };
}
