import type { Bridge, TaskState } from "./bridge.js";

/** Makes elements that have no bridge of their own use this one. */
export function useBridge(bridge: Bridge | null): void;

/** What the elements say. An application may put other words here. */
export const words: Record<string, string | ((...values: string[]) => string)>;

export class TaskProgress extends HTMLElement {
  bridge: Bridge | null;
  readonly state: TaskState | null;
}

declare global {
  interface HTMLElementTagNameMap {
    "task-progress": TaskProgress;
  }
  interface HTMLElementEventMap {
    "task-end": CustomEvent<TaskState>;
  }
}
