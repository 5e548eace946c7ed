export interface ServerSentEvent {
  readonly type: string;
  readonly data: string;
  /** The last event ID of the stream so far. */
  readonly id: string;
  /** Of a stream of several topics: the topic of the event. */
  readonly topic: string | null;
}

export interface ParserOptions {
  onEvent(event: ServerSentEvent): void;
  /** Gets milliseconds. */
  onRetry?(milliseconds: number): void;
  /** The most characters of one event; above it the parser throws a RangeError. */
  longest?: number;
}

/** Returns a function that takes the bytes of a stream, in pieces of any size. */
export function createParser(options: ParserOptions): (bytes: Uint8Array) => void;

export const LONGEST_EVENT: number;
