/** Each function of the room manager, on sockets that are there. */

import assert from "node:assert/strict";
import { test } from "node:test";

import { Tidings } from "tidings-server-sdk";
import { WebSocket } from "ws";

import { Database } from "../src/database.ts";
import { RoomManager, roomOf } from "../ws/rooms.ts";
import { Person } from "./person.ts";
import { SECRET, start } from "./processes.ts";

type Message = Readonly<Record<string, any>>;

/** A WebSocket without an SDK: everything that comes. */
class RawSocket {
  readonly #socket: WebSocket;
  readonly #came: Message[] = [];
  #changed = () => {};

  constructor(url: string) {
    this.#socket = new WebSocket(url);
    this.#socket.on("message", (text) => {
      this.#came.push(JSON.parse(String(text)));
      this.#changed();
    });
  }

  /** The first that there is, or will be. */
  async first(event: string, room?: string): Promise<Message> {
    for (;;) {
      const found = this.#came.find((message) => message.event === event && (room === undefined || message.room === room));
      if (found) return found;
      await new Promise<void>((resolve) => (this.#changed = resolve));
    }
  }

  all(event: string): unknown[] {
    return this.#came.filter((message) => message.event === event).map(({ data }) => data);
  }

  async heartbeat(): Promise<void> {
    this.#socket.send(JSON.stringify({ event: "presence.heartbeat", room: "ch_1", data: null, id: "heartbeat-1" }));
    await this.first("ack");
  }

  close(): void {
    this.#socket.close();
  }
}

test("join, leave, broadcast, getMembers, getUserRooms", { timeout: 60_000 }, async (context) => {
  const { address, url, database: file } = await start(context);
  const database = new Database(file);
  const tidings = new Tidings({ url, secret: SECRET });
  context.after(() => {
    tidings.close();
    database.close();
  });
  const rooms = new RoomManager(tidings, database);

  const come = async (name: string) => {
    const person = new Person(address, name);
    await person.logIn();
    const { token } = (await person.ask<{ token: string }>("/token")).body;
    const socket = new RawSocket(`${address.replace("http", "ws")}/ws?token=${token}`);
    context.after(() => socket.close());
    const { session } = (await socket.first("session.welcome")).data;
    // From its first event on a socket is known.
    await assert.rejects(rooms.join(session, "ch_1"), /no socket .* is connected/);
    await socket.heartbeat();
    return { socket, id: session as string };
  };
  const ann = await come("ann");
  const bob = await come("bob");
  const channel = database.createChannel("Workshop");
  const room = roomOf(channel);

  await rooms.join(ann.id, room);
  assert.deepEqual(await rooms.getMembers(room), ["ann"]);
  await rooms.join(bob.id, room);
  const told = await ann.socket.first("presence.join", room);
  assert.equal(told.data.user, "bob");
  assert.deepEqual(await rooms.getMembers(room), ["ann", "bob"]);
  assert.deepEqual((await rooms.getUserRooms(bob.id)).sort(), ["ch_1", room, "user:bob"]);
  assert.ok(database.isMember(channel, "bob"));

  await rooms.broadcast(room, "news", "for bob", ann.id);
  await rooms.broadcast(room, "news", "for both");
  await rooms.broadcast(room, "last", null);
  await Promise.all([ann.socket.first("last"), bob.socket.first("last")]);
  assert.deepEqual(ann.socket.all("news"), ["for both"]);
  assert.deepEqual(bob.socket.all("news"), ["for bob", "for both"]);

  await rooms.leave(bob.id, room);
  assert.equal((await ann.socket.first("presence.leave", room)).data.user, "bob");
  assert.deepEqual(await rooms.getMembers(room), ["ann"]);
  assert.deepEqual((await rooms.getUserRooms(bob.id)).sort(), ["ch_1", "user:bob"]);
  assert.ok(!database.isMember(channel, "bob"));

  // The application is told of an end by a webhook.
  bob.socket.close();
  while (database.userOfSocket(bob.id) !== undefined) await new Promise((resolve) => setTimeout(resolve, 10));
  await assert.rejects(rooms.getUserRooms(bob.id), /no socket/);
});
