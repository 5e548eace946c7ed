// What happened to a task, and when: waits, attempts and steps in order. Pure.
//
// The times come from several machines, whose clocks may differ by hours. Those of one machine are right among
// themselves, so the durations of attempts and steps are kept, and what does not fit is moved.

import { isFinished, waitsForRetry } from "../states.js";
import { attemptsOf } from "./attempts.js";
import { errorText, isCanvas, objects, time } from "./reading.js";

// The newest time in the state of a task by the clock of its worker, which is at least that far. Before a worker has
// the task, by the clock of the program that queued it.
export function newestTime(task) {
  const known = [task.received_at, task.started_at, task.ended_at];
  for (const attempt of objects(task.attempts)) known.push(attempt.started_at, attempt.ended_at);
  if (Array.isArray(task.events)) known.push(task.events.at(-1)?.at);
  const newest = Math.max(0, ...known.map((value) => time(value) ?? 0));
  return newest || (time(task.queued_at) ?? 0);
}

// All that a timeline shows. `now` is the time by the clock of the worker.
//
// Returns `{ from, to, skewed, bars }`. A bar has `kind` (queued, received, attempt, wait, step, end), `label`,
// `from`, `to`, `open` (it goes on), `state` (good, bad, running, idle) and `detail`.
export function momentsOf(task, now) {
  const shifts = { skewed: false };
  const attempts = ordered(attemptsOf(task), shifts);
  const ended = isFinished(task) ? time(task.ended_at) : null;
  const bars = [...waitsBefore(task, attempts, ended, now, shifts)];
  for (const [index, attempt] of attempts.entries()) {
    bars.push(attemptBar(task, attempt, index === attempts.length - 1, now));
    bars.push(...stepBars(task, attempts, index, now));
    bars.push(...waitAfter(task, attempt, attempts[index + 1], ended ?? now));
  }
  const end = endOf(bars, ended, attempts.length > 0);
  if (end !== null) bars.push({ kind: "end", label: "", from: end, to: end, open: false, state: outcomeOf(task), detail: "" });
  const times = bars.flatMap(({ from, to }) => [from, to]);
  return { from: Math.min(...times), to: Math.max(...times), skewed: shifts.skewed, bars };
}

const outcomeOf = ({ state }) => (state === "SUCCESS" ? "good" : state === "FAILURE" || state === "REJECTED" ? "bad" : "idle");

// Each attempt begins after the one before it. Another worker's clock may say otherwise: then the attempt is moved.
function ordered(attempts, shifts) {
  let free = -Infinity;
  return attempts.map((attempt) => {
    const shift = attempt.from < free ? free - attempt.from : 0;
    if (shift > 0.001) shifts.skewed = true;
    const from = attempt.from + shift;
    const to = attempt.to === null ? null : Math.max(from, attempt.to + shift);
    free = to ?? from;
    return { ...attempt, from, to, shift };
  });
}

// The wait for a worker, and in the worker. Both end when the first attempt begins.
function* waitsBefore(task, attempts, ended, now, shifts) {
  const started = attempts[0]?.from ?? ended;
  const open = started === null;
  const until = started ?? now;
  let [queued, received] = [time(task.queued_at), time(task.received_at)];
  // A later attempt is received too, which is no wait for the first one.
  if (received !== null && task.attempt > 1 && received > until) received = null;
  if (received !== null && received > until + 0.001) [received, shifts.skewed] = [until, true];
  if (queued !== null && queued > (received ?? until) + 0.001) [queued, shifts.skewed] = [received ?? until, true];
  const base = { detail: "", state: "idle" };
  if (queued !== null)
    yield { ...base, kind: "queued", label: "Queued", from: queued, to: Math.max(queued, received ?? until), open: open && received === null };
  if (received !== null) yield { ...base, kind: "received", label: "Received", from: received, to: Math.max(received, until), open };
}

function attemptBar(task, attempt, isLast, now) {
  const running = isLast && attempt.to === null && !waitsForRetry(task) && !isFinished(task);
  const to = attempt.to ?? (running ? Math.max(attempt.from, now) : attempt.from);
  const state = running ? runningState(task) : !attempt.error && isLast && isFinished(task) ? outcomeOf(task) : "bad";
  const detail = attempt.error ? errorText(attempt.error) : attempt.reason;
  return { kind: "attempt", label: labelOf(task, attempt), from: attempt.from, to, open: running, state, detail };
}

const runningState = ({ state }) => (state === "STALLED" ? "idle" : "running");

function labelOf(task, { first, number }) {
  if (isCanvas(task)) return "Runs";
  return first < number ? `Attempts ${first} to ${number}` : `Attempt ${number}`;
}

// Until the next attempt. The task may also end while it waits.
function waitAfter(task, attempt, next, until) {
  const from = attempt.to ?? (next ? null : attempt.from);
  if (from === null) return [];
  const detail = attempt.reason === attempt.error?.type ? "" : attempt.reason;
  const wait = { kind: "wait", label: "Waits to retry", from, state: "idle", detail };
  if (next || isFinished(task)) {
    const to = next?.from ?? until;
    return to - from > 0.001 ? [{ ...wait, to, open: false }] : [];
  }
  if (!waitsForRetry(task)) return [];
  return [{ ...wait, to: Math.max(from, until, attempt.retryAt ?? 0), open: true }];
}

// Steps are those of the last attempt. The state has the one that changed last at its end.
function stepBars(task, attempts, index, now) {
  if (index !== attempts.length - 1) return [];
  const { from: start, to: stop, shift } = attempts[index];
  const bars = objects(task.steps).flatMap((step) => {
    const begun = time(step.started_at);
    if (begun === null) return [];
    const from = Math.max(start, begun + shift);
    const ended = time(step.ended_at);
    const open = step.status === "started" && stop === null && !isFinished(task);
    const to = Math.max(from, ended === null ? (open ? now : stop ?? from) : ended + shift);
    return [{ kind: "step", label: stepName(step), depth: depthOf(step), from, to, open, state: stepState(step, open), detail: "" }];
  });
  return bars.sort((one, other) => one.from - other.from || one.depth - other.depth);
}

export const stepName = ({ name, path }) => String((Array.isArray(path) ? path.at(-1) : name) ?? name ?? "step");
const depthOf = ({ path }) => (Array.isArray(path) ? Math.max(0, path.length - 1) : 0);
const stepState = ({ status }, open) => (status === "succeeded" ? "good" : status === "failed" ? "bad" : open ? "running" : "idle");

// The end is that of the last attempt, which may have been moved.
function endOf(bars, ended, started) {
  if (ended === null || bars.length === 0) return ended;
  const last = Math.max(...bars.map(({ to }) => to));
  return started ? last : Math.max(last, ended);
}
