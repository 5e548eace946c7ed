// The list of all tasks. The address says which of them, and in which order.

import { el, setText } from "../dom.js";
import { number, plural } from "../format.js";
import { address } from "../router.js";
import { partOf, textOf } from "../rows.js";
import { createFilters, isFiltered } from "./filters.js";
import { createHead } from "./head.js";
import { setUpKeys } from "./keys.js";
import { isLiveSort, PERIODS, select } from "./query.js";
import { Row } from "./row.js";
import { createSparks } from "./sparks.js";
import { createEmpty, createFoot } from "./surroundings.js";
import { createVirtualList } from "./virtual.js";

// Selecting takes at most one part in so many of the time.
const SHARE = 8;
const OLDER = 20_000;

export function create(context) {
  const { store, clock, api, settings, navigate, loading, places } = context;
  let params = context.params;
  let selected = { rows: [], counts: new Map(), matching: [] };
  let timer = 0;
  let cost = 0;
  let selectedAt = 0;
  let stale = false;
  const pending = new Set();
  // Groups whose parts were asked for.
  const asked = new Set();
  const texts = createTexts();

  const head = createHead();
  const body = el("div", { role: "presentation", className: "rows" });
  const scroller = el("div", { role: "rowgroup", className: "scroller", tabIndex: -1 }, body);
  const grid = el("div", { role: "grid", className: "grid", ariaLabel: "Tasks", ariaReadOnly: "true" }, head.element, scroller);
  const summary = el("p", { className: "summary" });
  const empty = createEmpty();
  const foot = createFoot(() => loading.more(OLDER));
  const sparks = createSparks();
  const filters = createFilters({ change: (next, options) => navigate(next, options), rows: () => store.rows.values() });
  const element = el(
    "section",
    { className: "list", "aria-labelledby": "list-title" },
    el("div", { className: "title" }, el("h2", { id: "list-title", className: "unseen" }, "All tasks"), summary, sparks.element),
    ...filters.elements,
    grid,
    empty.element,
    foot.element,
  );

  const list = createVirtualList({
    scroller,
    body,
    latest: (row) => store.get(row.task) ?? row,
    makeRow: () =>
      new Row({
        settings,
        clock,
        isOpen: (id) => params.open?.includes(id) ?? false,
        isPart: (row) => row.canvas_id !== undefined && (params.open?.includes(row.canvas_id) ?? false),
        isPending: (id) => pending.has(id),
      }),
  });

  const visible = () => document.visibilityState === "visible";

  function reselect({ force = false } = {}) {
    clearTimeout(timer);
    timer = 0;
    stale = !visible() || !element.isConnected;
    if (stale) return;
    const begun = performance.now();
    selected = select(store.rows, params, clock.now(), texts);
    list.setRows(selected.rows);
    if (force) list.draw({ force });
    cost = performance.now() - begun;
    selectedAt = performance.now();
    describe();
  }

  function reselectSoon() {
    const wait = selectedAt + cost * SHARE - performance.now();
    if (wait <= 0) reselect();
    else timer ||= setTimeout(reselect, wait);
  }

  function describe() {
    const { rows, counts } = selected;
    filters.showCounts(counts);
    grid.ariaRowCount = String(rows.length + 1);
    grid.hidden = rows.length === 0;
    const all = store.rows.size;
    setText(summary, isFiltered(params) ? `${number(rows.length)} of ${plural(all, "task")}` : plural(rows.length, "task"));
    empty.show({ hidden: rows.length > 0, filtered: isFiltered(params) && all > 0, loading: all === 0 && !loading.progress.complete && !loading.progress.error });
    foot.show({ ...loading.progress, known: all, most: store.most });
  }

  function tick(now) {
    if (stale || PERIODS.has(params.since) || isLiveSort(params)) reselectSoon();
    list.tick();
    sparks.show(selected.matching, now, PERIODS.get(params.since) ?? null);
  }

  async function cancel({ row, force }) {
    pending.add(row.task);
    list.draw({ force: true });
    try {
      // What follows is shown when its event arrives, so that all pages show the same.
      await api.cancel(row.task, { terminate: force });
    } catch (error) {
      context.complain(`${row.name ?? "The task"} ${row.task} was not cancelled. ${error.message}`);
    }
    pending.delete(row.task);
    list.draw({ force: true });
  }

  function toggle(id) {
    const open = params.open ?? [];
    navigate({ ...params, open: open.includes(id) ? open.filter((each) => each !== id) : [...open, id] }, { replace: true });
  }

  // The list of the server has no parts of groups, and their events may have come before this page.
  async function loadParts(id) {
    if (asked.has(id)) return;
    asked.add(id);
    try {
      const { children } = await api.task(id);
      store.put((Array.isArray(children) ? children : []).filter((child) => !store.get(child?.task)).map((child) => partOf(child, id)));
    } catch (error) {
      asked.delete(id);
      context.complain(`The parts of ${id} could not be read. ${error.message}`);
    }
  }

  const loadAllParts = () => [...(params.open ?? []), ...(params.canvas ? [params.canvas] : [])].forEach(loadParts);

  // A click anywhere in a row opens its task, unless somebody marks text.
  body.addEventListener("click", (event) => {
    const item = list.rowOf(event.target);
    if (!item) return;
    list.setCurrent(item.row.task);
    if (event.target.closest(".cancel")) cancel(item);
    else if (event.target.closest(".expand")) toggle(item.row.task);
    else if (!event.target.closest("a") && !String(getSelection())) navigate({ task: item.row.task });
  });

  const stops = [
    store.subscribe(({ structural }) => (structural || isLiveSort(params) ? reselectSoon() : list.draw())),
    clock.subscribe(tick),
    setUpKeys({ list, scroller, filters, navigate, toggle, params: () => params }),
    head.onSort((sort, dir) => navigate({ ...params, sort: sort === "queued" ? "" : sort, dir })),
  ];
  loading.listener = describe;
  const seen = () => visible() && reselect({ force: true });
  document.addEventListener("visibilitychange", seen);

  function update(next) {
    const moved = address({ ...params, open: [] }) !== address({ ...next, open: [] });
    params = next;
    filters.show(params);
    head.show(params);
    if (moved) scroller.scrollTop = 0;
    reselect({ force: true });
    loadAllParts();
    if (moved) context.say(plural(selected.rows.length, "task"));
  }

  filters.show(params);
  head.show(params);
  // The view is in the document, and has a size.
  function shown() {
    reselect();
    loadAllParts();
    scroller.scrollTop = places.get(address(params)) ?? 0;
    list.draw();
    tick(clock.now());
  }

  return {
    element,
    shown,
    update,
    close() {
      places.set(address(params), scroller.scrollTop);
      clearTimeout(timer);
      document.removeEventListener("visibilitychange", seen);
      for (const stop of stops) stop();
      loading.listener = () => {};
      filters.close();
      list.close();
    },
  };
}

// What the search looks at, made once for each row.
function createTexts() {
  const known = new WeakMap();
  return (row) => {
    let text = known.get(row);
    if (text === undefined) known.set(row, (text = textOf(row)));
    return text;
  };
}
