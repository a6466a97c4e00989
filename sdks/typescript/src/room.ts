/**
 * One room as a client sees it: where it stands in the room's log, what that means for a message, and who listens.
 *
 * The one place that decides whether an event is applied: PROTOCOL.md §3 and §7. It sends nothing by itself.
 */

import { Listeners, type Unsubscribe } from "./listeners.ts";
import type { Purpose, Request, RequestError } from "./outbox.ts";
import { Presence, type PresenceOwner } from "./presence.ts";
import {
  decodeEvents,
  parseEventId,
  type Event,
  type EventId,
  type EventOf,
  type Joined,
  type MembersPage,
  type Reset,
  type ServerMessage,
  type Unmapped,
} from "./protocol.ts";

/** What a room is told. @internal */
export type RoomMessage = Extract<ServerMessage, { kind: "event" | "skip" | "epoch" | "reset" } | { kind: `presence${string}` }>;

/**
 * What a client does with a message: take it, nothing since it was seen before, or join the room again since something
 * before it is missing.
 */
export type Decision = "take" | "drop" | "hole";

/** A room's own events, all at once told after a join, a resume or a hole. */
export interface CaughtUp {
  /** How many events were missed and have come since. */
  readonly events: number;
  readonly recovery: Joined["recovery"];
}

/** A room, whatever its events. */
export type AnyRoom = Room<any>;

/** What a room needs of its client. */
export interface RoomOwner extends PresenceOwner {
  joinRoom(room: AnyRoom, purpose: Purpose, history: number | undefined): Promise<unknown>;
  send(event: string, data: unknown, room: string): boolean;
  /** Where the room is may have changed, now that the application has handled what is up to there, or whether it is used. */
  roomChanged(room: AnyRoom): void;
}

/** A room. Listeners that are there before the room is joined miss nothing. `Events` maps names to their `data`. */
export class Room<Events = unknown> {
  readonly name: string;
  /** Who is here, as a live map. It asks the server from the first listener on. */
  readonly presence: Presence;

