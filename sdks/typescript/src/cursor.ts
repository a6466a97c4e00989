/** Where the client stands in its rooms, kept over a reload of the page. PROTOCOL.md §3 and §7. */

import { CURSOR_BYTES_MAX, parseCursor, type EventId } from "./protocol.ts";
import { load, save, type StorageSlot } from "./storage.ts";

export class Cursor {
  readonly #slot: StorageSlot | undefined;
  readonly #positions: Map<string, EventId>;

  constructor(slot: StorageSlot | undefined) {
    this.#slot = slot;
    this.#positions = parseCursor(load(slot)) ?? new Map();
  }

  /** Where a room was, as far as it is kept. */
  get(room: string): EventId | undefined {
    return this.#positions.get(room);
  }

  /** Notes where a room is, now that the application has handled what is up to there; undefined: nowhere any more. */
  set(room: string, position: EventId | undefined): void {
    if (!this.#slot || this.#positions.get(room) === position) return;
    if (position) this.#positions.set(room, position);
    else this.#positions.delete(room);
    save(this.#slot, `${this}`);
  }

  toString(): string {
    return Array.from(this.#positions.values(), ({ text }) => text).join();
  }

  /** As much of it as a handshake takes. */
  toHandshake(): string {
    return `${this},`.slice(0, CURSOR_BYTES_MAX + 1).replace(/,[^,]*$/, "");
  }
}
