// The live log of a task: it follows the end unless the reader scrolled up, and can be searched and downloaded.

import { isoTime, number, plural, size } from "../format.js";
import { button, el, section, setText } from "./dom.js";
import { cut, fileName, fileOf, isWanted, LEVELS, lineOf } from "./lines.js";
import { logTime } from "./times.js";

// Lines in the document: those at the end, and as many more for each press of "earlier".
const PAGE = 200;
// While the reader is not at the end, lines are added without taking away those that are read.
const MOST = 2000;

export function createLog(id) {
  const filter = { search: "", level: "debug" };
  let events = [];
  let omitted = 0;
  let drawn = null;
  let limit = PAGE;
  let unseen = 0;
  let following = true;
  // Which lines match the filter. Their texts may be megabytes, so none is looked at twice.
  let matches = new WeakMap();

  const search = el("input", { type: "search", "aria-label": "Search the log", placeholder: "Search", oninput: changeFilter, autocomplete: "off", spellcheck: false });
  const level = el("select", { "aria-label": "Lowest level", onchange: changeFilter }, ...LEVELS.map((name) => el("option", { value: name }, levelWord(name))));
  const total = el("span", { class: "hint" });
  const download = button("Download", save);
  const earlier = button("", showEarlier, { class: "quiet", hidden: true });
  const lines = el("ol", { class: "lines" });
  const box = el("div", { class: "log-box", tabindex: "0", role: "region", "aria-label": "Lines of the log", onscroll: scrolled }, earlier, lines);
  const jump = button("", jumpToEnd, { class: "jump", hidden: true });
  const element = section("Log", "log", el("div", { class: "log-tools" }, search, level, total, download), el("div", { class: "viewport" }, box, jump));

  function wants(line) {
    if (!matches.has(line)) matches.set(line, isWanted(line, filter));
    return matches.get(line);
  }

  const matching = (some = events) => some.map(lineOf).filter(wants);

  const drawLine = (line) => lineElement(line, showAll);

  function changeFilter() {
    Object.assign(filter, { search: search.value, level: level.value });
    matches = new WeakMap();
    limit = PAGE;
    following = true;
    drawAll();
  }

  function drawAll() {
    unseen = 0;
    lines.replaceChildren(...matching().slice(-limit).map(drawLine));
    finish();
  }

  function append(fresh) {
    const wanted = matching(fresh);
    if (wanted.length > PAGE && following) return drawAll();
    lines.append(...wanted.slice(-MOST).map(drawLine));
    if (!following) unseen += wanted.length;
    for (const most = following ? limit : MOST; lines.childElementCount > most; ) lines.firstElementChild.remove();
    finish();
  }

  function finish() {
    drawn = omitted + events.length;
    const count = matching().length;
    const hidden = count - lines.childElementCount;
    setText(total, totalText(count));
    earlier.hidden = hidden <= 0;
    setText(earlier, `Show ${plural(Math.min(PAGE, Math.max(0, hidden)), "earlier line")}`);
    if (following) box.scrollTop = box.scrollHeight;
    jump.hidden = following;
    setText(jump, unseen ? `${plural(unseen, "new line")} ↓` : "To the end ↓");
  }

  function totalText(shown) {
    const filtered = filter.search || filter.level !== "debug";
    const all = filtered ? `${number(shown)} of ${plural(events.length, "line")}` : plural(events.length, "line");
    return omitted ? `${all}, ${number(omitted)} earlier ones were not kept` : all;
  }

  function showEarlier() {
    const from = box.scrollHeight - box.scrollTop;
    limit = Math.max(limit, lines.childElementCount) + PAGE;
    following = false;
    drawAll();
    box.scrollTop = box.scrollHeight - from;
    box.focus({ preventScroll: true });
    scrolled();
  }

  // A reader who asks for a whole line reads it: the log does not jump to its end.
  function showAll(line, text) {
    text.textContent = line.text;
    following = false;
    scrolled();
  }

  function scrolled() {
    const atEnd = box.scrollTop + box.clientHeight >= box.scrollHeight - 16;
    if (atEnd) [unseen, limit] = [0, Math.min(limit, MOST)];
    following = atEnd;
    jump.hidden = following;
  }

  function jumpToEnd() {
    following = true;
    unseen = 0;
    finish();
    box.focus({ preventScroll: true });
  }

  function save() {
    const address = URL.createObjectURL(new Blob([...fileOf(events, omitted)], { type: "text/plain;charset=utf-8" }));
    el("a", { href: address, download: fileName(id) }).click();
    setTimeout(() => URL.revokeObjectURL(address), 10_000);
  }

  // The whole log is drawn again after `restart`, for example when a snapshot replaced it.
  function restart() {
    drawn = null;
  }

  function draw(task) {
    events = Array.isArray(task.events) ? task.events : [];
    omitted = Number.isInteger(task.omitted) ? task.omitted : 0;
    element.hidden = events.length + omitted === 0;
    const fresh = drawn === null ? events.length : omitted + events.length - drawn;
    if (element.hidden || fresh === 0) return;
    if (drawn === null || fresh < 0 || fresh > events.length) drawAll();
    else append(events.slice(-fresh));
  }

  return { element, draw, restart, search };
}

const levelWord = (name) => (name === "debug" ? "All levels" : name === "critical" ? "Critical only" : `${name[0].toUpperCase()}${name.slice(1)} and above`);

// `showAll` is called for a line of which only the beginning is shown.
function lineElement(line, showAll) {
  const { shown, more } = cut(line.text);
  const text = el("span", { class: "text" }, shown);
  const at = line.at === null ? el("span", { class: "time" }, "–") : el("time", { datetime: isoTime(line.at), title: isoTime(line.at) }, logTime(line.at));
  if (more) text.append("… ", button(`Show all (${size(line.text.length)})`, () => showAll(line, text), { class: "quiet" }));
  return el("li", { "data-level": line.level }, at, el("span", { class: "level" }, line.type === "log" ? line.level : line.type), text);
}
