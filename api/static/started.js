// The tasks that were started on this page, each as the element of the bridge. The monitor shows all tasks.

import { connect } from "/bridge/bridge.js";
import { useBridge } from "/bridge/element.js";
import { el } from "./dom.js";

const bridge = connect({ url: "/events", cancelUrl: "/tasks/{id}" });
useBridge(bridge);

export function started({ id, name }) {
  const link = el("a", { className: "id", href: `monitor/?task=${encodeURIComponent(id)}` }, id);
  const element = el("task-progress", { task: id, name, cancel: "", log: "" });
  const story = name === "narrate" ? narration(id) : null;
  document.querySelector("#tasks").prepend(el("li", { className: "task" }, element, story, link));
  document.querySelector("#empty").hidden = true;
}

// The text of a task that publishes it word by word. At its end, the result has all of it.
function narration(id) {
  const story = el("p", { className: "story" });
  bridge.task(id).subscribe((task) => {
    const tokens = (task?.events ?? []).filter(({ type }) => type === "token").map(({ data }) => data.text);
    const text = task?.result?.text ?? tokens.join("");
    if (text !== story.textContent) story.textContent = text;
  });
  return story;
}
