// The page names the modules of the list, so that a browser fetches them together and not one after another.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

const package_ = new URL("../../../bridge/", import.meta.url);

function modulesFrom(...entries) {
  const found = new Set();
  for (const todo = entries.map((name) => new URL(name, package_).href); todo.length; ) {
    const url = todo.pop();
    if (found.has(url)) continue;
    found.add(url);
    for (const [, name] of readFileSync(new URL(url), "utf8").matchAll(/from "(\.[^"]+)"/g)) todo.push(new URL(name, url).href);
  }
  return [...found].map((url) => url.slice(package_.href.length)).sort();
}

test("the page preloads all modules of the list, and no other file", () => {
  const index = readFileSync(new URL("monitor/page/index.html", package_), "utf8");
  const named = [...index.matchAll(/rel="modulepreload" href="\{files\}\/([^"]+)"/g)].map(([, name]) => name);
  const needed = modulesFrom("monitor/page/main.js", "monitor/page/list/view.js").filter((name) => name !== "monitor/page/main.js");
  assert.deepEqual(named.sort(), needed);
});
