// What the page knows of each topic.

import assert from "node:assert/strict";
import { test } from "node:test";

import { connect } from "../../../bridge/static/bridge.js";
import { createTopics, KEPT_TASKS } from "../../../bridge/static/topics.js";

const silent = { watch() {}, unwatch() {} };
const state = (task, name) => JSON.stringify({ type: "state", task, state: name, at: 1 });

test("an event that was seen is dropped, a snapshot never", () => {
  const topics = createTopics(silent);
  const entry = topics.retain("task:a");
  const seen = [];
  entry.listeners.add((task, event) => seen.push(event.type === "state" ? task.state : event.type));
  const event = (name, word, type = "state") => topics.apply({ topic: "task:a", type, data: state("a", name).replace("state", type), word });
  event("PENDING", "e-1-1");
  event("STARTED", "e-2-1");
  event("PENDING", "e-1-1");
  event("STARTED", "e-2-1");
  event("STARTED", "e-2-1", "snapshot");
  event("FAILURE", "");
  assert.deepEqual(seen, ["PENDING", "STARTED", "snapshot", "FAILURE"]);
});

test("events of other tasks and what is no event change nothing", (context) => {
  context.mock.method(console, "error", () => {});
  const topics = createTopics(silent);
  const entry = topics.retain("task:__proto__");
  for (const data of [state("b", "STARTED"), "[1]", "7", "null", "no json", "{}", '{"type":"state","task":7}'])
    topics.apply({ topic: "task:__proto__", type: "state", data, word: "" });
  assert.equal(entry.value, null);
  topics.apply({ topic: "task:__proto__", type: "state", data: state("__proto__", "STARTED"), word: "" });
  assert.equal(entry.value.state, "STARTED");
});

test("a feed keeps a bounded number of tasks: those that ended go first", () => {
  const topics = createTopics(silent);
  const { value } = topics.retain("tag:x");
  const tell = (task, name) => topics.apply({ topic: "tag:x", type: "state", data: state(task, name), word: "" });
  tell("runs", "STARTED");
  for (let i = 0; i < KEPT_TASKS + 10; i++) tell(`t${i}`, "SUCCESS");
  assert.equal(value.size, KEPT_TASKS);
  assert.ok(value.has("runs") && value.has(`t${KEPT_TASKS + 9}`) && !value.has("t0"));
});

test("a reset of a feed forgets its tasks", () => {
  const topics = createTopics(silent);
  const entry = topics.retain("tasks");
  topics.apply({ topic: "tasks", type: "state", data: state("a", "STARTED"), word: "" });
  const gone = [];
  entry.listeners.add((tasks, event, id) => gone.push([tasks.size, event.type, id]));
  topics.apply({ topic: "tasks", type: "reset", data: '{"type":"reset","at":1}', word: "" });
  assert.deepEqual(gone, [[0, "reset", "a"]]);
});

test("a listener that fails does not keep the others from hearing", (context) => {
  context.mock.method(console, "error", () => {});
  const topics = createTopics(silent);
  const entry = topics.retain("orders");
  const heard = [];
  entry.listeners.add(() => assert.fail("on purpose"));
  entry.listeners.add((last) => heard.push(last.data));
  topics.apply({ topic: "orders", type: "message", data: "one", word: "e-1-1" });
  assert.deepEqual(heard, ["one"]);
});

test("what another tab knows replaces what is older here", () => {
  const [mine, theirs] = [createTopics(silent), createTopics(silent)];
  for (const topics of [mine, theirs]) topics.retain("task:a");
  theirs.apply({ topic: "task:a", type: "state", data: state("a", "STARTED"), word: "e-5-1" });
  mine.load("task:a", theirs.save("task:a"));
  assert.equal(mine.entries.get("task:a").value.state, "STARTED");
  mine.apply({ topic: "task:a", type: "state", data: state("a", "RETRY"), word: "e-6-1" });
  mine.load("task:a", theirs.save("task:a"));
  assert.equal(mine.entries.get("task:a").value.state, "RETRY");
});

test("a handle watches from its first listener to its last, and closing it does not concern others", () => {
  const bridge = connect({ url: "http://127.0.0.1:9/events" });
  const [one, other] = [bridge.task("a"), bridge.task("a")];
  assert.deepEqual([one.id, one.topic, one.getSnapshot(), bridge.tag("x").getSnapshot()], ["a", "task:a", null, []]);
  const stop = one.subscribe(() => {});
  other.subscribe(() => {});
  one.close();
  stop();
  assert.throws(() => one.subscribe(() => {}), /closed/);
  assert.equal(other.getSnapshot(), null);
  assert.equal("cancel" in bridge.topic("orders"), false);
  assert.throws(() => bridge.topic(""), TypeError);
  assert.throws(() => connect({ heartbeat: 0 }), TypeError);
  bridge.close();
});
