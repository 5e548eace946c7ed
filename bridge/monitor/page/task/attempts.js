// The attempts of a task, as its state tells them. Pure.

import { isFinished, waitsForRetry } from "../states.js";
import { isObject, objects, time } from "./reading.js";

const SHOWN_ATTEMPTS = 20;

// The attempts in order: those that were followed by another one, and the latest. The state keeps only the newest, so
// the first bar may stand for several: `number` is the last of them and `first` the first.
export function attemptsOf(task) {
  const attempts = objects(task.attempts).flatMap(followed).slice(-SHOWN_ATTEMPTS);
  attempts.sort((one, other) => one.number - other.number);
  addForgotten(attempts, task);
  addLatest(attempts, task);
  finishLast(attempts, task);
  return attempts;
}

const NOTHING_TOLD = { to: null, error: null, reason: "", retryAt: null };

function followed({ attempt, started_at, ended_at, error, reason, retry_at }, index) {
  const to = time(ended_at);
  const from = time(started_at) ?? to;
  if (from === null) return [];
  const told = { to, error: isObject(error) ? error : null, reason: typeof reason === "string" ? reason : "", retryAt: time(retry_at) };
  const number = Number.isInteger(attempt) ? attempt : index + 1;
  return [{ first: number, number, from, ...told }];
}

// Attempts of which only the start of the first one is known.
function addForgotten(attempts, task) {
  const first = time(task.first_started_at);
  const next = attempts[0]?.from ?? time(task.started_at);
  const number = attempts[0]?.number ?? (Number.isInteger(task.attempt) ? task.attempt : 1);
  if (first === null || next === null || number < 2 || first > next) return;
  attempts.unshift({ ...NOTHING_TOLD, first: 1, number: number - 1, from: first, to: next });
}

function addLatest(attempts, task) {
  const from = time(task.started_at) ?? (attempts.length ? null : time(task.first_started_at));
  const last = attempts.at(-1);
  const number = Number.isInteger(task.attempt) ? task.attempt : (last?.number ?? 0) + 1;
  if (from === null || (last && number <= last.number)) return;
  // A worker may have the next attempt already: then `started_at` is that of the one before.
  if (last && (waitsForRetry(task) || Math.abs(from - last.from) < 0.01)) return;
  attempts.push({ ...NOTHING_TOLD, first: number, number, from });
}

// The last attempt has the end and the error of the task, once it has ended or waits.
function finishLast(attempts, task) {
  const last = attempts.at(-1);
  if (!last) return;
  if (isFinished(task)) last.to ??= time(task.ended_at);
  if ((isFinished(task) || waitsForRetry(task)) && isObject(task.error)) last.error ??= task.error;
  if (waitsForRetry(task)) last.retryAt ??= time(task.retry_at);
}
