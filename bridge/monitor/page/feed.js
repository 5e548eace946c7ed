// The stream of all tasks. Unlike `bridge.topic("tasks")` it keeps nothing of them, because the store does.

import { createPool } from "../../static/pool.js";
import { FEED, isSeen } from "../../static/positions.js";
import { createTokens } from "../../static/tokens.js";
import { ROW_TYPES } from "./rows.js";

// `onStatus(status, detail)` as in the client; a refused feed has the status `refused`.
export function createFeed({ url, heartbeat, onEvent, onStatus }) {
  const tokens = createTokens();
  const pool = createPool({ url, heartbeat, tokens, onStatus, onEvent: receive, onRefused: () => {} });
  let seen = "";

  function receive({ type, data, word }) {
    if (type !== "snapshot" && type !== "reset" && isSeen(word, seen)) return;
    seen = type === "reset" ? "" : word;
    if (type !== "reset" && !ROW_TYPES.has(type)) return;
    try {
      const event = JSON.parse(data);
      if (event && typeof event === "object" && !Array.isArray(event)) onEvent({ ...event, type });
    } catch (error) {
      console.error("not a task event:", type, data.slice(0, 200), error);
    }
  }

  return {
    // Begins after `position`; without one, the server first sends the tasks that it lists in the feed.
    open(position = "") {
      seen = position;
      pool.watch(FEED, position);
    },
    close: () => pool.close(),
  };
}
