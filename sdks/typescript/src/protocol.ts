/**
 * What the two sides say to each other, and how that stands on the wire: PROTOCOL.md §2, §3, §4 and §6.
 *
 * It has no state. Whatever comes from a server is checked here, so that the rest can rely on its types.
 */

/** An event id, `room@epoch.offset`: a place in a room's log. */
export interface EventId {
  readonly text: string;
  readonly room: string;
  readonly epoch: string;
  readonly offset: number;
}

/** An event of an application, as it came. */
export interface Event<T = unknown> {
  readonly event: string;
  /** The room that it was published to; none if it was sent to this user or connection alone. */
  readonly room: string | null;
  /** The JSON value, or the payload of a binary frame as a `Uint8Array`. */
  readonly data: T;
  /** `room@epoch.offset`; none for what has no place in a log (ephemeral events, events to one user). */
  readonly id: string | null;
  /** The user who caused it; none if the application did. */
  readonly from: string | null;
  /** When it was published, in milliseconds since 1970 by the server's clock. */
  readonly at: number | null;
  /** The id of the request that caused it: with `from`, the key by which it answers a request. */
  readonly re: string | null;
}

/**
 * The event of an application's map (name to `data`), told apart by its name; any event where there is no map
 * (`unknown`).
 */
export type EventOf<Events> = unknown extends Events
  ? Event
  : { [Name in keyof Events & string]: Event<Events[Name]> & { readonly event: Name } }[keyof Events & string];

/** Any name where there is no map of events; with one, the map's names alone are taken, by another overload. */
export type Unmapped<Events> = unknown extends Events ? string : never;

/** Why a room's log was not replayed from where this client was; a newer server may have more reasons: `other`. */
export type ResetReason = "expired" | "forked" | "no_position" | "unknown_epoch" | "too_far" | "other";

/** Something was lost, or may have been: what was known of the room counts no more. */
export interface Reset {
  readonly reason: ResetReason;
  /** The first and the last offset that can't be told any more; none across unrelated logs. */
  readonly lost: { readonly from: number; readonly to: number } | null;
  /** The room's state, if the application gives one; absent otherwise. */
  readonly state?: unknown;
  /** The event id from which on the events follow. */
  readonly id: string;
}

/** Somebody in a room. */
export interface Member {
  readonly user: string;
  /** What the user last said of himself by `presence.update`; null if nothing. */
  readonly info: unknown;
}

/** A page of a room's members: sorted, and `next` is the `after` of the page that follows. */
export interface MembersPage {
  readonly members: readonly Member[];
  readonly rev: number;
  /** How many users are in the room: where nobody is told who, all that a page says. */
  readonly count?: number;
  readonly next?: string;
}

/** The result of a `room.join`. */
export interface Joined {
  readonly recovery: "fresh" | "complete" | "gap";
  /** The position before the first event that follows; none after a gap without a position. */
  readonly last_event_id: string | null;
  readonly top: string;
  /** How many users are in the room. */
  readonly members: number;
}

/** What a server says in `session.welcome`. */
export interface Welcome {
  readonly session: string;
  readonly user: string;
  readonly rooms: readonly string[];
  readonly last_event_id: string;
  readonly limits: Readonly<Record<string, number>>;
}

/** A refusal of a request. */
export interface Refusal {
  readonly code: string;
  readonly message: string;
  readonly retry_after_ms: number | null;
  /** Where in `data` the fault is, for `schema`. */
  readonly pointer: string | null;
}

export type ServerMessage =
  | ({ readonly kind: "event" } & Event)
  | { readonly kind: "ack"; readonly id: string; readonly data: unknown }
  | ({ readonly kind: "error"; readonly id: string | null } & Refusal)
  | ({ readonly kind: "welcome" } & Welcome)
  | {
      /** One change (`presence.join` …) or several of a large room: who is here now, and who is not any more. */
      readonly kind: "presence_changes";
      readonly room: string;
      readonly here: readonly Member[];
      readonly gone: readonly string[];
      readonly from: number;
      readonly rev: number;
    }
  | { readonly kind: "presence_count"; readonly room: string; readonly members: number; readonly rev: number }
  | { readonly kind: "skip"; readonly id: string; readonly from: number }
  | { readonly kind: "epoch"; readonly id: string; readonly was: string }
  | ({ readonly kind: "reset" } & Reset)
  | { readonly kind: "joined"; readonly room: string; readonly joined: Joined }
  | { readonly kind: "left"; readonly room: string; readonly reason: string }
  | { readonly kind: "reconnect"; readonly after_ms: number; readonly within_ms: number }
  | { readonly kind: "degraded"; readonly degraded: boolean }
  | { readonly kind: "unknown"; readonly event: string }
  | { readonly kind: "invalid" };

