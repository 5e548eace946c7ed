// Fills the store: the newest tasks at once, then the stream, then page by page all that is kept.

const FIRST_PAGE = 100;
const PAGE = 500;
const FIRST_WAIT = 1000;
const LONGEST_WAIT = 30_000;

// `onFirst(position)` is called after the first page, with the position of the feed at that time, if the server tells.
// `onProgress({ total, complete, error })` after each page and each failure.
export function createLoader({ api, store, onFirst, onProgress }) {
  let closed = false;
  let running = false;
  let again = false;
  let next = null;
  let total = 0;

  // Starts with the newest tasks, also while another round runs.
  function restart() {
    again = true;
    if (!running) run();
  }

  async function run() {
    running = true;
    for (let failures = 0, first = true; !closed && (again || (next && store.rows.size < store.most)); ) {
      if (again) [again, next, first] = [false, null, true];
      try {
        const page = await load(first);
        if (closed) return;
        if (first) onFirst(page.position ?? "");
        [first, failures] = [false, 0];
        onProgress({ total, complete: next === null, error: null });
      } catch (error) {
        onProgress({ total, complete: false, error: error.message });
        // The stream does not wait for the list.
        if (first) onFirst("");
        first = false;
        if (error.status >= 400 && error.status < 500) break;
        again ||= next === null;
        await new Promise((resolve) => setTimeout(resolve, Math.min(LONGEST_WAIT, FIRST_WAIT * 2 ** failures++)));
      }
    }
    running = false;
  }

  async function load(first) {
    const take = store.expectPage();
    let tasks = [];
    let page;
    try {
      page = await api.tasks({ limit: first ? FIRST_PAGE : PAGE, before: next ?? undefined });
      if (Array.isArray(page?.tasks)) tasks = page.tasks;
    } finally {
      take(tasks);
    }
    // A cursor that leads nowhere would be asked for again and again.
    next = tasks.length && page.next && page.next !== next ? page.next : null;
    total = Number.isInteger(page?.total) ? page.total : store.rows.size;
    return page;
  }

  // Older tasks than the page keeps at first, because somebody asks for them.
  function more(count) {
    store.most += count;
    if (!running) run();
  }

  return { restart, more, close: () => (closed = true) };
}
