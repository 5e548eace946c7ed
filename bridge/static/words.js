// What <task-progress> says. An application may put other words here, in its own language, before it shows elements.

export const words = {
  PENDING: "queued",
  RECEIVED: "received",
  STARTED: "running",
  RETRY: "retrying",
  STALLED: "stalled",
  SUCCESS: "done",
  FAILURE: "failed",
  REVOKED: "cancelled",
  IGNORED: "ignored",
  REJECTED: "rejected",
  connecting: "connecting",
  refused: "refused",
  task: "Task",
  cancel: "Cancel",
  cancelling: "Cancellation requested",
  terminate: "Stop by force",
  log: (count) => `Log (${count})`,
  earlier: (count) => `${count} earlier lines are not shown.`,
  retrying: (time) => (time ? `Retrying in ${time}` : "Retrying"),
  attempt: (number) => `attempt ${number}`,
  left: (time) => `${time} left`,
  rate: (number) => `${number}/s`,
  of: (current, total) => `${current} of ${total}`,
};

// A number for people, in the language of the page.
export const number = (value, locale) => new Intl.NumberFormat(locale || undefined, { maximumFractionDigits: 1 }).format(value);

export function duration(seconds) {
  const whole = Math.max(0, Math.ceil(seconds));
  const pad = (value) => String(value).padStart(2, "0");
  if (whole < 60) return `${whole} s`;
  const minutes = Math.floor(whole / 60);
  if (minutes < 60) return `${minutes}:${pad(whole % 60)} min`;
  return `${Math.floor(minutes / 60)}:${pad(minutes % 60)} h`;
}
