/** Which request goes when: what was asked later of a room must not take effect before. */
import assert from "node:assert/strict";
import { test } from "node:test";

import { Outbox } from "../src/outbox.ts";

const joined = () => true;
const away = () => false;

/** The ids of everything that can be sent now. */
function sendable(outbox: Outbox, now: number, isJoined: (room: string) => boolean = joined): string[] {
  const ids = [];
  for (let entry = outbox.nextToSend(now, isJoined); entry; entry = outbox.nextToSend(now, isJoined)) {
    entry.isSent = true;
    ids.push(entry.message.id);
  }
  return ids;
}

test("a join waits for the leave of its room that is tried again, and other rooms wait for nothing", () => {
  const outbox = new Outbox(undefined, 0);
  outbox.push({ event: "room.leave", room: "a", id: "leave" }, "application", 0);
  outbox.push({ event: "room.join", room: "a", data: {}, id: "join" }, "join", 0);
  outbox.push({ event: "say", room: "a", data: 1, id: "say" }, "application", 0);
  outbox.push({ event: "room.join", room: "b", data: {}, id: "other" }, "join", 0);
  assert.deepEqual(sendable(outbox, 0, away), ["leave", "other"]);
  outbox.retryLater(outbox.get("leave")!, 100, 0);
  assert.deepEqual(sendable(outbox, 50, away), []);
  assert.deepEqual(sendable(outbox, 100, away), ["leave"]);
  outbox.take(outbox.get("leave")!);
  assert.deepEqual(sendable(outbox, 100, away), ["join"]);
  outbox.take(outbox.get("join")!);
  assert.deepEqual(sendable(outbox, 100, joined), ["say"]);
});

test("what was asked of a room before it is joined again waits for that join, and keeps its order", () => {
  const outbox = new Outbox(undefined, 0);
  const say = (id: string, room: string) => outbox.push({ event: "say", room, data: 1, id }, "application", 0);
  say("first", "a");
  say("elsewhere", "b");
  outbox.push({ event: "room.leave", room: "a", id: "leave" }, "application", 0);
  outbox.push({ event: "room.join", room: "a", data: {}, id: "join" }, "join", 0);
  say("second", "a");
  const awayFromA = (room: string) => room !== "a";
  assert.deepEqual(sendable(outbox, 0, awayFromA), ["elsewhere", "leave"]);
  outbox.take(outbox.get("leave")!);
  assert.deepEqual(sendable(outbox, 0, awayFromA), ["join"]);
  outbox.retryLater(outbox.get("join")!, 100, 0);
  assert.deepEqual(sendable(outbox, 100, awayFromA), ["join"]);
  outbox.take(outbox.get("join")!);
  assert.deepEqual(sendable(outbox, 100), ["first", "second"]);
});

test("no server makes a request wait for ever, or not at all", () => {
  const outbox = new Outbox(undefined, 0);
  outbox.push({ event: "order", data: 1, id: "order" }, "application", 0);
  assert.deepEqual(sendable(outbox, 0), ["order"]);
  outbox.retryLater(outbox.get("order")!, Infinity, 0);
  assert.deepEqual([sendable(outbox, 1_000), outbox.nextDeadline()], [[], 120_000]);
});

test("what was refused for now holds its room also when it is sent again, until it is answered", () => {
  const outbox = new Outbox(undefined, 0);
  for (const id of ["first", "second", "third"]) outbox.push({ event: "say", room: "a", data: 1, id }, "application", 0);
  for (const id of ["one", "two"]) outbox.push({ event: "order", data: 1, id }, "application", 0);
  assert.deepEqual(sendable(outbox, 0), ["first", "second", "third", "one", "two"]);
  // As a server does that takes no more for a moment.
  for (const id of ["first", "second", "third", "one"]) outbox.retryLater(outbox.get(id)!, 20, 0);
  outbox.push({ event: "say", room: "b", data: 1, id: "other" }, "application", 0);
  assert.deepEqual(sendable(outbox, 20), ["first", "one", "other"]);
  assert.deepEqual(sendable(outbox, 1_000), []);
  outbox.take(outbox.get("first")!);
  assert.deepEqual(sendable(outbox, 1_000), ["second"]);
  outbox.disconnected();
  assert.deepEqual(sendable(outbox, 1_000), ["second", "one", "other"], "nor on the next connection");
});

test("the client's own question, refused for now, is in nobody's way", () => {
  const outbox = new Outbox(undefined, 0);
  outbox.push({ event: "room.members", room: "a", data: {}, id: "who" }, "question", 0);
  assert.deepEqual(sendable(outbox, 0), ["who"]);
  outbox.retryLater(outbox.get("who")!, 1_000, 0);
  outbox.push({ event: "say", room: "a", data: 1, id: "say" }, "application", 0);
  assert.deepEqual(sendable(outbox, 0), ["say"]);
});
