// The timeline of a task, drawn to scale.

import { duration, isoTime, shortened } from "../format.js";
import { el, section, setAttribute, setText, setTime } from "./dom.js";
import { momentsOf } from "./moments.js";
import { scaleOf } from "./scale.js";
import { elapsed } from "./times.js";

const LONGEST_DETAIL = 300;

export function createTimeline() {
  const axis = createAxis();
  const list = el("ol", { class: "bars" });
  const note = el("p", { class: "hint", hidden: true }, SKEWED);
  const element = section("Timeline", "timeline", axis.element, list, note);
  const rows = [];

  function draw(task, now) {
    const { from, to, skewed, bars } = momentsOf(task, now);
    element.hidden = bars.length === 0;
    note.hidden = !skewed;
    if (element.hidden) return;
    const scale = scaleOf(from, to);
    axis.draw(scale);
    while (rows.length < bars.length) rows.push(createRow());
    for (const [index, row] of rows.entries()) {
      if (index < bars.length) {
        row.draw(bars[index], scale, now);
        if (!row.element.parentNode) list.append(row.element);
      } else row.element.remove();
    }
  }

  return { element, draw };
}

const SKEWED = "The clocks of the machines differ, so the times between them are not exact.";

// The ticks above a chart. They repeat what the rows say, so screen readers skip them.
export function createAxis() {
  const element = el("div", { class: "axis", "aria-hidden": "true" });
  const ticks = el("div", { class: "ticks" });
  element.append(ticks);
  let shown = "";

  function draw(scale) {
    const text = JSON.stringify(scale.ticks);
    if (text === shown) return;
    shown = text;
    ticks.replaceChildren(
      ...scale.ticks.map(({ share, label }) => {
        const tick = el("span", { "data-edge": share > 0.94 ? "end" : share < 0.02 ? "start" : null }, label);
        tick.style.insetInlineStart = `${100 * share}%`;
        return tick;
      }),
    );
  }

  return { element, draw };
}

// Sets a bar from one time to another. Even the shortest can be seen.
export function placeBar(bar, scale, from, to) {
  const start = scale.place(from);
  bar.style.insetInlineStart = `${(100 * start).toFixed(3)}%`;
  bar.style.inlineSize = `${(100 * (scale.place(to) - start)).toFixed(3)}%`;
}

function createRow() {
  const label = el("span", { class: "label" });
  const at = el("time", { class: "at" });
  const bar = el("i", { class: "bar-of-time" });
  const track = el("span", { class: "track", "aria-hidden": "true" }, bar);
  const length = el("span", { class: "length" });
  const detail = el("span", { class: "detail", hidden: true });
  const element = el("li", {}, label, at, track, length, detail);

  function draw({ kind, label: name, depth = 0, from, to, open, state, detail: text }, scale, now) {
    Object.assign(element.dataset, { kind, state });
    setText(label, kind === "end" ? END.get(state) : shortened(name, LONGEST_DETAIL));
    label.style.paddingInlineStart = kind === "step" ? `${Math.min(depth, 6) + 1}rem` : "";
    setTime(at, from, now, { ago: false });
    placeBar(bar, scale, from, to);
    setAttribute(track, "title", kind === "end" ? isoTime(from) : `${isoTime(from)} – ${open ? "…" : isoTime(to)}`);
    const length_ = open && kind !== "wait" ? elapsed(to - from) : duration(to - from);
    setText(length, kind === "end" ? "" : length_);
    setText(detail, shortened(text, LONGEST_DETAIL));
    detail.hidden = !text;
  }

  return { element, draw };
}

const END = new Map([["good", "Succeeded"], ["bad", "Failed"], ["idle", "Ended"]]);
