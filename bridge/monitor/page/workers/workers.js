// What the server says of the workers, in the order in which they are shown. Pure.

import { isObject, objects, time } from "../task/reading.js";


const name = (value) => (typeof value === "string" && value ? value : null);
const figure = (value) => (Number.isFinite(value) && value >= 0 ? value : 0);

// Those that are alive come first, by name.
export function workersOf(answer) {
  const workers = objects(isObject(answer) ? answer.workers : null).filter((worker) => name(worker.name) !== null).map(workerOf);
  return workers.sort((one, other) => other.alive - one.alive || (one.name < other.name ? -1 : 1));
}

function workerOf(worker) {
  const running = objects(worker.running).filter(({ task }) => name(task) !== null);
  return {
    name: worker.name,
    alive: worker.alive === true,
    lastSeen: time(worker.last_seen),
    since: time(worker.since),
    running: running.map(({ task, name: called, started_at }) => ({ task, name: name(called) ?? task, from: time(started_at) })),
    // How many run, of which some are listed.
    active: Math.max(running.length, figure(worker.active)),
    succeeded: figure(worker.succeeded),
    failed: figure(worker.failed),
  };
}
