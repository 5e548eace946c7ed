// Which rows a query asks for, how many are in each group of states, and in which order they come. Pure.

import { GROUPS, groupOf } from "../states.js";
import { textOf } from "../rows.js";

// Seconds of the offered periods.
export const PERIODS = new Map(
  Object.entries({ "5m": 300, "15m": 900, "1h": 3600, "24h": 86_400, "7d": 604_800 }),
);

export const SORTS = new Map(
  Object.entries({
    queued: { label: "Queued", key: (row) => row.since },
    state: { label: "State", key: (row) => STATE_ORDER.get(groupOf(row)) },
    name: { label: "Task", key: (row) => (row.name ?? "").toLowerCase() },
    progress: { label: "Progress", key: percentOf },
    worker: { label: "Worker", key: (row) => (row.worker ?? "").toLowerCase() },
    duration: { label: "Duration", key: (row, now) => durationOf(row, now) ?? -1 },
  }),
);

const STATE_ORDER = new Map([...GROUPS.keys()].map((group, place) => [group, place]));
// What changes without more than progress: an order by it is made again with each batch.
const LIVE_SORTS = new Set(["progress", "duration"]);

export const sortOf = ({ sort }) => (SORTS.has(sort) ? sort : "queued");

// Newest and largest first, unless the query says otherwise; names from A to Z.
export function descends({ sort, dir }) {
  if (dir === "asc" || dir === "desc") return dir === "desc";
  return !["name", "worker", "state"].includes(sort);
}

export const isLiveSort = (params) => LIVE_SORTS.has(params.sort);

export function percentOf({ state, progress }) {
  if (state === "SUCCESS") return 100;
  return progress?.percent ?? -1;
}

// Seconds from the start of the first attempt to the end, or to now. Undefined for a task that has not started.
export function durationOf(row, now) {
  // A canvas begins when it is queued.
  const from = row.first_started_at ?? row.started_at ?? (row.parts ? row.queued_at : undefined);
  if (from === undefined) return undefined;
  return Math.max(0, (row.ended_at ?? now) - from);
}

// A text typed into a filter means exactly this value if some task has it, and a part of values otherwise.
function compile(text, rows, valuesOf) {
  if (!text) return null;
  const wanted = text.toLowerCase();
  for (const row of rows) if (valuesOf(row).includes(text)) return (row) => valuesOf(row).includes(text);
  return (row) => valuesOf(row).some((value) => value.toLowerCase().includes(wanted));
}

const one = (name) => (row) => (row[name] === undefined ? [] : [row[name]]);

// Seconds since the epoch, of a time that was entered in the time zone of the reader.
function entered(text) {
  const at = text ? Date.parse(text) / 1000 : NaN;
  return Number.isFinite(at) ? at : null;
}

// Whether a row is asked for, apart from its state. `texts` keeps what the search looks at.
function matcher(params, rows, now, texts) {
  const tests = [];
  const [name, worker] = ["name", "worker"].map((field) => compile(params[field], rows.values(), one(field)));
  const tag = compile(params.tag, rows.values(), (row) => row.tags);
  tests.push(...[name, worker, tag].filter(Boolean));
  const from = PERIODS.has(params.since) ? now - PERIODS.get(params.since) : entered(params.from);
  const to = PERIODS.has(params.since) ? null : entered(params.to);
  if (from !== null) tests.push((row) => row.since >= from);
  // The minute that was entered is a part of the period.
  if (to !== null) tests.push((row) => row.since < to + 60);
  if (params.canvas) tests.push((row) => row.canvas_id === params.canvas || row.task === params.canvas);
  const words = (params.q ?? "").toLowerCase().split(/\s+/).filter(Boolean);
  if (words.length) tests.push((row) => words.every((word) => texts(row).includes(word)));
  const showsParts = params.parts === "1" || Boolean(params.canvas) || words.some((word) => rows.get(word)?.canvas_id);
  if (!showsParts) tests.push((row) => row.canvas_id === undefined);
  return (row) => tests.every((test) => test(row));
}

// `{ rows, counts, matching }`: the rows in order, the count of each group, and all rows whatever their state.
export function select(rows, params, now, texts = textOf) {
  const matches = matcher(params, rows, now, texts);
  const counts = new Map([["all", 0], ...[...GROUPS.keys()].map((group) => [group, 0])]);
  const matching = [];
  const selected = [];
  for (const row of rows.values()) {
    if (!matches(row)) continue;
    const group = groupOf(row);
    counts.set("all", counts.get("all") + 1);
    counts.set(group, counts.get(group) + 1);
    matching.push(row);
    if (!GROUPS.has(params.state) || group === params.state) selected.push(row);
  }
  return { rows: withParts(sorted(selected, params, now), rows, params.open), counts, matching };
}

// In order, and among equals the newest first, then by id: an order that stays.
export function sorted(rows, params, now) {
  const { key } = SORTS.get(sortOf(params));
  const sign = descends(params) ? -1 : 1;
  const keyed = rows.map((row) => [key(row, now), row]);
  keyed.sort(([a, rowA], [b, rowB]) => {
    if (a !== b) return a < b ? -sign : sign;
    if (rowA.since !== rowB.since) return rowB.since - rowA.since;
    return rowA.task < rowB.task ? 1 : -1;
  });
  return keyed.map(([, row]) => row);
}

// The parts of each canvas that is open follow it.
function withParts(selected, rows, open = []) {
  const opened = new Map(open.filter((id) => rows.get(id)?.parts).map((id) => [id, []]));
  if (!opened.size) return selected;
  const listed = new Set(selected);
  for (const row of rows.values()) if (!listed.has(row)) opened.get(row.canvas_id)?.push(row);
  for (const parts of opened.values()) parts.sort((a, b) => (a.index ?? 0) - (b.index ?? 0) || a.since - b.since);
  return selected.flatMap((row) => [row, ...(opened.get(row.task) ?? [])]);
}

// The values that the filters offer, the most frequent first.
export function values(rows, valuesOf, most = 100) {
  const counts = new Map();
  for (const row of rows) for (const value of valuesOf(row)) counts.set(value, (counts.get(value) ?? 0) + 1);
  return [...counts].sort((a, b) => b[1] - a[1]).slice(0, most).map(([value]) => value);
}

export const FACETS = new Map([
  ["name", one("name")],
  ["worker", one("worker")],
  ["tag", (row) => row.tags],
]);

