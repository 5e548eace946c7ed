// The page of a task or canvas: everything that is known of it, live. Open this file first; each part has its own.

import { shortened } from "../format.js";
import { isTyping } from "../help.js";
import { createPace } from "../pace.js";
import { shownState, stateWord } from "../states.js";
import { createActions } from "./actions.js";
import { createCounts } from "./canvas.js";
import { el, setAttribute, setText } from "./dom.js";
import { createFacts } from "./facts.js";
import { createFamily } from "./family.js";
import { createLog } from "./log.js";
import { newestTime } from "./moments.js";
import { createArguments, createNotice, createOutcome } from "./outcome.js";
import { createProgress } from "./progress.js";
import { nameOf } from "./reading.js";
import { createTimeline } from "./timeline.js";
import { createUnknown, isBlank } from "./unknown.js";

const LONGEST_NAME = 300;

const EMPTY = { state: "PENDING", steps: [], events: [], omitted: 0 };

// `context` has what every view gets from the shell; `params.task` is the id.
export function create(context) {
  const { bridge, api, clock } = context;
  const { task: id } = context.params;
  const parts = createParts(context, schedule);
  const handle = bridge.task(id);
  const pace = createPace();
  let state = null;
  let answer = null;
  let problem = "";
  let waiting = true;
  let scheduled = false;
  let closed = false;
  const stopClock = clock.subscribe(schedule);
  document.addEventListener("keydown", press);

  function heard(next, event) {
    state = next;
    if (event === null || event.type === "snapshot" || event.type === "reset") parts.log.restart();
    if (event?.type === "refused") problem = event.detail;
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

  // Drawn a few times a second, however many events there are.
  function schedule() {
    if (scheduled || closed) return;
    scheduled = true;
    pace(draw);
  }

  function draw() {
    scheduled = false;
    if (closed) return;
    // Until the stream tells something, the page shows what the server answered.
    const task = isBlank(state) && answer !== null ? { ...EMPTY, ...answer, task: id } : state;
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
    handle.close();
    parts.family.close();
    stopClock();
  }

  handle.subscribe(heard);
  ask();
  return { element: parts.element, close };
}

function createParts(context, schedule) {
  const title = el("h2");
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
    const name = nameOf(task) || "Task";
    setText(title, shortened(name, LONGEST_NAME));
    setAttribute(title, "title", name);
    setText(chip, stateWord(task));
    known.dataset.state = shownState(task);
    actions.draw(task);
    for (const each of sections) each.draw(task, now);
  }

  return { element, known, unknown, family, log, draw };
}
