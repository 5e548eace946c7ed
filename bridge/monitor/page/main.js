// The page around the views: where it reads from, which view it shows, and what holds in every view.

import { connect } from "../../static/bridge.js";
import { createApi } from "./api.js";
import { createClock } from "./clock.js";
import { createCounts } from "./counts.js";
import { createFeed } from "./feed.js";
import { setUpHelp, setUpKeys } from "./help.js";
import { createLoader } from "./loader.js";
import { createNotices } from "./notices.js";
import { createPace } from "./pace.js";
import { createShell } from "./shell.js";
import { setUpSignals } from "./signals.js";
import { isFinished, stateWord } from "./states.js";
import { createStore } from "./store.js";
import { createTime } from "./time.js";

const settings = JSON.parse(document.querySelector("meta[name=bridge-monitor]").content);
const EVENTS = new URL("events", document.baseURI).href;

const time = createTime();
const clock = createClock(time);
const api = createApi({ onDate: time.onDate });
const store = createStore({ schedule: createPace(), onEvent: time.onEvent });
const notices = createNotices(document.querySelector("#notices"), document.querySelector("#announcer"));
const bridge = connect({
  url: EVENTS,
  heartbeat: settings.heartbeat || undefined,
  cancelUrl: EVENTS.replace(/events$/, "api/tasks/{id}"),
});

let opened = false;
const loader = createLoader({
  api,
  store,
  onFirst(position) {
    if (!opened) feed.open(position);
    opened = true;
  },
  onProgress: (progress) => (loading.progress = progress) && loading.listener(progress),
});
const loading = { progress: { total: 0, complete: false, error: null }, listener: () => {}, more: loader.more };
const feed = createFeed({ url: EVENTS, heartbeat: settings.heartbeat || 15, onStatus: status, onEvent: receive });

function receive(event) {
  store.apply(event);
  if (event.type === "state") announce(store.get(event.task));
  // The stream sends only the newest tasks again.
  if (event.type === "reset") loader.restart();
}

// Screen readers hear of the start and the end of tasks, not of each step.
function announce(row) {
  if (row && row.canvas_id === undefined && (row.state === "STARTED" || isFinished(row))) notices.say(`${row.name ?? "Task"} ${stateWord(row)}`);
}

const WORDS = { connecting: "Connecting", open: "Live", reconnecting: "Connection lost", refused: "Refused", idle: "Closed" };

function status(name, detail) {
  const badge = document.querySelector("#connection");
  badge.dataset.state = name;
  badge.querySelector("span").textContent = WORDS[name] ?? name;
  badge.title = detail;
  if (name === "open") clock.start();
  else if (name !== "connecting") clock.stop();
  document.documentElement.classList.toggle("lost", !clock.running);
  notices.connection(name, detail);
}

const context = { bridge, settings, store, api, clock, loading, complain: notices.complain, say: notices.say };
const shell = createShell({ context, main: document.querySelector("#main") });
setUpHelp(document.querySelector("#help"));
setUpKeys(shell);
setUpSignals({ store, counts: createCounts(store), shell, title: settings.title, button: document.querySelector("#notify") });
loader.restart();
shell.show();
