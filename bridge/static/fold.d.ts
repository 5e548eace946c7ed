/** What a task published, and events of the bridge itself. `type` may be any text: tasks have types of their own. */
export interface TaskEvent {
  readonly type: string;
  readonly task?: string;
  /** Seconds since the epoch. */
  readonly at?: number;
  /** Why a topic may not be read, in an event of the type `refused`. */
  readonly detail?: string;
  readonly [field: string]: unknown;
}

export type TaskStateName =
  | "PENDING"
  | "RECEIVED"
  | "STARTED"
  | "RETRY"
  | "STALLED"
  | "SUCCESS"
  | "FAILURE"
  | "REVOKED"
  | "IGNORED"
  | "REJECTED"
  /** A state that a task has chosen itself, with `install(capture=True)`. */
  | (string & {});

export interface Progress {
  readonly current?: number;
  readonly total?: number;
  /** Of the whole task, from 0 to 100. */
  readonly percent?: number;
  /** Per second. */
  readonly rate?: number;
  /** Seconds. */
  readonly eta?: number;
  readonly message?: string;
  readonly step?: string;
}

export interface Step {
  readonly name: string;
  readonly status: "started" | "succeeded" | "failed";
  readonly path?: readonly string[];
  readonly started_at?: number;
  readonly ended_at?: number;
}

/** An attempt that was followed by another one. */
export interface Attempt {
  readonly attempt: number;
  readonly started_at?: number;
  readonly ended_at: number;
  readonly error?: TaskError;
  readonly reason?: string;
  readonly retry_at?: number;
}

export interface TaskError {
  readonly type: string;
  readonly message: string;
  readonly traceback?: string;
}

/** A part of a group, chain or chord. */
export interface Child {
  readonly task: string;
  readonly state: TaskStateName;
  readonly percent?: number;
  readonly name?: string;
  readonly index?: number;
  readonly ended?: boolean;
}

/** The complete state of a task. It is never changed: each event makes a new one. Times are in seconds. */
export interface TaskState {
  readonly task: string;
  readonly state: TaskStateName;
  readonly name?: string;
  readonly attempt?: number;
  readonly worker?: string;
  readonly result?: unknown;
  readonly error?: TaskError;
  readonly reason?: string;
  readonly retry_at?: number;
  readonly queued_at?: number;
  readonly received_at?: number;
  readonly started_at?: number;
  readonly first_started_at?: number;
  readonly ended_at?: number;
  readonly cancel_requested?: number;
  readonly terminate?: boolean;
  readonly canvas?: "group" | "chain" | "chord";
  readonly canvas_id?: string;
  readonly tags?: readonly string[];
  /** The arguments, if the application stores them. */
  readonly args?: readonly unknown[];
  readonly kwargs?: Readonly<Record<string, unknown>>;
  /** Whether some arguments are left out or hidden. */
  readonly arguments_changed?: boolean;
  /** The attempts before the latest one, the newest 20. */
  readonly attempts?: readonly Attempt[];
  readonly parent?: string;
  readonly root?: string;
  readonly parts?: Readonly<Record<"waiting" | "running" | "succeeded" | "revoked" | "failed", number>>;
  readonly children?: readonly Child[];
  readonly progress: Progress | null;
  readonly steps: readonly Step[];
  /** The newest step, log and custom events. */
  readonly events: readonly TaskEvent[];
  /** How many older events there were. */
  readonly omitted: number;
  /** Whether the stream of the task has ended. */
  readonly ended?: boolean;
}

/** The state after one more event; `null` means that nothing is known. Pure. */
export function fold(task: TaskState | null, event: TaskEvent): TaskState | null;

/** Whether the task has ended. */
export function isFinished(task: Pick<TaskState, "state">): boolean;

export const EVENT_TYPES: readonly string[];
export const FINISHED_STATES: readonly TaskStateName[];
export const KEPT_EVENTS: number;
export const KEPT_STEPS: number;
export const KEPT_CHILDREN: number;
export const KEPT_ATTEMPTS: number;
export const KEPT_CHARACTERS: number;
