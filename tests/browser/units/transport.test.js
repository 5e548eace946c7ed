// The streams of the client against a real HTTP server, which answers what a test says.

import assert from "node:assert/strict";
import { createServer } from "node:http";
import { after, afterEach, beforeEach, test } from "node:test";

import { createPool, TOPICS_OF_A_STREAM } from "../../../bridge/static/pool.js";
import { createTokens } from "../../../bridge/static/tokens.js";

let answers, requests, pools;
const server = createServer((request, response) => {
  const url = new URL(request.url, "http://x");
  const asked = { topics: url.searchParams.getAll("topic"), cursor: url.searchParams.get("last_event_id"), token: request.headers.authorization };
  request.on("close", () => (asked.left = true));
  response.on("close", () => (asked.left = true));
  requests.push(asked);
  const answer = answers.length > 1 ? answers.shift() : answers[0];
  answer(response, asked);
});
await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
const url = `http://127.0.0.1:${server.address().port}/events`;

beforeEach(() => ([answers, requests, pools] = [[], [], []]));
afterEach(() => {
  for (const pool of pools) pool.close();
  server.closeAllConnections();
});
after(() => server.close());

const stream = (text, ends = false) => (response) => {
  response.writeHead(200, { "Content-Type": "text/event-stream; charset=utf-8" });
  ends ? response.end(text) : response.write(text || ":\n");
};
const status = (code, body = "", headers = {}) => (response) => response.writeHead(code, { "Content-Type": "text/plain", ...headers }).end(body);

function open({ getToken, heartbeat = 15 } = {}) {
  const seen = { events: [], statuses: [], refused: [] };
  const pool = createPool({
    url,
    heartbeat,
    tokens: createTokens(getToken),
    onEvent: (event) => seen.events.push(event),
    onStatus: (...it) => seen.statuses.push(it),
    onRefused: (...it) => seen.refused.push(it),
  });
  pools.push(pool);
  return { pool, ...seen };
}

