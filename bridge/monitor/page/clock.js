// Ticks once a second for everything that shows how long something takes, and stops while the connection is lost:
// a time that goes on would say that the task does.

export function createClock(time) {
  const listeners = new Set();
  let timer = 0;
  let stopped = null;

  function tick() {
    // A page that is not seen draws nothing.
    if (document.visibilityState === "visible") for (const listener of [...listeners]) listener(time.now());
    schedule();
  }

  // At the beginning of a second, so that all times change together.
  function schedule() {
    clearTimeout(timer);
    if (stopped === null && listeners.size) timer = setTimeout(tick, 1000 - ((time.now() * 1000) % 1000));
  }

  function subscribe(listener) {
    listeners.add(listener);
    schedule();
    return () => listeners.delete(listener);
  }

  function stop() {
    stopped ??= time.now();
    clearTimeout(timer);
  }

  function start() {
    if (stopped === null) return;
    stopped = null;
    tick();
  }

  document.addEventListener("visibilitychange", () => stopped === null && tick());

  return {
    subscribe,
    start,
    stop,
    // Seconds since the epoch by the clock of the server; while the connection is lost, those when it was lost.
    now: () => stopped ?? time.now(),
    // The same by the clock of the worker of `task`, which may differ.
    nowOf: (task) => (stopped === null ? time.nowOf(task) : stopped + time.nowOf(task) - time.now()),
    get running() {
      return stopped === null;
    },
  };
}
