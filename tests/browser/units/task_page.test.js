// The page of a task and the workers in the monitor: times, timeline, scale, log lines, relatives and their tree.

import assert from "node:assert/strict";
import { test } from "node:test";

import { duration } from "../../../bridge/monitor/page/format.js";
import { attemptsOf } from "../../../bridge/monitor/page/task/attempts.js";
import { cut, fileName, fileOf, isWanted, lineOf } from "../../../bridge/monitor/page/task/lines.js";
import { momentsOf, newestTime } from "../../../bridge/monitor/page/task/moments.js";
import { time } from "../../../bridge/monitor/page/task/reading.js";
import { createIndex, relativesOf } from "../../../bridge/monitor/page/task/relatives.js";
import { scaleOf } from "../../../bridge/monitor/page/task/scale.js";
import { elapsed, logTime, relative, shortTime } from "../../../bridge/monitor/page/task/times.js";
import { nodeOf, rowsOf, spanOf } from "../../../bridge/monitor/page/task/tree.js";
import { workersOf } from "../../../bridge/monitor/page/workers/workers.js";

const NOW = 1_800_000_000;
const HOUR = 3600;
const kinds = ({ bars }) => bars.map(({ kind, label, from, to, open }) => [kind, label, from - NOW, to - NOW, open]);

test("almost a second is one", () => {
  assert.deepEqual([0.9994, 0.9996, 1].map(duration), ["999 ms", "1 s", "1 s"]);
});

test("a time is short, and a duration that grows has whole seconds", () => {
  assert.deepEqual([-5, 0, 0.9, 1.9, 61].map(elapsed), ["0 s", "0 s", "0 s", "1 s", "1:01 min"]);
  assert.deepEqual([NOW - 5, NOW, NOW + 90].map((at) => relative(at, NOW)), ["5 s ago", "now", "in 1:30 min"]);
  assert.match(shortTime(NOW, NOW), /^\d\d:\d\d:\d\d$/);
  assert.match(shortTime(NOW - 40 * 86_400, NOW), /^\d+ \w+ \d{4}, \d\d:\d\d:\d\d$/);
  assert.match(logTime(NOW + 0.0071), /^\d\d:\d\d:\d\d\.007$/);
});

test("what is no time counts as none", () => {
  for (const value of [null, undefined, "5", NaN, Infinity, -1, 0, {}, [], 1e300, true]) assert.equal(time(value), null);
  assert.equal(time(5.5), 5.5);
});

test("a task that went well has its waits, its attempt, its steps and its end", () => {
  const steps = [
    { name: "load", status: "succeeded", started_at: NOW + 3, ended_at: NOW + 5 },
    { name: "check", status: "succeeded", path: ["load", "check"], started_at: NOW + 3.5, ended_at: NOW + 4 },
  ];
  const times = { queued_at: NOW, received_at: NOW + 1, started_at: NOW + 3, ended_at: NOW + 6 };
  const found = momentsOf({ state: "SUCCESS", attempt: 1, ...times, steps }, NOW + 500);
  assert.deepEqual(kinds(found), [
    ["queued", "Queued", 0, 1, false],
    ["received", "Received", 1, 3, false],
    ["attempt", "Attempt 1", 3, 6, false],
    ["step", "load", 3, 5, false],
    ["step", "check", 3.5, 4, false],
    ["end", "", 6, 6, false],
  ]);
  assert.deepEqual([found.from, found.to, found.skewed, found.bars.at(-1).state], [NOW, NOW + 6, false, "good"]);
  assert.equal(found.bars[4].depth, 1);
});

