/**
 * Requests that have no answer yet, in the order in which they were made. PROTOCOL.md §2, §3 and §7.
 *
 * A request leaves it exactly once, when it settles. What the application asked for can be kept in a storage, so that
 * a page that is reloaded sends it again, under the id that makes it count once.
 */

import { GIVE_UP_AFTER_MS, REQUESTS_MAX, REQUEST_BYTES_MAX, RETRY_AFTER_MAX_MS, RETRY_AFTER_MS } from "./limits.ts";
import { encode, fromBase64, isReserved, type ClientMessage } from "./protocol.ts";
import { load, save, type StorageSlot } from "./storage.ts";

/** Why a request failed: the server's error code, or `outcome_unknown`, `queue_full`, `closed`. */
export class RequestError extends Error {
  override readonly name = "RequestError";
  readonly code: string;
  /** Where in `data` the fault is, for `schema`. */
  readonly pointer: string | null;

  constructor(code: string, message: string, pointer: string | null = null) {
    super(message);
    this.code = code;
    this.pointer = pointer;
  }
}

/** The answer to come, and the id under which it was asked: the `re` of the event that it leads to. */
export type Request<T> = Promise<T> & { readonly id: string };

/**
 * Whose request it is, and what its ack means: the application's; its `room.join`; the client's own join after a hole;
 * the client's own `session.resume`, before which nothing else is sent; its own question who is in a room.
 */
export type Purpose = "application" | "join" | "rejoin" | "resume" | "question";

export interface Entry {
  readonly purpose: Purpose;
  readonly message: ClientMessage & { readonly id: string };
  readonly frame: string | Uint8Array<ArrayBuffer>;
  /** When it is given up. */
  readonly overdueAt: number;
  /** From the storage: it waits until its room is joined, since nothing else has asked for that before. */
  readonly isRestored: boolean;
  /** It was sent on this connection, and is not answered. */
  isSent: boolean;
  /** It was refused for now, so often, and is to be sent again then; never, if it is sent or can be. */
  refusals: number;
  retryAt: number;
  /** The event that it led to came, its ack did not yet. */
  publishedAs?: string;
  readonly answer: Promise<unknown>;
  resolve(result: unknown): void;
  reject(error: RequestError): void;
}

export const isTheApplications = ({ purpose }: Pick<Entry, "purpose">) => purpose === "application" || purpose === "join";
const joins = ({ message }: Entry) => message.event === "room.join";
/** Joins and leaves of a room. */
const moves = (entry: Entry) => joins(entry) || entry.message.event === "room.leave";

export class Outbox {
  #entries: Entry[] = [];
  readonly #slot: StorageSlot | undefined;

  constructor(slot: StorageSlot | undefined, now: number) {
    this.#slot = slot;
    try {
      for (const { at, payload, ...message } of JSON.parse(load(slot) || "[]") as Stored[]) {
        const data = payload === undefined ? message.data : fromBase64(payload);
        if (now < at) this.#entries.push(entry({ ...message, data }, "application", at, true));
      }
    } catch {
      // A storage that holds something else has nothing to send again.
    }
  }

  /** The application's own events, in the order in which they were made. */
  get unsettled(): readonly Entry[] {
    return this.#entries.filter(({ purpose, message }) => purpose === "application" && !isReserved(message.event));
  }

  /** Puts a request in; throws if the application has too many in it. */
  push(message: ClientMessage & { id: string }, purpose: Purpose, now: number): Entry {
    // Who asks who is in a room wants to know for as long as he does not take the question back.
    const made = entry(message, purpose, purpose === "question" ? Infinity : now + GIVE_UP_AFTER_MS, false);
    const own = this.#entries.filter(isTheApplications);
    if (isTheApplications(made)) {
      const bytes = [made, ...own].reduce((sum, { frame }) => sum + frame.length, 0);
      if (own.length >= REQUESTS_MAX || bytes > REQUEST_BYTES_MAX)
        throw new RequestError("queue_full", "too many requests wait");
      this.#entries.push(made);
      this.#save();
    } else {
      // The client's own come first: what the application sends to a room needs the room to be joined.
      this.#entries.splice(purpose === "resume" ? 0 : this.#entries.length - own.length, 0, made);
    }
    return made;
  }

  get(id: string | null): Entry | undefined {
    return this.#entries.find(({ message }) => message.id === id);
  }

  /** Takes a request out: whoever calls it settles it. */
  take<Taken extends Entry | undefined>(taken: Taken): Taken {
    this.#entries = this.#entries.filter((entry) => entry !== taken);
    if (taken?.purpose === "application") this.#save();
    return taken;
  }

