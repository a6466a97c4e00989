/**
 * Who is in which room, over Tidings' HTTP API, with the memberships in the database.
 *
 * A socket's id is its session, as `session.welcome` names it. A user is in a room with all his sockets, so that his devices
 * show the same: `join` and `leave` of one are those of all. Members are told by Tidings' presence.
 */

import type { Tidings } from "tidings-server-sdk";

import type { Database } from "../src/database.ts";

const PREFIX = "ch_";

/** A channel's room. */
export const roomOf = (channel: number): string => `${PREFIX}${channel}`;

/** Something was said in a room that is no channel: its user's own, or none. */
export class NoChannel extends Error {
  constructor() {
    super("this room is no channel's");
  }
}

/** A room's channel. */
export function channelOf(roomId: string | null): number {
  if (!roomId?.startsWith(PREFIX)) throw new NoChannel();
  return Number(roomId.slice(PREFIX.length));
}

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

  /** Adds a socket to a room, and its user to the members, so that he is there again after a reconnect. */
  async join(socketId: string, roomId: string): Promise<void> {
    await this.addUser(this.#userOf(socketId), roomId);
  }

  /** Takes a socket out of a room, and its user out of the members. */
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

  /** Makes somebody a member: he hears it from now on, and his pages are told. */
  async addUser(user: string, roomId: string): Promise<void> {
    this.#database.addMember(channelOf(roomId), user);
    await this.#tidings.join(user, roomId);
    await this.#tidings.publishToUser(user, "channels.changed", { room: roomId });
  }

  /** Whoever is taken out hears nothing more. A token that he has already names the room until it ends: ten minutes at most. */
  async removeUser(user: string, roomId: string): Promise<void> {
    this.#database.removeMember(channelOf(roomId), user);
    await this.#tidings.leave(user, roomId);
    await this.#tidings.publishToUser(user, "channels.changed", { room: roomId });
  }

  #userOf(socketId: string): string {
    const user = this.#database.userOfSocket(socketId);
    if (user === undefined) throw new Error(`no socket ${socketId} is connected`);
    return user;
  }
}
