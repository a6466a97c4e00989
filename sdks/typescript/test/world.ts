/** A world that a test moves: its clock, its random numbers and its network. */

import type { Clock } from "../src/clock.ts";
import type { Socket, World } from "../src/connection.ts";

/** Lets everything run that waits for a promise. */
export const settled = () => new Promise<void>((resolve) => setImmediate(resolve));

export class SimulatedClock implements Clock {
  #now = 1_800_000_000_000;
  #nextId = 0;
  readonly #timers = new Map<number, { at: number; call: () => void }>();

  now(): number {
    return this.#now;
  }

  setTimeout(call: () => void, afterMs: number): unknown {
    const id = ++this.#nextId;
    // In whole milliseconds, as platforms have them.
    this.#timers.set(id, { at: this.#now + Math.ceil(afterMs), call });
    return id;
  }

  clearTimeout(timer: unknown): void {
    this.#timers.delete(timer as number);
  }

  /** The computer's clock is set back, which timers do not care about. */
  setBack(ms: number): void {
    this.#now -= ms;
    for (const timer of this.#timers.values()) timer.at -= ms;
  }

  /** How many timers run. */
  get timers(): number {
    return this.#timers.size;
  }

  /** Moves on, from timer to timer. */
  async advance(ms: number): Promise<void> {
    const end = this.#now + ms;
    await settled();
    for (let next = this.#next(); next && next.at <= end; next = this.#next()) {
      this.#timers.delete(next.id);
      this.#now = Math.max(this.#now, next.at);
      next.call();
      await settled();
    }
    this.#now = end;
  }

  /** The timer that is due first; of several, the one that was set first. */
  #next() {
    let first: { id: number; at: number; call: () => void } | undefined;
    for (const [id, { at, call }] of this.#timers) if (!first || at < first.at) first = { id, at, call };
    return first;
  }
}

/** The same numbers for the same seed (mulberry32). */
export function randomFrom(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** The client's end of a connection; a test is the other end. */
export class FakeSocket implements Socket {
  binaryType = "blob";
  onmessage: ((event: { data: unknown }) => void) | null = null;
  onclose: ((event: { code: number; reason: string }) => void) | null = null;
  onerror: ((event: unknown) => void) | null = null;
  readonly url: URL;
  readonly protocols: string[];
  /** When the connection was begun. */
  readonly openedAt: number;
  /** What the client has sent, and the test not yet looked at. */
  readonly sent: (string | Uint8Array)[] = [];
  closedWith: number | null = null;
  bufferedAmount = 0;
  isCut = false;

  constructor(url: string, protocols: string[], openedAt: number) {
    this.url = new URL(url);
    this.protocols = protocols;
    this.openedAt = openedAt;
  }

  send(frame: string | Uint8Array): void {
    if (!this.isCut && this.closedWith === null) this.sent.push(frame);
  }

  close(code: number): void {
    this.closedWith ??= code;
  }

  /** The oldest message that the client has sent and nobody looked at. */
  next(): Record<string, unknown> | undefined {
    const frame = this.sent.shift();
    return frame === undefined ? undefined : JSON.parse(frame as string);
  }

  receive(message: object): void {
    if (!this.isCut) this.onmessage?.({ data: JSON.stringify(message) });
  }

  welcome(data: object = {}): void {
    const fields = { session: "s", user: "me", rooms: [], last_event_id: "", heartbeat_ms: 30000, limits: {}, features: [] };
    this.receive({ event: "session.welcome", data: { ...fields, ...data } });
  }

  /** The connection ends; without a code, it just breaks. */
  cut(code = 1006): void {
    if (this.isCut) return;
    this.isCut = true;
    this.onclose?.({ code, reason: "" });
  }
}

/** A simulated world; `sockets` has every connection that was begun, the last one last. */
export function simulatedWorld(seed = 1, clock = new SimulatedClock()) {
  const sockets: FakeSocket[] = [];
  const answers: { status: number; body?: object; retryAfter?: number }[] = [];
  const asked: URL[] = [];
  const world: World = {
    clock,
    random: randomFrom(seed),
    WebSocket: class extends FakeSocket {
      constructor(url: string, protocols: string[]) {
        super(url, protocols, clock.now());
        sockets.push(this);
      }
    },
    fetch: (url) => {
      asked.push(new URL(url));
      const answer = answers.shift();
      if (!answer) return Promise.reject(new TypeError("nobody listens"));
      const headers = new Headers(answer.retryAfter === undefined ? {} : { "retry-after": `${answer.retryAfter}` });
      return Promise.resolve({ status: answer.status, headers, json: () => Promise.resolve(answer.body ?? null) });
    },
  };
  return {
    world,
    clock,
    sockets,
    /** What plain requests are answered with, one after the other. */
    answers,
    /** The plain requests that were made. */
    asked,
    get socket(): FakeSocket {
      const socket = sockets.at(-1);
      if (!socket) throw new Error("no connection was begun");
      return socket;
    },
  };
}
