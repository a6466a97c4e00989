/** Which request goes when: what was asked later of a room must not take effect before. */
import assert from "node:assert/strict";
import { test } from "node:test";

import { Outbox } from "../src/outbox.ts";

const joined = () => true;

/** The ids of everything that can be sent now. */
function sendable(outbox: Outbox, now: number): string[] {
  const ids = [];
  for (let entry = outbox.nextToSend(now, joined); entry; entry = outbox.nextToSend(now, joined)) ids.push(entry.id);
  return ids;
}

test("a join waits for the leave of its room that is tried again, and other rooms wait for nothing", () => {
  const outbox = new Outbox(undefined, 0);
  outbox.push({ event: "room.leave", room: "a", id: "leave" }, "application", 0);
  outbox.push({ event: "room.join", room: "a", data: {}, id: "join" }, "join", 0);
  outbox.push({ event: "say", room: "a", data: 1, id: "say" }, "application", 0);
  outbox.push({ event: "room.join", room: "b", data: {}, id: "other" }, "join", 0);
  assert.deepEqual(sendable(outbox, 0), ["leave", "other"]);
  outbox.retryLater(outbox.get("leave")!, 100, 0);
  assert.deepEqual(sendable(outbox, 50), []);
  assert.deepEqual(sendable(outbox, 100), ["leave"]);
  outbox.take("leave");
  assert.deepEqual(sendable(outbox, 100), ["join", "say"]);
});
