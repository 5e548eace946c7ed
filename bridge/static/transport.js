// One stream of several topics: it is opened again after each loss and each change of its topics, and continues where
// it was. Whoever uses it sees every event of a topic once.

import { cursorOf, taskOf, TASK_PREFIX, wordsOf } from "./positions.js";
import { reasonOf, retryAfter } from "./refusal.js";
import { createSlices } from "./slices.js";
import { createParser } from "./sse.js";

const LONGEST_WAIT = 30_000;
// A stream that was open for so long did not fail.
const PROVEN_AFTER = 5_000;
// Topics that are added one after another are asked for together.
const SETTLE = 30;
// Bytes that are parsed before the page may do something else. A browser hands over megabytes at once.
const PIECE = 16 * 1024;

// `onEvent({ topic, type, data, word })`: `word` is the position of the topic after the event. `onRefused(topic, detail)`
// for a topic that may not be read, `onStatus(status, detail)`, and `onLife()` whenever the server sends something.
export function createTransport({ url, tokens, heartbeat, onEvent, onStatus, onRefused, onLife = () => {} }) {
  const words = new Map();
  const silence = 3 * heartbeat * 1000;
  let controller = null;
  let wake = null;
  let running = false;
  let closed = false;
  let refused = false;
  let failures = 0;
  let retry = 2000;
  let renewed = false;
  let expiredAt = -Infinity;

  function watch(topic, word = "") {
    words.set(topic, word);
    refused = false;
    restart();
  }

  // The stream goes on; its next request does not ask for the topic.
  function unwatch(topic) {
    words.delete(topic);
    if (words.size === 0) controller?.abort();
  }

  // While an attempt waits after a failure, it goes on waiting.
  function restart() {
    if (closed) return;
    controller?.abort();
    if (!running) run();
  }

  async function run() {
    running = true;
    onStatus("connecting");
    for (;;) {
      await pause(SETTLE);
      if (closed || words.size === 0) break;
      const wait = await attempt();
      if (wait > 0 && !closed) await pause(wait);
    }
    running = false;
    if (!closed && !refused) onStatus("idle");
  }

  function pause(milliseconds) {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, milliseconds);
      wake = () => {
        clearTimeout(timer);
        resolve();
      };
    }).finally(() => (wake = null));
  }

  // Opens the stream and reads it to its end. Returns the milliseconds to wait before the next attempt.
  async function attempt() {
    const topics = [...words.keys()];
    const abort = (controller = new AbortController());
    const opened = { at: 0, alive: performance.now(), stalled: false };
    const watchdog = watchSilence(opened, abort);
    try {
      const response = await request(topics, abort.signal);
      if (response.status !== 200) return await answered(response, topics, abort.signal);
      if (!/^text\/event-stream\b/.test(response.headers.get("Content-Type") ?? "")) {
        return refuse(topics, `The server did not answer with a stream but with ${response.headers.get("Content-Type")}.`);
      }
      opened.at = performance.now();
      renewed = false;
      onStatus("open");
      return await read(response.body, topics, opened, abort.signal);
    } catch (error) {
      if (closed || (abort.signal.aborted && !opened.stalled)) return 0;
      return failed(opened, opened.stalled ? "The server has been silent for too long." : String(error?.message ?? error));
    } finally {
      clearInterval(watchdog);
      abort.abort();
      if (controller === abort) controller = null;
    }
  }

  async function request(topics, signal) {
    const asked = new URL(url);
    for (const topic of topics) asked.searchParams.append("topic", topic);
    const headers = { Accept: "text/event-stream", ...(await tokens.headers()) };
    const cursor = cursorOf(topics, words);
    // In a header it does not lengthen the URL, which servers limit. To another origin it would need a preflight.
    if (cursor && asked.origin === globalThis.location?.origin) headers["Last-Event-ID"] = cursor;
    else if (cursor) asked.searchParams.set("last_event_id", cursor);
    signal.throwIfAborted();
    return fetch(asked, { headers, signal, cache: "no-store" });
  }

  // A timer may be late in a hidden tab or after sleep, so it compares times.
  function watchSilence(opened, abort) {
    return setInterval(() => {
      if (performance.now() - opened.alive < silence) return;
      opened.stalled = true;
      abort.abort();
    }, Math.min(1000, silence / 3));
  }

  async function read(body, topics, opened, signal) {
    let expired = false;
    const parse = createParser({
      onRetry: (milliseconds) => (retry = milliseconds),
      onEvent: (event) => {
        if (event.type === "expired" && event.topic === null) expired = true;
        else if (!signal.aborted) received(event, topics);
      },
    });
    const reader = body.getReader();
    const slices = createSlices();
    for (;;) {
      const { value, done } = await reader.read();
      if (done || signal.aborted) break;
      opened.alive = performance.now();
      onLife();
      for (let start = 0; start < value.length && !signal.aborted && !expired; start += PIECE) {
        if (slices.over()) await slices.rest();
        parse(value.subarray(start, start + PIECE));
      }
      if (expired) return resumeExpired();
    }
    return words.size ? failed(opened, "The server ended the stream.") : 0;
  }

  function received({ type, data, id, topic }, topics) {
    // An empty id is the cursor of one topic that would begin with its state.
    for (const [name, word] of wordsOf(id, topics)) if (words.has(name)) words.set(name, word);
    failures = 0;
    const name = topic ?? (topics.length === 1 ? topics[0] : topicOf(data));
    if (!words.has(name)) return;
    onEvent({ topic: name, type, data, word: words.get(name) });
    if (type === "end" && taskOf(name) !== null) unwatch(name);
  }

  // A proxy may have removed the field with the topic.
  function topicOf(data) {
    try {
      return `${TASK_PREFIX}${JSON.parse(data).task}`;
    } catch {
      return null;
    }
  }

  async function resumeExpired() {
    const now = performance.now();
    const again = now - expiredAt < PROVEN_AFTER;
    expiredAt = now;
    if (again) return failed({ at: 0 }, "The server ends the stream because the token has expired, also a new one.");
    await tokens.get(true);
    return 0;
  }

  async function answered(response, topics, signal) {
    const { status } = response;
    if (status === 204) {
      for (const topic of topics) unwatch(topic);
      return 0;
    }
    if (status === 401 && tokens.renews && !renewed) {
      renewed = true;
      await tokens.get(true);
      return 0;
    }
    const detail = await reasonOf(response);
    if (status < 400 || status >= 500 || status === 408 || status === 429) {
      return Math.max(retryAfter(response) * (1 + Math.random() / 4), failed({ at: 0 }, detail));
    }
    const isolated = (status === 403 || status === 404) && topics.length > 1 && (await isolate(topics, signal));
    return isolated ? 0 : refuse(topics, detail);
  }

  function refuse(topics, detail) {
    for (const topic of topics) {
      words.delete(topic);
      onRefused(topic, detail);
    }
    refused = words.size === 0;
    if (refused) onStatus("refused", detail);
    return 0;
  }

  // One topic that may not be read does not end the others: halves are asked for until it is found. Resolves to
  // whether one was.
  async function isolate(topics, signal) {
    const half = topics.length >> 1;
    let found = false;
    for (const part of [topics.slice(0, half), topics.slice(half)]) {
      const response = await request(part, signal);
      if (response.status !== 403 && response.status !== 404) await response.body?.cancel();
      else if (part.length > 1) found = (await isolate(part, signal)) || found;
      else {
        refuse(part, await reasonOf(response));
        found = true;
      }
    }
    return found;
  }

  function failed(opened, detail) {
    if (opened.at && performance.now() - opened.at > PROVEN_AFTER) failures = 0;
    onStatus("reconnecting", detail);
    const wait = Math.min(LONGEST_WAIT, 1000 * 2 ** failures) * (0.5 + Math.random() / 2);
    // Of a stream that ended, the server says when to come back; its times differ from browser to browser.
    return failures++ === 0 && opened.at ? retry : Math.max(wait, opened.at ? retry : 0);
  }

  // The network is back, or somebody looks at the page: a wait for the next attempt ends.
  function hurry() {
    if (running && controller === null) wake?.();
  }

  function online() {
    if (controller !== null && running) restart();
    else hurry();
  }

  const seen = () => document.visibilityState === "visible" && hurry();
  globalThis.addEventListener?.("online", online);
  globalThis.document?.addEventListener("visibilitychange", seen);

  function close() {
    closed = true;
    controller?.abort();
    wake?.();
    globalThis.removeEventListener?.("online", online);
    globalThis.document?.removeEventListener("visibilitychange", seen);
  }

  return { watch, unwatch, close, words };
}
