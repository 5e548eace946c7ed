// Which view an address shows. Every view is in the query of the page, so the page can be mounted anywhere.

// The query as an object without a prototype, with the last value of each name, and a list for each name of `lists`.
export function parse(search, lists = LISTS) {
  const params = Object.create(null);
  for (const [name, value] of new URLSearchParams(search)) {
    if (lists.has(name)) (params[name] ??= []).push(value);
    else params[name] = value;
  }
  return params;
}

const LISTS = new Set(["open"]);

// The address of a view. What is empty is left out.
export function address(params) {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(params)) {
    for (const each of Array.isArray(value) ? value : [value]) {
      if (each !== undefined && each !== null && each !== "") query.append(name, each);
    }
  }
  return `?${query}`;
}

export function viewOf(params) {
  if (params.task) return "task";
  return params.view === "workers" ? "workers" : "list";
}