test("attempts have their errors and the waits between them", () => {
  const error = { type: "ConnectionError", message: "no route" };
  const attempts = [
    { attempt: 1, started_at: NOW, ended_at: NOW + 1, error, retry_at: NOW + 11 },
    { attempt: 2, started_at: NOW + 11, ended_at: NOW + 12, error, retry_at: NOW + 31 },
  ];
  const times = { received_at: NOW + 13, started_at: NOW + 11, first_started_at: NOW };
  const waiting = momentsOf({ state: "RECEIVED", attempt: 3, retry_at: NOW + 31, error, attempts, ...times }, NOW + 20);
  assert.deepEqual(kinds(waiting).map(([kind, , from, to, open]) => [kind, from, to, open]), [
    ["attempt", 0, 1, false],
    ["wait", 1, 11, false],
    ["attempt", 11, 12, false],
    ["wait", 12, 31, true],
  ]);
  assert.deepEqual([waiting.bars[0].detail, waiting.skewed], ["ConnectionError: no route", false]);
  const running = momentsOf({ state: "STARTED", attempt: 3, attempts, ...times, started_at: NOW + 31 }, NOW + 40);
  assert.deepEqual(kinds(running).at(-1), ["attempt", "Attempt 3", 31, 40, true]);
  assert.equal(running.bars.at(-1).state, "running");
});

test("a task that ends while it waits to retry has that wait too", () => {
  const attempts = [{ attempt: 1, started_at: NOW, ended_at: NOW + 1, retry_at: NOW + 60 }];
  const found = momentsOf({ state: "REVOKED", attempt: 2, attempts, started_at: NOW, ended_at: NOW + 9 }, NOW + 99);
  assert.deepEqual(kinds(found), [["attempt", "Attempt 1", 0, 1, false], ["wait", "Waits to retry", 1, 9, false], ["end", "", 9, 9, false]]);
});

test("attempts that the state no longer keeps are one bar", () => {
  const labels = (task) => momentsOf({ state: "STARTED", ...task }, NOW + 60).bars.map(({ label, from }) => [label, from - NOW]);
  assert.deepEqual(labels({ attempt: 3, first_started_at: NOW, started_at: NOW + 9 }), [["Attempts 1 to 2", 0], ["Attempt 3", 9]]);
  const attempts = [{ attempt: 30, ended_at: NOW + 40 }];
  assert.deepEqual(labels({ attempt: 31, first_started_at: NOW, started_at: NOW + 50, attempts }), [["Attempts 1 to 29", 0], ["Attempt 30", 40], ["Waits to retry", 40], ["Attempt 31", 50]]);
  assert.deepEqual(attemptsOf({ state: "PENDING" }), []);
  assert.deepEqual(attemptsOf({ state: "FAILURE", attempt: 1, first_started_at: NOW, started_at: NOW, ended_at: NOW + 1, error: { type: "E" } }).map(({ number, to, error }) => [number, to - NOW, error.type]), [[1, 1, "E"]]);
});

test("clocks that differ by an hour give no negative durations and keep those of attempts", () => {
  const ahead = { state: "SUCCESS", queued_at: NOW + HOUR, received_at: NOW + 2, started_at: NOW + 3, ended_at: NOW + 5 };
  const found = momentsOf(ahead, NOW - HOUR);
  assert.ok(found.skewed);
  assert.deepEqual([found.from - NOW, found.to - NOW], [2, 5]);
  const attempts = [
    { attempt: 1, started_at: NOW, ended_at: NOW + 4 },
    { attempt: 2, started_at: NOW - HOUR, ended_at: NOW - HOUR + 7 },
  ];
  const other = momentsOf({ state: "FAILURE", attempts, ended_at: NOW - HOUR + 7 }, NOW);
  assert.ok(other.skewed);
  assert.deepEqual(kinds(other).filter(([kind]) => kind === "attempt").map(([, , from, to]) => [from, to]), [[0, 4], [4, 11]]);
  const behind = momentsOf({ state: "STARTED", started_at: NOW }, NOW - HOUR);
  assert.deepEqual(kinds(behind), [["attempt", "Attempt 1", 0, 0, true]]);
});

