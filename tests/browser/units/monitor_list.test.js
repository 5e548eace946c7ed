// The parts of the monitor's list that need no page: addresses, rows, filters, order, times and pictures.

import assert from "node:assert/strict";
import { test } from "node:test";

import { count, iconOf, titleOf } from "../../../bridge/monitor/page/counts.js";
import { descends, durationOf, select, sorted, values } from "../../../bridge/monitor/page/list/query.js";
import { linePath, median, periodOf, POINTS, series } from "../../../bridge/monitor/page/list/series.js";
import { chipOf, figuresOf, messageOf, nameOf } from "../../../bridge/monitor/page/list/words.js";
import { address, parse, viewOf } from "../../../bridge/monitor/page/router.js";
import { compact, foldRow } from "../../../bridge/monitor/page/rows.js";
import { createStore } from "../../../bridge/monitor/page/store.js";
import { groupOf } from "../../../bridge/monitor/page/states.js";
import { createTime } from "../../../bridge/monitor/page/time.js";

const row = (task, fields = {}) => compact({ task, state: "STARTED", queued_at: 100, ...fields });
const table = (...rows) => new Map(rows.map((each) => [each.task, each]));
const ids = (rows) => rows.map(({ task }) => task);
const state = (task, name, at, fields = {}) => ({ type: "state", task, state: name, at, ...fields });

function storeWith(options = {}) {
  const calls = [];
  const store = createStore({ schedule: (callback) => calls.push(callback), ...options });
  return { store, draw: () => calls.splice(0).forEach((call) => call()) };
}

test("every view has an address, which leads back to it", () => {
  const params = { state: "failed", q: "a b&c=d", open: ["g1", "g2"], name: "", sort: undefined };
  const found = parse(address(params));
  assert.deepEqual({ ...found }, { state: "failed", q: "a b&c=d", open: ["g1", "g2"] });
  assert.equal(viewOf(found), "list");
  assert.equal(viewOf(parse("?task=__proto__")), "task");
  assert.equal(viewOf(parse("?view=workers")), "workers");
  assert.equal(viewOf(parse("?view=constructor")), "list");
  assert.equal(parse("?__proto__=x").polluted, undefined);
  assert.equal(address({}), "?");
});

test("a row has only what the list shows, however large and odd a snapshot is", () => {
  const found = compact({
    type: "snapshot",
    ...{ task: "a".repeat(400), state: "STARTED", name: "n".repeat(1e6), worker: 7, queued_at: "soon", started_at: Infinity },
    ...{ tags: ["x".repeat(1000), 5], error: { message: "m".repeat(1e6) }, progress: { percent: "50", message: "p".repeat(1e6), eta: 3 } },
    ...{ parts: { running: 2, waiting: "no", __proto__: 1 }, events: [1, 2], result: "r".repeat(1e6), children: [{}] },
  });
  assert.equal(found.task.length, 400);
  assert.equal(found.name.length, 301);
  assert.ok(JSON.stringify(found).length < 3000);
  assert.deepEqual([found.worker, found.queued_at, found.started_at], [undefined, undefined, undefined]);
  assert.deepEqual(found.progress.percent, undefined);
  assert.deepEqual([...found.parts], [["running", 2]]);
  for (const odd of [null, 5, "x", []]) compact({ task: "t", tags: odd, error: odd, progress: odd, parts: odd });
});

test("the events of a task change its row as they change its state", () => {
  const events = [
    state("a", "PENDING", 1, { name: "work" }),
    state("a", "STARTED", 2, { attempt: 1, worker: "w" }),
    { type: "progress", task: "a", at: 3, current: 1, total: 4, percent: 25, message: "one" },
    state("a", "RETRY", 4, { attempt: 1, retry_at: 90, error: { type: "E", message: "m" } }),
    state("a", "RECEIVED", 5, { attempt: 2, retry_at: 90 }),
  ];
  const waiting = events.reduce(foldRow, null);
  assert.deepEqual([waiting.since, waiting.name, waiting.worker], [1, "work", "w"]);
  assert.equal(groupOf(waiting), "retrying");
  assert.equal(messageOf(waiting, 30), "Retrying in 1:00 min, attempt 2: E: m");
  const running = foldRow(waiting, state("a", "STARTED", 90, { attempt: 2 }));
  assert.deepEqual([running.error, running.retry_at, chipOf(running)], [undefined, undefined, "running · attempt 2"]);
  const ended = foldRow(running, state("a", "FAILURE", 95, { error: { type: "ValueError", message: "bad" } }));
  assert.equal(messageOf(ended, 95), "ValueError: bad");
  assert.equal(durationOf(ended, 500), 93);
  assert.equal(foldRow(null, state("new", "SUCCESS", 7)).since, 7);
});

