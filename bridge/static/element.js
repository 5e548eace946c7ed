// <task-progress task="ID" url="/events"></task-progress>: shows one task. Attributes: `task`; `url` of the streams;
// `name` to show instead of that of the task; `log` to offer its log; `cancel` to offer a button, `cancel-url` for
// the request that it makes; `share` to use one stream for all tabs.

import { connect, isFinished } from "./bridge.js";
import { style } from "./style.js";
import { duration, number, words } from "./words.js";

export { words };

const SHOWN_LINES = 500;
// Milliseconds between two announcements of progress to screen readers.
const ANNOUNCED_EVERY = 15_000;

const connections = new Map();
let standard = null;

// Makes elements that have no bridge of their own use this one, for example with tokens.
export function useBridge(bridge) {
  standard = bridge;
}

// Elements with the same attributes share a connection for as long as the page is open.
function connectionOf(element) {
  if (standard) return standard;
  const [url, share] = [element.getAttribute("url") ?? "/events", element.hasAttribute("share")];
  const cancelUrl = element.getAttribute("cancel-url") ?? undefined;
  const key = JSON.stringify([url, share, cancelUrl]);
  if (!connections.has(key)) connections.set(key, connect({ url, share, cancelUrl }));
  return connections.get(key);
}

function make(tag, part, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  if (part) element.setAttribute("part", part);
  element.append(...children);
  return element;
}

function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

let sheet;

export class TaskProgress extends HTMLElement {
  static observedAttributes = ["task", "url", "name", "log", "cancel", "share", "cancel-url"];

  #bridge = null;
  #task = null;
  #state = null;
  #complaint = "";
  #frame = 0;
  #timer = 0;
  #drawn = 0;
  #list = null;
  #announcedAt = 0;
  #announced = "";
  #parts = {};

  constructor() {
    super();
    const root = this.attachShadow({ mode: "open" });
    if (!sheet) (sheet = new CSSStyleSheet()).replaceSync(style);
    root.adoptedStyleSheets = [sheet];
    const parts = (this.#parts = {
      name: make("span", "name", { id: "name" }),
      state: make("span", "state"),
      cancel: make("button", "cancel", { type: "button", hidden: true }),
      fill: make("div", "fill"),
      message: make("span", "message"),
      figures: make("span", "figures"),
      error: make("p", "error", { hidden: true }),
      summary: make("summary", "summary"),
      lines: make("ol", "lines"),
      live: make("p", "", { className: "unseen" }),
    });
    parts.live.setAttribute("aria-live", "polite");
    parts.bar = make("div", "bar", {}, parts.fill);
    for (const [name, value] of [["role", "progressbar"], ["aria-valuemin", "0"], ["aria-valuemax", "100"], ["aria-labelledby", "name"]])
      parts.bar.setAttribute(name, value);
    parts.log = make("details", "log", { hidden: true }, parts.summary, parts.lines);
    root.append(
      make("div", "head", {}, parts.name, parts.state, parts.cancel),
      parts.bar,
      make("div", "line", {}, parts.message, parts.figures),
      parts.error,
      parts.log,
      parts.live,
    );
    parts.cancel.addEventListener("click", () => this.#cancel());
    parts.log.addEventListener("toggle", () => this.#schedule());
  }

  // The bridge that this element uses, if not that of all elements.
  get bridge() {
    return this.#bridge;
  }

  set bridge(bridge) {
    this.#bridge = bridge;
    this.#watch();
  }

  // What is known of the task, or null.
  get state() {
    return this.#state;
  }

  connectedCallback() {
    this.#upgrade();
    this.#watch();
  }

  // A page may have set the property before this module was there.
  #upgrade() {
    if (!Object.hasOwn(this, "bridge")) return;
    this.#bridge = this.bridge;
    delete this.bridge;
  }

  disconnectedCallback() {
    this.#leave();
  }

  attributeChangedCallback(name, before, after) {
    if (before === after) return;
    if (["task", "url", "share", "cancel-url"].includes(name)) this.#watch();
    else this.#schedule();
  }

