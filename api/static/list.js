// The newest tasks, each with a row. A task that leaves the list before a frame is drawn never gets a row.

const MOST_TASKS = 200;
// The time that one frame may use for rows. The rest of a burst waits for the next frames, so the page stays responsive.
const FRAME_MS = 10;

export class TaskList {
  #element;
  #makeRow;
  #onDrop;
  #onDraw;
  #entries = new Map();
  #newestFirst = [];
  #dirty = new Set();
  #frame = 0;
  // Tasks that left the list and have the same time as its last task: they must not return as newer ones.
  #fallen = new Set();
  #fallenSince = null;

  // `onDrop(id, task)` is called for a task that is too old for the list, `onDraw()` after each drawing.
  constructor(element, { makeRow, onDrop, onDraw }) {
    this.#element = element;
    this.#makeRow = makeRow;
    this.#onDrop = onDrop;
    this.#onDraw = onDraw;
  }

  get tasks() {
    return this.#newestFirst.map((entry) => entry.task).filter(Boolean);
  }

  has(id) {
    return this.#entries.has(id);
  }

  put(id, task, since) {
    const entry = this.#entries.get(id) ?? this.#add(id, since);
    if (!entry) return this.#onDrop(id, task);
    entry.task = task;
    this.#mark(entry);
  }

  // The task is no longer known. A snapshot before the next frame keeps the row.
  forget(id) {
    const entry = this.#entries.get(id);
    if (!entry) return;
    entry.task = null;
    this.#mark(entry);
  }

  remove(id) {
    const entry = this.#entries.get(id);
    if (!entry) return;
    this.#entries.delete(id);
    this.#newestFirst.splice(this.#newestFirst.lastIndexOf(entry), 1);
    this.#dirty.delete(entry);
    entry.row?.element.remove();
    this.#schedule();
  }

  redraw(id) {
    const entry = this.#entries.get(id);
    if (entry) this.#mark(entry);
  }

  restart(id) {
    this.#entries.get(id)?.row?.restart();
  }

  forEachRow(visit) {
    for (const { row, task } of this.#newestFirst) if (row && task) visit(row, task);
  }

  // The place of a task is fixed when the task is first seen.
  #add(id, since) {
    const place = this.#placeOf(since);
    if (place >= MOST_TASKS || (since === this.#fallenSince && this.#fallen.has(id))) return null;
    const entry = { id, since, task: null, row: null };
    this.#newestFirst.splice(place, 0, entry);
    this.#entries.set(id, entry);
    if (this.#newestFirst.length > MOST_TASKS) this.#dropLast();
    return entry;
  }

  #dropLast() {
    const { id, since, task } = this.#newestFirst.at(-1);
    if (since !== this.#fallenSince) this.#fallen.clear();
    this.#fallenSince = since;
    this.#fallen.add(id);
    this.remove(id);
    if (task) this.#onDrop(id, task);
  }

  // Among tasks of the same time, the one that is added last comes first.
  #placeOf(since) {
    let low = 0;
    let high = this.#newestFirst.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.#newestFirst[middle].since > since) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  #mark(entry) {
    this.#dirty.add(entry);
    this.#schedule();
  }

  #schedule() {
    this.#frame ||= requestAnimationFrame(() => this.#draw());
  }

  #draw() {
    this.#frame = 0;
    const until = performance.now() + FRAME_MS;
    for (const entry of this.#dirty) {
      if (performance.now() > until) {
        this.#schedule();
        break;
      }
      this.#dirty.delete(entry);
      if (entry.task) this.#show(entry);
      else this.remove(entry.id);
    }
    this.#onDraw();
  }

  #show(entry) {
    const isNew = !entry.row;
    entry.row ??= this.#makeRow(entry.id);
    entry.row.show(entry.task);
    if (isNew) this.#element.insertBefore(entry.row.element, this.#rowBelow(entry));
  }

  #rowBelow(entry) {
    const place = this.#newestFirst.indexOf(entry);
    const below = this.#newestFirst.find((other, index) => index > place && other.row);
    return below?.row.element ?? null;
  }
}
