/**
 * The client: one connection at a time, the rooms that it follows, the requests that have no answer yet.
 *
 * PROTOCOL.md §7 says what a client owes; the parts decide (`connection.ts`, `room.ts`, `outbox.ts`), this joins them.
 */

import { Alarm, systemClock } from "./clock.ts";
import { Connection, type ConnectionFault, type Socket, type State, type TokenProvider, type World } from "./connection.ts";
import { Listeners, type Unsubscribe } from "./listeners.ts";
import { Outbox, RequestError, type Entry, type OutboxStorage, type Purpose, type Request } from "./outbox.ts";
import {
  CURSOR_BYTES_MAX,
  encode,
  formatEventId,
  isRetryable,
  parseCursor,
  type Event,
  type Joined,
  type Refusal,
  type ServerMessage,
  type Welcome,
} from "./protocol.ts";
import { Room, type RoomOwner } from "./room.ts";

/** A request whose answer nobody has yet: for showing what is under way. */
export interface Unsettled {
  readonly id: string;
  readonly event: string;
  readonly room: string | undefined;
  readonly data: unknown;
  readonly answer: Promise<unknown>;
}

export interface ClientOptions {
  /** A token, or where one comes from: asked at every connect. */
  readonly token?: string | TokenProvider;
  /** Keeps requests without an answer over a reload of the page: `{ storage: sessionStorage, key: "outbox:" + user }`. */
  readonly outbox?: OutboxStorage;
  /** For tests, and for where there is no WebSocket of the platform's own. */
  readonly world?: Partial<World>;
}

export class Client {
  readonly #connection: Connection;
  readonly #outbox: Outbox;
  readonly #world: World;
  readonly #rooms = new Map<string, Room>();
  readonly #roomOwner: RoomOwner;
  readonly #listeners = new Map<string, Listeners<Event>>();
  readonly #states = new Listeners<State>();
  readonly #alarm: Alarm;
  readonly #idPrefix: string;
  readonly #online = () => this.state !== "refused" && this.reconnect();
  #idsGiven = 0;
  #welcome: Welcome | null = null;
  /** What came after a join's ack, until the application had its chance to listen. */
  #held: ServerMessage[] | null = null;

