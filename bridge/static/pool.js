// As many streams as the topics need: one, unless there are more topics than one request can name.

import { createTransport } from "./transport.js";

// gunicorn accepts a request line of 4,094 bytes, and a server 100 topics (BRIDGE_MAX_TOPICS).
export const TOPICS_OF_A_STREAM = 70;

// The status of all streams is that of the first of these that one of them has.
const STATUSES = ["reconnecting", "connecting", "open", "refused", "idle"];

export function createPool({ onStatus, ...options }) {
  const transports = new Map();

  function watch(topic, word) {
    let transport = holder(topic) ?? [...transports.keys()].find(({ words }) => words.size < TOPICS_OF_A_STREAM);
    if (!transport) {
      transport = createTransport({ ...options, onStatus: (status, detail) => report(transport, status, detail) });
      transports.set(transport, { status: "idle", detail: "" });
    }
    transport.watch(topic, word);
  }

  const holder = (topic) => [...transports.keys()].find(({ words }) => words.has(topic));

  function report(transport, status, detail = "") {
    transports.set(transport, { status, detail });
    const all = [...transports.values()];
    const shown = STATUSES.map((name) => all.find((each) => each.status === name)).find(Boolean);
    onStatus(shown.status, shown.detail);
  }

  return {
    watch,
    unwatch: (topic) => holder(topic)?.unwatch(topic),
    wordOf: (topic) => holder(topic)?.words.get(topic),
    close: () => transports.forEach((_, transport) => transport.close()),
  };
}
