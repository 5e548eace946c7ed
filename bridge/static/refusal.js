// Why a request was refused, in words for people.

const LONGEST_REASON = 1000;

// `{"detail"}` of problem+json and FastAPI, `{"message"}` and `{"error"}` of others, plain text, or the first paragraph
// of a page, as Flask sends it.
export async function reasonOf(response) {
  const text = await response.text().catch(() => "");
  const kind = response.headers.get("Content-Type") ?? "";
  let reason = "";
  if (/[/+]json\b/.test(kind)) reason = reasonIn(text);
  else if (kind.startsWith("text/plain")) reason = text;
  else if (kind.startsWith("text/html") && globalThis.DOMParser) {
    reason = new DOMParser().parseFromString(text, "text/html").querySelector("p")?.textContent ?? "";
  }
  reason ||= `The server answered ${response.status} ${response.statusText}`.trim();
  return reason.trim().slice(0, LONGEST_REASON);
}

function reasonIn(text) {
  try {
    const body = JSON.parse(text);
    const found = body.detail ?? body.message ?? body.error ?? body.title;
    return found === undefined ? "" : typeof found === "string" ? found : JSON.stringify(found);
  } catch {
    return "";
  }
}

// Milliseconds, from a `Retry-After` header with seconds or with a date.
export function retryAfter(response, now = Date.now()) {
  const value = response.headers.get("Retry-After");
  if (!value) return 0;
  const seconds = /^[0-9]+$/.test(value.trim()) ? Number(value) : (Date.parse(value) - now) / 1000;
  return Math.max(0, seconds * 1000) || 0;
}
