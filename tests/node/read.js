// Reads a stream with a client of npm. Prints a line of JSON when the stream is open, and one for each event.
//
//   node read.js eventsource|eventsource-parser URL {HEADERS} [TYPES] LAST
//
// It ends when the stream has ended, was cut, or has shown the data LAST, and after 60 seconds. `eventsource`
// reconnects by itself and stays; whoever started it ends it.
import { writeFileSync } from "node:fs";

import { EventSource } from "eventsource";
import { EventSourceParserStream } from "eventsource-parser/stream";

const [client, url, headers, types, last] = process.argv.slice(2);
setTimeout(() => process.exit(1), 60_000);
// At once: what `process.stdout` still has is lost when the process ends.
const print = (value) => writeFileSync(1, `${JSON.stringify(value)}\n`);

function withEventSource() {
  const source = new EventSource(url, {
    fetch: (address, options) =>
      fetch(address, { ...options, headers: { ...options.headers, ...JSON.parse(headers) } }),
  });
  source.addEventListener("open", () => print("open"));
  source.addEventListener("error", () => {
    if (source.readyState === source.CLOSED) print("closed");
  });
  for (const type of JSON.parse(types)) {
    source.addEventListener(type, (event) => {
      print([event.type, event.lastEventId, event.data]);
      if (event.data === last) source.close();
    });
  }
}

async function withParser() {
  const response = await fetch(url, { headers: JSON.parse(headers) });
  print("open");
  const text = response.body.pipeThrough(new TextDecoderStream());
  try {
    for await (const event of text.pipeThrough(new EventSourceParserStream())) {
      print([event.event ?? "message", event.id ?? "", event.data]);
      if (event.data === last) process.exit();
    }
  } catch (error) {
    if (error.message !== "terminated") throw error; // cut
  }
}

if (client === "eventsource") {
  withEventSource();
} else {
  await withParser();
  process.exit();
}
