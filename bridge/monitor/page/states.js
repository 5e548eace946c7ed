// What the states of tasks are called, and how the list groups them.

import { FINISHED_STATES } from "../../static/fold.js";

const WORDS = new Map(
  Object.entries({
    PENDING: "queued",
    RECEIVED: "received",
    STARTED: "running",
    RETRY: "retrying",
    SUCCESS: "done",
    FAILURE: "failed",
    REVOKED: "cancelled",
    STALLED: "stalled",
    IGNORED: "ignored",
    REJECTED: "rejected",
  }),
);

export const REASONS = new Map(
  Object.entries({
    revoked: "The task was cancelled before it started.",
    cancelled: "The task stopped itself after a request to cancel.",
    terminated: "The task was stopped by force.",
    expired: "The task expired before it started.",
  }),
);

// The groups in the order in which the list offers them. An unknown state is in the last one.
export const GROUPS = new Map(
  Object.entries({
    queued: ["PENDING", "RECEIVED"],
    running: ["STARTED"],
    retrying: ["RETRY"],
    stalled: ["STALLED"],
    failed: ["FAILURE"],
    done: ["SUCCESS"],
    cancelled: ["REVOKED"],
    other: ["IGNORED", "REJECTED"],
  }),
);

const GROUP_OF = new Map([...GROUPS].flatMap(([group, states]) => states.map((state) => [state, group])));
const ENDS = new Set(FINISHED_STATES);

export const isFinished = ({ state }) => ENDS.has(state);

// A worker may already have the next attempt and wait for its time.
export const waitsForRetry = ({ state, retry_at }) =>
  state === "RETRY" || (retry_at !== undefined && (state === "RECEIVED" || state === "PENDING"));

// The state that is shown.
export const shownState = (task) => (waitsForRetry(task) ? "RETRY" : String(task.state));

export const stateWord = (task) => WORDS.get(shownState(task)) ?? shownState(task).toLowerCase().slice(0, 40);

export const groupOf = (task) => GROUP_OF.get(shownState(task)) ?? "other";