test("a retry says what is known of it", () => {
  const words = (fields) => messageOf(row("a", { state: "RETRY", attempt: 2, ...fields }), 200);
  assert.equal(words({ reason: "not yet" }), "Retrying, attempt 3: not yet");
  assert.equal(words({ error: { type: "E", message: "m" }, retry_at: 150 }), "Retrying, attempt 3: E: m");
  assert.equal(words({}), "Retrying, attempt 3");
  assert.equal(words({ error: { type: "E", message: "m".repeat(10_000) } }), `Retrying, attempt 3: E: ${"m".repeat(297)}…`);
});

test("a group says how many of its parts succeeded, and shows no percentage after a failure", () => {
  const group = (name, parts) => row("g", { state: name, canvas: "group", name: "add, mul", parts, progress: { current: 12, total: 12, percent: 99 } });
  const failed = group("FAILURE", { succeeded: 8, failed: 3, revoked: 1, waiting: 0 });
  assert.equal(messageOf(failed, 0), "8 of 12 succeeded, 3 failed, 1 cancelled");
  assert.equal(figuresOf(failed), "");
  assert.equal(nameOf(failed), "group of add, mul");
  const runs = group("STARTED", { succeeded: 8, running: 1, failed: 1, waiting: 2 });
  assert.equal(messageOf(runs, 0), "1 running · 1 failed · 2 waiting");
  assert.equal(figuresOf(runs), "12 of 12 · 99 %");
});

test("filters, search and period choose rows, and the counts are those of all states", () => {
  const rows = table(
    row("a1", { name: "shop.buy", worker: "w1", tags: ["user:4"], state: "FAILURE", error: { type: "E", message: "No Route" }, queued_at: 990 }),
    row("a2", { name: "shop.buy.all", worker: "w2", tags: ["user:42"], queued_at: 500 }),
    row("a3", { name: "mail", worker: "w1", queued_at: 100, progress: { message: "sending" } }),
    row("p1", { name: "mail", canvas_id: "g", queued_at: 995 }),
    row("g", { name: "mail", parts: { waiting: 1 }, queued_at: 994 }),
  );
  const found = (params) => ids(select(rows, params, 1000).rows);
  assert.deepEqual(found({}), ["g", "a1", "a2", "a3"]);
  assert.deepEqual(found({ state: "failed" }), ["a1"]);
  assert.deepEqual(found({ state: "constructor" }), ["g", "a1", "a2", "a3"]);
  assert.deepEqual(found({ name: "shop.buy" }), ["a1"]);
  assert.deepEqual(found({ name: "SHOP" }), ["a1", "a2"]);
  assert.deepEqual(found({ worker: "w1", name: "mail" }), ["a3"]);
  assert.deepEqual(found({ tag: "user:4" }), ["a1"]);
  assert.deepEqual(found({ tag: "user" }), ["a1", "a2"]);
  assert.deepEqual(found({ q: "no route" }), ["a1"]);
  assert.deepEqual(found({ q: "route sending" }), []);
  assert.deepEqual(found({ q: "A3" }), ["a3"]);
  assert.deepEqual(found({ since: "5m" }), ["g", "a1"]);
  assert.deepEqual(found({ since: "between", from: "1970-01-01T00:01:00Z", to: "1970-01-01T00:08:00Z" }), ["a2", "a3"]);
  assert.deepEqual(found({ parts: "1" }), ["p1", "g", "a1", "a2", "a3"]);
  assert.deepEqual(found({ q: "p1" }), ["p1"]);
  assert.deepEqual(found({ canvas: "g" }), ["p1", "g"]);
  assert.deepEqual(found({ open: ["g", "a1"] }), ["g", "p1", "a1", "a2", "a3"]);
  const { counts, matching } = select(rows, { state: "failed", name: "shop" }, 1000);
  assert.deepEqual([counts.get("all"), counts.get("failed"), counts.get("running"), matching.length], [2, 1, 1, 2]);
});

test("each column sorts in both directions, and equals keep one order", () => {
  const rows = [
    row("a", { name: "b", queued_at: 3, started_at: 3, progress: { percent: 5 } }),
    row("b", { name: "a", queued_at: 2, started_at: 5, ended_at: 6, state: "SUCCESS" }),
    row("c", { name: "a", queued_at: 1, state: "PENDING" }),
    row("d", { name: "a", queued_at: 1, state: "PENDING" }),
  ];
  const order = (sort, dir) => ids(sorted(rows, { sort, dir }, 10)).join("");
  assert.equal(order(), "abdc");
  assert.equal(order(undefined, "asc"), "dcba");
  assert.equal(order("name"), "bdca");
  assert.equal(order("progress"), "badc");
  assert.equal(order("duration"), "abdc");
  assert.equal(order("duration", "asc"), "dcba");
  assert.equal(order("__proto__"), "abdc");
  assert.equal(descends({ sort: "name" }), false);
  assert.equal(sorted(rows.toReversed(), {}, 10)[2].task, "d");
});

test("filters offer the most frequent values", () => {
  const names = ["a", "b", "b", "c"].map((name, place) => row(String(place), { name }));
  assert.deepEqual(values(names, (each) => [each.name], 2), ["b", "a"]);
});

