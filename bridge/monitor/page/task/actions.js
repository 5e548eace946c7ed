// What a reader can do with a task: copy its id, cancel it, run it again.

import { isFinished } from "../states.js";
import { button, copy, el, setText } from "./dom.js";
import { isCanvas } from "./reading.js";

// `context` as for a view. Returns `{ element, problem, draw(task) }`; `problem` shows why a request failed.
export function createActions({ api, settings, navigate, params: { task: id } }) {
  let task = null;
  const problem = el("p", { class: "complaint", role: "alert", hidden: true });
  const copyId = button("Copy id", () => copy(id, copyId));
  const cancel = button("Cancel", () => attempt(cancel, askToCancel), { hidden: true, class: "danger" });
  const again = button("Run again", () => attempt(again, askToRun), { hidden: true });
  const element = el("div", { class: "actions", role: "group", "aria-label": "Actions" }, copyId, again, cancel);

  async function attempt(pressed, ask) {
    problem.hidden = true;
    pressed.disabled = true;
    try {
      await ask();
    } catch (error) {
      setText(problem, String(error?.message ?? error));
      problem.hidden = false;
    }
    pressed.disabled = false;
  }

  async function askToCancel() {
    const byForce = wasRequested(task);
    const question = byForce ? BY_FORCE : isCanvas(task) ? CANVAS : ONE;
    if (!(await confirmed(question))) return;
    await api.cancel(id, { terminate: byForce });
  }

  async function askToRun() {
    if (!(await confirmed(AGAIN))) return;
    const started = await api.runAgain(id);
    if (typeof started?.id === "string") navigate({ task: started.id });
  }

  function draw(known) {
    task = known;
    cancel.hidden = !settings.canCancel || isFinished(known);
    again.hidden = !settings.canRunAgain || !isFinished(known) || isCanvas(known);
    if (!cancel.hidden) setText(cancel, wasRequested(known) ? "Stop by force" : isCanvas(known) ? "Cancel all" : "Cancel");
  }

  return { element, problem, draw };
}

const wasRequested = (task) => Number.isFinite(task?.cancel_requested);

const ONE = { title: "Cancel this task?", text: "A task that waits will not start. One that runs is asked to stop.", yes: "Cancel the task", no: "Keep it" };
const CANVAS = { title: "Cancel all its tasks?", text: "Parts that wait will not start. Those that run are asked to stop.", yes: "Cancel all", no: "Keep them" };
const BY_FORCE = {
  title: "Stop it by force?",
  text: "The process that runs the task is ended at once. What the task was doing stays half done.",
  yes: "Stop by force",
  no: "Wait",
};
const AGAIN = { title: "Run this task again?", text: "A new task starts with the same arguments.", yes: "Run again", no: "Do not" };

// Asks in a dialog. The answer is no if it is closed with Escape.
function confirmed({ title, text, yes, no }) {
  const heading = el("h2", { id: "question" }, title);
  const explanation = el("p", { id: "explanation" }, text);
  const buttons = el("div", { class: "actions" }, button(no, () => dialog.close("no")), button(yes, () => dialog.close("yes"), { class: "danger" }));
  const dialog = el("dialog", { class: "question", "aria-labelledby": "question", "aria-describedby": "explanation" }, heading, explanation, buttons);
  document.body.append(dialog);
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => {
      dialog.remove();
      resolve(dialog.returnValue === "yes");
    });
    dialog.showModal();
  });
}
