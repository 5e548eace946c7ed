// The time of the server, whatever the clock of this computer says. All times are seconds since the epoch.

// Seconds by which an event may be ahead of the `Date` of an answer, which has whole seconds.
const TOLERANCE = 2;
const MOST_WORKERS = 1000;

export function createTime(localNow = () => Date.now() / 1000) {
  // Seconds that the local clock is ahead of the server, and of each worker whose clock differs from it.
  let ahead = null;
  let answered = null;
  const workers = new Map();

  // The `Date` header of an answer.
  function onDate(date) {
    answered = localNow() - date;
    if (ahead === null || Math.abs(ahead - answered) > TOLERANCE) ahead = answered;
  }

  // An event of a worker has just arrived. A delayed one gives a larger difference; the smallest is the best.
  function onEvent(at, worker) {
    const found = localNow() - at;
    if (worker !== undefined && (workers.has(worker) || workers.size < MOST_WORKERS))
      workers.set(worker, Math.min(workers.get(worker) ?? Infinity, found));
    if (ahead === null || (found < ahead && (answered === null || found > answered - TOLERANCE))) ahead = found;
  }

  const now = () => localNow() - (ahead ?? 0);

  // The time as the worker of a task tells it.
  function nowOf({ worker }) {
    const found = workers.get(worker);
    return found === undefined || ahead === null || Math.abs(found - ahead) < TOLERANCE ? now() : localNow() - found;
  }

  return { onDate, onEvent, now, nowOf };
}
