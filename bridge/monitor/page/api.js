// What the page asks of the server besides the stream. Each function rejects with an Error whose message is for people.

import { reasonOf } from "../../static/refusal.js";

export function createApi({ fetch = globalThis.fetch, onDate = () => {} } = {}) {
  async function ask(path, options = {}) {
    let response;
    try {
      response = await fetch(path, { cache: "no-store", ...options, headers: { Accept: "application/json", ...options.headers } });
    } catch (error) {
      if (error?.name === "AbortError") throw error;
      throw new Error("The server cannot be reached.", { cause: error });
    }
    const date = Date.parse(response.headers.get("Date") ?? "");
    if (!Number.isNaN(date)) onDate(date / 1000);
    if (!response.ok) throw Object.assign(new Error(await reasonOf(response)), { status: response.status });
    if (response.status === 204) return null;
    try {
      return await response.json();
    } catch (error) {
      throw new Error("The answer of the server is not valid JSON.", { cause: error });
    }
  }

  const one = (id) => `api/tasks/${encodeURIComponent(id)}`;

  return {
    // The newest tasks of those before the cursor `before`: `{ tasks, next, total }`.
    tasks: ({ limit = 500, before } = {}, options) => {
      const query = new URLSearchParams({ limit, ...(before ? { before } : {}) });
      return ask(`api/tasks?${query}`, options);
    },
    task: (id, options) => ask(one(id), options),
    workers: (options) => ask("api/workers", options),
    cancel: (id, { terminate = false } = {}) => ask(`${one(id)}${terminate ? "?terminate=1" : ""}`, { method: "DELETE" }),
    runAgain: (id) => ask(`${one(id)}/run-again`, { method: "POST" }),
  };
}
