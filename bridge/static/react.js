// Hooks for React 18 and newer. The application has React; this module only imports its `useSyncExternalStore`.

import { useCallback, useSyncExternalStore } from "react";

// The state of a task, or null while nothing is known of it. `bridge` comes from `connect`.
export function useTask(bridge, id) {
  return useHandle(bridge, id == null ? null : `task:${id}`);
}

// The states of all tasks with a tag; without a tag, of the feed.
export function useTasks(bridge, tag) {
  return useHandle(bridge, tag === undefined ? "tasks" : tag === null ? null : `tag:${tag}`);
}

function useHandle(bridge, topic) {
  const subscribe = useCallback(
    (changed) => {
      if (topic === null) return () => {};
      const handle = bridge.topic(topic);
      const later = oncePerFrame(changed);
      handle.subscribe(later);
      return () => {
        later.cancel();
        handle.close();
      };
    },
    [bridge, topic],
  );
  const read = useCallback(() => (topic === null ? null : bridge.topic(topic).getSnapshot()), [bridge, topic]);
  return useSyncExternalStore(subscribe, read, read);
}

// However many events there are, React renders once in a frame, or twice a second in a hidden tab.
function oncePerFrame(call) {
  let timer = 0;
  let frame = 0;
  const cancel = () => {
    clearTimeout(timer);
    cancelAnimationFrame(frame);
    timer = frame = 0;
  };
  const run = () => {
    cancel();
    call();
  };
  const later = () => {
    if (timer) return;
    timer = setTimeout(run, 500);
    frame = requestAnimationFrame(run);
  };
  return Object.assign(later, { cancel });
}
