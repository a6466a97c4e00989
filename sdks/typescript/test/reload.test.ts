/** What outlives a reload of the page: requests without an answer, and how far each room was handled. */
import assert from "node:assert/strict";
import { test } from "node:test";

import { connected } from "./connected.ts";

function memoryStorage(): Storage & { items: Map<string, string> } {
  const items = new Map<string, string>();
  return {
    items,
    getItem: (key: string) => items.get(key) ?? null,
    setItem: (key: string, value: string) => void items.set(key, value),
    removeItem: (key: string) => void items.delete(key),
  } as never;
}

test("what was under way is sent again after a reload, under its id, when the room is joined", async () => {
  const storage = memoryStorage();
  const outbox = { storage, key: "outbox:me" };
  const page = await connected({ outbox });
  const room = await page.join("r");
  const [text, image] = [room.request("say", { content: "hi" }), room.request("image", new Uint8Array([0, 255, 1]))];
  room.request("room.members").catch(() => {});
  assert.equal(JSON.parse(storage.items.get("outbox:me")!).length, 2, "what the page itself asks is not kept");

  const reloaded = await connected({ outbox });
  assert.deepEqual(
    reloaded.client.unsettled.map(({ id, data }) => [id, data]),
    [
      [text.id, { content: "hi" }],
      [image.id, new Uint8Array([0, 255, 1])],
    ],
  );
  assert.equal(reloaded.sent(), undefined, "the room is not joined yet");
  const answers = reloaded.client.unsettled.map(({ answer }) => answer);
  const join = reloaded.client.join("r");
  reloaded.ack(reloaded.sent()?.id, reloaded.joined("r", 1));
  await join;
  await reloaded.clock.advance(1);
  assert.equal(reloaded.sent()?.id, text.id);
  assert.ok(reloaded.simulation.socket.sent.shift() instanceof Uint8Array, "bytes go as bytes again");
  reloaded.ack(text.id, { event_id: "r@k3f9a1qz.1", duplicate: true });
  reloaded.ack(image.id, { event_id: "r@k3f9a1qz.2", duplicate: false });
  assert.deepEqual((await Promise.all(answers)).length, 2);
  assert.equal(storage.items.size, 0);
});

test("what is kept is what was asked, whatever becomes of the application's data since", async () => {
  const outbox = { storage: memoryStorage(), key: "outbox:me" };
  const page = await connected({ outbox });
  const room = await page.join("r");
  const form = { content: "hi" };
  const asked = room.request("say", form);
  form.content = "";
  room.request("say", form);
  assert.deepEqual(page.client.unsettled[0]?.data, { content: "hi" });
  const reloaded = await connected({ outbox });
  const [first] = reloaded.client.unsettled;
  assert.deepEqual([first?.id, first?.data], [asked.id, { content: "hi" }]);
});

test("a position is stored when the application has handled the event, and a reloaded page goes on there", async () => {
  const storage = memoryStorage();
  const cursor = { storage, key: "cursor:me" };
  const stored = () => storage.items.get("cursor:me");
  const page = await connected({ cursor });
  const room = await page.join("r", 4);
  assert.equal(stored(), "r@k3f9a1qz.4");
  const whileHandled: unknown[] = [];
  room.onEvent(() => whileHandled.push(stored()));
  const event = (offset: number) => ({ event: "e", room: "r", id: `r@k3f9a1qz.${offset}`, data: offset });
  page.simulation.socket.receive(event(5));
  page.simulation.socket.receive({
    event: "room.skip",
    room: "r",
    id: "r@k3f9a1qz.7",
    data: { from: 6, reason: "excluded" },
  });
  assert.deepEqual([whileHandled, stored()], [["r@k3f9a1qz.4"], "r@k3f9a1qz.7"]);

  const reloaded = await connected({ cursor });
  const seen: unknown[] = [];
  reloaded.client.room("r").onEvent(({ data }) => seen.push(data));
  reloaded.client.room("r").onCaughtUp(({ events, recovery }) => seen.push(`${recovery} ${events}`));
  assert.equal(reloaded.client.room("r").lastEventId, "r@k3f9a1qz.7");
  const join = reloaded.client.join("r", { history: 50 });
  const sent = reloaded.sent();
  assert.deepEqual([sent?.event, sent?.data], ["room.join", { last_event_id: "r@k3f9a1qz.7" }]);
  reloaded.ack(sent?.id, { recovery: "complete", last_event_id: "r@k3f9a1qz.7", top: "r@k3f9a1qz.9", members: 1 });
  await join;
  await reloaded.clock.advance(1);
  [7, 8, 9].forEach((offset) => reloaded.simulation.socket.receive(event(offset)));
  assert.deepEqual([seen, stored()], [[8, 9, "complete 2"], "r@k3f9a1qz.9"]);
  reloaded.simulation.socket.receive({
    event: "room.reset",
    room: "r",
    id: "r@zzzzzzzz.3",
    data: { reason: "forked", lost: null },
  });
  reloaded.client.close();
  assert.equal(stored(), "r@zzzzzzzz.3", "a page that closes its client has handled what it has handled");
});

