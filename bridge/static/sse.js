// Parses text/event-stream as the WHATWG standard describes it. No I/O.

// Characters of one event. A server that sends more in one event would otherwise fill the memory of the page.
export const LONGEST_EVENT = 64 * 1024 * 1024;

const LINE_END = /\r\n|\r|\n/g;

// Returns a function that takes the bytes of a stream in pieces of any size. It calls `onEvent` for each event with
// `{ type, data, id, topic }`: `id` is the last event ID of the stream so far, `topic` a field of the bridge, or null.
// `onRetry` gets milliseconds. Throws a RangeError for an event of more than `longest` characters.
export function createParser({ onEvent, onRetry = () => {}, longest = LONGEST_EVENT }) {
  // Removes a byte order mark at the beginning, and replaces what is not UTF-8.
  const decoder = new TextDecoder();
  let rest = "";
  let afterReturn = false;
  let lines = [];
  let length = 0;
  let type = "";
  let topic = null;
  let id = "";

  return function parse(bytes) {
    const text = decoder.decode(bytes, { stream: true });
    if (text === "") return;
    let start = afterReturn && text[0] === "\n" ? 1 : 0;
    LINE_END.lastIndex = start;
    for (let end; (end = LINE_END.exec(text)) !== null; start = LINE_END.lastIndex) {
      const line = rest + text.slice(start, end.index);
      rest = "";
      read(line);
      // `onEvent` may have parsed another stream.
      LINE_END.lastIndex = end.index + end[0].length;
    }
    rest += text.slice(start);
    afterReturn = text.endsWith("\r");
    checkLength(rest.length);
  };

  function read(line) {
    if (line === "") return dispatch();
    const colon = line.indexOf(":");
    if (colon === 0) return;
    const name = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? "" : line.slice(line[colon + 1] === " " ? colon + 2 : colon + 1);
    if (name === "data") {
      length += value.length;
      checkLength(0);
      lines.push(value);
    } else if (name === "event") type = value;
    else if (name === "topic") topic = value;
    else if (name === "id") id = value.includes("\0") ? id : value;
    else if (name === "retry" && /^[0-9]+$/.test(value)) onRetry(Number(value));
  }

  function checkLength(more) {
    if (length + more <= longest) return;
    throw new RangeError(`The server sent an event of more than ${longest} characters.`);
  }

  function dispatch() {
    const event = lines.length ? { type: type || "message", data: lines.join("\n"), id, topic } : null;
    lines = [];
    length = 0;
    type = "";
    topic = null;
    if (event) onEvent(event);
  }
}
