// What the page says while nobody looks at it: its title, its icon, and a notification at the end if it is wanted.

import { iconOf, summaryOf, titleOf } from "./counts.js";
import { isFinished } from "./states.js";

export function setUpSignals({ store, counts, shell, title, button }) {
  const icon = document.querySelector("link[rel=icon]");
  const plain = icon.href;
  let drawn = "";
  let iconAllowed = true;
  // What the notification is about, as long as it has not come: a task, or all of them.
  let awaited = null;

  function update() {
    const now = counts.current();
    const shown = titleOf(now, title);
    if (shown !== drawn) [document.title, drawn] = [shown, shown];
    const picture = iconAllowed && (now.running || now.failed) ? iconOf(now) : plain;
    if (icon.href !== picture) icon.href = picture;
    if (awaited && hasEnded(now)) notify(now);
  }

  // The policy of an application may allow no such pictures.
  document.addEventListener("securitypolicyviolation", ({ blockedURI }) => {
    if (!blockedURI.startsWith("data")) return;
    iconAllowed = false;
    icon.href = plain;
  });

  function hasEnded(now) {
    if (awaited.id === null) return (awaited.begun ||= now.active > 0) && now.active === 0;
    const row = store.get(awaited.id);
    return row !== null && isFinished(row);
  }

  function notify(now) {
    const row = awaited.id === null ? null : store.get(awaited.id);
    const name = row ? `${row.name ?? "Task"} has ended` : "All tasks have ended";
    const body = row ? `${row.state}, ${row.task}` : summaryOf(now);
    setAwaited(null);
    const notification = new Notification(name, { body, tag: "bridge-monitor" });
    notification.onclick = () => globalThis.focus();
  }

  function setAwaited(about) {
    awaited = about;
    button.setAttribute("aria-pressed", String(about !== null));
  }

  // Permission is asked for only here, after a click.
  async function toggle() {
    if (awaited) return setAwaited(null);
    const permission = Notification.permission === "default" ? await Notification.requestPermission() : Notification.permission;
    if (permission !== "granted") return refuse();
    setAwaited({ id: shell.params.task ?? null, begun: false });
    update();
  }

  function refuse() {
    button.textContent = "Notifications are blocked";
    button.disabled = true;
  }

  // Browsers offer notifications to pages that were loaded by HTTPS or from this computer.
  button.hidden = !("Notification" in globalThis && globalThis.isSecureContext);
  button.addEventListener("click", toggle);
  store.subscribe(update);
  update();
}
