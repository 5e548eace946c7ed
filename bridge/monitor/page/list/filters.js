// The filters above the list. They show what the address says, and change it.

import { el, setText } from "../dom.js";
import { number } from "../format.js";
import { address } from "../router.js";
import { GROUPS } from "../states.js";
import { descends, FACETS, PERIODS, SORTS, sortOf, values } from "./query.js";

const PERIOD_WORDS = { "5m": "Last 5 minutes", "15m": "Last 15 minutes", "1h": "Last hour", "24h": "Last 24 hours", "7d": "Last 7 days" };
// Groups that are offered also while they are empty.
const ALWAYS = new Set(["queued", "running", "failed", "done"]);
const FIELDS = ["q", "name", "worker", "tag", "since", "from", "to", "parts", "sort"];
// Milliseconds after the last key until the list follows.
const SETTLE = 120;

const filterNames = ["state", "q", "name", "worker", "tag", "since", "from", "to", "parts", "canvas"];

export const isFiltered = (params) => filterNames.some((name) => params[name]);

// `change(params, { replace })` is called with the new query; `rows()` returns all rows, for what the filters offer.
export function createFilters({ change, rows }) {
  let params = {};
  let timer = 0;
  const fields = makeFields();
  const lists = new Map([...FACETS.keys()].map((name) => [name, fields[name].nextSibling]));
  const direction = el("button", { type: "button", className: "plain direction" });
  const clear = el("a", { href: "?", className: "clear", hidden: true }, "Clear filters");
  const canvas = el("p", { className: "canvas-filter", hidden: true });
  const search = el("div", { className: "search" }, labelled("Search", fields.q));
  const custom = el("div", { className: "between" }, labelled("From", fields.from), labelled("To", fields.to));
  const parts = el("label", { className: "check" }, fields.parts, "Show the parts of groups");
  const more = el(
    "details",
    { className: "more" },
    el("summary", {}, "Filters"),
    el("div", { className: "fields" }, ...["name", "worker", "tag", "since"].map((name) => labelled(LABELS[name], fields[name], lists.get(name))), custom, parts),
  );
  const sorting = el("div", { className: "sorting" }, labelled("Sort by", fields.sort), direction);
  const form = el("form", { className: "filters", role: "search", "aria-label": "Tasks" }, search, more, sorting, clear);
  const states = createStates();

  function read() {
    const next = { ...params };
    for (const name of FIELDS) next[name] = fields[name].type === "checkbox" ? (fields[name].checked ? "1" : "") : fields[name].value.trim();
    if (next.since !== "between") [next.from, next.to] = ["", ""];
    if (next.sort === "queued") next.sort = "";
    return next;
  }

  function changed({ replace }) {
    clearTimeout(timer);
    change(read(), { replace });
  }

  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("input", ({ target }) => {
    clearTimeout(timer);
    // Each letter is no step of the way back.
    if (target.matches("input:not([type=checkbox])")) timer = setTimeout(changed, SETTLE, { replace: true });
    else changed({ replace: false });
  });
  form.addEventListener("focusin", ({ target }) => FACETS.has(target.name) && offer(target.name));
  direction.addEventListener("click", () => change({ ...read(), dir: descends(params) ? "asc" : "desc" }, { replace: false }));

  function offer(name) {
    const found = values(rows(), FACETS.get(name));
    lists.get(name).replaceChildren(...found.map((value) => el("option", { value })));
  }

  function show(next) {
    params = next;
    for (const name of FIELDS) {
      const field = fields[name];
      if (field === document.activeElement && field.value.trim() === (next[name] ?? "")) continue;
      if (field.type === "checkbox") field.checked = next[name] === "1";
      else field.value = next[name] ?? "";
    }
    fields.since.value = PERIODS.has(next.since) ? next.since : next.since === "between" || next.from || next.to ? "between" : "";
    fields.sort.value = sortOf(next);
    custom.hidden = fields.since.value !== "between";
    const down = descends(next);
    setText(direction, down ? "↓" : "↑");
    direction.ariaLabel = down ? "Descending; press for ascending" : "Ascending; press for descending";
    clear.hidden = !isFiltered(next);
    canvas.hidden = !next.canvas;
    if (next.canvas) canvas.replaceChildren("Only the parts of ", el("a", { href: address({ task: next.canvas }) }, next.canvas));
    if (["name", "worker", "tag", "since", "parts"].some((name) => next[name])) more.open = true;
  }

  return {
    elements: [states.element, form, canvas],
    show,
    showCounts: (counts) => states.show(counts, params),
    focus: () => [fields.q.focus(), fields.q.select()],
    search: fields.q,
    close: () => clearTimeout(timer),
  };
}

const LABELS = { name: "Task", worker: "Worker", tag: "Tag", since: "Queued" };

const labelled = (text, field, list) => el("label", {}, el("span", {}, text), field, list);

function makeFields() {
  const option = ([value, label]) => el("option", { value }, label);
  const choice = (name, options) => el("select", { name }, ...options.map(option));
  const text = (name) => {
    const field = el("input", { name, type: "text", autocomplete: "off", spellcheck: false, maxLength: 300 });
    field.setAttribute("list", `known-${name}`);
    el("span", {}, field, el("datalist", { id: `known-${name}` }));
    return field;
  };
  return {
    q: el("input", { name: "q", type: "search", placeholder: "Id, name, message, error …", autocomplete: "off", spellcheck: false, maxLength: 300, "aria-keyshortcuts": "/" }),
    name: text("name"),
    worker: text("worker"),
    tag: text("tag"),
    since: choice("since", [["", "At any time"], ...Object.entries(PERIOD_WORDS), ["between", "Between …"]]),
    from: el("input", { name: "from", type: "datetime-local" }),
    to: el("input", { name: "to", type: "datetime-local" }),
    parts: el("input", { name: "parts", type: "checkbox" }),
    sort: choice("sort", [...SORTS].map(([name, { label }]) => [name, label])),
  };
}

// A link for each group of states, with its count.
function createStates() {
  const links = new Map();
  for (const group of ["all", ...GROUPS.keys()]) {
    const count = el("span", { className: "count" }, "0");
    const link = el("a", { "data-group": group }, el("span", {}, group), " ", count);
    links.set(group, { link, count });
  }
  const element = el("nav", { className: "states", "aria-label": "States" }, ...[...links.values()].map(({ link }) => link));

  function show(counts, params) {
    for (const [group, { link, count }] of links) {
      const chosen = group === (GROUPS.has(params.state) ? params.state : "all");
      setText(count, number(counts.get(group)));
      link.href = address({ ...params, state: group === "all" ? "" : group });
      if (chosen) link.setAttribute("aria-current", "true");
      else link.removeAttribute("aria-current");
      link.hidden = !(group === "all" || chosen || ALWAYS.has(group) || counts.get(group));
    }
  }

  return { element, show };
}
