// How many tasks ended, and how long they took, over time. Pure.

// Seconds of a period, and how many points show it.
export const POINTS = 60;
const SHORTEST = 60;
const LONGEST = 7 * 86_400;

// A period that shows most of the tasks that ended: from the oldest of them to now, in steps that stay the same for long.
export function periodOf(rows, now) {
  let oldest = now;
  for (const { ended_at } of rows) if (ended_at < oldest) oldest = ended_at;
  let seconds = SHORTEST;
  while (seconds < now - oldest && seconds < LONGEST) seconds *= 2;
  return Math.min(seconds, LONGEST);
}

// `{ counts, durations, step }`: for each point how many ended, and the median seconds that they took, or null. Points
// have fixed places in time, so that they move with the picture and do not change.
export function series(rows, now, period, durationOf) {
  const step = period / POINTS;
  const last = Math.floor(now / step);
  const taken = Array.from({ length: POINTS }, () => []);
  const counts = new Array(POINTS).fill(0);
  for (const row of rows) {
    if (row.ended_at === undefined) continue;
    const place = POINTS - 1 - (last - Math.floor(row.ended_at / step));
    if (place < 0 || place >= POINTS) continue;
    counts[place] += 1;
    const seconds = durationOf(row);
    if (seconds !== undefined) taken[place].push(seconds);
  }
  return { counts, durations: taken.map(median), step };
}

export function median(numbers) {
  if (!numbers.length) return null;
  const ordered = numbers.toSorted ? numbers.toSorted((a, b) => a - b) : [...numbers].sort((a, b) => a - b);
  const middle = ordered.length >> 1;
  return ordered.length % 2 ? ordered[middle] : (ordered[middle - 1] + ordered[middle]) / 2;
}

// The path of a line in a picture of this size; where there is no value, the line has a gap.
export function linePath(values, width, height) {
  const top = Math.max(...values.map((value) => value ?? 0), 0) || 1;
  const dx = width / Math.max(1, values.length - 1);
  let path = "";
  let drawing = false;
  values.forEach((value, place) => {
    if (value === null) return (drawing = false);
    const [x, y] = [round(place * dx), round(height - (value / top) * height)];
    // A point between two gaps is a short line, or nobody would see it.
    path += drawing ? `L${x} ${y}` : `M${x} ${y}h0.01`;
    drawing = true;
  });
  return path;
}

const round = (value) => Math.round(value * 100) / 100;