test("a task that never started ends after its wait", () => {
  const found = momentsOf({ state: "REVOKED", queued_at: NOW, ended_at: NOW + 8 }, NOW + 99);
  assert.deepEqual(kinds(found), [["queued", "Queued", 0, 8, false], ["end", "", 8, 8, false]]);
  assert.deepEqual(momentsOf({ state: "PENDING" }, NOW).bars, []);
});

test("whatever types the fields have, there is a timeline without numbers that are none", () => {
  const odd = ["x", null, NaN, -5, {}, [], [null, 7, "x", {}], { attempt: "x" }, Infinity];
  for (const value of odd) {
    const times = { queued_at: value, received_at: value, started_at: value, ended_at: value, first_started_at: value, retry_at: value };
    for (const state of ["STARTED", "SUCCESS", "RETRY", value]) {
      const task = { state, attempts: value, steps: value, events: value, error: value, attempt: value, ...times };
      for (const each of [task, { ...task, started_at: NOW }, { ...task, attempts: [{ started_at: NOW, ended_at: value, error: value }], steps: [{ name: value, started_at: NOW }] }]) {
        for (const { from, to, label } of momentsOf(each, NOW).bars) assert.ok(to >= from && Number.isFinite(to) && typeof label === "string");
        newestTime(each);
        nodeOf(each);
      }
    }
  }
});

test("a scale has a few round ticks, whatever it spans", () => {
  for (const span of [0, 0.0001, 0.37, 1, 59, 61, 3601, 86_401, 400 * 86_400, 1e9]) {
    const { ticks, place } = scaleOf(NOW, NOW + span);
    assert.ok(ticks.length >= 1 && ticks.length <= 7, String(span));
    assert.ok(ticks.every(({ share }, index) => share >= 0 && share <= 1 && (index === 0 || share > ticks[index - 1].share)));
    assert.deepEqual([place(NOW - 5), place(NOW + span + 5)], [0, 1]);
  }
  assert.deepEqual(scaleOf(NOW, NOW + 60).ticks.map(({ label }) => label), ["0", "10 s", "20 s", "30 s", "40 s", "50 s", "1:00 min"]);
});

test("log, step and custom events are lines, and unknown types are shown by name with their JSON", () => {
  const line = (event) => [lineOf(event).level, lineOf(event).type, lineOf(event).text];
  assert.deepEqual(line({ type: "log", level: "WARN", message: "hot" }), ["warning", "log", "hot"]);
  assert.deepEqual(line({ type: "log", level: {}, message: { a: 1 } }), ["info", "log", '{"a":1}']);
  assert.deepEqual(line({ type: "step", name: "b", path: ["a", "b"], status: "failed" }), ["error", "step", "a / b failed"]);
  assert.deepEqual(line({ type: "__proto__", data: { x: [1] } }), ["info", "__proto__", '{"x":[1]}']);
  assert.deepEqual(line({ type: "of a later version", at: 1, task: "t", size: 3 }), ["info", "of a later version", '{"size":3}']);
  assert.equal(lineOf({ type: "log", message: "x", at: "soon" }).at, null);
});

test("lines are filtered by level and by a text in any case", () => {
  const lines = ["debug", "info", "warning", "error", "critical"].map((level) => lineOf({ type: "log", level, message: `Line ${level}` }));
  const wanted = (filter) => lines.filter((line) => isWanted(line, filter)).length;
  assert.deepEqual([{}, { level: "warning" }, { search: "LINE E" }, { level: "critical", search: "info" }].map(wanted), [5, 3, 1, 0]);
});

test("a long line is cut between characters", () => {
  assert.deepEqual(cut("abc", 3), { shown: "abc", more: 0 });
  assert.deepEqual(cut("ab😀d", 3), { shown: "ab", more: 3 });
  assert.equal(cut("x".repeat(1024 * 1024)).shown.length, 1000);
});

