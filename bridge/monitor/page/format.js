// Numbers, durations, sizes and times for people.

const integer = new Intl.NumberFormat("en");
const one = new Intl.NumberFormat("en", { maximumFractionDigits: 1 });

export const number = (value) => (Number.isInteger(value) ? integer : one).format(value);

export const plural = (count, word) => `${number(count)} ${word}${count === 1 ? "" : "s"}`;

export function duration(seconds) {
  if (!(seconds > 0)) return "0 ms";
  if (seconds < 0.9995) return `${Math.round(seconds * 1000)} ms`;
  if (seconds < 10) return `${one.format(seconds)} s`;
  if (seconds < 60) return `${Math.floor(seconds)} s`;
  const minutes = Math.floor(seconds / 60);
  const pad = (value) => String(Math.floor(value)).padStart(2, "0");
  if (minutes < 60) return `${minutes}:${pad(seconds % 60)} min`;
  return `${Math.floor(minutes / 60)}:${pad(minutes % 60)} h`;
}

// How long ago something was, in one unit, so that it rarely changes.
export function ago(seconds) {
  if (!(seconds >= 1)) return "now";
  if (seconds < 60) return `${Math.floor(seconds)} s ago`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ago`;
  if (seconds < 86_400) return `${Math.floor(seconds / 3600)} h ago`;
  return plural(Math.floor(seconds / 86_400), "day") + " ago";
}

export function size(bytes) {
  const units = ["bytes", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  for (; bytes >= 1024 && unit < units.length - 1; unit++) bytes /= 1024;
  return `${number(bytes)} ${units[unit]}`;
}

const time = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });
const day = new Intl.DateTimeFormat("en-GB", { year: "numeric", month: "short", day: "numeric" });

// Times of tasks are seconds since the epoch. Anything else is not a time.
const isTime = (at) => typeof at === "number" && Math.abs(at) < 8.64e12;

export const clockTime = (at) => (isTime(at) ? time.format(at * 1000) : "");

export const dateTime = (at) => (isTime(at) ? `${day.format(at * 1000)}, ${time.format(at * 1000)}` : "");

export const isoTime = (at) => (isTime(at) ? new Date(at * 1000).toISOString() : "");

// The beginning of a text that may be long.
export const shortened = (text, most) => (text.length > most ? `${text.slice(0, most)}…` : text);
