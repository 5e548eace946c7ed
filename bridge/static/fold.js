// The state of a task from its events. Pure: a given state is never changed. `null` means that nothing is known.

// What the server sends and keeps, see bridge/tasks/event_types.py and bridge/model/state.py.
export const EVENT_TYPES = Object.freeze(["snapshot", "reset", "state", "progress", "step", "log", "cancel_requested", "end"]);
export const FINISHED_STATES = Object.freeze(["SUCCESS", "FAILURE", "REVOKED", "IGNORED", "REJECTED"]);
export const KEPT_EVENTS = 1000;
export const KEPT_STEPS = 100;
export const KEPT_CHILDREN = 50;
export const KEPT_ATTEMPTS = 20;

// Characters of text in the events of one task.
export const KEPT_CHARACTERS = 8 * 1024 * 1024;

const FINISHED = new Set(FINISHED_STATES);

export const isFinished = (task) => FINISHED.has(task.state);

// The state of a task after one more event. Events of an unknown type are kept like those that a task published.
export function fold(task, event) {
  switch (event.type) {
    case "snapshot":
      return foldSnapshot(event);
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

// Anybody may publish to the topic of a task, also a snapshot without lists.
function foldSnapshot(event) {
  const task = { ...blank(event.task), ...without(event, "type", "v") };
  for (const name of ["steps", "events"]) task[name] = Array.isArray(task[name]) ? task[name].filter(isObject) : [];
  if (!Number.isInteger(task.omitted)) task.omitted = 0;
  return bounded(task);
}

function foldState(task, event) {
  const { state, at } = event;
  if (state === "RETRY") task = foldRetry(task, event);
  // Told late: a worker has the next attempt already, and waits until it is time.
  if (state === "RETRY" && task.attempt > event.attempt) return { ...wait(event), ...task };
  const waits = state === "RECEIVED" || event.was === "RECEIVED";
  const next = {
    ...without(task, "result", "error", "reason", "retry_at"),
    ...(waits ? wait(task) : {}),
    ...without(event, "type", "v", "resumed", "redelivered", "was", "started_at"),
  };
  if (state === "PENDING") next.queued_at ??= at;
  else if (state === "RECEIVED" && !event.resumed) next.received_at = at;
  else if (state === "STARTED" && !event.resumed)
    Object.assign(next, { started_at: at, first_started_at: task.first_started_at ?? at, progress: null, steps: [] });
  else if (FINISHED.has(state)) next.ended_at = at;
  return next;
}

// The attempts that were followed by another one, in order.
function foldRetry(task, event) {
  const about = { attempt: event.attempt ?? 1, started_at: event.started_at, ended_at: event.at };
  for (const name of ["error", "reason", "retry_at"]) about[name] = event[name];
  const attempt = Object.fromEntries(Object.entries(about).filter(([, value]) => value !== undefined));
  const others = Array.isArray(task.attempts) ? task.attempts.filter((it) => isObject(it) && it.attempt !== attempt.attempt) : [];
  const attempts = [...others, attempt].sort((one, other) => one.attempt - other.attempt);
  return { ...task, attempts: attempts.slice(-KEPT_ATTEMPTS) };
}

// Why a task waits for its next attempt, and until when.
function wait(task) {
  const names = ["error", "reason", "retry_at"].filter((name) => Object.hasOwn(task, "retry_at") && Object.hasOwn(task, name));
  return Object.fromEntries(names.map((name) => [name, task[name]]));
}

// A progress event of a canvas also carries the counts of its tasks and the state of one of them.
function foldProgress(task, event) {
  const next = { ...task, progress: without(event, "type", "v", "task", "parts", "part") };
  const children = Array.isArray(task.children) ? task.children.filter(isObject) : [];
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
  return bounded({ ...task, events: [...task.events, event] }, task.events);
}

// How much text the lists of events hold, so that it is not counted again for each event.
const lengths = new WeakMap();

// The newest events of a task. `before` is the list without the last of them.
function bounded(task, before) {
  const { events } = task;
  let length = lengths.has(before) ? lengths.get(before) + lengthOf(events.at(-1)) : sum(events.map(lengthOf));
  let surplus = 0;
  while (events.length - surplus > KEPT_EVENTS || (length > KEPT_CHARACTERS && surplus < events.length - 1))
    length -= lengthOf(events[surplus++]);
  const kept = surplus ? events.slice(surplus) : events;
  lengths.set(kept, length);
  return { ...task, events: kept, omitted: task.omitted + surplus };
}

const isObject = (value) => value !== null && typeof value === "object";

const sum = (numbers) => numbers.reduce((total, number) => total + number, 0);

function lengthOf(value) {
  if (typeof value === "string") return value.length;
  return isObject(value) ? 16 + sum(Object.values(value).map(lengthOf)) : 8;
}

// Like the worker: the steps that changed last are at the end, and of too many the oldest that ended goes.
function foldStep(task, { name, status, path, at }) {
  const key = keyOf({ name, path });
  const before = task.steps.find((step) => keyOf(step) === key);
  const steps = task.steps.filter((step) => keyOf(step) !== key);
  const times = status === "started" ? { started_at: at } : { started_at: before?.started_at, ended_at: at };
  if (times.started_at === undefined) delete times.started_at;
  steps.push({ name, status, ...(path ? { path } : {}), ...times });
  if (steps.length > KEPT_STEPS) steps.splice(Math.max(0, steps.findIndex((step) => step.status !== "started")), 1);
  return { ...task, steps };
}

const keyOf = ({ name, path }) => JSON.stringify(path ?? [name]);

// `__proto__` in JSON is a name like any other, but in the code of others it may be assigned.
function without(event, ...names) {
  return Object.fromEntries(Object.entries(event).filter(([name]) => name !== "__proto__" && !names.includes(name)));
}
