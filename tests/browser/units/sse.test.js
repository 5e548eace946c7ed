// The parser of text/event-stream, with the examples of the WHATWG standard.

import assert from "node:assert/strict";
import { test } from "node:test";

import { createParser } from "../../../bridge/static/sse.js";

const bytesOf = (text) => new TextEncoder().encode(text);

function parse(bytes, size = bytes.length, options = {}) {
  const events = [];
  const retries = [];
  const parser = createParser({ onEvent: (event) => events.push(event), onRetry: (time) => retries.push(time), ...options });
  for (let at = 0; at < bytes.length; at += size) parser(bytes.subarray(at, at + size));
  return { events, retries };
}

const dataOf = (text) => parse(bytesOf(text)).events.map(({ data }) => data);

test("an event of several lines", () => {
  assert.deepEqual(dataOf("data: YHOO\ndata: +2\ndata: 10\n\n"), ["YHOO\n+2\n10"]);
});

test("a comment, ids, and an event without an id value", () => {
  const { events } = parse(bytesOf(": test stream\n\ndata: first event\nid: 1\n\ndata:second event\nid\n\ndata:  third event\n\n"));
  assert.deepEqual(
    events.map(({ data, id }) => [data, id]),
    [["first event", "1"], ["second event", ""], [" third event", ""]],
  );
});

test("empty data, and an event that is not ended", () => {
  assert.deepEqual(dataOf("data\n\ndata\ndata\n\ndata:"), ["", "\n"]);
});

test("one space after the colon is not data", () => {
  assert.deepEqual(dataOf("data:test\n\ndata: test\n\n"), ["test", "test"]);
});

test("an id without data is kept for the next event", () => {
  assert.equal(parse(bytesOf("id: 7\n\ndata: x\n\n")).events[0].id, "7");
});

test("an id with NUL and a retry that is no number are ignored", () => {
  const { events, retries } = parse(bytesOf("id: 1\nid: a\0b\nretry: 12\nretry: 1x\nretry: -1\nretry:\ndata: x\n\n"));
  assert.deepEqual([events[0].id, retries], ["1", [12]]);
});

test("unknown fields are ignored, and the topic is that of one event", () => {
  const { events } = parse(bytesOf("event: log\ntopic: task:a: b\nother: 1\n Data: 2\ndata: x\n\ndata: y\n\n"));
  assert.deepEqual(events, [
    { type: "log", data: "x", id: "", topic: "task:a: b" },
    { type: "message", data: "y", id: "", topic: null },
  ]);
});

test("a byte order mark at the beginning only", () => {
  assert.deepEqual(dataOf("\ufeffdata: a\n\ndata: \ufeffb\n\n\ufeffdata: c\n\n"), ["a", "\ufeffb"]);
});

test("only CR, LF and CR LF end a line", () => {
  assert.deepEqual(dataOf("data: a\u2028b\u2029c\u0085d\ve\n\n"), ["a\u2028b\u2029c\u0085d\ve"]);
});

test("bytes that are not UTF-8 are replaced", () => {
  const bytes = Uint8Array.from([...bytesOf("data: a"), 0xff, ...bytesOf("b\n\n")]);
  assert.equal(parse(bytes).events[0].data, "a\ufffdb");
});

test("a stream may be split anywhere, with any line ends", () => {
  const lines = ["\ufeff: hello", "retry: 5", "event: log", "id: é1", "data: 漢字 😀", "data:", "data: x", "", "data: y", "", "data: z", "", ""];
  for (const end of ["\n", "\r", "\r\n"]) {
    const bytes = bytesOf(lines.join(end));
    const whole = parse(bytes);
    assert.deepEqual(whole.events.map(({ data }) => data), ["漢字 😀\n\nx", "y", "z"]);
    for (let size = 1; size <= bytes.length; size++) assert.deepEqual(parse(bytes, size), whole, `${JSON.stringify(end)}, ${size} bytes`);
  }
});

test("mixed line ends", () => {
  assert.deepEqual(dataOf("data: a\r\rdata: b\n\r\ndata: c\r\n\n"), ["a", "b", "c"]);
});

test("an event that is too large is refused, in one line or in many", () => {
  const small = { longest: 100 };
  assert.throws(() => parse(bytesOf(`data: ${"x".repeat(101)}`), 10, small), RangeError);
  assert.throws(() => parse(bytesOf("data: 0123456789\n".repeat(11)), 10, small), RangeError);
  assert.equal(parse(bytesOf(`data: ${"x".repeat(90)}\n\n`.repeat(5)), 10, small).events.length, 5);
});

test("a listener may parse another stream", () => {
  const seen = [];
  const inner = createParser({ onEvent: ({ data }) => seen.push(data) });
  const outer = createParser({
    onEvent: ({ data }) => {
      seen.push(data);
      inner(bytesOf("data: inner\n\n"));
    },
  });
  outer(bytesOf("data: a\n\ndata: b\n\n"));
  assert.deepEqual(seen, ["a", "inner", "b", "inner"]);
});
