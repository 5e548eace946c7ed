// The workers: which are alive, what each runs, since when one is silent, how many tasks it ended.

import { plural } from "../format.js";
import { el, setText } from "../task/dom.js";
import { createList } from "./list.js";
import { workersOf } from "./workers.js";

// Milliseconds between two requests while the page is visible.
const EVERY = 3000;

// `context` has what every view gets from the shell.
export function create({ api, clock }) {
  const title = el("h2", {}, "Workers");
  const summary = el("p", { class: "hint" }, "Asking the server…");
  const problem = el("p", { class: "complaint", role: "alert", hidden: true });
  const list = createList();
  const empty = el("div", { class: "empty", hidden: true }, el("strong", {}, "No workers are known."), el("p", {}, EMPTY));
  const element = el("article", { class: "workers-page" }, el("div", { class: "title" }, title, summary), problem, empty, list.element);
  let workers = null;
  let timer = 0;
  let asking = null;

  async function ask() {
    clearTimeout(timer);
    if (asking !== null || document.visibilityState === "hidden") return;
    asking = new AbortController();
    try {
      workers = workersOf(await api.workers({ signal: asking.signal }));
      problem.hidden = true;
    } catch (error) {
      if (error?.name === "AbortError") return;
      setText(problem, `The workers could not be read: ${error.message}`);
      problem.hidden = false;
    }
    asking = null;
    timer = setTimeout(ask, EVERY);
    draw();
  }

  function draw() {
    if (workers === null) return setText(summary, problem.hidden ? "Asking the server…" : "");
    const alive = workers.filter((worker) => worker.alive).length;
    const silent = workers.length - alive;
    setText(summary, workers.length ? [`${plural(alive, "worker")} alive`, silent && `${silent} silent`].filter(Boolean).join(", ") : "");
    empty.hidden = workers.length > 0;
    list.draw(workers, clock.now());
  }

  function seen() {
    if (document.visibilityState === "visible") ask();
  }

  const stopClock = clock.subscribe(draw);
  document.addEventListener("visibilitychange", seen);
  ask();

  function close() {
    clearTimeout(timer);
    asking?.abort();
    stopClock();
    document.removeEventListener("visibilitychange", seen);
  }

  return { element, close };
}

const EMPTY = "A worker appears here when it has started with an app that calls install(app, url), and sends its first heartbeat.";
