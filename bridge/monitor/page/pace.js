// Calls back before the next frame, but not more often than anybody can read.

// Milliseconds between two calls, in a page that is seen and in one that is not.
const PACE = 200;
const HIDDEN_PACE = 1000;

// Returns a function that takes a callback; a second one before the call is a mistake of the caller.
export function createPace() {
  let last = 0;

  return function schedule(callback) {
    const hidden = document.visibilityState === "hidden";
    const wait = last + (hidden ? HIDDEN_PACE : PACE) - performance.now();
    if (wait > 0) return setTimeout(schedule, wait, callback);
    const call = () => {
      cancelAnimationFrame(frame);
      clearTimeout(timer);
      last = performance.now();
      callback();
    };
    const frame = requestAnimationFrame(call);
    // A page that is not seen has no frames.
    const timer = setTimeout(call, hidden ? 0 : HIDDEN_PACE);
  };
}
