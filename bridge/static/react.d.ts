import type { Bridge, TaskState } from "./bridge.js";

/** The state of a task; null while nothing is known, or without an id. */
export function useTask(bridge: Bridge, id: string | null | undefined): TaskState | null;

/** The tasks with a tag; without a tag, of the feed. */
export function useTasks(bridge: Bridge, tag?: string | null): readonly TaskState[];
