// Long work lets the page do other things in between.

import assert from "node:assert/strict";
import { test } from "node:test";

import { createPool } from "../../../bridge/static/pool.js";
import { createSlices } from "../../../bridge/static/slices.js";
import { createTokens } from "../../../bridge/static/tokens.js";

function work(milliseconds) {
  for (const until = performance.now() + milliseconds; performance.now() < until; );
}

test("a slice is over after its time, and other work runs before the next one", async () => {
  const slices = createSlices(5);
  assert.equal(slices.over(), false);
  work(6);
  assert.equal(slices.over(), true);
  let ran = false;
  setImmediate(() => (ran = true));
  while (!ran) await slices.rest();
  assert.equal(slices.over(), false);
});

test("events that arrive all at once are handed over in order and in slices", async (context) => {
  const count = 4000;
  const event = (number) => `id: 0a-${number}-1\ndata: ${number}\n\n`;
  const body = new TextEncoder().encode(Array.from({ length: count }, (_, place) => event(place + 1)).join(""));
  const answer = () => new Response(new Blob([body]).stream(), { headers: { "Content-Type": "text/event-stream" } });
  context.mock.method(globalThis, "fetch", async () => answer());
  const seen = [];
  let turns = 0;
  let turning = true;
  const turn = () => turning && setImmediate(() => ((turns += seen.length > 0), turn()));
  turn();
  await new Promise((resolve) => {
    const pool = createPool({
      url: "http://localhost/events",
      heartbeat: 15,
      tokens: createTokens(),
      onStatus() {},
      onRefused() {},
      onEvent({ data }) {
        // 80 ms altogether, so at least several slices.
        work(0.02);
        seen.push(Number(data));
        if (seen.length === count) resolve(pool.close());
      },
    });
    pool.watch("orders");
  });
  turning = false;
  assert.deepEqual(seen, Array.from({ length: count }, (_, place) => place + 1));
  assert.ok(turns >= 2, `nothing else ran: ${turns}`);
});