test("the pictures count by time, and a change of the present leaves the past where it is", () => {
  const done = (ended_at, took) => row(String(ended_at), { state: "SUCCESS", started_at: ended_at - took, ended_at });
  const rows = [done(941, 1), done(942, 3), done(999.5, 2), done(10, 9), row("runs")];
  const found = series(rows, 999.9, 60, (each) => durationOf(each));
  assert.deepEqual([found.counts.length, found.step], [POINTS, 1]);
  assert.deepEqual([found.counts[1], found.counts[2], found.counts.at(-1)], [1, 1, 1]);
  assert.deepEqual([found.durations[2], found.durations.at(-1), found.durations[0]], [3, 2, null]);
  const later = series(rows, 1000.5, 60, (each) => durationOf(each));
  assert.deepEqual(later.counts.slice(0, -1), found.counts.slice(1));
  assert.equal(periodOf([], 1000), 60);
  assert.equal(periodOf(rows, 1000), 960 * 2);
  assert.equal(median([]), null);
  assert.equal(median([3, 1]), 2);
  assert.equal(linePath([0, null, 2, 1], 3, 10), "M0 10h0.01M2 0h0.01L3 5");
});

test("the store makes one batch of many events, and says whether more than progress changed", () => {
  const { store, draw } = storeWith();
  const batches = [];
  store.subscribe((batch) => batches.push(batch));
  for (let i = 0; i < 100; i++) store.apply(state(`t${i % 10}`, "STARTED", i));
  draw();
  store.apply({ type: "progress", task: "t1", at: 200, percent: 5 });
  draw();
  assert.deepEqual(batches.map(({ changed, structural }) => [changed.size, structural]), [[10, true], [1, false]]);
  assert.equal(store.get("t1").progress.percent, 5);
});

test("a page of the list is older than the events that came while it was on its way", () => {
  const { store } = storeWith();
  store.apply(state("early", "STARTED", 1));
  const take = store.expectPage();
  store.apply(state("b", "SUCCESS", 9));
  take([{ task: "b", state: "STARTED", queued_at: 3, name: "work" }, { task: "early", state: "STARTED", name: "other", queued_at: 1 }, null, { task: 5 }]);
  assert.deepEqual([store.get("b").state, store.get("b").name, store.get("b").since], ["SUCCESS", "work", 3]);
  assert.equal(store.get("early").name, "other");
  assert.equal(store.rows.size, 2);
});

test("ids are only ever keys of a map, and what is no event of a task changes nothing", () => {
  const { store } = storeWith();
  for (const id of ["__proto__", "constructor", "toString", ""]) store.apply(state(id, "STARTED", 1));
  store.apply({ type: "state", task: 7 });
  store.apply({ type: "state" });
  assert.deepEqual([...store.rows.keys()], ["__proto__", "constructor", "toString", ""]);
  assert.equal({}.state, undefined);
  store.apply({ type: "reset", at: 1 });
  assert.equal(store.rows.size, 0);
});

test("of too many tasks, the oldest that have ended are forgotten", () => {
  const { store } = storeWith({ most: 100 });
  store.apply(state("runs", "STARTED", 0));
  for (let i = 1; i <= 200; i++) store.apply(state(`t${i}`, "SUCCESS", i));
  assert.ok(store.rows.size <= 100 && store.rows.has("runs") && store.rows.has("t200") && !store.rows.has("t1"));
});

test("the title and the icon say how many run and whether one failed, without parts of groups", () => {
  const counts = count([row("a"), row("b", { state: "FAILURE" }), row("p", { canvas_id: "g" }), row("c", { state: "SUCCESS" })]);
  assert.deepEqual(counts, { all: 3, active: 1, running: 1, failed: 1, done: 1 });
  assert.equal(titleOf(counts, "Tasks"), "1 running · 1 failed · Tasks");
  assert.equal(titleOf(count([]), "Tasks"), "Tasks");
  assert.notEqual(iconOf({ running: 1, failed: 0 }), iconOf({ running: 1, failed: 1 }));
  assert.ok(decodeURIComponent(iconOf({ running: 250, failed: 0 })).includes(">99+<"));
});

test("times are those of the server and of each worker, whatever the clock of this computer says", () => {
  let local = 10_000;
  const time = createTime(() => local);
  time.onDate(6400);
  assert.equal(time.now(), 6400);
  time.onEvent(6400.6, "right");
  assert.ok(Math.abs(time.now() - 6400.6) < 1e-6);
  // A worker whose clock is an hour ahead changes nothing for the others.
  time.onEvent(10_000.6, "ahead");
  time.onEvent(6300, "late");
  local += 10;
  assert.ok(Math.abs(time.now() - 6410.6) < 1e-6);
  assert.ok(Math.abs(time.nowOf({ worker: "ahead" }) - 10_010.6) < 1e-6);
  assert.ok(Math.abs(time.nowOf({ worker: "right" }) - 6410.6) < 1e-6);
  assert.equal(time.nowOf({}), time.now());
});
