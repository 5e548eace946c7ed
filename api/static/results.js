// The result of a task, formatted by the name of the task. Other tasks show their JSON.

import { el } from "./dom.js";
import { number, plural, size } from "./format.js";

const BY_TASK = { import_csv: imported, digest_tree: digested, narrate: narrated };

export function renderResult(name, result) {
  try {
    return BY_TASK[name]?.(result) ?? generic(result);
  } catch {
    return generic(result);
  }
}

function imported({ table, columns, rows, loaded, bad, bad_rows: badRows }) {
  return [
    figures([number(loaded), "rows loaded"], [number(bad), "bad rows", bad > 0], [number(columns), "columns"]),
    el("p", { className: "note" }, "Table ", el("code", {}, table), ` · ${plural(rows, "row")} read`),
    badRows.length ? listing("Bad rows", ["Row", "What is wrong"], badRows.map((r) => [number(r.row), r.reason]), bad) : null,
  ];
}

function digested({ folder, files, bytes, sha256, skipped, failed, errors }) {
  return [
    figures([number(files), "files"], [size(bytes), "read"], [number(failed), "unreadable", failed > 0]),
    el("p", { className: "note" }, "SHA-256 of all files in ", el("code", {}, folder), skipped ? ` · ${plural(skipped, "name")} skipped: not a regular file` : ""),
    el("p", { className: "digest" }, el("code", {}, sha256)),
    errors.length ? listing("Not read", ["File", "Why"], errors.map((e) => [e.path, e.reason]), failed) : null,
  ];
}

function narrated({ tokens, characters, text }) {
  return [
    el("p", { className: "story", tabIndex: 0 }, text),
    el("p", { className: "note" }, `${plural(tokens, "token")} · ${plural(characters, "character")}`),
  ];
}

function generic(result) {
  return [el("pre", { tabIndex: 0 }, JSON.stringify(result, null, 2))];
}

function figures(...entries) {
  const cells = entries.map(([value, label, alarming]) =>
    el("div", { className: alarming ? "alarming" : "" }, el("dd", {}, value), el("dt", {}, label)),
  );
  return el("dl", { className: "figures" }, ...cells);
}

function listing(title, heads, rows, total) {
  const head = el("tr", {}, ...heads.map((name) => el("th", { scope: "col" }, name)));
  const body = rows.map((cells) => el("tr", {}, ...cells.map((cell) => el("td", {}, cell))));
  const caption = rows.length < total ? `${title} (the first ${rows.length} of ${number(total)})` : title;
  const table = el("table", {}, el("caption", {}, caption), el("thead", {}, head), el("tbody", {}, ...body));
  return el("div", { className: "listing", tabIndex: 0, role: "region", ariaLabel: title }, table);
}