async function until(condition, what) {
  const deadline = performance.now() + 20_000;
  while (!condition()) {
    assert.ok(performance.now() < deadline, `nothing came: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

test("topics that are added together are one request, and a new one keeps the positions of the others", async () => {
  answers = [stream('event: state\ntopic: task:a\nid: 0a-5-1,\ndata: {"task":"a"}\n\n')];
  const { pool, events } = open();
  pool.watch("task:a");
  pool.watch("orders");
  await until(() => events.length === 1, "the event");
  assert.deepEqual([requests[0].topics, requests[0].cursor], [["task:a", "orders"], ",now"]);
  assert.deepEqual([events[0].topic, events[0].word], ["task:a", "0a-5-1"]);
  pool.watch("tasks");
  await until(() => requests.length === 2 && requests[0].left, "the second request");
  assert.deepEqual([requests[1].topics, requests[1].cursor], [["task:a", "orders", "tasks"], "0a-5-1,now,"]);
});

test("a topic that is removed is not asked for again, and the stream goes on", async () => {
  answers = [stream("")];
  const { pool, statuses } = open();
  pool.watch("task:a");
  pool.watch("task:b");
  await until(() => requests.length === 1, "the request");
  pool.unwatch("task:a");
  pool.watch("task:c");
  await until(() => requests.length === 2, "the second request");
  assert.deepEqual(requests[1].topics, ["task:b", "task:c"]);
  pool.unwatch("task:b");
  pool.unwatch("task:c");
  await until(() => statuses.at(-1)[0] === "idle" && requests[1].left, "the end");
});

test("the end of its last task ends a stream, and 204 does", async () => {
  answers = [stream('event: end\nid: end\ndata: {"task":"a","state":"SUCCESS"}\n\n', true), status(204)];
  const { pool, statuses } = open();
  pool.watch("task:a");
  await until(() => statuses.at(-1)?.[0] === "idle", "the end");
  pool.watch("task:b");
  await until(() => requests.length === 2 && statuses.at(-1)[0] === "idle", "the second end");
  assert.ok(!statuses.some(([name]) => name === "reconnecting"));
});

test("the last state of a task has no position, and is not taken for one that was seen", async () => {
  const text = ["id: 0a-1-1\nevent: state\n", "id: \nevent: state\n", "id: end\nevent: end\n"].map((head) => `${head}data: {"task":"a"}\n\n`);
  answers = [stream(text.join(""), true)];
  const { pool, events } = open();
  pool.watch("task:a");
  await until(() => events.length === 3, "three events");
  assert.deepEqual(events.map(({ word }) => word), ["0a-1-1", "", "end"]);
});

test("a stream that ends is opened again where it was, after the time that the server says", async () => {
  answers = [stream("retry: 100\nid: 0a-1-1\ndata: one\n\n", true), stream("id: 0a-2-1\ndata: two\n\n")];
  const { pool, events, statuses } = open();
  pool.watch("orders");
  await until(() => events.length === 2, "the second event");
  assert.deepEqual(requests.map(({ cursor }) => cursor), ["now", "0a-1-1"]);
  assert.deepEqual(statuses.map(([name]) => name), ["connecting", "open", "reconnecting", "open"]);
});

test("Retry-After is waited for, and the reason is told", async () => {
  answers = [status(503, "full", { "Retry-After": "1" }), stream("")];
  const { pool, statuses } = open();
  pool.watch("task:a");
  const begun = performance.now();
  await until(() => statuses.at(-1)?.[0] === "open", "the stream");
  assert.ok(performance.now() - begun >= 1000);
  assert.deepEqual(statuses[1], ["reconnecting", "full"]);
});

test("401 asks for one new token, and a second 401 refuses", async () => {
  answers = [status(401), stream(""), status(401), status(401, "bad token")];
  let made = 0;
  const { pool, statuses, refused } = open({ getToken: async () => `t${++made}` });
  pool.watch("task:a");
  await until(() => statuses.at(-1)?.[0] === "open", "the stream");
  assert.deepEqual(requests.map(({ token }) => token), ["Bearer t1", "Bearer t2"]);
  pool.watch("task:b");
  await until(() => refused.length === 2, "the refusal");
  assert.deepEqual([made, requests.length, refused[0], statuses.at(-1)], [3, 4, ["task:a", "bad token"], ["refused", "bad token"]]);
});

test("without a token 401 refuses at once", async () => {
  answers = [status(401, "sign in")];
  const { pool, refused } = open();
  pool.watch("task:a");
  await until(() => refused.length === 1, "the refusal");
  assert.deepEqual([requests.length, refused], [1, [["task:a", "sign in"]]]);
});

test("an expired token is replaced at once, and the stream goes on where it was", async () => {
  answers = [stream("retry: 60000\nid: 0a-1-1\ndata: one\n\nevent: expired\ndata: {}\n\n", true), stream("id: 0a-2-1\ndata: two\n\n")];
  let made = 0;
  const { pool, events, statuses } = open({ getToken: () => `t${++made}` });
  pool.watch("orders");
  await until(() => events.length === 2, "the second event");
  assert.deepEqual([made, requests[1].token, requests[1].cursor], [2, "Bearer t2", "0a-1-1"]);
  assert.ok(!statuses.some(([name]) => name === "reconnecting"));
});

test("a topic that may not be read does not end the others", async () => {
  const allowed = (response, { topics }) => (topics.some((topic) => topic.includes("secret")) ? status(403, `no: ${topics}`) : stream("data: x\n\n"))(response);
  answers = [allowed];
  const { pool, refused } = open();
  for (const topic of ["task:1", "task:secret", "task:2", "task:3", "secret"]) pool.watch(topic);
  await until(() => requests.at(-1)?.topics.length === 3 && !requests.at(-1).left, "the stream of the others");
  assert.deepEqual(requests.at(-1).topics, ["task:1", "task:2", "task:3"]);
  assert.deepEqual(refused, [["task:secret", "no: task:secret"], ["secret", "no: secret"]]);
});

test("what is no stream is refused", async () => {
  answers = [(response) => response.writeHead(200, { "Content-Type": "text/html" }).end("<h1>Sign in</h1>")];
  const { pool, refused } = open();
  pool.watch("task:a");
  await until(() => refused.length === 1, "the refusal");
  assert.match(refused[0][1], /text\/html/);
});

test("a connection on which nothing comes is given up, and another one is opened", async () => {
  answers = [stream(":\n"), stream("data: x\n\n")];
  const { pool, statuses, events } = open({ heartbeat: 0.1 });
  pool.watch("orders");
  await until(() => events.length >= 1, "the event");
  assert.match(statuses.find(([name]) => name === "reconnecting")[1], /silent/);
});

test("a token that cannot be had is told, and asked for again", async () => {
  answers = [stream("data: x\n\n")];
  let asked = 0;
  const getToken = () => (++asked === 1 ? Promise.reject(new Error("session lost")) : "t");
  const { pool, statuses, events } = open({ getToken });
  pool.watch("orders");
  await until(() => events.length === 1, "the event");
  assert.deepEqual(statuses[1], ["reconnecting", "session lost"]);
});

test("many topics are spread over several streams", async () => {
  answers = [stream("")];
  const { pool } = open();
  for (let i = 0; i < 2 * TOPICS_OF_A_STREAM + 1; i++) pool.watch(`task:${i}`);
  await until(() => requests.length === 3, "three requests");
  assert.deepEqual(requests.map(({ topics }) => topics.length).sort(), [1, TOPICS_OF_A_STREAM, TOPICS_OF_A_STREAM].sort());
  pool.unwatch("task:0");
  assert.equal(pool.wordOf("task:0"), undefined);
});

test("an event of unknown origin concerns no topic", async () => {
  answers = [stream("data: x\n\nevent: state\ndata: {\"task\":\"b\"}\n\ntopic: other\ndata: z\n\ntopic: task:a\nevent: last\ndata: {}\n\n")];
  const { pool, events } = open();
  pool.watch("task:a");
  pool.watch("task:b");
  await until(() => events.at(-1)?.type === "last", "the last event");
  assert.deepEqual(events.map(({ topic }) => topic), ["task:b", "task:a"]);
});
