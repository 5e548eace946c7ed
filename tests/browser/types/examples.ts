// What an application writes in TypeScript. `tsc --strict` accepts it; each line marked as an error must be one.

import { connect, fold, isFinished, type Bridge, type TaskState } from "celery-event-bridge";
import { TaskProgress, useBridge, words } from "celery-event-bridge/element";
import { createParser } from "celery-event-bridge/sse";

const bridge: Bridge = connect({
  url: "/events",
  getToken: async () => (await fetch("/token")).text(),
  share: true,
  shareKey: 42,
  heartbeat: 15,
  cancelUrl: (id, { terminate }) => `/tasks/${id}?terminate=${terminate ? 1 : 0}`,
});
connect();
connect({ cancelUrl: "/tasks/{id}", getToken: () => null });

const task = bridge.task("id");
const stop: () => void = task.subscribe((state, event) => {
  if (state === null) return;
  const percent: number = state.progress?.percent ?? 0;
  const words: string = state.error?.message ?? state.reason ?? state.state;
  console.log(percent, words, event?.type, state.events.at(-1)?.["data"], isFinished(state));
});
stop();
const state: TaskState | null = task.getSnapshot();
const cancelled: Promise<void> = task.cancel({ terminate: true });
const why: string | null = task.refused;
task.close();

bridge.tag("user:42").subscribe((tasks, _event, id) => {
  const one: TaskState | undefined = id === undefined ? undefined : tasks.get(id);
  console.log(tasks.size, one?.name);
});
const all: readonly TaskState[] = bridge.topic("tasks").getSnapshot();
bridge.topic("tasks").forget("id");
bridge.topic("task:id").cancel();
bridge.topic("orders").subscribe((last, message) => console.log(last?.data, message?.type));
bridge.onStatus((status, detail) => status === "refused" && console.log(detail))();

const next: TaskState | null = fold(state, { type: "state", task: "id", at: 1, state: "STARTED" });
const parse: (bytes: Uint8Array) => void = createParser({ onEvent: ({ type, data, topic }) => console.log(type, data, topic) });

useBridge(bridge);
words["task"] = "Aufgabe";
const element: TaskProgress = document.createElement("task-progress");
element.bridge = bridge;
element.addEventListener("task-end", ({ detail }) => console.log(detail.result));

// @ts-expect-error: a state is never changed
state!.state = "SUCCESS";
// @ts-expect-error: a topic of one's own has nothing to cancel
bridge.topic("orders").cancel();
const chosen: TaskState["state"] = "UPLOADING";
// @ts-expect-error: a state is text
const wrong: TaskState["state"] = 1;
// @ts-expect-error: a token is text
connect({ getToken: () => 7 });
// @ts-expect-error: there is no such option
connect({ uri: "/events" });

export { all, cancelled, chosen, next, parse, why, wrong };
