/** Each function of the RoomManager that was added, on the socket SESSION of USER: run in the application's folder. */

"use strict";

const assert = require("node:assert/strict");
const { readFileSync } = require("node:fs");
const { createRequire } = require("node:module");

const its = createRequire(`${process.cwd()}/`);
const { Tidings } = its("tidings-server-sdk");
const { RoomManager } = its("./ws/rooms");

const { SESSION: session, USER: user, TIDINGS_URL: url } = process.env;
const ROOM = "room:workshop";

async function main() {
  const tidings = new Tidings({ url, secret: readFileSync("tidings.secret", "utf8").trim() });
  const rooms = new RoomManager(tidings);
  await assert.rejects(rooms.join(session, ROOM), /no socket .* is connected/);
  rooms.connected(session, user);
  await rooms.join(session, ROOM);
  assert.deepEqual(await rooms.getMembers(ROOM), [user]);
  assert.deepEqual((await rooms.getUserRooms(session)).sort(), ["room:lobby", ROOM, `user:${user}`].sort());
  await rooms.broadcast(ROOM, "news", "for others", session);
  await rooms.broadcast(ROOM, "news", "for all");
  await rooms.leave(session, ROOM);
  assert.deepEqual(await rooms.getMembers(ROOM), []);
  rooms.disconnected(session);
  await assert.rejects(rooms.getUserRooms(session), /no socket/);
  tidings.close();
}

main();
