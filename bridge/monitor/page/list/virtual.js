// A list of any length of which only the rows in sight are in the document. All rows have the same height.

// Rows above and below those in sight, for the next scrolling.
const AROUND = 6;

// `scroller` scrolls, `body` holds the rows, `makeRow()` returns an object with `element`, `show(row)`, `place(index,
// height)`, `setCurrent(yes)` and `row`. `latest(row)` is what is known by now of the task of a row. The height of a row
// is the property --row-height of `body`, in pixels.
export function createVirtualList({ scroller, body, makeRow, latest }) {
  const shown = new Map();
  const free = [];
  let rows = [];
  let places = null;
  let height = 0;
  let frame = 0;
  let current = null;

  const placeOf = (id) => (places ??= new Map(rows.map((row, place) => [row.task, place]))).get(id);

  // While the reader looks at rows further down, those that come above them do not move them.
  function setRows(next) {
    const anchor = scroller.scrollTop > height / 2 ? rows[Math.floor(scroller.scrollTop / height)] : null;
    const offset = anchor ? scroller.scrollTop - placeOf(anchor.task) * height : 0;
    rows = next;
    places = null;
    measure();
    const place = anchor ? placeOf(anchor.task) : undefined;
    if (place !== undefined) scroller.scrollTop = place * height + offset;
    if (current !== null && placeOf(current) === undefined) current = null;
    draw();
  }

  function measure() {
    height = parseFloat(getComputedStyle(body).getPropertyValue("--row-height")) || 56;
    body.style.height = `${rows.length * height}px`;
  }

  function schedule() {
    frame ||= requestAnimationFrame(draw);
  }

  // Draws what is in sight. `force` also those rows whose task has not changed.
  function draw({ force = false } = {}) {
    cancelAnimationFrame(frame);
    frame = 0;
    if (document.visibilityState === "hidden" || !scroller.isConnected) return;
    const first = Math.max(0, Math.floor(scroller.scrollTop / height) - AROUND);
    const last = Math.min(rows.length, Math.ceil((scroller.scrollTop + scroller.clientHeight) / height) + AROUND);
    const focused = focusedId();
    const wanted = rows.slice(first, last);
    const indexes = new Map(wanted.map((row, offset) => [row.task, first + offset]));
    // The row with the focus stays, or the focus would be lost.
    const kept = focused === null || indexes.has(focused) ? undefined : placeOf(focused);
    if (kept !== undefined) indexes.set(focused, kept);
    release(indexes);
    for (const [id, index] of indexes) fill(id, index, force);
    order(indexes, focused);
  }

  const focusedId = () => [...shown.values()].find(({ element }) => element.contains(document.activeElement))?.row.task ?? null;

  function release(indexes) {
    for (const [id, item] of shown) {
      if (indexes.has(id)) continue;
      if (item.element.contains(document.activeElement)) scroller.focus({ preventScroll: true });
      shown.delete(id);
      item.element.remove();
      free.push(item);
    }
  }

  function fill(id, index, force) {
    const row = latest(rows[index]);
    let item = shown.get(id);
    if (!item) shown.set(id, (item = free.pop() ?? makeRow()));
    item.place(index, height);
    if (force || item.row !== row) item.show(row);
    item.setCurrent(id === (current ?? rows[0].task));
  }

  // The order in the document is that on the page.
  function order(indexes, focused) {
    const active = document.activeElement;
    let next = body.firstChild;
    for (const [id] of [...indexes].sort((a, b) => a[1] - b[1])) {
      const { element } = shown.get(id);
      if (element === next) next = next.nextSibling;
      else body.insertBefore(element, next);
    }
    if (focused !== null && active !== document.activeElement) active.focus({ preventScroll: true });
  }

  // Makes the row at `place` the current one, brings it into sight and gives it the focus.
  function moveTo(place) {
    if (!rows.length) return;
    const index = Math.min(rows.length - 1, Math.max(0, place));
    current = rows[index].task;
    const [top, sight] = [index * height, scroller.clientHeight];
    if (top < scroller.scrollTop) scroller.scrollTop = top;
    else if (top + height > scroller.scrollTop + sight) scroller.scrollTop = top + height - sight;
    draw();
    shown.get(current)?.element.focus({ preventScroll: true });
  }

  const observer = new ResizeObserver(() => {
    measure();
    schedule();
  });
  observer.observe(scroller);
  scroller.addEventListener("scroll", schedule, { passive: true });

  return {
    setRows,
    draw,
    moveTo,
    tick: () => shown.forEach((item) => item.tick()),
    get rows() {
      return rows;
    },
    get place() {
      return current === null ? -1 : (placeOf(current) ?? -1);
    },
    get page() {
      return Math.max(1, Math.floor(scroller.clientHeight / height) - 1);
    },
    // The row that an element belongs to.
    rowOf: (element) => [...shown.values()].find((item) => item.element.contains(element)) ?? null,
    setCurrent(id) {
      current = id;
      draw();
    },
    close() {
      observer.disconnect();
      cancelAnimationFrame(frame);
    },
  };
}
