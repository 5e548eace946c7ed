// Numbers, durations and sizes for people.

const integer = new Intl.NumberFormat("en");
const one = new Intl.NumberFormat("en", { maximumFractionDigits: 1 });

export const number = (value) => (Number.isInteger(value) ? integer : one).format(value);

export const plural = (count, word) => `${number(count)} ${word}${count === 1 ? "" : "s"}`;

export function duration(seconds) {
  if (seconds < 1) return `${Math.round(Math.max(0, seconds) * 1000)} ms`;
  if (seconds < 10) return `${one.format(seconds)} s`;
  if (seconds < 60) return `${Math.floor(seconds)} s`;
  const minutes = Math.floor(seconds / 60);
  const pad = (value) => String(Math.floor(value)).padStart(2, "0");
  if (minutes < 60) return `${minutes}:${pad(seconds % 60)} min`;
  return `${Math.floor(minutes / 60)}:${pad(minutes % 60)} h`;
}

export function size(bytes) {
  const units = ["bytes", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  for (; bytes >= 1024 && unit < units.length - 1; unit++) bytes /= 1024;
  return `${number(bytes)} ${units[unit]}`;
}

export const clock = (at) => new Date(at * 1000).toLocaleTimeString([], { hourCycle: "h23" });
