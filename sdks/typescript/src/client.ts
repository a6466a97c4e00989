/**
 * The client: one connection at a time, the rooms that it follows, the requests that have no answer yet.
 *
 * PROTOCOL.md §7 says what a client owes; the parts decide (`connection.ts`, `room.ts`, `outbox.ts`), this joins them.
 */

import { Alarm, steady, systemClock } from "./clock.ts";
import {
  Connection,
  type ConnectionFault,
  type State,
  type TokenProvider,
  type WebSocketClass,
  type SteadyWorld,
  type World,
} from "./connection.ts";
import { Cursor } from "./cursor.ts";
import { Listeners, type Unsubscribe } from "./listeners.ts";
import { Outbox, RequestError, isTheApplications, type Entry, type Purpose, type Request } from "./outbox.ts";
import {
  asJoined,
  CURSOR_BYTES_MAX,
  encode,
  isRetryable,
  parseCursor,
  parseEventId,
  type ClientMessage,
  type Event,
  type Refusal,
  type ServerMessage,
  type Unmapped,
  type Welcome,
} from "./protocol.ts";
import { Room, type AnyRoom, type RoomMessage } from "./room.ts";
import type { StorageSlot } from "./storage.ts";

/** A request whose answer nobody has yet: for showing what is under way. */
export interface Unsettled {
  readonly id: string;
  readonly event: string;
  readonly room?: string | undefined;
  readonly data?: unknown;
  readonly answer: Promise<unknown>;
}

export interface ClientOptions {
  /** A token, or where one comes from: asked at every connect. */
  readonly token?: string | TokenProvider;
  /** Keeps requests without an answer over a reload of the page: `{ storage: sessionStorage, key: "outbox:" + user }`. */
  readonly outbox?: StorageSlot;
  /**
   * Keeps how far each room was handled over a reload of the page: `{ storage: sessionStorage, key: "cursor:" + user }`. The
   * first join of a room then goes on from there. For an application that keeps itself what it has made of the events before.
   */
  readonly cursor?: StorageSlot;
  /** Where the platform has none, as Node before 22: that of the package `ws`. */
  readonly WebSocket?: WebSocketClass;
  /** For tests: time, chance and the network. */
  readonly world?: Partial<World>;
}

/** What the ack of a `session.resume` says. */
type Resumed = { rooms?: Record<string, unknown> } | null;

/** A client and its connection. `Events` maps the names of events to their `data`; without it they are unknown. */
export class Client<Events = unknown> {
  readonly #connection: Connection;
  readonly #outbox: Outbox;
  readonly #cursor: Cursor;
  readonly #world: SteadyWorld;
  /** By name, and gone when neither the client nor the application has a use for them. */
  readonly #rooms = new Map<string, WeakRef<AnyRoom>>();
  readonly #roomsGone = new FinalizationRegistry<string>((name) => this.#known(name) ?? this.#rooms.delete(name));
  readonly #roomsUsed = new Set<AnyRoom>();
  readonly #listeners = new Listeners<Event>();
  readonly #degradations = new Listeners<boolean>();
  readonly #serverRooms = new Listeners<AnyRoom>();
  readonly #alarm: Alarm;
  /** Ids of two pages, tabs or clients must never be the same: 64 random bits. */
  readonly #idPrefix: string;
  #idsGiven = 0;
  #welcome: Welcome | null = null;
  #isDegraded = false;
  /** Connected, and the rooms that were known before are asked for: before that nothing else is sent. */
  #isReady = false;
  readonly #closing = new AbortController();
  /** What came after a join's ack, until the application had its chance to listen. */
  #held: ServerMessage[] | null = null;

