// Positions in the messages of a topic, and the words of a cursor. bridge/model/position.py makes them on the server,
// bridge/streams/cursor.py reads them.

export const FEED = "tasks";
export const TASK_PREFIX = "task:";
export const TAG_PREFIX = "tag:";

// A word that asks for the position of a topic without a state.
export const NOW = "now";
export const FROM_STATE = "";

const POSITION = /^([0-9a-f]{0,32})-([0-9]{1,18})-([0-9]{1,18})$/;

export const taskOf = (topic) => (topic.startsWith(TASK_PREFIX) ? topic.slice(TASK_PREFIX.length) : null);

// The feed and the topics of tags carry the events of many tasks.
export const carriesTasks = (topic) => topic === FEED || topic.startsWith(TAG_PREFIX);

export const hasState = (topic) => taskOf(topic) !== null || carriesTasks(topic);

// Whether `word` is the position of a message that comes no later than the one at `seen`. Positions of different
// epochs cannot be compared.
export function isSeen(word, seen) {
  const [a, b] = [POSITION.exec(word ?? ""), POSITION.exec(seen ?? "")];
  return a !== null && b !== null && a[1] === b[1] && Number(a[2]) <= Number(b[2]);
}

// The cursor of a request for `topics`, from what is known of each. Empty if nothing is.
export function cursorOf(topics, words) {
  const cursor = topics.map((topic) => words.get(topic) || (hasState(topic) ? FROM_STATE : NOW));
  return cursor.some(Boolean) ? cursor.join(",") : "";
}

// The words of a cursor by topic, or nothing if it is not that of these topics.
export function wordsOf(cursor, topics) {
  const words = cursor.split(",");
  return words.length === topics.length ? topics.map((topic, place) => [topic, words[place]]) : [];
}
