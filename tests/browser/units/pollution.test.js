// Names that mean something to JavaScript, in every place of an event where anybody may choose a name.

import assert from "node:assert/strict";
import { test } from "node:test";

import { fold } from "../../../bridge/static/fold.js";
import { createTopics } from "../../../bridge/static/topics.js";

const NAMES = ["__proto__", "constructor", "prototype", "hasOwnProperty", "toString", "valueOf"];
const TYPES = ["snapshot", "state", "progress", "step", "log", "cancel_requested", "end", "reset", ...NAMES];
const untouched = Object.getOwnPropertyNames(Object.prototype).sort().join();

// JSON.parse makes `__proto__` a member like any other, which an object literal does not.
const object = (name, value) => JSON.parse(`{${JSON.stringify(name)}:${JSON.stringify(value)}}`);

function checkNothingIsPolluted() {
  assert.equal({}.polluted, undefined);
  assert.equal([].polluted, undefined);
  assert.equal(Object.getOwnPropertyNames(Object.prototype).sort().join(), untouched);
}

// No object in a state may have another prototype, which a `__proto__` that is assigned gives it.
function checkPrototypes(value, where) {
  if (value === null || typeof value !== "object") return;
  assert.ok([Object.prototype, Array.prototype].includes(Object.getPrototypeOf(value)), where);
  for (const each of Object.values(value)) checkPrototypes(each, where);
}

function hostile(type, name) {
  const bad = { ...object(name, { polluted: 1 }), polluted: 1 };
  const text = JSON.stringify({
    ...{ v: 1, type, task: name, at: 1, state: "STARTED", name, message: name, level: name, status: name },
    ...{ path: [name], data: bad, result: bad, error: bad, parts: bad, current: 1, canvas_id: name },
    ...{ part: { task: name, name, progress: bad, error: bad }, steps: [{ name, status: name, path: [name] }, bad] },
    ...{ events: [{ type: name, task: name, at: 1, data: bad }, bad], children: [{ task: name, name }, bad], progress: bad },
  });
  return JSON.parse(`${text.slice(0, -1)},${JSON.stringify(name)}:{"polluted":1}}`);
}

test("an event of any type with such names everywhere changes no other object", () => {
  for (const name of NAMES) {
    let task = null;
    for (const type of TYPES) {
      task = fold(task, hostile(type, name));
      if (task === null || task === undefined) continue;
      checkPrototypes(task, `${type} ${name}`);
      checkPrototypes(fold(null, hostile(type, name)), `${type} ${name}`);
      checkNothingIsPolluted();
    }
  }
});

test("topics of such names, and the feed of such tasks, change no other object", (context) => {
  context.mock.method(console, "error", () => {});
  const topics = createTopics({ watch() {}, unwatch() {} });
  for (const name of NAMES) {
    const entries = [topics.retain(`task:${name}`), topics.retain(name), topics.retain("tasks")];
    for (const type of TYPES) {
      const data = JSON.stringify(hostile(type, name));
      for (const topic of [`task:${name}`, name, "tasks"]) topics.apply({ topic, type, data, word: name });
      checkNothingIsPolluted();
    }
    for (const entry of entries) assert.notEqual(entry, undefined);
  }
});