  readonly #owner: RoomOwner;
  #listening = 0;
  readonly #counted = (by: number) => {
    this.#listening += by;
    this.#owner.roomChanged(this);
  };
  readonly #events = new Listeners<Event>(this.#counted);
  readonly #resets = new Listeners<Reset>(this.#counted);
  readonly #caughtUp = new Listeners<CaughtUp>(this.#counted);
  readonly #lost = new Listeners<string>(this.#counted);
  /** @internal */
  isFollowed = false;
  #isJoined = false;
  /** Where it is in the room's log. @internal */
  position: EventId | undefined;
  /** The join or resume under way, which fills what is missing. @internal */
  awaits: string | null = null;
  /** Where the replay that is under way ends. */
  #replay: { until: EventId; events: number; recovery: Joined["recovery"] } | null = null;

  /** @internal */
  constructor(name: string, owner: RoomOwner, position?: EventId) {
    this.name = name;
    this.#owner = owner;
    this.position = position;
    this.presence = new Presence(this, owner, this.#counted);
  }

  /** Whether the server has this connection in the room now. */
  get isJoined(): boolean {
    return this.#isJoined;
  }

  /** The id of the newest event that was applied, before a reload too if the client keeps its cursor; else null. */
  get lastEventId(): string | null {
    return this.position?.text ?? null;
  }

  /** Joins the room, with so many of its last events; one that is joined already goes on where it is. */
  async join(options: { history?: number } = {}): Promise<this> {
    await this.#owner.joinRoom(this, "join", options.history);
    return this;
  }

  /** Leaves the room. */
  async leave(): Promise<void> {
    if (!this.isFollowed) return;
    this.forget();
    await this.request("room.leave").catch((error: RequestError) => {
      // After a reconnect the server knows nothing of a room that was not joined again: that is what was wanted.
      if (error.code !== "not_joined") throw error;
    });
  }

  /** Calls `listener` with each event of this name, once and in order. */
  on<T = unknown>(event: Unmapped<Events>, listener: (event: Event<T>) => void): Unsubscribe;
  on<Name extends keyof Events & string>(event: Name, listener: (event: Event<Events[Name]>) => void): Unsubscribe;
  on(name: string, listener: (event: Event<never>) => void): Unsubscribe {
    return this.#events.add((event) => event.event === name && listener(event as Event<never>));
  }

  /** Calls `listener` with each event of the room. */
  onEvent(listener: (event: EventOf<Events>) => void): Unsubscribe {
    return this.#events.add(listener as (event: Event) => void);
  }

  /** What was known of the room counts no more: clear it, take `state` if there is one. Events follow from there. */
  onReset(listener: (reset: Reset) => void): Unsubscribe {
    return this.#resets.add(listener);
  }

  /** What was missed has come, and from here on events are live. */
  onCaughtUp(listener: (caughtUp: CaughtUp) => void): Unsubscribe {
    return this.#caughtUp.add(listener);
  }

  /**
   * The client does not follow the room any more: it could not be joined again, with the server's error code, or the
   * application has taken this connection out of it (`removed`; `forbidden` by a refreshed token).
   */
  onLost(listener: (code: string) => void): Unsubscribe {
    return this.#lost.add(listener);
  }

  /** Sends an event and waits for its ack; it counts once, whatever the network does. Rejects with `RequestError`. */
  request<T = unknown>(event: string, data?: unknown): Request<T> {
    return this.#owner.request<T>(event, data, this.name);
  }

  /**
   * Sends an event that nobody waits for (typing, cursors); false if there is no connection to send it over, or one that takes
   * nothing, or nothing so large.
   */
  send(event: string, data?: unknown): boolean {
    return this.#owner.send(event, data, this.name);
  }

  /** A page of the room's members. */
  members(page: { after?: string; limit?: number } = {}): Promise<MembersPage> {
    return this.request<MembersPage>("room.members", page);
  }

  /** A page of stored events, oldest first; `next` is the `before` of the page before. */
  async history(page: { before?: string; limit?: number } = {}): Promise<{ events: EventOf<Events>[]; next?: string }> {
    const answer = await this.request<{ events: unknown; next?: string }>("room.history", page);
    return { ...answer, events: decodeEvents(answer.events) as EventOf<Events>[] };
  }

  /** Whether anything is to be known of it, or told. @internal */
  get isUsed(): boolean {
    return this.isFollowed || !!this.position || this.#listening > 0;
  }

  /** Follows the room no longer, but knows where it was. @internal */
  unfollow(): void {
    this.isFollowed = false;
    this.awaits = null;
    this.disconnected();
    this.#owner.roomChanged(this);
  }

  /** Follows the room no longer; `code` says why if it was not the application's wish. @internal */
  forget(code?: string): void {
    this.position = undefined;
    this.unfollow();
    if (code !== undefined) this.#lost.tell(code);
  }

  /** The connection is gone. A join that has no answer is sent again and still awaited. @internal */
  disconnected(): void {
    this.#isJoined = false;
    this.#replay = null;
    this.presence.detached();
  }

  /** Follows the room from now on. Until `attached`, what does not fit is dropped and no further hole. @internal */
  awaitJoin(requestId: string): void {
    this.isFollowed = true;
    this.awaits = requestId;
    this.#owner.roomChanged(this);
  }

  /**
   * Takes over a join's result. What follows it starts at `last_event_id`; a client that is further drops the
   * beginning, and after a gap a `room.reset` moves it. @internal
   */
  attached(joined: Joined): void {
    this.awaits = null;
    const start = parseEventId(joined.last_event_id);
    const top = parseEventId(joined.top);
    const last = this.position;
    const from = start ?? top;
    if (joined.recovery === "complete") this.position ??= start;
    // Older events that were asked for are not applied a second time.
    else if (joined.recovery === "fresh" && from && (last?.epoch !== from.epoch || last.offset < from.offset))
      this.position = from;
    if (top) this.#replay = { until: top, events: 0, recovery: joined.recovery };
    this.autoJoined();
    this.#checkReplay();
  }

  /** The server has this connection in the room, as by itself at the connection's start. @internal */
  autoJoined(position?: EventId): void {
    this.isFollowed = this.#isJoined = true;
    this.position ??= position;
    this.#owner.roomChanged(this);
    this.presence.attached();
  }

  /** Decides about a message of this room, moves the position that it moves, and tells who listens. @internal */
  receive(message: RoomMessage): Decision {
    const decision = this.#judge(message);
    if (decision === "take") {
      if (message.kind === "event") {
        this.#events.tell(message);
        if (this.#replay && message.id !== null) this.#replay.events += 1;
      } else if (message.kind === "reset") this.#resets.tell(message);
      else if ("room" in message) this.presence.receive(message);
      this.#owner.roomChanged(this);
      this.#checkReplay();
    }
    return decision;
  }

  #judge(message: RoomMessage): Decision {
    if (!this.isFollowed) return "drop";
    const id = "id" in message && parseEventId(message.id);
    // What has no place in the log is never missing.
    if (!id) return "take";
    const last = this.position;
    if (message.kind !== "reset") {
      const isSameLog = last?.epoch === id.epoch;
      const isEpoch = message.kind === "epoch";
      if (isSameLog && (isEpoch || id.offset <= last.offset)) return "drop";
      // A new log goes on exactly where the old one ended for this client; within a log no offset is missing.
      const follows = isEpoch
        ? last?.epoch === message.was && last.offset === id.offset
        : isSameLog && (message.kind === "skip" ? message.from : id.offset) <= last.offset + 1;
      // With a join under way it is known that something is missing.
      if (!follows) return this.awaits === null ? "hole" : "drop";
    }
    this.position = id;
    return "take";
  }

  #checkReplay(): void {
    const replay = this.#replay;
    const last = this.position;
    if (!replay || this.awaits !== null || last?.epoch !== replay.until.epoch) return;
    if (last.offset < replay.until.offset) return;
    this.#replay = null;
    const { until, ...caughtUp } = replay;
    this.#caughtUp.tell(caughtUp);
  }
}
