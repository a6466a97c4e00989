/**
 * Who watches which board, over Tidings' HTTP API, with the watchers in the database. A board's room is `board:` and its name.
 *
 * A socket's id is its session, as `session.welcome` names it. A user is in a room with all his sockets, so that his devices
 * show the same: `join` and `leave` of one are those of all. Nobody is told who else watches (`presence` in tidings.toml).
 */

import type { Tidings } from "tidings-server-sdk";

import type { Database } from "../src/database.ts";

const PREFIX = "board:";

/** A board's room. */
export const roomOf = (board: string): string => `${PREFIX}${board}`;

/** A room's board. */
const boardOf = (roomId: string): string => roomId.slice(PREFIX.length);

export class RoomManager {
  readonly #tidings: Tidings;
  readonly #database: Database;

  constructor(tidings: Tidings, database: Database) {
    this.#tidings = tidings;
    this.#database = database;
  }

  /** Whose a socket is. It is known from its first event on: a page's first is `presence.heartbeat`. */
  connected(socketId: string, user: string): void {
    this.#database.addSocket(socketId, user);
  }

  disconnected(socketId: string): void {
    this.#database.removeSocket(socketId);
  }

  /** Adds a socket to a room, and its user to the watchers, so that he is there again after a reconnect. */
  async join(socketId: string, roomId: string): Promise<void> {
    await this.addUser(this.#userOf(socketId), roomId);
  }

  /** Takes a socket out of a room, and its user out of the watchers. */
  async leave(socketId: string, roomId: string): Promise<void> {
    await this.removeUser(this.#userOf(socketId), roomId);
  }

  /** Sends to all in a room, but for one socket. */
  async broadcast(roomId: string, event: string, data: unknown, excludeSocketId?: string): Promise<void> {
    const but =
      excludeSocketId === undefined
        ? {}
        : { excludeSession: excludeSocketId, excludeUser: this.#userOf(excludeSocketId) };
    await this.#tidings.publish(roomId, event, data, but);
  }

  /** The users who are connected. */
  async getMembers(roomId: string): Promise<string[]> {
    const users: string[] = [];
    let after: string | undefined;
    do {
      const page = await this.#tidings.members(roomId, after === undefined ? {} : { after });
      users.push(...page.members.map(({ user }) => user));
      after = page.next;
    } while (after !== undefined);
    return users;
  }

  /** The rooms that a socket is in; none, if it is gone. */
  async getUserRooms(socketId: string): Promise<string[]> {
    const sessions = await this.#tidings.sessions(this.#userOf(socketId));
    return [...(sessions.find(({ session }) => session === socketId)?.rooms ?? [])];
  }

  /** Makes somebody a watcher: his pages see the board from now on. */
  async addUser(user: string, roomId: string): Promise<void> {
    this.#database.addWatcher(boardOf(roomId), user);
    await this.#tidings.join(user, roomId);
  }

  /** Whoever is taken out sees nothing more. A token that he has already names the board until it ends: ten minutes at most. */
  async removeUser(user: string, roomId: string): Promise<void> {
    this.#database.removeWatcher(boardOf(roomId), user);
    await this.#tidings.leave(user, roomId);
  }

  #userOf(socketId: string): string {
    const user = this.#database.userOfSocket(socketId);
    if (user === undefined) throw new Error(`no socket ${socketId} is connected`);
    return user;
  }
}
