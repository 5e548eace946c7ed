// The state of a task from hostile events. tests/browser/test_fold.py compares ordinary ones with the server.

import assert from "node:assert/strict";
import { test } from "node:test";

import { fold, isFinished, KEPT_CHARACTERS, KEPT_EVENTS } from "../../../bridge/static/fold.js";

test("an event of an unknown type is kept as it is", () => {
  const event = { type: "hasOwnProperty", task: "a", at: 1, data: { x: 1 } };
  assert.deepEqual(fold(null, event).events, [event]);
});

test("a task that ends before anything is known of it", () => {
  assert.ok(isFinished(fold(null, { type: "state", task: "a", at: 1, state: "SUCCESS" })));
  const ended = fold(null, { type: "end", task: "a", at: 1, state: "FAILURE" });
  assert.deepEqual([ended.state, ended.ended, ended.steps], ["FAILURE", true, []]);
});

test("a snapshot of anybody who may publish has lists all the same", () => {
  const task = fold(null, { type: "snapshot", task: "a", state: "STARTED", steps: 7, events: { length: 9 }, omitted: "x", children: [null] });
  const next = fold(task, { type: "step", task: "a", name: "load", status: "started" });
  assert.deepEqual([next.steps.length, next.events.length, next.omitted], [1, 1, 0]);
  assert.equal(fold(next, { type: "progress", task: "a", parts: {}, part: { task: "b" } }).children.length, 1);
  const holes = fold(null, { type: "snapshot", task: "a", state: "STARTED", steps: [null, 1], events: [null] });
  assert.deepEqual([holes.steps, holes.events], [[], []]);
});

test("the events of a task are bounded in number and in length", () => {
  let task = null;
  for (let i = 0; i < KEPT_EVENTS + 5; i++) task = fold(task, { type: "log", task: "a", at: i, message: "x" });
  assert.deepEqual([task.events.length, task.omitted, task.events[0].at], [KEPT_EVENTS, 5, 5]);
  const large = "x".repeat(1024 * 1024);
  for (let i = 0; i < 20; i++) task = fold(task, { type: "log", task: "a", at: i, message: large });
  assert.ok(task.events.length * large.length <= KEPT_CHARACTERS);
  assert.ok(task.events.length >= 6);
  assert.equal(task.events.length + task.omitted, KEPT_EVENTS + 25);
  const snapshot = fold(null, { type: "snapshot", task: "a", state: "STARTED", steps: [], events: Array(20).fill({ message: large }), omitted: 1 });
  assert.equal(snapshot.events.length + snapshot.omitted, 21);
  assert.ok(snapshot.events.length < 10);
});
