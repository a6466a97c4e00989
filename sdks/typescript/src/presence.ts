/** Who is in a room: the list that the server gives, kept up to date by its deltas. PROTOCOL.md §3. */

import { Listeners, type Unsubscribe } from "./listeners.ts";
import type { MembersPage, ServerMessage } from "./protocol.ts";

type Delta = Extract<ServerMessage, { kind: "presence" }>;

interface PresenceOwner {
  isJoined(): boolean;
  members(after: string | undefined): Promise<MembersPage>;
  update(info: unknown): Promise<void>;
}

/** User id to what the user shows (`presence.update`), null if nothing. Users, not sockets: two tabs are one. */
export type Members = ReadonlyMap<string, unknown>;

export class Presence {
  readonly #owner: PresenceOwner;
  readonly #changes = new Listeners<Members>();
  #members = new Map<string, unknown>();
  /** The revision of `#members`; null while the list is being asked for. */
  #rev: number | null = null;
  /** What came while the list was being asked for. */
  #waiting: Delta[] = [];
  /** A list that was asked for before this one does not count. */
  #question = 0;

  /** @internal */
  constructor(owner: PresenceOwner) {
    this.#owner = owner;
  }

  /** Who is here, as far as is known; empty until somebody listens. While reconnecting it is as it was. */
  get members(): Members {
    return this.#members;
  }

  /** Calls `listener` with everyone, now and after each change. */
  onChange(listener: (members: Members) => void): Unsubscribe {
    const unsubscribe = this.#changes.add(listener);
    if (this.#rev !== null) listener(this.#members);
    else if (this.#changes.size === 1) this.attached();
    return unsubscribe;
  }

  /** Says what the others see of this user, at most 4,096 bytes of JSON. */
  update(info: unknown): Promise<void> {
    return this.#owner.update(info);
  }

  /** The room was joined, or joined again: what was known may be old. @internal */
  attached(): void {
    if (this.#changes.size > 0 && this.#owner.isJoined()) void this.#ask();
  }

  /** @internal */
  detached(): void {
    this.#question += 1;
    this.#rev = null;
    this.#waiting = [];
  }

  /** @internal */
  receive(delta: Delta): void {
    if (this.#changes.size === 0) return;
    if (this.#rev === null) this.#waiting.push(delta);
    else if (delta.rev > this.#rev + 1) void this.#ask();
    else if (this.#apply(delta)) this.#changes.tell(this.#members);
  }

  async #ask(): Promise<void> {
    const question = ++this.#question;
    this.#rev = null;
    const members = new Map<string, unknown>();
    let page: MembersPage | undefined;
    do {
      try {
        page = await this.#owner.members(page?.next);
      } catch {
        // The room was left or the client closed; a join of it asks again.
        return;
      }
      if (question !== this.#question) return;
      for (const { user, info } of page.members) members.set(user, info);
    } while (page.next !== undefined);
    this.#members = members;
    this.#rev = page.rev;
    for (const delta of this.#waiting.splice(0)) this.#apply(delta);
    this.#changes.tell(this.#members);
  }

  /** Applies what is newer than the list; pages that were asked for one after the other may be newer than their rev. */
  #apply({ change, user, info, rev }: Delta): boolean {
    if (this.#rev === null || rev <= this.#rev) return false;
    this.#rev = rev;
    this.#members = new Map(this.#members);
    if (change === "leave") this.#members.delete(user);
    else this.#members.set(user, info);
    return true;
  }
}
