// Shows the view that the address names, and follows links within the page without loading it again.

import { address, parse, viewOf } from "./router.js";

const VIEWS = {
  list: () => import("./list/view.js"),
  task: () => import("./task/view.js"),
  workers: () => import("./workers/view.js"),
};

export function createShell({ context, main }) {
  let current = null;
  let shown = 0;
  const listeners = new Set();
  // How far each view was scrolled, by its address, for the way back.
  const places = new Map();
  const given = { ...context, navigate, places };

  function navigate(params, { replace = false } = {}) {
    const to = address(params);
    if (to === address(parse(location.search)) || replace) history.replaceState(history.state, "", to);
    else history.pushState({ inside: true }, "", to);
    return show();
  }

  async function show() {
    const params = parse(location.search);
    const name = viewOf(params);
    const key = name === "task" ? `task ${params.task}` : name;
    const turn = ++shown;
    if (current?.key === key && current.view.update) current.view.update(params);
    else await replace(name, key, params, turn);
    if (turn !== shown) return;
    mark(name);
    for (const listener of listeners) listener(params);
  }

  async function replace(name, key, params, turn) {
    const view = await load(name, params);
    if (turn !== shown) return view.close();
    const hadFocus = main.contains(document.activeElement);
    current?.view.close();
    const first = current === null;
    current = { key, view };
    main.replaceChildren(view.element);
    view.shown?.();
    if (hadFocus || !first) main.focus({ preventScroll: true });
  }

  async function load(name, params) {
    try {
      const { create } = await VIEWS[name]();
      return create({ ...given, params });
    } catch (error) {
      console.error(error);
      const element = document.createElement("p");
      element.className = "banner";
      element.textContent = `This view could not be shown. Reload the page. (${error.message})`;
      return { element, close() {} };
    }
  }

  function mark(name) {
    for (const link of document.querySelectorAll("nav [data-view]")) {
      if (link.dataset.view === name) link.setAttribute("aria-current", "page");
      else link.removeAttribute("aria-current");
    }
  }

  addEventListener("popstate", show);
  document.addEventListener("click", (event) => {
    const link = event.target.closest?.("a[href^='?']");
    if (!link || event.defaultPrevented || event.button !== 0 || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
    event.preventDefault();
    navigate(parse(new URL(link.href).search));
  });

  // To the list as it was left, if that is where the reader came from.
  function back() {
    if (history.state?.inside) history.back();
    else navigate({});
  }

  return {
    show,
    navigate,
    back,
    get params() {
      return parse(location.search);
    },
    onView: (listener) => listeners.add(listener),
  };
}
