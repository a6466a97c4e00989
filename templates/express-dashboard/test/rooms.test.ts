/** Each function of the room manager, on sockets that are there. */

import assert from "node:assert/strict";
import { test } from "node:test";

import { Tidings } from "tidings-server-sdk";

import { Database } from "../src/database.ts";
import { RoomManager, roomOf } from "../ws/rooms.ts";
import { SECRET, start } from "./processes.ts";
import { RawSocket } from "./raw_socket.ts";
import { ROOM, Viewer } from "./viewer.ts";

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
    const viewer = new Viewer(address, name);
    await viewer.logIn();
    const socket = await RawSocket.of(viewer);
    context.after(() => socket.close());
    const { session } = (await socket.first("session.welcome")).data;
    // From its first event on a socket is known.
    await assert.rejects(rooms.join(session, ROOM), /no socket .* is connected/);
    socket.heartbeat();
    await socket.first("ack");
    return { socket, id: session as string };
  };
  const ann = await come("ann");
  const bob = await come("bob");
  const room = roomOf("orders");

  await rooms.join(ann.id, room);
  assert.deepEqual(await rooms.getMembers(room), ["ann"]);
  await rooms.join(bob.id, room);
  assert.equal((await bob.socket.first("room.joined")).room, room);
  assert.deepEqual(await rooms.getMembers(room), ["ann", "bob"]);
  assert.deepEqual((await rooms.getUserRooms(bob.id)).sort(), [ROOM, room]);
  assert.deepEqual(database.boardsOf("bob"), ["machine", "orders"]);

  await rooms.broadcast(room, "order", { series: "for bob" }, ann.id);
  await rooms.broadcast(room, "order", { series: "for both" });
  await rooms.broadcast(room, "last", null);
  await Promise.all([ann.socket.first("last"), bob.socket.first("last")]);
  assert.deepEqual(ann.socket.all("order"), [{ series: "for both" }]);
  assert.deepEqual(bob.socket.all("order"), [{ series: "for bob" }, { series: "for both" }]);

  await rooms.leave(bob.id, room);
  assert.equal((await bob.socket.first("room.left")).room, room);
  assert.deepEqual(await rooms.getMembers(room), ["ann"]);
  assert.deepEqual(await rooms.getUserRooms(bob.id), [ROOM]);
  assert.deepEqual(database.boardsOf("bob"), ["machine"]);

  // The application is told of an end by a webhook.
  bob.socket.close();
  while (database.userOfSocket(bob.id) !== undefined) await new Promise((resolve) => setTimeout(resolve, 10));
  await assert.rejects(rooms.getUserRooms(bob.id), /no socket/);
});
