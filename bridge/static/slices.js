// Divides long work into slices, between which the page draws and reacts.

// Milliseconds of a slice. At 60 frames a second, a page has 16 for everything.
const SLICE = 8;

export function createSlices(slice = SLICE) {
  let begun = performance.now();

  return {
    // Whether the slice is over, so that it is time to rest.
    over: () => performance.now() - begun > slice,
    // Lets the page do what waits.
    async rest() {
      await turn();
      begun = performance.now();
    },
  };
}

// A timer would be late in a hidden tab, which keeps its stream; a message is not.
function turn() {
  return new Promise((resolve) => {
    const { port1, port2 } = new MessageChannel();
    port1.onmessage = () => {
      port1.close();
      resolve();
    };
    port2.postMessage(null);
  });
}
