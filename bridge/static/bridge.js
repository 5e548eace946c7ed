// Follow Celery tasks over Server-Sent Events. No dependencies, no build step.
//
//   import { follow } from "/bridge/bridge.js";
//   const stream = follow("/tasks/ID/events", {
//     types: ["token"],                          // the custom event types to listen for
//     onChange: (task, event, id) => {},         // task: its complete state, or null after a reset
//     onStatus: (status, detail) => {},          // connecting | open | reconnecting | refused | closed
//   });
//   stream.close();

const TYPES = ["snapshot", "reset", "state", "progress", "step", "log", "cancel_requested", "end"];
const FINISHED = new Set(["SUCCESS", "FAILURE", "REVOKED", "IGNORED", "REJECTED"]);
const KEPT_EVENTS = 1000;
const KEPT_STEPS = 100;
const KEPT_CHILDREN = 50;
const LONGEST_WAIT_SECONDS = 30;

export const isFinished = (task) => FINISHED.has(task.state);

// The state of a task after one more event. Pure: the given state is never changed. `null` means nothing is known.
export function fold(task, event) {
  switch (event.type) {
    case "snapshot":
      return { ...blank(event.task), ...without(event, "type", "v") };
    case "reset":
      return null;
    case "state":
      return foldState(task ?? blank(event.task), event);
    case "progress":
      return foldProgress(task ?? blank(event.task), event);
    case "cancel_requested":
      return { ...(task ?? blank(event.task)), cancel_requested: event.at, terminate: event.terminate === true };
    case "end":
      return { ...(task ?? blank(event.task)), state: event.state, ended: true };
    case "step":
      return foldStep(foldEvent(task ?? blank(event.task), event), event);
    default:
      return foldEvent(task ?? blank(event.task), event);
  }
}

function blank(id) {
  return { task: id, state: "PENDING", progress: null, steps: [], events: [], omitted: 0 };
}

function foldState(task, event) {
  const { state, at } = event;
  // Told late: a worker has the next attempt already, and waits until it is time.
  if (state === "RETRY" && task.attempt > event.attempt) return { ...wait(event), ...task };
  const waits = state === "RECEIVED" || event.was === "RECEIVED";
  const next = {
    ...without(task, "result", "error", "reason", "retry_at"),
    ...(waits ? wait(task) : {}),
    ...without(event, "type", "v", "resumed", "redelivered", "was"),
  };
  if (state === "PENDING") next.queued_at ??= at;
  else if (state === "STARTED" && !event.resumed)
    Object.assign(next, { started_at: at, first_started_at: task.first_started_at ?? at, progress: null, steps: [] });
  else if (FINISHED.has(state)) next.ended_at = at;
  return next;
}

// Why a task waits for its next attempt, and until when.
function wait(task) {
  const names = ["error", "reason", "retry_at"].filter((name) => "retry_at" in task && name in task);
  return Object.fromEntries(names.map((name) => [name, task[name]]));
}

// A progress event of a canvas also carries the counts of its tasks and the state of one of them.
function foldProgress(task, event) {
  const next = { ...task, progress: without(event, "type", "v", "task", "parts", "part") };
  const children = task.children ?? [];
  if (event.parts) Object.assign(next, { parts: event.parts, children: event.part ? foldChild(children, event.part) : children });
  return next;
}

// As many parts as a snapshot has: the oldest that went well give way first, then those that run.
function foldChild(children, part) {
  const next = [...children.filter((child) => child.task !== part.task), part];
  if (next.length <= KEPT_CHILDREN) return next;
  const importance = next.map((child) => (child.state === "SUCCESS" ? 0 : child.ended ? 2 : 1));
  next.splice(importance.indexOf(Math.min(...importance)), 1);
  return next;
}

function foldEvent(task, event) {
  const events = [...task.events, event];
  const surplus = Math.max(0, events.length - KEPT_EVENTS);
  return { ...task, events: events.slice(surplus), omitted: task.omitted + surplus };
}

// Like the worker: the steps that changed last are at the end, and of too many the oldest that ended goes.
function foldStep(task, { name, status, path }) {
  const key = JSON.stringify(path ?? [name]);
  const steps = task.steps.filter((step) => JSON.stringify(step.path ?? [step.name]) !== key);
  steps.push(path ? { name, status, path } : { name, status });
  if (steps.length > KEPT_STEPS) steps.splice(Math.max(0, steps.findIndex((step) => step.status !== "started")), 1);
  return { ...task, steps };
}

function without(event, ...names) {
  return Object.fromEntries(Object.entries(event).filter(([name]) => !names.includes(name)));
}

// One EventSource on `url`. The browser reconnects by itself after a lost connection but gives up for good after any
// answer that is not a stream; then this asks why, and goes on trying unless the answer was a refusal.
export function follow(url, { types = [], onChange = () => {}, onStatus = () => {} } = {}) {
  const tasks = new Map();
  const ended = new Set();
  const expected = new URL(url, location.href).searchParams.getAll("task").length || 1;
  let source = null;
  let timer = 0;
  let cursor = "";
  let failures = 0;
  let closed = false;

  function open() {
    source = new EventSource(resuming(url, cursor));
    source.onopen = () => {
      failures = 0;
      onStatus("open");
    };
    source.onerror = () => {
      if (source.readyState === EventSource.CONNECTING) onStatus("reconnecting");
      else givenUp();
    };
    for (const type of new Set([...TYPES, ...types])) source.addEventListener(type, received);
  }

  function received(message) {
    if (message.lastEventId) cursor = message.lastEventId;
    const event = parsed(message);
    if (event === null || closed) return;
    if (event.type === "reset" && !event.task) {
      for (const id of tasks.keys()) onChange(null, event, id);
      tasks.clear();
      return;
    }
    const task = fold(tasks.get(event.task) ?? null, event);
    if (task === null) tasks.delete(event.task);
    else tasks.set(event.task, task);
    onChange(task, event, event.task);
    if (event.type === "end" && ended.add(event.task).size >= expected) close();
  }

  async function givenUp() {
    onStatus("reconnecting");
    const { status, detail } = await asked(url);
    if (closed) return;
    if (status === 204) return close();
    if (status >= 400 && status < 500 && status !== 408 && status !== 429) {
      closed = true;
      return onStatus("refused", detail);
    }
    const wait = Math.min(LONGEST_WAIT_SECONDS, 2 ** failures++) * (0.5 + Math.random() / 2);
    timer = setTimeout(open, wait * 1000);
  }

  function close() {
    if (closed) return;
    closed = true;
    clearTimeout(timer);
    source.close();
    onStatus("closed");
  }

  onStatus("connecting");
  open();
  return { close, tasks };
}

function resuming(url, cursor) {
  const resumed = new URL(url, location.href);
  if (cursor) resumed.searchParams.set("last_event_id", cursor);
  return resumed;
}

// The `error` event of an EventSource itself has no data.
function parsed(message) {
  try {
    const event = JSON.parse(message.data);
    return event && typeof event === "object" ? { ...event, type: event.type ?? message.type } : null;
  } catch {
    console.error("not a task event:", message.type, message.data);
    return null;
  }
}

// Why a stream was not given: an EventSource does not tell.
async function asked(url) {
  const stop = new AbortController();
  try {
    const response = await fetch(url, { headers: { Accept: "text/event-stream" }, signal: stop.signal });
    const isProblem = response.headers.get("Content-Type")?.startsWith("application/problem+json");
    const detail = isProblem ? (await response.json()).detail : "";
    return { status: response.status, detail };
  } catch {
    return { status: 0, detail: "" };
  } finally {
    stop.abort();
  }
}