test("a downloaded log has a line for each event and a name for each system", () => {
  const events = [{ type: "log", level: "info", message: "a", at: NOW }, { type: "note", data: { b: 1 } }];
  assert.equal([...fileOf(events, 2)].join(""), '# 2 earlier lines were not kept.\n2027-01-15T08:00:00.000Z INFO a\n- note {"b":1}\n');
  assert.equal(fileName("../a b/<x>\u0000"), "task-.._a_b_x_.log");
});

const tree = (...tasks) => new Map(tasks.map((task) => [task.task, nodeOf({ state: "SUCCESS", ...task })]));
const shape = (nodes, collapsed) => rowsOf(nodes, collapsed).rows.map(({ node, depth }) => "  ".repeat(depth) + node.id);

test("a tree has parents before their children, in the order of their places and times", () => {
  const nodes = tree(
    { task: "late", parent: "root", queued_at: NOW + 9 },
    { task: "part 2", canvas_id: "root", parent: "part 1", index: 1 },
    { task: "part 1", canvas_id: "root", index: 0 },
    { task: "root", queued_at: NOW },
    { task: "leaf", parent: "part 2" },
  );
  assert.deepEqual(shape(nodes), ["root", "  part 1", "  part 2", "    leaf", "  late"]);
  assert.deepEqual(shape(nodes, new Set(["part 2"])), ["root", "  part 1", "  part 2", "  late"]);
  const [, part] = rowsOf(nodes).rows;
  assert.deepEqual([part.place, part.of, part.children], [1, 3, 0]);
});

test("a circle of parents, a task that is its own parent, and hostile ids have a place each", () => {
  const nodes = tree(
    { task: "b", parent: "a" },
    { task: "a", parent: "b" },
    { task: "self", parent: "self", canvas_id: "self" },
    { task: "__proto__", parent: "constructor" },
    { task: "below", parent: "b" },
  );
  assert.deepEqual(shape(nodes).sort(), ["  b", "    below", "__proto__", "a", "self"].sort());
});

test("a tree of many tasks is bounded and says how many are left out", () => {
  const nodes = tree({ task: "root" }, ...Array.from({ length: 3000 }, (_, index) => ({ task: `t${index}`, parent: "root", index })));
  const { rows, omitted } = rowsOf(nodes);
  assert.deepEqual([rows.length, omitted], [500, 2501]);
  const chain = tree(...Array.from({ length: 800 }, (_, index) => ({ task: `c${index}`, parent: `c${index - 1}` })));
  assert.equal(rowsOf(chain).rows.at(-1).depth, 499);
});

test("a chart spans all that is known, and the present only while something runs", () => {
  const span = (...tasks) => spanOf(rowsOf(tree(...tasks)).rows, NOW + 100);
  assert.equal(span({ task: "a", state: "PENDING" }), null);
  assert.deepEqual(span({ task: "a", queued_at: NOW, started_at: NOW + 1, ended_at: NOW + 2 }), { from: NOW, to: NOW + 2 });
  assert.deepEqual(span({ task: "a", state: "STARTED", queued_at: NOW + HOUR, started_at: NOW }), { from: NOW, to: NOW + 100 });
});

const known = (...tasks) => new Map(tasks.map((task) => [task.task, task]));
const family = (task, { rows = [], answers = new Map() } = {}) => {
  const index = createIndex();
  for (const each of [...rows, ...answers.values()]) if (each !== null) index.add(each);
  const found = relativesOf(task, { rows: known(...rows), answers, index });
  return { ids: [...found.nodes.keys()].sort(), ...found };
};

test("relatives are those above, those below, and those beside; others are left out", () => {
  const full = { name: "x", started_at: NOW, state: "STARTED" };
  const task = { ...full, task: "me", parent: "top", root: "top" };
  const rows = [
    { ...full, task: "top" },
    { ...full, task: "child", parent: "me" },
    { ...full, task: "leaf", parent: "child" },
    { ...full, task: "beside", parent: "top" },
    { ...full, task: "below beside", parent: "beside" },
    { ...full, task: "other" },
  ];
  const { ids, wanted } = family(task, { rows });
  assert.deepEqual([ids, wanted], [["beside", "child", "leaf", "me", "top"], []]);
});

