/** Who is in a room: the list that the server gives, kept up to date by its deltas. PROTOCOL.md §3. */

import { PAGE_MEMBERS, WAITING_MAX } from "./limits.ts";
import { Listeners, type Unsubscribe } from "./listeners.ts";
import type { Purpose, Request } from "./outbox.ts";
import type { Member, MembersPage, ServerMessage } from "./protocol.ts";

/** What the server tells of who is in a room: what has changed, or only how many they are. */
type Told = Extract<ServerMessage, { kind: "presence_changes" | "presence_count" }>;

/** What presence needs of its room's client. */
export interface PresenceOwner {
  request<T>(event: string, data: unknown, room: string, purpose?: Purpose): Request<T>;
  /** Takes a request back: it is not sent any more, and its answer is for nobody. */
  withdraw(id: string): void;
}

/** User id to what the user shows (`presence.update`), null if nothing. Users, not sockets: two tabs are one. */
export type Members = ReadonlyMap<string, unknown>;

export class Presence {
  readonly #room: { readonly name: string; readonly isJoined: boolean };
  readonly #owner: PresenceOwner;
  readonly #changes: Listeners<Members>;
  #members = new Map<string, unknown>();
  /** The revision of `#members`; null while the list is being asked for. */
  #rev: number | null = null;
  /** What came while the list was being asked for. */
  #waiting: Told[] = [];
  /** How many are here, where that is all that is told. */
  #count: number | undefined;
  /** The id of the question whose answer counts; none if there is no such question. */
  #asked = "";

  /** @internal */
  constructor(room: { readonly name: string; readonly isJoined: boolean }, owner: PresenceOwner, counted: (by: number) => void) {
    this.#changes = new Listeners(counted);
    this.#room = room;
    this.#owner = owner;
  }

  /** Who is here, as far as is known; empty until somebody listens. While reconnecting it is as it was. */
  get members(): Members {
    return this.#members;
  }

  /** How many are here, as far as is known: also in a room that tells nobody who. */
  get count(): number {
    return this.#count ?? this.#members.size;
  }

  /** Calls `listener` with everyone, now and after each change. */
  onChange(listener: (members: Members) => void): Unsubscribe {
    const unsubscribe = this.#changes.add(listener);
    if (this.#rev !== null) listener(this.#members);
    else if (this.#changes.size === 1) this.attached();
    return () => {
      unsubscribe();
      // What nobody listens to is not kept up to date: the next listener asks again.
      if (this.#changes.size === 0) this.detached();
    };
  }

  /** Says what the others see of this user, at most 4,096 bytes of JSON. */
  async update(info: unknown): Promise<void> {
    await this.#owner.request("presence.update", { info }, this.#room.name);
  }

  /** The room was joined, or joined again: what was known may be old. @internal */
  attached(): void {
    if (this.#changes.size && this.#room.isJoined) void this.#ask();
  }

  /** @internal */
  detached(): void {
    this.#owner.withdraw(this.#asked);
    this.#asked = "";
    this.#rev = null;
    this.#waiting = [];
  }

  /** @internal */
  receive(told: Told): void {
    if (this.#changes.size && this.#take(told)) this.#changes.tell(this.#members);
  }

  /** Takes what is newer than the list; asks again if something is missing before it. Whether it changed something. */
  #take(told: Told): boolean {
    if (this.#rev === null) {
      if (this.#waiting.push(told) > WAITING_MAX) void this.#ask();
      return false;
    }
    if (told.rev <= this.#rev) return false;
    if (told.kind === "presence_count") this.#count = told.members;
    else {
      if (told.from > this.#rev + 1) {
        void this.#ask();
        return false;
      }
      this.#members = new Map(this.#members);
      put(this.#members, told.here);
      for (const user of told.gone) this.#members.delete(user);
    }
    this.#rev = told.rev;
    return true;
  }

  async #ask(): Promise<void> {
    this.detached();
    const members = new Map<string, unknown>();
    let first: MembersPage | undefined;
    let page: MembersPage | undefined;
    do {
      const data = { limit: PAGE_MEMBERS, after: page?.next };
      const asked = this.#owner.request<MembersPage>("room.members", data, this.#room.name, "question");
      this.#asked = asked.id;
      try {
        page = await asked;
        if (asked.id !== this.#asked) return;
        first ??= page;
        put(members, page.members);
      } catch {
        // An answer without a list: the next join asks again.
        return;
      }
    } while (page.next);
    this.#members = members;
    this.#count = members.size > 0 ? undefined : first.count;
    // Later pages may be newer than this. What has changed since is told all the same, as it is in the end.
    this.#rev = first.rev;
    for (const told of this.#waiting.splice(0)) this.#take(told);
    this.#changes.tell(this.#members);
  }
}

function put(into: Map<string, unknown>, members: readonly Member[]): void {
  for (const { user, info } of members) into.set(user, info);
}