  /** A client that connects at once. `url` may be relative to the page's: `/ws`. */
  constructor(url: string | URL, options: ClientOptions = {}) {
    this.#world = {
      clock: systemClock,
      random: Math.random,
      WebSocket: globalThis.WebSocket as unknown as new (url: string, protocols: string[]) => Socket,
      fetch: (url) => fetch(url, { cache: "no-store", credentials: "omit" }),
      ...options.world,
    };
    const { clock } = this.#world;
    this.#idPrefix = randomPrefix(this.#world.random);
    this.#alarm = new Alarm(clock, () => this.#tick());
    this.#outbox = new Outbox(options.outbox, clock.now());
    this.#roomOwner = {
      join: (room, history) => this.#join(room, history),
      leave: (room) => this.#leave(room),
      request: <T>(event: string, room: string, data: unknown) => this.#request<T>({ event, room, data }, "application"),
      send: (event, room, data) => this.#send(event, data, room),
    };
    const { token } = options;
    this.#connection = new Connection(
      socketUrl(url),
      typeof token === "string" ? () => token : token,
      this.#world,
      {
        query: () => this.#query(),
        message: (message) => this.#received(message),
        lost: () => this.#lost(),
        changed: (state) => this.#changed(state),
        heartbeat: () => encode({ event: "presence.heartbeat" }) as string,
      },
    );
    this.#tick();
    // A browser that has its network back need not wait for the end of a backoff.
    globalThis.addEventListener?.("online", this.#online);
  }

  get state(): State {
    return this.#connection.state;
  }

  /** Why there is no connection, as far as the server said; null while there is one. */
  get fault(): ConnectionFault | null {
    return this.#connection.fault;
  }

  /** Who the server says we are; null before the first connection. */
  get user(): string | null {
    return this.#welcome?.user ?? null;
  }

  /** The server's limits, by name with unit: `binary_message_bytes`. Empty before the first connection. */
  get limits(): Readonly<Record<string, number>> {
    return this.#welcome?.limits ?? {};
  }

  /** The requests that have no answer yet, those of the page before the reload included. */
  get unsettled(): readonly Unsettled[] {
    return this.#outbox.unsettled.map(({ id, message: { event, room, data }, answer }) => ({ id, event, room, data, answer }));
  }

  /** The room of this name, joined or not. Those that the server joins by itself need no `join`. */
  room(name: string): Room {
    let room = this.#rooms.get(name);
    if (!room) this.#rooms.set(name, (room = new Room(name, this.#roomOwner)));
    return room;
  }

  /** Joins a room, with so many of its last events. */
  join(name: string, options: { history?: number } = {}): Promise<Room> {
    return this.room(name).join(options);
  }

  /** Calls `listener` with each event of this name that is for this user or connection alone. */
  on<T = unknown>(event: string, listener: (event: Event<T>) => void): Unsubscribe {
    let listeners = this.#listeners.get(event);
    if (!listeners) this.#listeners.set(event, (listeners = new Listeners()));
    return listeners.add(listener as (event: Event) => void);
  }

  /** Calls `listener` with the state, now and after each change. */
  onState(listener: (state: State) => void): Unsubscribe {
    const unsubscribe = this.#states.add(listener);
    listener(this.state);
    return unsubscribe;
  }

  /** Sends an event without a room and waits for its ack; it counts once, whatever the network does. */
  request<T = unknown>(event: string, data?: unknown): Request<T> {
    return this.#request<T>({ event, data }, "application");
  }

  /** Sends an event that nobody waits for; false if there is no connection to send it over. */
  send(event: string, data?: unknown): boolean {
    return this.#send(event, data);
  }

  /** Connects now: after a refusal, with a token that is asked for anew, or instead of waiting for the backoff's end. */
  reconnect(): void {
    this.#connection.reconnect();
  }

  /** Ends it for good: what has no answer is rejected with `outcome_unknown`. */
  close(): void {
    this.#connection.close();
  }

  #nextId(): string {
    this.#idsGiven += 1;
    return `${this.#idPrefix}-${this.#idsGiven}`;
  }

  #query(): Record<string, string> {
    const query: Record<string, string> = {};
    if (this.#welcome) query.session = this.#welcome.session;
    // No room attaches before our resume, so that a live event can't overtake it.
    if (this.#followed().some((room) => room.position)) query.resume = "wait";
    return query;
  }

  #followed(): Room[] {
    return [...this.#rooms.values()].filter((room) => room.isFollowed);
  }

  #request<T>(message: { event: string; room?: string; data?: unknown }, purpose: Purpose): Request<T> {
    const id = this.#nextId();
    let answer: Promise<unknown>;
    try {
      if (this.state === "closed") throw new RequestError("closed", "the client is closed");
      answer = this.#outbox.push({ ...message, id }, purpose, this.#world.clock.now()).answer;
    } catch (error) {
      answer = Promise.reject(error);
    }
    this.#flush();
    return Object.assign(answer as Promise<T>, { id });
  }

  #send(event: string, data: unknown, room?: string): boolean {
    // Before the rooms are joined again nothing can be sent to them.
    if (!this.#connection.isOpen || this.#outbox.isResuming) return false;
    this.#connection.send(encode({ event, room, data }));
    return true;
  }

  async #join(room: Room, history: number | undefined): Promise<void> {
    room.follow(null);
    const position = room.position && formatEventId(room.name, room.position);
    const data = position ? { last_event_id: position } : history === undefined ? {} : { history };
    const request = this.#request({ event: "room.join", room: room.name, data }, "join");
    room.awaitJoin(request.id);
    await request;
  }

  async #leave(room: Room): Promise<void> {
    if (!room.isFollowed) return;
    room.forget();
    try {
      await this.#request({ event: "room.leave", room: room.name }, "application");
    } catch (error) {
      // After a reconnect the server knows nothing of a room that was not joined again: that is what was wanted.
      if (!(error instanceof RequestError && error.code === "not_joined")) throw error;
    }
  }

  /** Sends what can be sent now. */
  #flush(): void {
    const { clock } = this.#world;
    const isJoined = (name: string) => this.#rooms.get(name)?.isJoined ?? false;
    while (this.#connection.isOpen) {
      const entry = this.#outbox.nextToSend(clock.now(), isJoined);
      if (!entry) break;
      this.#connection.send(entry.frame);
    }
    this.#alarm.set(this.#outbox.nextDeadline());
  }

  #tick(): void {
    let isStuck = false;
    for (const { id, purpose, message } of this.#outbox.overdue(this.#world.clock.now())) {
      if (purpose === "join") this.#rooms.get(message.room ?? "")?.forget();
      // A server that leaves the client's own joins unanswered for two minutes is not going to answer them.
      isStuck ||= purpose === "rejoin" || purpose === "resume";
      this.#outbox.take(id)?.reject(outcomeUnknown());
    }
    if (isStuck) this.#connection.restart();
    this.#flush();
  }

  #changed(state: State): void {
    if (state === "closed") {
      globalThis.removeEventListener?.("online", this.#online);
      for (const entry of this.#outbox.takeAll()) entry.reject(outcomeUnknown());
    }
    this.#states.tell(state);
  }

  #lost(): void {
    while (this.#held) this.#deliverHeld();
    for (const room of this.#rooms.values()) room.disconnected();
    for (const { id, publishedAs } of this.#outbox.disconnected()) this.#outbox.take(id)?.resolve({ event_id: publishedAs });
    this.#alarm.set(this.#outbox.nextDeadline());
  }

  #received(message: ServerMessage): void {
    if (this.#held) {
      this.#held.push(message);
      return;
    }
    switch (message.kind) {
      case "welcome":
        this.#welcomed(message);
        break;
      case "ack":
        this.#acked(message.id, message.data);
        break;
      case "error":
        if (message.id !== null) this.#refused(message.id, message);
        break;
      case "event":
        if (message.room === null) this.#listeners.get(message.event)?.tell(message);
        else this.#receivedInRoom(message.room, message);
        this.#settleByOwnEvent(message);
        break;
      case "presence":
      case "presence_changes":
      case "presence_count":
        this.#receivedInRoom(message.room, message);
        break;
      case "skip":
      case "epoch":
      case "reset":
        this.#receivedInRoom(message.id.slice(0, message.id.lastIndexOf("@")), message);
    }
    this.#flush();
  }

  #receivedInRoom(name: string, message: ServerMessage): void {
    const room = this.#rooms.get(name);
    if (room?.receive(message) === "hole") this.#rejoin(room);
  }

  #welcomed(welcome: Welcome): void {
    this.#welcome = welcome;
    const known = this.#followed();
    const cursor = parseCursor(welcome.last_event_id);
    for (const name of welcome.rooms) {
      const room = this.room(name);
      room.follow(cursor?.get(name) ?? null);
      if (!known.includes(room)) room.autoJoined();
    }
    this.#resume(known);
  }

  /** Asks for every room that was known before the welcome, where it is. What does not fit is joined room by room. */
  #resume(known: Room[]): void {
    const [id, ids] = [this.#nextId(), [] as string[]];
    let bytes = 0;
    for (const room of known) {
      // The application's own join of the room is sent again, which does the same.
      if (this.#outbox.joins(room.name)) continue;
      const eventId = room.position && formatEventId(room.name, room.position);
      bytes += eventId === null ? 0 : eventId.length + 1;
      if (eventId !== null && bytes <= CURSOR_BYTES_MAX) {
        room.awaitJoin(id);
        ids.push(eventId);
      } else this.#rejoin(room);
    }
    if (ids.length === 0) return;
    const message = { event: "session.resume", data: { last_event_id: ids.join(",") }, id };
    this.#outbox.push(message, "resume", this.#world.clock.now());
  }

  /** Joins a followed room again, where it is. */
  #rejoin(room: Room): void {
    const id = this.#nextId();
    room.awaitJoin(id);
    const data = room.position ? { last_event_id: formatEventId(room.name, room.position) } : {};
    this.#outbox.push({ event: "room.join", room: room.name, data, id }, "rejoin", this.#world.clock.now());
  }

  #acked(id: string, data: unknown): void {
    const entry = this.#outbox.take(id);
    if (!entry) return;
    if (entry.purpose === "join" || entry.purpose === "rejoin") {
      const joined = asJoined(data);
      if (joined) this.#rooms.get(entry.message.room ?? "")?.attached(id, joined);
    } else if (entry.purpose === "resume") {
      const rooms = (data as { rooms?: Record<string, unknown> } | null)?.rooms ?? {};
      for (const [name, outcome] of Object.entries(rooms)) {
        const room = this.#rooms.get(name);
        const joined = asJoined(outcome);
        if (room && joined) room.attached(id, joined);
        else if (room) this.#refusedRoom(room, id, String((outcome as { error?: unknown } | null)?.error));
      }
    }
    // An answer that says nothing of a room, or nothing that can be read, has not joined it.
    for (const room of this.#awaiting(id)) this.#refusedRoom(room, id, "other");
    entry.resolve(data);
    if (entry.purpose === "join") this.#hold();
  }

  #refused(id: string, refusal: Refusal): void {
    const entry = this.#outbox.get(id);
    if (!entry) return;
    if (isRetryable(refusal.code)) {
      this.#outbox.retryLater(entry, refusal.retry_after_ms, this.#world.clock.now());
      return;
    }
    this.#outbox.take(id);
    for (const room of this.#awaiting(id)) {
      // Room by room, so that each has its own answer.
      if (entry.purpose === "resume") this.#rejoin(room);
      else if (entry.purpose === "join") room.forget();
      else this.#refusedRoom(room, id, refusal.code);
    }
    entry.reject(new RequestError(refusal.code, refusal.message, refusal.pointer));
  }

  /** A room that the client followed was not joined again by the request with this id. */
  #refusedRoom(room: Room, id: string, code: string): void {
    if (!room.isAwaiting(id)) return;
    if (isRetryable(code)) this.#rejoin(room);
    else room.forget(code);
  }

  #awaiting(id: string): Room[] {
    return [...this.#rooms.values()].filter((room) => room.isAwaiting(id));
  }

  /** An event that this client caused answers its request, also in a replay after the ack was lost. */
  #settleByOwnEvent({ from, re, id }: Event): void {
    if (from === null || from !== this.user || re === null || id === null) return;
    const entry: Entry | undefined = this.#outbox.get(re);
    if (entry?.purpose !== "application") return;
    // An ack is still to come on the connection that the request went over, and may say more.
    if (entry.stage === "sent") entry.publishedAs = id;
    else this.#outbox.take(re)?.resolve({ event_id: id });
  }

  /** Some platforms deliver several messages at once: who waited for the join gets his turn before the next. */
  #hold(): void {
    this.#held ??= [];
    this.#world.clock.setTimeout(() => this.#deliverHeld(), 0);
  }

  /** A join's ack among them holds the rest back again. */
  #deliverHeld(): void {
    const messages = this.#held ?? [];
    this.#held = null;
    for (const message of messages) this.#received(message);
  }
}

function outcomeUnknown(): RequestError {
  return new RequestError("outcome_unknown", "no answer came: it may have been served or not");
}

function asJoined(value: unknown): Joined | undefined {
  const joined = value as Partial<Joined> | null;
  return typeof joined === "object" && typeof joined?.recovery === "string" && typeof joined.top === "string"
    ? (joined as Joined)
    : undefined;
}

/** Ids of two pages, tabs or clients must never be the same: 64 random bits. */
function randomPrefix(random: () => number): string {
  const digits = () => Math.floor(random() * 2 ** 32).toString(16).padStart(8, "0");
  return digits() + digits();
}

function socketUrl(url: string | URL): URL {
  const base = (globalThis as { location?: { href: string } }).location?.href;
  const absolute = new URL(url, base);
  absolute.protocol = absolute.protocol.replace(/^http/, "ws");
  return absolute;
}
