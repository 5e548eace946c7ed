// The small parts of the client: positions, cursors, refusals and tokens.

import assert from "node:assert/strict";
import { webcrypto } from "node:crypto";
import { test } from "node:test";

import { carriesTasks, cursorOf, isSeen, wordsOf } from "../../../bridge/static/positions.js";
import { reasonOf, retryAfter } from "../../../bridge/static/refusal.js";
import { createTokens, keyOf } from "../../../bridge/static/tokens.js";

// Node.js 18 has it under another name.
globalThis.crypto ??= webcrypto;

test("a position is seen if it comes no later in the same epoch", () => {
  assert.ok(isSeen("ab-9-1", "ab-10-7"));
  assert.ok(isSeen("ab-10-7", "ab-10-7"));
  assert.ok(!isSeen("ab-11-7", "ab-10-7"));
  assert.ok(!isSeen("cd-9-1", "ab-10-7"));
  for (const word of ["", "end", "now", null, undefined, "ab-x-1"]) assert.ok(!isSeen(word, "ab-10-7") && !isSeen("ab-1-1", word));
});

test("a cursor has one word for each topic, and none where nothing is known", () => {
  const words = new Map([["task:a", "0a-1-7"], ["orders", "0a-2-3"], ["task:b", ""]]);
  assert.equal(cursorOf(["task:a", "task:b", "orders"], words), "0a-1-7,,0a-2-3");
  assert.equal(cursorOf(["task:b", "tasks", "tag:x"], words), "");
  assert.equal(cursorOf(["bills", "task:b"], words), "now,");
  assert.deepEqual(wordsOf("1,,2", ["a", "b", "c"]), [["a", "1"], ["b", ""], ["c", "2"]]);
  assert.deepEqual(wordsOf("1,2", ["a"]), []);
});

test("the feed and tags carry many tasks", () => {
  assert.deepEqual(["tasks", "tag:x", "task:x", "orders"].map(carriesTasks), [true, true, false, false]);
});

const answer = (body, type, init = {}) => new Response(body, { status: 403, ...init, headers: { "Content-Type": type, ...init.headers } });

test("a refusal says why, whatever the server sends", async () => {
  const problem = JSON.stringify({ title: "Forbidden", detail: "not yours" });
  assert.equal(await reasonOf(answer(problem, "application/problem+json")), "not yours");
  assert.equal(await reasonOf(answer('{"detail":[{"msg":"x"}]}', "application/json")), '[{"msg":"x"}]');
  assert.equal(await reasonOf(answer('{"title":"Forbidden"}', "application/problem+json; charset=utf-8")), "Forbidden");
  assert.equal(await reasonOf(answer(" no \n", "text/plain; charset=utf-8")), "no");
  for (const [body, type] of [["<h1>no</h1>", "text/html"], ["not json", "application/json"], ["null", "application/json"], ["", "text/plain"]])
    assert.equal(await reasonOf(answer(body, type, { statusText: "Forbidden" })), "The server answered 403 Forbidden");
  assert.equal((await reasonOf(answer("x".repeat(5000), "text/plain"))).length, 1000);
});

test("Retry-After is seconds or a date", () => {
  const now = Date.parse("2026-01-01T00:00:00Z");
  const after = (value) => retryAfter(answer("", "text/plain", { headers: { "Retry-After": value } }), now);
  assert.deepEqual(["7", "Thu, 01 Jan 2026 00:00:09 GMT", "soon", "Wed, 31 Dec 2025 00:00:00 GMT"].map(after), [7000, 9000, 0, 0]);
  assert.equal(retryAfter(answer("", "text/plain"), now), 0);
});

test("one token serves until another is wanted, and a failure is not kept", async () => {
  const given = ["a", new Error("offline"), "b"];
  const tokens = createTokens(() => {
    const next = given.shift();
    if (next instanceof Error) throw next;
    return next;
  });
  assert.deepEqual(await Promise.all([tokens.headers(), tokens.headers()]), Array(2).fill({ Authorization: "Bearer a" }));
  await assert.rejects(tokens.get(true), /offline/);
  assert.deepEqual(await tokens.headers(), { Authorization: "Bearer b" });
  assert.deepEqual(await createTokens().headers(), {});
  await assert.rejects(createTokens(() => "a\r\nX: 1").get(), TypeError);
});

const jwt = (claims) => `e30.${Buffer.from(JSON.stringify(claims)).toString("base64url")}.c2ln`;

test("tokens that allow the same have the same key", async () => {
  const key = await keyOf(jwt({ sub: "é", topics: ["task:a"], exp: 1, jti: "x" }));
  assert.equal(await keyOf(jwt({ topics: ["task:a"], iat: 5, exp: 2, sub: "é" })), key);
  assert.notEqual(await keyOf(jwt({ sub: "e", topics: ["task:a"], exp: 1 })), key);
  assert.notEqual(await keyOf(jwt({ sub: "é", topics: ["task:b"], exp: 1 })), key);
  assert.notEqual(await keyOf("opaque-1"), await keyOf("opaque-2"));
  assert.equal(await keyOf(null), "");
  assert.doesNotMatch(key, /task/);
});
