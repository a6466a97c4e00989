/** The publisher with a Tidings that answers as it is told. */

import assert from "node:assert/strict";
import { test } from "node:test";

import { Database } from "../src/database.js";
import { Publisher } from "../src/publisher.js";

const refusal = (code) => ({ error: { code, detail: `it is ${code}` } });

/** Two channels, what was said in them, and what Tidings took of it. `refuse` says with which code it does not. */
function start(context, refuse) {
  context.mock.timers.enable({ apis: ["setTimeout"] });
  context.mock.method(console, "error", () => {});
  const database = new Database(":memory:");
  database.signUp("ann", "a hash");
  const { id: second } = database.createChannel("Second", "ann");
  const taken = [];
  const tidings = {
    async batch(events) {
      return events.map(({ room, data }) => {
        const code = refuse(data.content);
        if (code) return refusal(code);
        taken.push(`${room}: ${data.content}`);
        return { event_id: `${room}@k3f9a1qz.${taken.length}`, duplicate: false };
      });
    },
  };
  let count = 0;
  const say = (content, channel = 1) => database.store(channel, "ann", content, `m-${(count += 1)}`);
  const publisher = new Publisher(database, tidings);
  context.after(async () => {
    await publisher.close();
    database.close();
  });
  return { publisher, taken, say, second };
}

for (const code of ["unavailable", "rate_limited", "internal"])
  test(`what is ${code} is tried again, and what was said behind it waits`, async (context) => {
    let isRefused = true;
    const { publisher, taken, say, second } = start(context, (content) => isRefused && content === "one" && code);
    say("one");
    say("two");
    say("elsewhere", second);
    await publisher.publish();
    assert.deepEqual(taken, [`ch_${second}: elsewhere`]);
    isRefused = false;
    say("three");
    await publisher.publish();
    assert.deepEqual(taken.length, 1, "it waits for its time");
    context.mock.timers.tick(2_000);
    await publisher.publish();
    assert.deepEqual(taken.slice(1), ["ch_1: one", "ch_1: two", "ch_1: three"]);
  });

test("what is refused for good holds nothing up, and is not tried again", async (context) => {
  let refusals = 0;
  const { publisher, taken, say } = start(context, (content) => content === "one" && (refusals += 1) && "too_large");
  say("one");
  say("two");
  await publisher.publish();
  context.mock.timers.tick(2_000);
  await publisher.publish();
  assert.deepEqual([taken, refusals], [["ch_1: two"], 1]);
});

test("in one batch there is one message of a channel", async (context) => {
  let isFirst = true;
  // Its bucket has a place again behind the first.
  const { publisher, taken, say } = start(context, () => {
    const code = isFirst && "rate_limited";
    isFirst = false;
    return code;
  });
  say("one");
  say("two");
  await publisher.publish();
  assert.deepEqual(taken, []);
  context.mock.timers.tick(2_000);
  await publisher.publish();
  assert.deepEqual(taken, ["ch_1: one", "ch_1: two"]);
});
