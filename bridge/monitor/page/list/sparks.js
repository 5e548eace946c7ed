// Two small pictures: how many tasks end, and how long they take.

import { el, setText, svg } from "../dom.js";
import { duration, number } from "../format.js";
import { durationOf } from "./query.js";
import { linePath, median, periodOf, series } from "./series.js";

const WIDTH = 120;
const HEIGHT = 28;

export function createSparks() {
  const [throughput, durations] = [spark("Ended"), spark("Median duration")];
  const element = el("div", { className: "sparks" }, throughput.element, durations.element);

  // `rows` are those that match the filters; `period` in seconds, or null to show what there is.
  function show(rows, now, wanted) {
    const period = wanted ?? periodOf(rows, now);
    const found = series(rows, now, period, (row) => durationOf(row, now));
    const ended = found.counts.reduce((sum, count) => sum + count, 0);
    const rate = (ended / period) * 60;
    const over = `in the last ${duration(period)}`;
    throughput.show(found.counts, `${number(Math.round(rate * 10) / 10)}/min`, `${number(ended)} tasks ended ${over}`);
    const middle = median(found.durations.filter((value) => value !== null));
    const words = middle === null ? "–" : duration(middle);
    durations.show(found.durations, words, middle === null ? `No task ended ${over}` : `Median duration ${words} ${over}`);
  }

  return { element, show };
}

function spark(title) {
  const path = svg("path", {});
  const picture = svg("svg", { viewBox: `-1 -2 ${WIDTH + 2} ${HEIGHT + 4}`, role: "img", preserveAspectRatio: "none" }, path);
  const value = el("strong", {});
  const element = el("figure", { className: "spark" }, el("figcaption", {}, el("span", {}, title), value), picture);

  function show(values, words, label) {
    setText(value, words);
    const drawn = linePath(values, WIDTH, HEIGHT);
    if (path.getAttribute("d") !== drawn) path.setAttribute("d", drawn);
    if (picture.getAttribute("aria-label") !== label) picture.setAttribute("aria-label", label);
    element.title = label;
  }

  return { element, show };
}
