import type { TaskEvent, TaskState } from "./fold.js";

export { fold, isFinished } from "./fold.js";
export type { Child, Progress, Step, TaskError, TaskEvent, TaskState, TaskStateName } from "./fold.js";

export interface CancelOptions {
  /** Stop the task by force, also if it never looks. */
  terminate?: boolean;
}

export interface ConnectOptions {
  /** Where the server streams `?topic=...&topic=...`; by default `/events`. */
  url?: string | URL;
  /** Returns the token for `Authorization: Bearer`. It is called again when the server wants another one. */
  getToken?: () => string | null | undefined | Promise<string | null | undefined>;
  /** Use one stream for all tabs of the browser. */
  share?: boolean;
  /** Only tabs with the same key share, for example the id of the person who is signed in. */
  shareKey?: string | number;
  /** `BRIDGE_HEARTBEAT` of the server, in seconds. A stream that is silent for three times as long is opened again. */
  heartbeat?: number;
  /** Where tasks are cancelled: a URL with `{id}` in it, or a function. By default `{url}/{id}`. */
  cancelUrl?: string | ((id: string, options: Required<CancelOptions>) => string | URL);
}

export type Status = "idle" | "connecting" | "open" | "reconnecting" | "refused";

export interface Handle<Value, Snapshot> {
  readonly topic: string;
  /** Calls `listener` with what is known, and after each event. Returns a function that ends it. */
  subscribe(listener: (value: Value, event: TaskEvent | null, id?: string) => void): () => void;
  /** What is known now: the same object until something changes. */
  getSnapshot(): Snapshot;
  readonly state: Snapshot;
  /** Why the topic may not be read, or null. */
  readonly refused: string | null;
  /** Stops watching. The task goes on. */
  close(): void;
}

export interface Task extends Handle<TaskState | null, TaskState | null> {
  readonly id: string;
  /** Asks the server to cancel the task. Rejects with its reason. */
  cancel(options?: CancelOptions): Promise<void>;
}

export interface Tasks extends Handle<ReadonlyMap<string, TaskState>, readonly TaskState[]> {
  /** Forgets one task that the page does not need any more. */
  forget(id: string): void;
}

export interface Message {
  readonly type: string;
  readonly data: string;
  readonly id: string | null;
}

/** A topic of your own. `subscribe` also hears `reset`, when messages were lost. */
export interface Topic {
  readonly topic: string;
  subscribe(listener: (last: Message | null, message: Message | TaskEvent | null) => void): () => void;
  getSnapshot(): Message | null;
  readonly state: Message | null;
  readonly refused: string | null;
  close(): void;
}

export interface Bridge {
  task(id: string): Task;
  /** All tasks with a tag. */
  tag(tag: string): Tasks;
  topic(name: `task:${string}`): Task;
  topic(name: "tasks" | `tag:${string}`): Tasks;
  topic(name: string): Topic;
  readonly status: { readonly status: Status; readonly detail: string };
  /** Calls `listener` now and at each change. Returns a function that ends it. */
  onStatus(listener: (status: Status, detail: string) => void): () => void;
  /** Ends everything. */
  close(): void;
}

export function connect(options?: ConnectOptions): Bridge;