  #watch() {
    this.#leave();
    const id = this.getAttribute("task");
    if (!this.isConnected || !id) return;
    this.#state = null;
    this.#complaint = "";
    this.#restartLog();
    this.#task = (this.#bridge ?? connectionOf(this)).task(id);
    this.#schedule();
    this.#task.subscribe((state, event) => this.#changed(state, event));
  }

  #leave() {
    this.#task?.close();
    this.#task = null;
    cancelAnimationFrame(this.#frame);
    clearTimeout(this.#timer);
    this.#frame = this.#timer = 0;
  }

  #changed(state, event) {
    this.#state = state;
    if (event === null || event.type === "snapshot" || event.type === "reset") this.#restartLog();
    if (event?.type === "refused") this.#complaint = event.detail;
    this.#schedule();
    if (event?.type === "end") this.dispatchEvent(new CustomEvent("task-end", { detail: state, bubbles: true, composed: true }));
  }

  #restartLog() {
    this.#drawn = 0;
    this.#list = null;
  }

  // Drawn once in a frame, however many events there are.
  #schedule() {
    if (this.#task) this.#frame ||= requestAnimationFrame(() => this.#draw());
  }

  #draw() {
    this.#frame = 0;
    const [state, parts] = [this.#state, this.#parts];
    const shown = this.#complaint && !state ? "refused" : state ? shownState(state) : "connecting";
    this.dataset.state = shown;
    setText(parts.name, this.getAttribute("name") ?? state?.name ?? words.task);
    setText(parts.state, words[shown] ?? String(shown).toLowerCase());
    const finished = state !== null && isFinished(state);
    this.#drawProgress(state, shown, finished);
    this.#drawError(state, finished);
    this.#drawLog(state);
    parts.cancel.hidden = !this.hasAttribute("cancel") || !state || finished || Boolean(state.parts);
    setText(parts.cancel, state?.cancel_requested ? words.terminate : words.cancel);
    this.#announce(parts, finished);
    clearTimeout(this.#timer);
    if (shown === "RETRY") this.#timer = setTimeout(() => this.#schedule(), 1000);
  }

  #drawProgress(state, shown, finished) {
    const { bar, fill, message, figures } = this.#parts;
    const progress = state?.progress ?? {};
    const percent = shown === "SUCCESS" ? 100 : finite(progress.percent) ?? (progress.total > 0 ? (100 * progress.current) / progress.total : null);
    bar.toggleAttribute("data-running", percent === null && shown === "STARTED");
    if (percent === null) bar.removeAttribute("aria-valuenow");
    else bar.setAttribute("aria-valuenow", String(Math.floor(percent)));
    fill.style.transform = percent === null ? "" : `scaleX(${Math.min(100, Math.max(0, percent)) / 100})`;
    setText(message, messageOf(state, shown));
    setText(figures, figuresOf(progress, percent, finished, this.#locale));
  }

  get #locale() {
    return this.closest("[lang]")?.lang || undefined;
  }

  #drawError(state, finished) {
    const error = finished ? state.error : null;
    const text = error ? `${error.type ?? "Error"}: ${error.message ?? ""}` : this.#complaint;
    setText(this.#parts.error, text);
    this.#parts.error.hidden = !text;
  }

  // The lines are made only while the log is open, and only those that came since.
  #drawLog(state) {
    const { log, summary, lines } = this.#parts;
    const events = state?.events ?? [];
    const count = events.length + (state?.omitted ?? 0);
    log.hidden = !this.hasAttribute("log") || count === 0;
    if (log.hidden) return;
    setText(summary, words.log(number(count, this.#locale)));
    if (!log.open) return;
    if (this.#list === null) lines.replaceChildren();
    this.#list = lines;
    const fresh = events.slice(Math.max(0, this.#drawn - state.omitted)).slice(-SHOWN_LINES);
    const follows = lines.scrollTop + lines.clientHeight >= lines.scrollHeight - 8;
    this.#drawn = count;
    lines.append(...fresh.map((event) => make("li", `log-line log-${event.level ?? event.type}`, {}, lineOf(event))));
    while (lines.childElementCount > SHOWN_LINES) lines.firstElementChild.remove();
    if (follows) lines.scrollTop = lines.scrollHeight;
  }

  // A change of the state at once, progress only now and then.
  #announce({ name, state, figures, live }, finished) {
    const text = `${name.textContent}: ${state.textContent}`;
    const now = performance.now();
    const changed = text !== this.#announced;
    if (!changed && (finished || !figures.textContent || now - this.#announcedAt < ANNOUNCED_EVERY)) return;
    this.#announced = text;
    this.#announcedAt = now;
    setText(live, changed ? text : `${text}, ${figures.textContent}`);
  }

  async #cancel() {
    const { cancel } = this.#parts;
    cancel.disabled = true;
    this.#complaint = "";
    try {
      await this.#task.cancel({ terminate: Boolean(this.#state?.cancel_requested) });
    } catch (error) {
      this.#complaint = error.message;
    }
    cancel.disabled = false;
    this.#schedule();
  }
}

const finite = (value) => (Number.isFinite(value) ? value : null);

// A worker may have the next attempt already, and wait for its time.
const shownState = ({ state, retry_at }) => (retry_at !== undefined && (state === "RECEIVED" || state === "PENDING") ? "RETRY" : state);

function messageOf(state, shown) {
  if (!state) return "";
  if (shown === "RETRY") {
    const left = Number.isFinite(state.retry_at) ? state.retry_at - Date.now() / 1000 : 0;
    return words.retrying(left > 0 ? duration(left) : "");
  }
  if (state.cancel_requested && !isFinished(state)) return words.cancelling;
  return String(state.progress?.message ?? state.progress?.step ?? "");
}

function figuresOf({ current, total, rate, eta }, percent, finished, locale) {
  const shown = [];
  if (Number.isFinite(current)) shown.push(total > 0 ? words.of(number(current, locale), number(total, locale)) : number(current, locale));
  if (!finished && rate > 0) shown.push(words.rate(number(rate, locale)));
  if (!finished && Number.isFinite(eta)) shown.push(words.left(duration(eta)));
  if (percent !== null) shown.push(`${Math.floor(percent)} %`);
  return shown.join(" · ");
}

function lineOf({ type, message, name, status, path, data }) {
  if (type === "log") return String(message);
  if (type === "step") return `${Array.isArray(path) ? path.join(" / ") : name} ${status}`;
  return `${type} ${JSON.stringify(data) ?? ""}`;
}

if (!customElements.get("task-progress")) customElements.define("task-progress", TaskProgress);
