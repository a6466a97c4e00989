/** A room as components see it: joined while one of them uses it, its events as one list. */

import type { Client } from "./client.ts";
import { Listeners, type Unsubscribe } from "./listeners.ts";
import { RequestError } from "./outbox.ts";
import type { Event, EventOf, Reset } from "./protocol.ts";
import type { AnyRoom, Room } from "./room.ts";

/** After its last component a room stays joined for so long. */
const GRACE_MS = 1_000;

/** What a component wants of a room. */
export interface RoomOptions {
  /** So many of the room's last events, at once. */
  readonly history?: number;
  /** The list has the newest events, so many at most. */
  readonly eventsMax?: number;
}

/** What is known of a room. A new value at each change. */
export interface RoomView<Events = unknown> {
  /** For sending, and for listening to what is in no list: `room.on("typing", …)` in an effect. */
  readonly room: Room<Events>;
  /** The stored events, oldest first, each once. They begin anew behind a reset. */
  readonly events: readonly EventOf<Events>[];
  /** The last reset: what was known before counts no more, and `state` is the room's, if the application gives one. */
  readonly reset: Reset | null;
  /** Whether all that was missed has come, and events are live. */
  readonly isLive: boolean;
  /** Why the room could not be joined, or is not followed any more; its events are gone then. */
  readonly error: RequestError | null;
}

/** @internal */
export class RoomStore {
  view: RoomView;
  readonly #client: Client<any>;
  readonly #room: AnyRoom;
  readonly #changes = new Listeners<void>();
  #history = 0;
  #eventsMax = 0;
  /** What ends what was begun; null while nobody holds the room. */
  #ends: Unsubscribe[] | null = null;
  #isBegun = false;
  #grace: ReturnType<typeof setTimeout> | undefined;

  constructor(client: Client<any>, room: AnyRoom) {
    this.#client = client;
    this.#room = room;
    this.view = this.#empty();
  }

  /** Holds the room until the function that it returns is called, and calls `changed` after each change of `view`. */
  hold(changed: () => void, { history = 0, eventsMax = 0 }: RoomOptions = {}): Unsubscribe {
    const end = this.#changes.add(changed);
    clearTimeout(this.#grace);
    const wantsMore = history > this.#history;
    this.#history = Math.max(this.#history, history);
    this.#eventsMax = Math.max(this.#eventsMax, eventsMax, history);
    if (!this.#ends) this.#begin();
    else if (this.#isBegun && wantsMore) this.#readHistory();
    return () => {
      end();
      if (this.#changes.size === 0) this.#grace = setTimeout(() => this.#end(), GRACE_MS);
    };
  }

  #begin(): void {
    const [client, room] = [this.#client, this.#room];
    let isOurs = false;
    const join = () => {
      if (this.#ends !== ends || this.#isBegun) return;
      this.#isBegun = true;
      // One that the application has joined, or the server, is not this store's to leave.
      isOurs = !room.isFollowed;
      if (isOurs) return this.#join();
      this.#set({ isLive: room.isJoined });
      if (this.#history > 0) this.#readHistory();
    };
    const ends: Unsubscribe[] = (this.#ends = [
      room.onEvent((event) => this.#add([event])),
      room.onReset((reset) => this.#set({ events: [], reset, error: null })),
      room.onCaughtUp(() => this.#set({ isLive: true, error: null })),
      room.onLost((code) => this.#fail(new RequestError(code, "no longer in the room, and not joined again"))),
      client.onState((state) => {
        if (state !== "connected") this.#set({ isLive: false });
        // Behind the commit, when all components that it mounts have said how much of the room they want; and behind the first
        // welcome, which says what rooms the server joins by itself.
        if (client.user !== null || state === "connected" || state === "closed") queueMicrotask(join);
      }),
      () => isOurs && void room.leave().catch(() => {}),
    ]);
  }

  #end(): void {
    for (const end of this.#ends ?? []) end();
    this.#ends = null;
    this.#isBegun = false;
    this.#history = this.#eventsMax = 0;
    this.view = this.#empty();
  }

  #join(): void {
    const began = this.#ends;
    this.#room.join({ history: this.#history }).catch((error: RequestError) => {
      if (this.#ends !== began) return;
      // Without an answer for two minutes it is still wanted.
      if (error.code === "outcome_unknown" && this.#client.state !== "closed") this.#join();
      else this.#fail(error);
    });
  }

  /** Asks for the last events of a room that was joined without them. */
  #readHistory(): void {
    const [began, { reset }] = [this.#ends, this.view];
    this.#room.history({ limit: this.#history }).then(
      ({ events }) => this.#ends === began && this.view.reset === reset && this.#add(events),
      () => {},
    );
  }

  /** Takes events in: each once, whether it came live, in a replay or with a page of the history. */
  #add(events: readonly Event[]): void {
    if (this.#eventsMax === 0) return;
    const all = new Map<string, Event>();
    for (const event of [...this.view.events, ...events]) if (event.id !== null) all.set(event.id, event);
    const offset = ({ id }: Event) => Number(id!.slice(id!.lastIndexOf(".") + 1));
    // Between resets the offsets go on, whatever the epoch.
    const sorted = [...all.values()].sort((a, b) => offset(a) - offset(b));
    this.#set({ events: sorted.slice(-this.#eventsMax) });
  }

  #fail(error: RequestError): void {
    this.#set({ events: [], isLive: false, error });
  }

  #set(change: Partial<RoomView>): void {
    const view = { ...this.view, ...change };
    const isSame = (Object.keys(view) as (keyof RoomView)[]).every((field) => view[field] === this.view[field]);
    if (isSame) return;
    this.view = view;
    this.#changes.tell();
  }

  #empty(): RoomView {
    return { room: this.#room, events: [], reset: null, isLive: false, error: null };
  }
}