  /** Whether a `session.resume` has no answer yet. */
  get isResuming(): boolean {
    return this.#entries[0]?.purpose === "resume";
  }

  /** Whether a join or a leave of this room is under way. */
  isMoving(room: string): boolean {
    return this.#entries.some((entry) => moves(entry) && entry.message.room === room);
  }

  /** The server refused it for now: the same goes again after a while, and nothing later to its room first. */
  retryLater(found: Entry, retryAfterMs: number | null | undefined, now: number): void {
    found.isSent = false;
    found.refusals += 1;
    retryAfterMs ??= Math.min(RETRY_AFTER_MS * found.refusals, RETRY_AFTER_MAX_MS);
    found.retryAt = now + Math.min(retryAfterMs, GIVE_UP_AFTER_MS);
  }

  /** So many requests are on their way. */
  get unanswered(): number {
    return this.#entries.filter(({ isSent }) => isSent).length;
  }

  /** The next request to send. `isJoined` says which rooms can be sent to. */
  nextToSend(now: number, isJoined: (room: string) => boolean | undefined): Entry | undefined {
    for (const entry of this.#entries) if (entry.retryAt <= now) entry.retryAt = Infinity;
    const heldRooms = new Set<string | undefined>();
    const movingRooms = new Set<string | undefined>();
    const joiningRooms = new Set(this.#entries.filter(joins).map(({ message }) => message.room));
    for (const entry of this.#entries) {
      const { room } = entry.message;
      const isAway = room !== undefined && !isJoined(room);
      // Joins and leaves go one at a time: one that is refused for now and tried again would take effect after what was
      // asked later. What else is asked of a room waits for its join, also for one that was asked later.
      if (moves(entry) ? movingRooms.has(room) : isAway && joiningRooms.has(room)) continue;
      if (moves(entry)) movingRooms.add(room);
      const isHeld = (isAway && entry.isRestored) || (entry.purpose === "application" && heldRooms.has(room));
      if (!entry.isSent && entry.retryAt === Infinity && !isHeld) return entry;
      if (entry.purpose === "resume") return undefined;
      // What was refused for now holds its room until it is answered: nothing that was asked later goes before it. The
      // client's own question is in nobody's way.
      if (isHeld || (entry.refusals > 0 && entry.purpose !== "question")) heldRooms.add(room);
    }
    return undefined;
  }

  /**
   * The connection is gone: what has no answer goes again on the next one. The client's own do not, since a resume
   * takes their place. What is known to be published comes back, to be settled.
   */
  disconnected(): Entry[] {
    this.#entries = this.#entries.filter(isTheApplications);
    for (const entry of this.#entries) {
      entry.isSent = false;
      entry.retryAt = Infinity;
    }
    return this.#entries.filter(({ publishedAs }) => publishedAs);
  }

  /** The requests that have been without an answer for too long. */
  overdue(now: number): Entry[] {
    return this.#entries.filter(({ overdueAt }) => overdueAt <= now);
  }

  /** When something of it is due next. */
  nextDeadline(): number {
    return Math.min(...this.#entries.map(({ overdueAt, retryAt }) => Math.min(overdueAt, retryAt)));
  }

  #save(): void {
    if (!this.#slot) return;
    const stored = this.unsettled.map(({ message, overdueAt: at }) => {
      const { data } = message;
      return data instanceof Uint8Array ? { ...message, data: undefined, payload: toBase64(data), at } : { ...message, at };
    });
    save(this.#slot, stored.length ? JSON.stringify(stored) : "");
  }
}

interface Stored extends ClientMessage {
  readonly id: string;
  readonly at: number;
  readonly payload?: string;
}

function entry(message: ClientMessage & { id: string }, purpose: Purpose, overdueAt: number, isRestored: boolean): Entry {
  let settle!: Pick<Entry, "resolve" | "reject">;
  const answer = new Promise<unknown>((resolve, reject) => (settle = { resolve, reject }));
  // Nobody waits for the client's own, or for what an earlier page asked.
  if (isRestored || !isTheApplications({ purpose })) answer.catch(() => {});
  const frame = encode(message);
  return {
    purpose,
    // As it stands on the wire: what the application does with its data afterwards is not what was asked.
    message: typeof frame === "string" ? JSON.parse(frame) : message,
    frame,
    overdueAt,
    isRestored,
    isSent: false,
    refusals: 0,
    retryAt: Infinity,
    answer,
    ...settle,
  };
}

function toBase64(bytes: Uint8Array): string {
  return btoa(Array.from(bytes, (byte) => String.fromCharCode(byte)).join(""));
}
