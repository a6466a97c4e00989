/** What differs between the applications that the chat page is for. */

import type { Client, Request, Room } from "../../sdks/typescript/src/index.ts";
import type { StoredMessage } from "./timeline.ts";

export interface Backend {
  /** In the page's head. */
  readonly title: string;
  readonly user: string;
  readonly client: Client;
  /** The rooms that the page begins with. */
  readonly rooms: readonly { readonly id: string; readonly name: string }[];
  /** Whether a room can be joined by its name; then the names are kept for the next load of the page. */
  openRoom?(id: string): void;
  /** Gets the room's events flowing, and gives what was said before. */
  enter(room: Room): Promise<readonly StoredMessage[]>;
  say(room: Room, content: string): Request<unknown>;
  edit(room: Room, messageId: string, content: string): Promise<unknown>;
  sendImage(room: Room, image: Uint8Array): Request<unknown>;
  typing(room: Room): void;
  /** The messages of a `room.reset`'s state; undefined if it has none. */
  stateOf(state: unknown): readonly StoredMessage[] | undefined;
  signOut(): void;
}
