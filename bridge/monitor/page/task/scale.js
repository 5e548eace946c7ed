// The scale of a timeline or Gantt chart. Pure: seconds to shares of the width.

import { duration } from "../format.js";

const MOST_TICKS = 6;
const STEPS = [
  ...[0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30],
  ...[60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 21600, 43200, 86400, 172800, 432000, 864000],
];

// From `from` to `to`. `place(at)` is a share from 0 to 1; `ticks` have `share` and `label`.
export function scaleOf(from, to, most = MOST_TICKS) {
  const span = Math.max(0.001, to - from);
  const place = (at) => Math.min(1, Math.max(0, (at - from) / span));
  const step = STEPS.find((each) => span / each <= most) ?? span / most;
  const ticks = [];
  // Counted, because a sum of small steps drifts.
  for (let index = 0; index * step <= span * 1.0001; index++)
    ticks.push({ share: Math.min(1, (index * step) / span), label: index === 0 ? "0" : tidy(duration(index * step)) });
  return { span, place, ticks };
}

const tidy = (text) => text.replace(/ 0+ (s|min|h)$/, "");
