import assert from "node:assert/strict";
import { test } from "node:test";

import { Timeline, type Item, type StoredMessage } from "./timeline.ts";

const message = (from: string, id: string, content = id): StoredMessage => ({ from, id, content, at: 1 });
const words = (items: readonly Item[]) =>
  items.map((item) => ("divider" in item ? "—" : `${item.content}${item.delivery === "sending" ? "…" : ""}`)).join(" ");

test("one's own message is there at once, and once, in the room's order", () => {
  const timeline = new Timeline("ann");
  timeline.sending({ id: "1", content: "a", at: 1 });
  timeline.sending({ id: "2", content: "b", at: 1 });
  timeline.receive(message("bob", "1", "x"));
  assert.equal(words(timeline.items), "x a… b…");
  timeline.receive(message("ann", "1", "a"));
  timeline.stored("1");
  timeline.receive(message("ann", "1", "a"));
  assert.equal(words(timeline.items), "x a b…");
  timeline.stored("2");
  assert.equal(words(timeline.items), "x a b");
});

test("a message that failed and came after all is stored; one that is stored does not fail", () => {
  const timeline = new Timeline("ann");
  timeline.sending({ id: "1", content: "a", at: 1 });
  timeline.failed("1", "no answer came");
  timeline.receive(message("ann", "1", "a"));
  timeline.failed("1", "late");
  assert.deepEqual(timeline.items.map((item) => "delivery" in item && [item.delivery, item.fault]), [["stored", undefined]]);
});

test("an edit is the sender's, and an older copy does not undo it", () => {
  const timeline = new Timeline("ann");
  timeline.receive(message("bob", "1", "x"));
  timeline.edit("ann", "1", "forged", 5);
  timeline.edit("bob", "1", "y", 5);
  timeline.edit("bob", "1", "older", 4);
  timeline.receive(message("bob", "1", "x"));
  assert.equal(words(timeline.items), "y");
});

test("what is loaded comes first; what came meanwhile, edits too, stays", () => {
  const timeline = new Timeline("ann");
  timeline.receive(message("bob", "2"));
  timeline.receive(message("bob", "3"));
  timeline.edit("bob", "2", "2!", 9);
  timeline.sending({ id: "4", content: "4", at: 1 });
  timeline.load([message("bob", "1"), message("bob", "2")]);
  assert.equal(words(timeline.items), "1 2! 3 4…");
});

test("a reset with a state replaces, one without marks the gap, and both keep what is unsent", () => {
  const timeline = new Timeline("ann");
  timeline.receive(message("bob", "1"));
  timeline.sending({ id: "2", content: "2", at: 1 });
  timeline.sending({ id: "3", content: "3", at: 1 });
  timeline.reset(undefined, "a gap");
  assert.equal(words(timeline.items), "1 — 2… 3…");
  timeline.reset([message("bob", "9"), message("ann", "2")], "from the database");
  assert.equal(words(timeline.items), "9 2 — 3…");
});

test("the newest text of one's own can be edited", () => {
  const timeline = new Timeline("ann");
  timeline.receive(message("ann", "1", "mine"));
  timeline.receive({ from: "ann", id: "2", image: "/images/1", at: 2 });
  timeline.receive(message("bob", "1", "his"));
  assert.equal(timeline.lastOwn?.content, "mine");
});