/** A message of a client: JSON as a text frame, bytes as a binary one. */
export interface ClientMessage {
  readonly event: string;
  readonly room?: string | undefined;
  readonly data?: unknown;
  readonly id?: string | undefined;
}

const EVENT_ID = /^([\w.:-]{1,128})@([a-z\d]{8})\.(0|[1-9]\d{0,15})$/;
/** A cursor in a handshake or a `session.resume` has so many bytes at most; one that a server tells may have more. */
export const CURSOR_BYTES_MAX = 4096;

/** Reads an event id; undefined if it is none. */
export function parseEventId(text: string | null | undefined): EventId | undefined {
  const [, room, epoch, digits] = EVENT_ID.exec(text ?? "") ?? [];
  const offset = Number(digits);
  return Number.isSafeInteger(offset) ? { text: text!, room: room!, epoch: epoch!, offset } : undefined;
}

/** Reads a cursor: the newest position per room; undefined if it is none. */
export function parseCursor(text: string): Map<string, EventId> | undefined {
  const cursor = new Map<string, EventId>();
  for (const part of text ? text.split(",") : []) {
    const id = parseEventId(part);
    if (!id) return undefined;
    cursor.set(id.room, id);
  }
  return cursor;
}

/** Writes a message: a text frame, or a binary one if `data` is bytes. */
export function encode({ event, room, data, id }: ClientMessage): string | Uint8Array<ArrayBuffer> {
  if (!(data instanceof Uint8Array)) return JSON.stringify({ event, room, data, id });
  const header = new TextEncoder().encode(encode({ event, room, id }) as string);
  const frame = new Uint8Array(2 + header.length + data.length);
  frame.set([header.length >> 8, header.length]);
  frame.set(header, 2);
  frame.set(data, 2 + header.length);
  return frame;
}

type Fields = Record<string, unknown>;

/** A message of which it is not yet known whether all that has to be there is: what is not, is undefined. */
type Unchecked<Message> = Message extends unknown ? { [Field in keyof Message]: Message[Field] | undefined } : never;

const INVALID = { kind: "invalid" } as const;
// What is known by name, and is another thing if it is not.
const RESET_REASONS = "expired forked no_position unknown_epoch too_far";
/** Error codes that are no final word. */
const RETRYABLE = "unavailable rate_limited internal";
/** Error codes, and why a room is left. */
const CODES = `${RETRYABLE} invalid schema too_large forbidden not_joined unknown_event unknown_room idempotency_conflict room_limit removed`;
const RESERVED = /^((ack|error)$|(room|session|presence)\.)/;

/** Whether an event is the protocol's own. */
export const isReserved = (event: string): boolean => RESERVED.test(event);

/** Whether a refused request may succeed later: with the same id, so that it counts once. */
export const isRetryable = (code: string): boolean => RETRYABLE.split(" ").includes(code);

/** Reads a text frame. What no server should send is `invalid`. */
export function decodeText(text: string): ServerMessage {
  return decode(parse(text));
}

/** Reads a binary frame: header length, header, payload. */
export function decodeBinary(frame: Uint8Array): ServerMessage {
  // Of a frame that is too short for it, the end is no number.
  const end = 2 + frame[0]! * 256 + frame[1]!;
  const header = end <= frame.length ? parse(new TextDecoder().decode(frame.subarray(2, end))) : {};
  return isReserved(header.event as string) ? INVALID : decode({ ...header, data: frame.subarray(end) });
}

/** Reads the events of a page of history, where bytes are base64. */
export function decodeEvents(envelopes: unknown): Event[] {
  return list(envelopes)
    .map((item) => {
      const envelope = fields(item) ?? {};
      return decode(envelope.encoding === "base64" ? { ...envelope, data: fromBase64(envelope.data as string) } : envelope);
    })
    .filter((message) => message.kind === "event");
}

/** The bytes of a text in base64; throws if it is none. */
export function fromBase64(text: string): Uint8Array {
  return Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
}

/** The fields of an object; none if it is something else. */
function parse(text: string): Fields {
  try {
    return fields(JSON.parse(text)) ?? {};
  } catch {
    return {};
  }
}

const fields = (value: unknown) =>
  value instanceof Object && !Array.isArray(value) ? (value as Fields) : undefined;
const list = (value: unknown): unknown[] => (Array.isArray(value) ? value : []);
const text = (value: unknown) => (typeof value === "string" ? value : undefined);
const number = (value: unknown) => (typeof value === "number" ? value : undefined);
const known = (value: unknown, names: string) => (names.split(" ").includes(value as string) ? (value as string) : "other");
const strings = (value: unknown) => list(value).filter((item) => typeof item === "string");