test("rooms that the server joins by itself go on where the page was, by the handshake", async () => {
  const storage = memoryStorage();
  const cursor = { storage, key: "c" };
  const kept = Array.from({ length: 40 }, (_, n) => `${"x".repeat(100)}${n}@k3f9a1qz.${n}`);
  storage.setItem("c", ["auto@k3f9a1qz.4", "later@k3f9a1qz.9", ...kept].join());
  const { simulation, client, next, sent, ack } = await connected(
    { cursor },
    { rooms: ["auto"], last_event_id: "auto@k3f9a1qz.4" },
  );
  const asked = simulation.socket.url.searchParams.get("last_event_id")!;
  assert.ok(asked.startsWith("auto@k3f9a1qz.4,later@k3f9a1qz.9,") && asked.length <= 4096 && asked.length > 3900, asked);
  assert.match(asked, /@k3f9a1qz\.\d+$/);
  const seen: unknown[] = [];
  client.room("auto").onEvent(({ data }) => seen.push(data));
  simulation.socket.receive({ event: "e", room: "auto", id: "auto@k3f9a1qz.5", data: 5 });
  assert.deepEqual(seen, [5]);
  assert.ok(
    storage.items.get("c")!.startsWith("auto@k3f9a1qz.5,later@k3f9a1qz.9,"),
    "rooms that are not yet joined are kept",
  );
  // A later connection resumes, as ever.
  simulation.socket.cut();
  await next();
  assert.deepEqual(
    [...simulation.socket.url.searchParams],
    [
      ["session", "s"],
      ["resume", "wait"],
    ],
  );
  simulation.socket.welcome();
  const resume = sent();
  assert.deepEqual(resume?.data, { last_event_id: "auto@k3f9a1qz.5" });
  const joined = { recovery: "complete", last_event_id: "auto@k3f9a1qz.5", top: "auto@k3f9a1qz.5", members: 1 };
  ack(resume?.id, { rooms: { auto: joined } });
  const left = client.room("auto").leave();
  ack(sent()?.id);
  await left;
  assert.ok(storage.items.get("c")!.startsWith("later@k3f9a1qz.9,"), "the room that was left is not");
});

test("a join that nobody answers for two minutes forgets no position", async () => {
  const storage = memoryStorage();
  storage.setItem("c", "r@k3f9a1qz.4");
  const { simulation, client, clock, sent } = await connected({ cursor: { storage, key: "c" } });
  const unknown = assert.rejects(client.join("r"), { code: "outcome_unknown" });
  for (let seconds = 0; seconds < 120; seconds += 20) {
    simulation.socket.receive({ event: "notice" });
    await clock.advance(20_000);
  }
  await unknown;
  while (sent());
  client.join("r").catch(() => {});
  assert.deepEqual([sent()?.data, storage.items.get("c")], [{ last_event_id: "r@k3f9a1qz.4" }, "r@k3f9a1qz.4"]);
});

test("a storage that is closed to the page, or holds something else, keeps nothing and breaks nothing", async () => {
  const refuse = () => {
    throw new Error("SecurityError");
  };
  const closed = { getItem: refuse, setItem: refuse, removeItem: refuse };
  const { join } = await connected({ cursor: { storage: closed, key: "c" }, outbox: { storage: closed, key: "o" } });
  assert.equal((await join("r", 4)).lastEventId, "r@k3f9a1qz.4");
  const storage = memoryStorage();
  storage.setItem("c", "nonsense");
  storage.setItem("o", "{");
  const { client } = await connected({ cursor: { storage, key: "c" }, outbox: { storage, key: "o" } });
  assert.deepEqual([client.room("r").lastEventId, client.unsettled], [null, []]);
});
