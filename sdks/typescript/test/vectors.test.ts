/** The examples of the wire protocol that all of its implementations run: vectors/README.md. */
import assert from "node:assert/strict";
import { readFileSync, readdirSync } from "node:fs";
import { test } from "node:test";

import * as protocol from "../src/protocol.ts";

const folder = new URL("../../../vectors/", import.meta.url);
const read = (name: string) => JSON.parse(readFileSync(new URL(name, folder), "utf8"));

interface Input {
  text?: string;
  parts?: (string | [string, number])[];
  hex?: string;
}
const textOf = ({ text, parts }: Input) =>
  text ?? parts!.map((part) => (typeof part === "string" ? part : part[0].repeat(part[1]))).join("");
const hex = (bytes: unknown) => Buffer.from(bytes as Uint8Array).toString("hex");

test("every file of vectors is run by somebody", () => {
  const files = readdirSync(folder).filter((name) => name.endsWith(".json"));
  assert.deepEqual(files.sort(), [
    "client_machine.json", // machine.test.ts
    "client_messages.json",
    "close_codes.json",
    "cursors.json",
    "server_messages.json",
  ]);
});

/**
 * What is told beside it this client has no use for: it keeps its beat by itself, and reads no reason that it does not
 * tell. One change of a room's presence is one like several.
 */
function readByTheClient({ heartbeat_ms, features, ...expected }: Record<string, unknown>) {
  if (expected.kind === "checkpoint") return { kind: "unknown", event: "session.checkpoint" };
  if (expected.kind === "skip" || expected.kind === "reconnect") delete expected.reason;
  const kind = "presence_changes";
  if (expected.kind === "presence") {
    const { change, room, user, info, rev } = expected;
    const [here, gone] = change === "leave" ? [[], [user]] : [[{ user, info }], []];
    return { kind, room, here, gone, from: rev, rev };
  }
  if (expected.kind === kind) {
    const { joins, updates, leaves: gone, ...rest } = expected;
    return { ...rest, here: [...(joins as unknown[]), ...(updates as unknown[])], gone };
  }
  return expected;
}

test("what a server sends", () => {
  for (const vector of read("server_messages.json")) {
    const message = vector.hex
      ? protocol.decodeBinary(new Uint8Array(Buffer.from(vector.hex, "hex")))
      : protocol.decodeText(textOf(vector));
    const seen: Record<string, unknown> = { ...message };
    if (seen.data instanceof Uint8Array) {
      seen.payload_hex = hex(seen.data);
      delete seen.data;
    }
    delete seen.limits;
    assert.deepEqual(seen, readByTheClient(vector.expect), vector.name);
  }
});

test("what a client may send", () => {
  for (const vector of read("client_messages.json").filter((vector: { expect?: unknown }) => vector.expect)) {
    const { event, room, data, id, payload_hex } = vector.expect;
    const payload = payload_hex === undefined ? undefined : new Uint8Array(Buffer.from(payload_hex, "hex"));
    const value = payload ?? JSON.parse(data);
    const encoded = protocol.encode({ event, room: room ?? undefined, data: value, id: id ?? undefined });
    if (payload) {
      const end = 2 + Buffer.from(encoded as Uint8Array).readUInt16BE(0);
      const header = JSON.parse(Buffer.from((encoded as Uint8Array).subarray(2, end)).toString());
      assert.deepEqual([header.event, header.room ?? null, header.id ?? null], [event, room, id], vector.name);
      assert.equal(hex((encoded as Uint8Array).subarray(end)), payload_hex, vector.name);
    } else {
      const sent = JSON.parse(encoded as string);
      assert.deepEqual([sent.event, sent.room ?? null, sent.id ?? null], [event, room, id], vector.name);
      // JSON.stringify writes 1e999 as null, as an application that has such a number would see too.
      assert.deepEqual(sent.data, JSON.parse(JSON.stringify(value)), vector.name);
    }
  }
});

test("cursors and event ids", () => {
  const { cursors, event_ids } = read("cursors.json");
  for (const vector of cursors) {
    const text = textOf(vector);
    // A server's rule: this client takes what it is told, and cuts what it sends to fit.
    if (text.length > protocol.CURSOR_BYTES_MAX) continue;
    const cursor = protocol.parseCursor(text);
    const seen = cursor && [...cursor].map(([room, { epoch, offset }]) => [room, `${epoch}.${offset}`]);
    assert.deepEqual(seen ?? null, vector.expect && Object.entries(vector.expect), JSON.stringify(vector));
  }
  for (const vector of event_ids) {
    const id = protocol.parseEventId(textOf(vector));
    assert.equal(id && `${id.room}@${id.epoch}.${id.offset}`, vector.valid ? textOf(vector) : undefined);
  }
});

test("close codes", () => {
  for (const { code, reaction } of read("close_codes.json")) assert.equal(protocol.reaction(code), reaction, `${code}`);
});