test("what is not known is asked for once, and again when it has ended since", () => {
  const task = { task: "me", state: "STARTED", parent: "gone", canvas_id: "__proto__" };
  assert.deepEqual(family(task).wanted.sort(), ["__proto__", "gone"]);
  const answers = new Map([["gone", null], ["__proto__", { task: "__proto__", state: "STARTED", name: "g", started_at: NOW }]]);
  const asked = family(task, { answers });
  assert.deepEqual([asked.ids, asked.wanted], [["__proto__", "me"], []]);
  const ended = family(task, { answers, rows: [{ task: "__proto__", state: "SUCCESS" }] });
  assert.deepEqual(ended.wanted, ["__proto__"]);
  assert.equal(ended.nodes.get("__proto__").started, NOW);
});

test("the parts that a canvas lists are below it, with the times that the server tells", () => {
  const children = [{ task: "a", state: "STARTED", index: 0 }, { task: "b", state: "SUCCESS", ended: true, index: 1 }, { task: 7 }, null, "x"];
  const answers = new Map([["b", { task: "b", name: "work", state: "SUCCESS", started_at: NOW, ended_at: NOW + 4 }]]);
  const { nodes, wanted } = family({ task: "w", state: "STARTED", canvas: "group", children }, { answers });
  assert.deepEqual(wanted, ["a"]);
  assert.deepEqual(rowsOf(nodes).rows.map(({ node, depth }) => [node.id, depth, node.started]), [["w", 0, null], ["a", 1, null], ["b", 1, NOW]]);
});

test("a part of a canvas has the other parts beside it", () => {
  const children = [{ task: "me", state: "STARTED" }, { task: "other", state: "STARTED", index: 1 }];
  const answers = new Map([["w", { task: "w", state: "STARTED", name: "work", canvas: "group", started_at: NOW, children }]]);
  const task = { task: "me", state: "STARTED", canvas_id: "w", index: 0 };
  assert.deepEqual(family(task, { rows: [{ ...answers.get("w"), children: undefined }] }).wanted, ["w"]);
  const { nodes, wanted } = family(task, { answers });
  assert.deepEqual([wanted, rowsOf(nodes).rows.map(({ node, depth }) => [node.id, depth])], [["other"], [["w", 0], ["me", 1], ["other", 1]]]);
  assert.equal(nodes.get("w").name, "group of work");
});

test("a family of many is bounded", () => {
  const rows = Array.from({ length: 20_000 }, (_, index) => ({ task: `t${index}`, state: "SUCCESS", parent: "me", name: "x", started_at: NOW, ended_at: NOW }));
  assert.equal(family({ task: "me", state: "STARTED" }, { rows }).nodes.size, 500);
});

test("workers that are alive come first, and what is no worker is left out", () => {
  const running = [{ task: "t", started_at: "soon" }, { task: 1 }, 2];
  const workers = [{ name: "b", alive: true }, { name: "quiet", last_seen: NOW }, { name: "a", alive: true, succeeded: 3, failed: "x" }, { name: 7 }, null, { name: "__proto__", alive: true, running, active: 5 }];
  const found = workersOf({ workers });
  assert.deepEqual(found.map(({ name }) => name), ["__proto__", "a", "b", "quiet"]);
  assert.deepEqual([found[0].running, found[0].active], [[{ task: "t", name: "t", from: null }], 5]);
  assert.deepEqual([found[1].succeeded, found[1].failed, found[3].lastSeen], [3, 0, NOW]);
  for (const answer of [null, [], "x", {}, { workers: {} }]) assert.deepEqual(workersOf(answer), []);
});
