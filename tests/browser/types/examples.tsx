// What an application writes with React.

import { connect } from "celery-event-bridge";
import { useTask, useTasks } from "celery-event-bridge/react";

const bridge = connect({ url: "/events", share: true });

export function Progress({ id }: { id: string | null }) {
  const task = useTask(bridge, id);
  if (task === null) return <p>Waiting</p>;
  return <progress max={100} value={task.progress?.percent ?? undefined} aria-label={task.name ?? "Task"} />;
}

export function Mine() {
  const tasks = useTasks(bridge, "user:42");
  const all = useTasks(bridge);
  return (
    <ul title={`${all.length} tasks`}>
      {tasks.map(({ task, state }) => (
        <li key={task}>{state}</li>
      ))}
    </ul>
  );
}

// @ts-expect-error: the bridge comes first
export const wrong = () => useTask("id");