  /**
   * A client that connects at once. `url` may be relative to the page's: `/ws`. Throws where there is no WebSocket, and
   * for what is no URL.
   */
  constructor(url: string | URL, options: ClientOptions = {}) {
    const clock = options.world?.clock ?? systemClock;
    this.#world = {
      clock,
      now: steady(clock),
      random: Math.random,
      WebSocket: options.WebSocket ?? globalThis.WebSocket,
      fetch: (url) => fetch(url, { cache: "no-store", credentials: "omit" }),
      ...options.world,
    };
    if (!this.#world.WebSocket)
      throw new Error("no WebSocket: npm install ws; new Client(url, { WebSocket })");
    const digits = () => this.#world.random().toString(36).slice(2);
    this.#idPrefix = digits() + digits();
    this.#alarm = new Alarm(this.#world, () => this.#tick());
    this.#outbox = new Outbox(options.outbox, this.#world.now());
    this.#cursor = new Cursor(options.cursor);
    this.#connection = new Connection(socketUrl(url), options.token, this.#world, this);
    this.#tick();
    // Who has his network back, or looks at the page again, need not wait for the end of a backoff.
    const awake = ({ type }: { type: string }) => {
      if (this.state !== "refused" && (type === "online" || !document.hidden)) this.reconnect();
    };
    for (const type of ["online", "visibilitychange"])
      globalThis.addEventListener?.(type, awake, { signal: this.#closing.signal });
  }

  get state(): State {
    return this.#connection.state;
  }

  /** Why there is no connection, as far as is known; null while there is one. */
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

  /** Whether what rooms are stored in is out of the server's reach: requests then wait, and events come late. */
  get isDegraded(): boolean {
    return this.#isDegraded;
  }

  /** The requests that have no answer yet, those of the page before the reload included. */
  get unsettled(): readonly Unsettled[] {
    return this.#outbox.unsettled.map(({ message, answer }) => ({ ...message, answer }));
  }

  /** The room of this name, joined or not. Those that the server joins by itself need no `join`. */
  room(name: string): Room<Events> {
    let room = this.#known(name);
    if (!room) {
      room = new Room(name, this, this.#cursor.get(name));
      this.#rooms.set(name, new WeakRef(room));
      this.#roomsGone.register(room, name);
    }
    return room;
  }

  /** Joins a room, with so many of its last events. */
  join(name: string, options?: { history?: number }): Promise<Room<Events>> {
    return this.room(name).join(options);
  }

  /** Calls `listener` with each event of this name that is for this user or connection alone. */
  on<T = unknown>(event: Unmapped<Events>, listener: (event: Event<T>) => void): Unsubscribe;
  on<Name extends keyof Events & string>(event: Name, listener: (event: Event<Events[Name]>) => void): Unsubscribe;
  on(name: string, listener: (event: Event<never>) => void): Unsubscribe {
    return this.#listeners.add((event) => event.event === name && listener(event as Event<never>));
  }

  /** Calls `listener` with the state, now and after each change. */
  onState(listener: (state: State) => void): Unsubscribe {
    let last: State;
    return this.onConnection((state) => state !== last && listener((last = state)));
  }

  /** The same, and also with the same state again when there is another `fault`. @internal */
  onConnection(listener: (state: State) => void): Unsubscribe {
    const unsubscribe = this.#connection.states.add(listener);
    // While others are told of a change, what is still to be told comes to this one too.
    listener(this.#connection.told);
    return unsubscribe;
  }

  /** Calls `listener` after each change of `isDegraded`. */
  onDegraded(listener: (isDegraded: boolean) => void): Unsubscribe {
    return this.#degradations.add(listener);
  }

  /**
   * Calls `listener` with each room that the server joins by itself, on connect or when the application joins this user to
   * one, before anything comes from it. One that is joined again after a reconnect is not told again.
   */
  onRoom(listener: (room: Room<Events>) => void): Unsubscribe {
    return this.#serverRooms.add(listener);
  }

  /** Sends an event without a room and waits for its ack; it counts once, whatever the network does. */
  request<T = unknown>(event: string, data?: unknown): Request<T>;
  /** @internal */
  request<T>(event: string, data: unknown, room: string, purpose?: Purpose): Request<T>;
  request<T>(event: string, data?: unknown, room?: string, purpose: Purpose = "application"): Request<T> {
    const id = this.#nextId();
    // Whatever is wrong with it is told by the promise too.
    const answer = (async () => this.#push({ event, room, data, id }, purpose).answer as T)();
    this.#flush();
    return Object.assign(answer, { id });
  }

  /** Sends an event that nobody waits for; false if there is no connection to send it over, or one that takes nothing, or nothing so large. */
  send(event: string, data?: unknown): boolean;
  /** @internal */
  send(event: string, data: unknown, room: string): boolean;
  send(event: string, data?: unknown, room?: string): boolean {
    // Before the rooms are joined again nothing can be sent to them.
    const canSend = this.#isReady && this.#connection.isFlowing && !this.#outbox.isResuming;
    return canSend && this.#send(encode({ event, room, data }));
  }

  /** False for what is larger than the server takes: that would be the end of the connection, and of the next one too. */
  #send(frame: string | Uint8Array<ArrayBuffer>): boolean {
    const kind = typeof frame === "string" ? "text" : "binary";
    if (new Blob([frame]).size > this.limits[`${kind}_message_bytes`]!) return false;
    this.#connection.send(frame);
    return true;
  }

  /** Connects now: after a refusal, with a token that is asked for anew, or instead of waiting for the backoff's end. */
  reconnect(): void {
    this.#connection.reconnect();
  }

  /** Ends it for good: what has no answer is rejected with `outcome_unknown`. */
  close(): void {
    this.#closing.abort();
    this.#connection.close();
  }

  get #isClosed(): boolean {
    return this.#closing.signal.aborted;
  }

  #nextId(): string {
    return `${this.#idPrefix}-${(this.#idsGiven += 1)}`;
  }

  /** @internal */
  dialled(query: URLSearchParams): void {
    const cursor = this.#cursor.toHandshake();
    if (this.#welcome) query.set("session", this.#welcome.session);
    // For the rooms that the server joins by itself after a reload; the others go on from their join.
    else if (cursor) query.set("last_event_id", cursor);
    // No room attaches before our resume, so that a live event can't overtake it.
    if ([...this.#roomsUsed].some((room) => room.isFollowed && room.position)) query.set("resume", "wait");
  }

  #known(name: string | undefined): AnyRoom | undefined {
    return this.#rooms.get(name!)?.deref();
  }

  #push(message: ClientMessage & { id: string }, purpose: Purpose): Entry {
    if (this.#isClosed && isTheApplications({ purpose })) throw new RequestError("closed", "client is closed");
    return this.#outbox.push(message, purpose, this.#world.now());
  }

  /** Asks to join a room: where it is, or else with so many of its last events. @internal */
  joinRoom(room: AnyRoom, purpose: Purpose, history?: number): Promise<unknown> {
    const { name, lastEventId } = room;
    const data = lastEventId ? { last_event_id: lastEventId } : { history };
    const { message, answer } = this.#push({ event: "room.join", room: name, data, id: this.#nextId() }, purpose);
    room.awaitJoin(message.id);
    this.#flush();
    return answer;
  }

  /** @internal */
  roomChanged(room: AnyRoom): void {
    this.#cursor.set(room.name, room.position);
    this.#roomsUsed[room.isUsed ? "add" : "delete"](room);
  }

  /** @internal */
  withdraw(id: string): void {
    this.#outbox.take(this.#outbox.get(id));
  }

  /** With an id, since only its ack shows a browser that the server is still there. @internal */
  heartbeat(): string {
    return encode({ event: "presence.heartbeat", id: this.#nextId() }) as string;
  }

  /** Sends what can be sent now. */
  #flush(): void {
    const now = this.#world.now();
    const isJoined = (name: string) => this.#known(name)?.isJoined;
    let readyAt = Infinity;
    while (this.#isReady) {
      const entry = this.#outbox.nextToSend(now, isJoined);
      readyAt = entry ? this.#connection.pace.readyAt(this.#outbox.unanswered) : Infinity;
      // The rooms are joined again first, whatever the rate.
      if (!entry || (readyAt > now && entry.purpose !== "resume")) break;
      entry.isSent = this.#send(entry.frame);
      // As the server would say, if it went on behind that.
      if (!entry.isSent) this.#answered(entry.message.id, 0, { code: "too_large", message: "over client.limits" });
    }
    this.#alarm.set(Math.min(this.#outbox.nextDeadline(), readyAt));
  }

  /** Gives up what is overdue: at the end of all times everything. */
  #tick(now = this.#world.now()): void {
    let isStuck = false;
    for (const entry of this.#outbox.overdue(now)) {
      const room = this.#known(entry.message.room!);
      // A later join of the room is still awaited.
      if (entry.purpose === "join" && room?.awaits === entry.message.id) room.unfollow();
      // A server that leaves the client's own joins unanswered for two minutes is not going to answer them.
      isStuck ||= !isTheApplications(entry);
      this.#outbox.take(entry).reject(new RequestError("outcome_unknown", "no answer came"));
    }
    if (isStuck) this.#connection.restart();
    this.#flush();
  }

  /** @internal */
  lost(wasLast: boolean): void {
    this.#isReady = false;
    while (this.#held) this.#deliverHeld();
    for (const room of this.#roomsUsed) room.disconnected();
    for (const entry of this.#outbox.disconnected()) this.#outbox.take(entry).resolve({ event_id: entry.publishedAs });
    if (wasLast) this.#closing.abort();
    this.#tick(wasLast ? Infinity : undefined);
  }

  /** @internal */
  received(message: ServerMessage): void {
    if (this.#isClosed || this.#held?.push(message)) return;
    switch (message.kind) {
      case "welcome":
        this.#welcomed(message);
        break;
      case "ack":
        this.#answered(message.id, message.data);
        break;
      case "error":
        this.#answered(message.id, null, message);
        break;
      case "event":
        if (message.room === null) this.#listeners.tell(message);
        else this.#receivedInRoom(message);
        this.#settleByOwnEvent(message);
        break;
      case "joined":
      case "left":
        this.#moved(this.room(message.room), message);
        break;
      case "degraded":
        this.#setDegraded(message.degraded);
        break;
      default:
        this.#receivedInRoom(message);
    }
    // A listener may have closed the client: then what was begun since is over too.
    if (this.#isClosed) this.lost(true);
    else this.#flush();
  }

  /** What names no room, by itself or by its place in one's log, is for none. */
  #receivedInRoom(message: ServerMessage): void {
    const { room: name, id } = message as { room?: string; id?: string };
    const room = this.#known(name ?? parseEventId(id)?.room);
    if (room?.receive(message as RoomMessage) === "hole") this.#rejoin(room);
  }

  #setDegraded(isDegraded: boolean): void {
    if (isDegraded === this.#isDegraded) return;
    this.#isDegraded = isDegraded;
    this.#degradations.tell(isDegraded);
  }

  #welcomed(welcome: Welcome): void {
    this.#welcome = welcome;
    // The server tells a new connection behind its welcome.
    this.#setDegraded(false);
    const known = [...this.#roomsUsed].filter((room) => room.isFollowed);
    const positions = parseCursor(welcome.last_event_id);
    for (const name of welcome.rooms) {
      const room = this.room(name);
      // One that the application is leaving, or joins itself, is as it wishes.
      if (room.isFollowed || this.#outbox.isMoving(name) || this.#isClosed) continue;
      room.autoJoined(positions?.get(name));
      this.#serverRooms.tell(room);
    }
    // Every room that was known before is asked for, where it is. What does not fit is joined room by room.
    const id = this.#nextId();
    // The application's own join of a room is sent again, which does the same.
    const asked = known.filter((room) => !this.#outbox.isMoving(room.name));
    const ids: string[] = [];
    let bytes = 0;
    for (const room of asked) {
      const { lastEventId } = room;
      if (!lastEventId || (bytes += lastEventId.length + 1) > CURSOR_BYTES_MAX) continue;
      ids.push(lastEventId);
      room.awaitJoin(id);
    }
    if (ids.length) this.#push({ event: "session.resume", data: { last_event_id: ids.join() }, id }, "resume");
    for (const room of asked) if (room.awaits !== id) this.#rejoin(room);
    this.#isReady = true;
  }

  /** The application has joined this connection to a room, or taken it out of one. */
  #moved(room: AnyRoom, message: Extract<ServerMessage, { kind: "joined" | "left" }>): void {
    // What we have asked about the room and has no answer yet comes later, and decides.
    if (room.awaits !== null || this.#outbox.isMoving(room.name)) return;
    if (message.kind === "joined") {
      room.awaitJoin("");
      // One that was known before asks for what has come since.
      if (room.position && room.lastEventId !== message.joined.last_event_id) this.#rejoin(room);
      else room.attached(message.joined);
      this.#serverRooms.tell(room);
    } else if (room.isFollowed) this.#refusedRoom(room, message.reason);
  }

  /** Joins a followed room again, where it is. */
  #rejoin(room: AnyRoom): void {
    void this.joinRoom(room, "rejoin");
  }

  /** The answer to a request: what its ack says, or why it is refused. */
  #answered(id: string | null, data: unknown, refusal?: Pick<Refusal, "code" | "message"> & Partial<Refusal>): void {
    const entry = this.#outbox.get(id);
    if (!entry) return;
    // A question is asked until it is taken back.
    if (refusal && (isRetryable(refusal.code) || entry.purpose === "question"))
      return this.#outbox.retryLater(entry, refusal.retry_after_ms, this.#world.now());
    this.#outbox.take(entry);
    const isResume = entry.purpose === "resume";
    for (const room of [...this.#roomsUsed]) {
      if (room.awaits !== id || this.#isClosed) continue;
      const outcome = (isResume ? (data as Resumed)?.rooms?.[room.name] : data) as { error?: unknown } | null | undefined;
      const joined = asJoined(outcome);
      if (joined) room.attached(joined);
      // Room by room, so that each has its own answer.
      else if (refusal && isResume) this.#rejoin(room);
      else if (refusal && entry.purpose === "join") room.forget();
      // An answer that says nothing of a room, or nothing that can be read, has not joined it.
      else this.#refusedRoom(room, refusal?.code ?? String(outcome?.error ?? "other"));
    }
    if (refusal) return entry.reject(new RequestError(refusal.code, refusal.message, refusal.pointer));
    entry.resolve(data);
    if (entry.purpose !== "join") return;
    // Some platforms deliver several messages at once: who waited for the join gets his turn before the next.
    this.#held ??= [];
    this.#world.clock.setTimeout(() => this.#deliverHeld(), 0);
  }

  /** A room that the client followed was not joined again. */
  #refusedRoom(room: AnyRoom, code: string): void {
    if (isRetryable(code)) this.#rejoin(room);
    else room.forget(code);
  }

  /** An event that this client caused answers its request, also in a replay after the ack was lost. */
  #settleByOwnEvent({ from, re, id }: Event): void {
    if (from !== this.user || re === null || id === null) return;
    const entry = this.#outbox.get(re);
    if (entry?.purpose !== "application") return;
    // An ack is still to come on the connection that the request went over, and may say more.
    if (entry.isSent) entry.publishedAs = id;
    else this.#outbox.take(entry).resolve({ event_id: id });
  }

  /** A join's ack among them holds the rest back again. */
  #deliverHeld(): void {
    const messages = this.#held ?? [];
    this.#held = null;
    for (const message of messages) this.received(message);
  }
}

function socketUrl(url: string | URL): URL {
  const absolute = new URL(url, (globalThis as { location?: { href: string } }).location?.href);
  absolute.protocol = absolute.protocol.replace(/^http/, "ws");
  return absolute;
}
