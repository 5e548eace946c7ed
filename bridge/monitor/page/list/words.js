// What a row says. Pure.

import { duration, number, shortened } from "../format.js";
import { isFinished, REASONS, stateWord, waitsForRetry } from "../states.js";

const PARTS = { running: "running", failed: "failed", revoked: "cancelled", waiting: "waiting" };

export const nameOf = (row) => (row.parts ? `${row.canvas ?? "canvas"} of ${row.name ?? "tasks"}` : (row.name ?? "task"));

// The state, and which attempt it is.
export const chipOf = (row) => (row.attempt > 1 && !waitsForRetry(row) ? `${stateWord(row)} · attempt ${row.attempt}` : stateWord(row));

// The most important thing to know about a task. `now` is the time by the clock of its worker.
export function messageOf(row, now) {
  const ended = isFinished(row);
  if (row.cancel_requested !== undefined && !ended)
    return row.terminate ? "Stop by force requested." : "Cancellation requested. The task stops at its next check, or does not start.";
  if (row.state === "STALLED") return "The worker of this task no longer sends heartbeats.";
  if (waitsForRetry(row)) return retryOf(row, now);
  if (row.parts) return ended && row.state !== "SUCCESS" ? outcomeOf(row.parts) : tallyOf(row.parts);
  if (row.error && ended) return `${row.error.type}: ${row.error.message}`;
  if (row.reason && ended) return REASONS.get(row.reason) ?? row.reason;
  return row.progress?.message ?? row.progress?.step ?? "";
}

// Counts down to the next attempt.
function retryOf({ state, attempt = 1, retry_at, error, reason }, now) {
  const left = Math.ceil(retry_at - now);
  const when = left > 0 ? `Retrying in ${duration(left)}` : "Retrying";
  const cause = error ? `${error.type}: ${error.message}` : (reason ?? "");
  return [`${when}, attempt ${state === "RETRY" ? attempt + 1 : attempt}`, shortened(cause, 300)].filter(Boolean).join(": ");
}

const sum = (parts) => [...parts.values()].reduce((total, count) => total + count, 0);

const counted = (parts) =>
  Object.entries(PARTS)
    .filter(([name]) => parts.get(name))
    .map(([name, word]) => `${number(parts.get(name))} ${word}`);

export const partsOf = (parts) => `${number(sum(parts))} parts`;

export const tallyOf = (parts) => counted(parts).join(" · ");

export const outcomeOf = (parts) =>
  [`${number(parts.get("succeeded") ?? 0)} of ${number(sum(parts))} succeeded`, ...counted(parts)].join(", ");

// A canvas that failed shows no percentage: its percentage counts work, and a failed task has done some of it.
export function percentShown(row) {
  if (row.state === "SUCCESS") return 100;
  if (row.parts && isFinished(row)) return undefined;
  const percent = row.progress?.percent;
  return percent === undefined ? undefined : Math.min(100, Math.max(0, percent));
}

export function figuresOf(row) {
  const { current, total, rate, eta } = row.progress ?? {};
  const percent = percentShown(row);
  const parts = [];
  if (row.parts && isFinished(row) && row.state !== "SUCCESS") return "";
  if (current !== undefined && total) parts.push(`${number(current)} of ${number(total)}`);
  else if (current) parts.push(number(current));
  if (!isFinished(row) && rate) parts.push(`${number(rate)}/s`);
  if (!isFinished(row) && eta !== undefined) parts.push(`${duration(eta)} left`);
  if (percent !== undefined) parts.push(`${Math.floor(percent)} %`);
  return parts.join(" · ");
}
