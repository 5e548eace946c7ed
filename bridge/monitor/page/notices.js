// What the page says above its view: a lost connection, a refusal, and requests that failed. And what screen readers hear.

import { el } from "./dom.js";

const MOST_COMPLAINTS = 3;
const LOST = "The connection to the server is lost. What you see is from before, and the clocks stand still.";
const REFUSED = "The server does not allow this page to read events.";

export function createNotices(element, announcer) {
  const connection_ = el("div", { className: "banner", role: "alert", hidden: true });
  const complaints = el("div", { role: "alert", className: "complaints" });
  element.append(connection_, complaints);
  let lost = false;

  // The status of the stream. A first attempt is no loss.
  function connection(name, detail) {
    if (name === "open") lost = false;
    else if (name === "reconnecting") lost = true;
    const words = name === "refused" ? REFUSED : lost ? LOST : "";
    connection_.hidden = !words;
    if (connection_.dataset.words === words + detail) return;
    connection_.dataset.words = words + detail;
    connection_.replaceChildren(...(words ? [el("strong", {}, words), el("span", { className: "detail" }, detail ?? "")] : []));
  }

  // A request that failed, until somebody closes it.
  function complain(text) {
    const close = el("button", { type: "button", className: "plain", ariaLabel: "Close this message" }, "×");
    const complaint = el("div", { className: "banner" }, el("span", {}, text), close);
    close.addEventListener("click", () => complaint.remove());
    for (const old of [...complaints.children]) {
      if (old.firstChild.textContent === text || complaints.children.length >= MOST_COMPLAINTS) old.remove();
    }
    complaints.append(complaint);
  }

  let said = "";
  // For screen readers, when they have time: only the last of several texts.
  function say(text) {
    if (!said) setTimeout(() => ([announcer.textContent, said] = [said, ""]), 500);
    said = text;
  }

  return { connection, complain, say };
}
