// The page of a task or canvas: everything that is known of it, live. Open this file first; each part has its own.

import { isTyping } from "../help.js";
import { shownState, stateWord } from "../states.js";
import { createActions } from "./actions.js";
import { createCounts } from "./canvas.js";
import { el, setText } from "./dom.js";
import { createFacts } from "./facts.js";
import { createFamily } from "./family.js";
import { createLog } from "./log.js";
import { newestTime } from "./moments.js";
import { createArguments, createNotice, createOutcome } from "./outcome.js";
import { createProgress } from "./progress.js";
import { createTimeline } from "./timeline.js";
import { createUnknown, isBlank } from "./unknown.js";

// `context` has what every view gets from the shell; `params.task` is the id.
export function create(context) {
  const { bridge, api, clock } = context;
  const { task: id } = context.params;
  const parts = createParts(context, schedule);
  const handle = bridge.task(id);
  let state = null;
  let answer = null;
  let problem = "";
  let waiting = true;
  let frame = 0;
  let closed = false;
  const stopClock = clock.subscribe(schedule);
  document.addEventListener("keydown", press);

  function heard(next, event) {
    state = next;
    if (event === null || event.type === "snapshot" || event.type === "reset") parts.log.restart();
    if (event?.type === "refused") problem = event.detail;
    // What only the server's answer has may be new with each state.
    if (event?.type === "state" && answer !== null) ask();
    if (next !== null || problem) waiting = false;
    schedule();
  }

  async function ask() {
    try {
      const found = await api.task(id);
      answer = found !== null && typeof found === "object" ? found : null;
    } catch (error) {
      if (state === null && error.status !== 404) problem = error.message;
    }
    waiting = false;
    schedule();
  }

  // Drawn once in a frame, however many events there are.
  function schedule() {
    if (!closed) frame ||= requestAnimationFrame(draw);
  }

  function draw() {
    frame = 0;
    const task = shown(state, answer, id);
    const blank = isBlank(task);
    parts.unknown.element.hidden = !blank;
    parts.known.hidden = blank;
    if (blank) return parts.unknown.draw(id, { problem, waiting });
    const now = Math.max(clock.nowOf(task), newestTime(task));
    parts.draw(task, now);
  }

  // As in the list, a slash goes to the search.
  function press(event) {
    if (event.key !== "/" || event.ctrlKey || event.metaKey || event.altKey || isTyping(event) || parts.log.element.hidden) return;
    event.preventDefault();
    parts.log.search.focus();
  }

  function close() {
    closed = true;
    document.removeEventListener("keydown", press);
    cancelAnimationFrame(frame);
    handle.close();
    parts.family.close();
    stopClock();
  }

  handle.subscribe(heard);
  ask();
  return { element: parts.element, close };
}

// The live state, with what only the server's answer tells.
function shown(state, answer, id) {
  if (answer === null) return state;
  if (isBlank(state)) return { events: [], steps: [], omitted: 0, ...answer, task: id };
  const more = {};
  for (const name of ["args", "kwargs", "attempts", "received_at"]) if (state[name] === undefined && answer?.[name] !== undefined) more[name] = answer[name];
  return { ...state, ...more };
}

function createParts(context, schedule) {
  const title = el("h2", { tabindex: "-1" });
  const chip = el("span", { class: "chip", role: "status" });
  const actions = createActions(context);
  const unknown = createUnknown();
  const family = createFamily(context, schedule);
  const log = createLog(context.params.task);
  const sections = [createNotice(), createProgress(), createCounts(), createFacts(), createTimeline(), createOutcome(), log, family, createArguments()];
  const head = el("div", { class: "head" }, title, chip, actions.element);
  const known = el("div", { class: "known", hidden: true }, head, actions.problem);
  known.append(...sections.flatMap(({ element, elements }) => elements ?? [element]));
  const element = el("article", { class: "task-page" }, unknown.element, known);

  function draw(task, now) {
    setText(title, typeof task.name === "string" && task.name ? task.name : task.canvas ? String(task.canvas) : "Task");
    setText(chip, stateWord(task));
    known.dataset.state = shownState(task);
    actions.draw(task);
    for (const each of sections) each.draw(task, now);
  }

  return { element, known, unknown, family, log, draw };
}
