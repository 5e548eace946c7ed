// Times of a task. Pure. Times are in seconds since the epoch, durations in seconds.

import { ago, clockTime, dateTime, duration } from "../format.js";

// A duration that grows on the page: in whole seconds, so that it does not flicker.
export const elapsed = (seconds) => (seconds >= 1 ? duration(Math.floor(seconds)) : "0 s");

// How long ago, or in how long.
export const relative = (at, now) => (at > now + 1 ? `in ${elapsed(at - now)}` : ago(now - at));

// The time of day, with the day unless it is that of `now`.
export const shortTime = (at, now) => (new Date(at * 1000).toDateString() === new Date(now * 1000).toDateString() ? clockTime(at) : dateTime(at));

// The time of day to the millisecond, for a log.
export const logTime = (at) => `${clockTime(at)}.${String(new Date(at * 1000).getMilliseconds()).padStart(3, "0")}`;