function decode(envelope: Fields): ServerMessage {
  const message = read(envelope);
  return Object.values(message).includes(undefined) ? INVALID : (message as ServerMessage);
}

function read(envelope: Fields): Unchecked<ServerMessage> {
  const { data = null } = envelope;
  const event = text(envelope.event);
  const room = text(envelope.room);
  const id = text(envelope.id);
  const body = fields(data) ?? {};
  const rev = number(body.rev);
  const from = number(body.from);
  // A place in its own room's log, or none.
  const place = parseEventId(id)?.room === room ? id : undefined;
  switch (event) {
    case "ack":
      return { kind: "ack", id, data };
    case "error":
      return {
        kind: "error",
        id: id ?? null,
        code: known(body.code, CODES),
        message: text(body.message) ?? "",
        retry_after_ms: number(body.retry_after_ms) ?? null,
        pointer: text(body.pointer) ?? null,
      };
    case "session.welcome":
      return {
        kind: "welcome",
        session: text(body.session) ?? "",
        user: text(body.user) ?? "",
        rooms: strings(body.rooms),
        last_event_id: text(body.last_event_id) ?? "",
        limits: (fields(body.limits) ?? {}) as Record<string, number>,
      };
    case "session.reconnect":
      return {
        kind: "reconnect",
        after_ms: number(body.after_ms) ?? 0,
        within_ms: number(body.within_ms) ?? 0,
      };
    case "session.degraded":
      return { kind: "degraded", degraded: typeof body.degraded === "boolean" ? body.degraded : undefined };
    case "presence.join":
    case "presence.update":
      return { kind: "presence_changes", room, here: members([body]), gone: [], from: rev, rev };
    case "presence.leave":
      return { kind: "presence_changes", room, here: [], gone: members([body])?.map(({ user }) => user), from: rev, rev };
    case "presence.changes":
      return {
        kind: "presence_changes",
        room,
        here: members([...list(body.joins), ...list(body.updates)]),
        gone: strings(body.leaves),
        from,
        rev,
      };
    case "presence.count":
      return { kind: "presence_count", room, members: number(body.members), rev };
    case "room.skip":
      return { kind: "skip", id: place, from };
    case "room.epoch":
      return { kind: "epoch", id: place, was: text(body.was) };
    case "room.joined":
      return { kind: "joined", room, joined: asJoined(data) };
    case "room.left":
      return { kind: "left", room, reason: known(body.reason, CODES) };
    case "room.reset": {
      const lost = fields(body.lost);
      return {
        kind: "reset",
        id: place,
        reason: known(body.reason, RESET_REASONS) as ResetReason,
        lost: lost ? { from: number(lost.from) ?? 0, to: number(lost.to) ?? 0 } : null,
        ...("state" in body && { state: body.state }),
      };
    }
  }
  if (isReserved(event!)) return { kind: "unknown", event };
  return {
    kind: "event",
    event,
    room: room ?? null,
    data,
    // An event with an id has a place, or the server is at fault.
    id: id === undefined ? null : place,
    from: text(envelope.from) ?? null,
    at: number(envelope.at) ?? null,
    re: text(envelope.re) ?? null,
  };
}

/** The result of a join, ours or the application's; undefined if it says nothing that can be read. */
export function asJoined(value: unknown): Joined | undefined {
  const joined = fields(value);
  return text(joined?.recovery) && text(joined?.top) ? (joined as unknown as Joined) : undefined;
}

function members(items: unknown[]): Member[] | undefined {
  const members = items.map((item) => {
    const { user, info = null } = fields(item) ?? {};
    return { user, info } as Member;
  });
  return members.every(({ user }) => text(user) !== undefined) ? members : undefined;
}

/** What a client does after a close: PROTOCOL.md §6. */
export type Reaction =
  | "stop"
  | "try_once"
  | "back_off"
  | "back_off_at_least_a_second"
  | "reconnect_in_window"
  | "refresh_token";

/** The reactions to 40xx, 41xx, 42xx and 43xx. */
const REACTIONS: Reaction[] = ["stop", "back_off_at_least_a_second", "reconnect_in_window", "refresh_token"];

/** The reaction to a close code; null is a connection that ended without a close frame. */
export function reaction(code: number | null): Reaction {
  if (code === 1000 || code === 1008) return "stop";
  if (code === 1002 || code === 1003 || code === 1007 || code === 1009) return "try_once";
  return REACTIONS[Math.floor((code ?? 0) / 100) - 40] ?? "back_off";
}
