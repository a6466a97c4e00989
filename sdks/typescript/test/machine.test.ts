/** What a client does with a stream of messages: vectors/client_machine.json. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import { Client } from "../src/client.ts";
import { simulatedWorld } from "./world.ts";

interface Step {
  receive?: string;
  join?: string;
  rejoin?: string;
  disconnect?: number | null;
  expect: string | null;
}
interface Scenario {
  name: string;
  steps: Step[];
}

const file = new URL("../../../vectors/client_machine.json", import.meta.url);
const scenarios: Scenario[] = JSON.parse(readFileSync(file, "utf8"));

for (const { name, steps } of scenarios) {
  test(name, async () => {
    const simulation = simulatedWorld();
    const { clock } = simulation;
    const client = new Client("ws://server/ws", { world: simulation.world });
    await clock.advance(0);
    let [events, resets, joinId, resumeId] = [0, 0, "", ""];
    const watched = new Set<string>();
    /** The resume that the next welcome has to cause; undefined if none is expected to be looked for. */
    let expectedResume: string | null | undefined;
    const watch = (room: string) => {
      if (watched.has(room)) return;
      watched.add(room);
      client.room(room).onEvent(() => (events += 1));
      client.room(room).onReset(() => (resets += 1));
    };
    const takeRequest = (event: string) => {
      const sent = simulation.socket.next();
      assert.equal(sent?.event, event);
      return sent as { id: string; room: string; data: { last_event_id?: string } };
    };
    const positions = () => [...watched].map((room) => client.room(room).lastEventId).join();
    for (const step of steps) {
      if (step.receive !== undefined) {
        const text = step.receive.replaceAll("$join", joinId).replaceAll("$resume", resumeId);
        const message = JSON.parse(text);
        for (const room of [message.room, ...(message.data?.rooms?.length ? message.data.rooms : [])])
          if (typeof room === "string") watch(room);
        if (message.event && !message.room && !/^(ack|error|session\.|room\.)/.test(message.event)) {
          const off = client.on(message.event, () => (events += 1));
          queueMicrotask(off);
        }
        const before = { events, resets, positions: positions(), sent: simulation.socket.sent.length };
        simulation.socket.onmessage?.({ data: text });
        // An error without an id and presence reach nobody here who could be counted.
        const isQuiet = /^(error|presence\.)/.test(message.event);
        const seen =
          events > before.events ? "accept"
          : resets > before.resets ? "reset"
          : /^(session\.welcome|ack|room\.(joined|left))$/.test(message.event) ? "ignore"
          : simulation.socket.sent.length > before.sent ? "hole"
          : positions() !== before.positions ? "move"
          : "nothing";
        const expected = isQuiet || step.expect === "drop" || step.expect === "ignore" ? ["nothing", "ignore"] : [step.expect];
        assert.ok(expected.includes(seen), `${text}: ${seen}, not ${step.expect}`);
        await clock.advance(0);
        if (message.event === "session.welcome" && expectedResume !== undefined) {
          if (expectedResume !== null) {
            const resume = takeRequest("session.resume");
            const sorted = (cursor: string) => cursor.split(",").sort();
            assert.deepEqual(sorted(resume.data.last_event_id ?? ""), sorted(expectedResume));
            resumeId = resume.id;
          }
          expectedResume = undefined;
        }
      } else if (step.join !== undefined) {
        watch(step.join);
        client.join(step.join).catch(() => {});
        const join = takeRequest("room.join");
        assert.equal(join.data.last_event_id ?? null, step.expect);
        joinId = join.id;
      } else if (step.rejoin !== undefined) {
        const join = takeRequest("room.join");
        assert.deepEqual([join.room, join.data.last_event_id ?? null], [step.rejoin, step.expect]);
        joinId = join.id;
      } else {
        simulation.socket.cut(step.disconnect ?? 1006);
        const before = simulation.sockets.length;
        while (simulation.sockets.length === before) await clock.advance(1000);
        expectedResume = step.expect;
      }
    }
    assert.deepEqual(simulation.socket.sent, [], "nothing else was sent");
  });
}
