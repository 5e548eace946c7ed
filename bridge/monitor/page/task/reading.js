// Reads the fields of a state. Anybody may publish anything, so each may be missing or of a wrong type. Pure.

export const isObject = (value) => value !== null && typeof value === "object" && !Array.isArray(value);

export const objects = (value) => (Array.isArray(value) ? value.filter(isObject) : []);

// A number of seconds since the epoch that a time may have, or null.
export const time = (value) => (Number.isFinite(value) && value > 0 && value < LATEST ? value : null);

// What a Date can hold.
const LATEST = 8.64e12;

export const isCanvas = (task) => typeof task.canvas === "string" || isObject(task.parts);

// What a task is called, or nothing. A canvas has the names of its parts.
export function nameOf(task) {
  const name = typeof task.name === "string" ? task.name : "";
  if (!isCanvas(task)) return name;
  return `${typeof task.canvas === "string" ? task.canvas : "canvas"} of ${name || "tasks"}`;
}

export function errorText(error) {
  if (!isObject(error)) return "";
  const message = typeof error.message === "string" ? error.message : "";
  return message ? `${error.type ?? "Error"}: ${message}` : String(error.type ?? "Error");
}
