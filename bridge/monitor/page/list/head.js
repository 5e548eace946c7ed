// The heads of the columns. A press on one sorts by it.

import { el } from "../dom.js";
import { descends, sortOf } from "./query.js";

const COLUMNS = [
  ["state", "State", "state"],
  ["task", "Task", "name"],
  ["progress", "Progress", "progress"],
  ["worker", "Worker", "worker"],
  ["queued", "Queued", "queued"],
  ["duration", "Duration", "duration"],
  ["actions", "Actions", null],
];

export function createHead() {
  let params = {};
  let listener = () => {};
  const heads = new Map();
  const cells = COLUMNS.map(([name, label, sort]) => {
    const content = sort ? el("button", { type: "button", className: "plain" }, label) : el("span", { className: "unseen" }, label);
    const cell = el("span", { role: "columnheader", className: `cell ${name}` }, content);
    if (sort) heads.set(sort, cell);
    content.addEventListener("click", () => sort && press(sort));
    return cell;
  });
  const row = el("div", { role: "row", className: "row head", "aria-rowindex": "1" }, ...cells);
  const element = el("div", { role: "rowgroup" }, row);

  function press(sort) {
    const chosen = sortOf(params) === sort;
    listener(sort, chosen ? (descends(params) ? "asc" : "desc") : "");
  }

  function show(next) {
    params = next;
    for (const [sort, cell] of heads) {
      if (sort === sortOf(params)) cell.ariaSort = descends(params) ? "descending" : "ascending";
      else cell.removeAttribute("aria-sort");
    }
  }

  return {
    element,
    show,
    onSort(heard) {
      listener = heard;
      return () => (listener = () => {});
    },
  };
}
