// The parts of a canvas: how many are in each state, and some of them. They are drawn only while they are shown.

import { el, setText } from "./dom.js";
import { number } from "./format.js";

const WORDS = { running: "running", failed: "failed", revoked: "cancelled", waiting: "waiting" };

const counts = (parts) =>
  Object.entries(WORDS)
    .filter(([name]) => parts[name])
    .map(([name, word]) => `${number(parts[name])} ${word}`);

const sum = (parts) => Object.values(parts).reduce((total, count) => total + count, 0);

export const tallied = (parts) => counts(parts).join(" · ");

export const outcome = (parts) =>
  [`${number(parts.succeeded ?? 0)} of ${number(sum(parts))} succeeded`, ...counts(parts)].join(", ");

export class Parts {
  constructor(stateWord) {
    this.stateWord = stateWord;
    this.summary = el("summary", {});
    this.list = el("ol", {});
    this.element = el("details", { className: "parts", hidden: true }, this.summary, this.list);
    this.element.addEventListener("toggle", () => this.task && this.#draw());
  }

  show(task) {
    this.task = task;
    const total = sum(task.parts ?? {});
    const listed = task.children?.length ?? 0;
    this.element.hidden = !listed;
    setText(this.summary, listed < total ? `Parts (${number(listed)} of ${number(total)})` : `Parts (${number(total)})`);
    this.#draw();
  }

  #draw() {
    if (!this.element.open) return;
    const children = [...(this.task.children ?? [])].sort((a, b) => rank(a) - rank(b) || a.index - b.index);
    this.list.replaceChildren(...children.map((child) => this.#line(child)));
  }

  #line({ task, name, state, percent, index }) {
    const label = index === undefined ? (name ?? task) : `${number(index + 1)}. ${name ?? task}`;
    const fill = el("div", { className: "fill" });
    fill.style.setProperty("transform", `scaleX(${percent / 100})`);
    const link = el("a", { href: `/tasks/${encodeURIComponent(task)}`, title: task }, label);
    const word = el("span", { className: "state" }, this.stateWord({ state }));
    const item = el("li", {}, link, word, el("div", { className: "bar", ariaHidden: "true" }, fill));
    item.dataset.state = state;
    return item;
  }
}

// Parts that failed come first, then those that run.
const rank = ({ state, ended }) => (state === "SUCCESS" ? 2 : ended ? 0 : 1);
