// How many parts of a canvas are at which stage: a bar and its figures.

import { number } from "../format.js";
import { el, setText } from "./dom.js";
import { isObject } from "./reading.js";

const STAGES = new Map([
  ["succeeded", "done"],
  ["failed", "failed"],
  ["revoked", "cancelled"],
  ["running", "running"],
  ["waiting", "waiting"],
]);

export function createCounts() {
  const bar = el("div", { class: "stages", "aria-hidden": "true" });
  const figures = el("dl", { class: "counts" });
  const element = el("div", { class: "canvas", hidden: true }, bar, figures);
  const shown = new Map();
  for (const [stage, word] of STAGES) {
    const [share, figure] = [el("i", { "data-stage": stage }), el("dd")];
    const box = el("div", { "data-stage": stage }, el("dt", {}, word), figure);
    shown.set(stage, { share, figure, box });
    bar.append(share);
    figures.append(box);
  }

  function draw({ parts }) {
    element.hidden = !isObject(parts);
    if (element.hidden) return;
    for (const [stage, { share, figure, box }] of shown) {
      const count = Object.hasOwn(parts, stage) && Number.isFinite(parts[stage]) ? Math.max(0, parts[stage]) : 0;
      share.style.flexGrow = count;
      share.hidden = count === 0;
      box.toggleAttribute("data-none", count === 0);
      setText(figure, number(count));
    }
  }

  return { element, draw };
}
