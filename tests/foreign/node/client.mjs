// Holds the conversation of PROTOCOL.md with a running server, by the library `ws`.
//
// Written against the protocol page alone. The server is TIDINGS_TEST_URL, its tokens TIDINGS_TEST_TOKENS (a JSON
// object: name to token); ../README.md says what that server has to offer. Arguments are the names of cases to run
// alone. Every wait has a bound.

import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import http from "node:http";
import { setTimeout as pause } from "node:timers/promises";
import WebSocket from "ws";

const URL_BASE = new URL(process.env.TIDINGS_TEST_URL);
const TOKENS = JSON.parse(process.env.TIDINGS_TEST_TOKENS);
const RUN = randomBytes(4).toString("hex");
const WAIT_MS = 5000;
const MESSAGE_BYTES_MAX = 64 * 1024;

let counter = 0;
const newId = () => `${RUN}-${counter++}`;
const room = (kind = "open") => `${kind}:${RUN}-${counter++}`;
const offset = (id) => Number(id.slice(id.lastIndexOf(".") + 1));

/** `promise`, or a failure after WAIT_MS. */
function within(promise, what) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`no ${what} within ${WAIT_MS} ms`)), WAIT_MS);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

/** The server answered with an `error`. */
class Refused extends Error {
  constructor(data) {
    super(`error ${JSON.stringify(data)}`);
    this.data = data;
  }
}

class Client {
  static open = new Set();
  #waiting = [];
  #wake = () => {};

  /** Connects and reads the welcome. A refusal is thrown as {status, headers, problem}. */
  static async connect(user = "alice", { query = {}, headers, protocols = [], origin, token = TOKENS[user] } = {}) {
    const url = new URL(URL_BASE);
    url.search = new URLSearchParams(token === null ? query : { ...query, token });
    const client = new Client();
    const ws = new WebSocket(url, protocols, { headers, origin, perMessageDeflate: false, handshakeTimeout: WAIT_MS });
    client.ws = ws;
    ws.on("message", (raw, isBinary) => client.#arrived(raw, isBinary));
    client.closed = new Promise((resolve) => ws.on("close", resolve));
    const opened = new Promise((resolve, reject) => {
      ws.on("open", resolve);
      ws.on("error", reject);
      ws.on("unexpected-response", (request, response) => readProblem(response).then(reject, reject));
    });
    await within(opened, "open");
    Client.open.add(client);
    client.welcome = (await client.event("session.welcome")).data;
    return client;
  }

  #arrived(raw, isBinary) {
    let message;
    if (isBinary) {
      const length = raw.readUInt16BE(0);
      message = { ...JSON.parse(raw.subarray(2, 2 + length)), payload: raw.subarray(2 + length) };
    } else {
      message = { ...JSON.parse(raw), raw: raw.toString() };
    }
    this.#waiting.push(message);
    this.#wake();
  }

  /** The first message that fits; the others stay, in their order. */
  take(fits, what) {
    const search = async () => {
      for (;;) {
        const index = this.#waiting.findIndex(fits);
        if (index >= 0) return this.#waiting.splice(index, 1)[0];
        await new Promise((resolve) => (this.#wake = resolve));
      }
    };
    return within(search(), what);
  }

  event(name, inRoom) {
    return this.take((m) => m.event === name && (inRoom === undefined || m.room === inRoom), name);
  }

  /** The next message of a room that has a position. */
  nextIn(inRoom) {
    return this.take((m) => m.room === inRoom && "id" in m, `message in ${inRoom}`);
  }

  async nextIds(inRoom, count) {
    const ids = [];
    while (ids.length < count) ids.push((await this.nextIn(inRoom)).id);
    return ids;
  }

  send(event, inRoom, data, id) {
    this.ws.send(JSON.stringify({ event, room: inRoom, data, id }));
  }

  async answer(id) {
    const message = await this.take((m) => (m.event === "ack" || m.event === "error") && m.id === id, `answer to ${id}`);
    if (message.event === "error") throw new Refused(message.data);
    return message.data;
  }

  /** The ack's data. What is too fast is sent again with the same id when the server says so (§3). */
  async request(event, inRoom, data, id = newId()) {
    for (const until = Date.now() + WAIT_MS; ; ) {
      this.send(event, inRoom, data, id);
      try {
        return await this.answer(id);
      } catch (refused) {
        if (refused.data?.code !== "rate_limited" || Date.now() > until) throw refused;
        await pause(refused.data.retry_after_ms);
      }
    }
  }

  async refused(code, event, inRoom, data, id) {
    const refusal = await this.request(event, inRoom, data, id).then(
      (ack) => assert.fail(`${event} in ${inRoom} was acked with ${JSON.stringify(ack)}`),
      (error) => error,
    );
    if (!(refusal instanceof Refused)) throw refusal;
    assert.equal(refusal.data.code, code);
    assert.ok(refusal.data.message, "a sentence for people");
    return refusal.data;
  }

  /** Sends bytes that are no message; the error carries the id if there is one. */
  async invalid(raw, id) {
    this.ws.send(raw);
    const { data } = await this.take((m) => m.event === "error" && (m.id ?? undefined) === id, `error for ${raw}`);
    assert.equal(data.code, "invalid", String(raw).slice(0, 60));
  }

  async joined(inRoom = room()) {
    await this.request("room.join", inRoom, {});
    return inRoom;
  }

  async closedWith(code) {
    assert.equal(await within(this.closed, "close"), code);
  }

  /** Ends the connection as a network does: without a close frame. */
  async cut() {
    this.ws.terminate();
    await this.closed;
  }
}

async function two() {
  const [alice, bob] = [await Client.connect("alice"), await Client.connect("bob")];
  const name = await alice.joined();
  await bob.joined(name);
  return [alice, bob, name];
}

async function readProblem(response) {
  const chunks = [];
  for await (const chunk of response) chunks.push(chunk);
  assert.match(response.headers["content-type"] ?? "", /^application\/problem\+json/);
  const problem = JSON.parse(Buffer.concat(chunks));
  assert.equal(problem.status, response.statusCode);
  for (const field of ["type", "title", "detail", "code", "fix"]) assert.ok(problem[field], `no ${field} in the problem`);
  return { status: response.statusCode, headers: response.headers, problem };
}

/** A GET of the same URL by plain HTTP. */
function get(query, headers = {}) {
  const url = new URL(URL_BASE);
  url.protocol = "http:";
  url.search = new URLSearchParams(query);
  const answer = new Promise((resolve, reject) => {
    const request = http.get(url, { headers, agent: false }, (response) => readProblem(response).then(resolve, reject));
    request.on("upgrade", (response, socket) => {
      socket.destroy();
      resolve({ status: 101, headers: response.headers, problem: {} });
    });
    request.on("error", reject);
  });
  return within(answer, "answer");
}

/** The library's upgrade and the plain GET give the same refusal. */
async function bothRefused(status, code, { query = {}, headers = {}, token = null } = {}) {
  const upgrade = await Client.connect("nobody", { query, headers, token }).then(
    () => assert.fail(`connected, where ${code} was expected`),
    (refusal) => refusal,
  );
  const plain = await get(token === null ? query : { ...query, token }, headers);
  for (const refusal of [upgrade, plain]) {
    assert.deepEqual([refusal.status, refusal.problem?.code], [status, code], String(refusal.stack ?? ""));
  }
  return upgrade;
}

const cases = {
  async welcome_says_who_and_what() {
    const { welcome } = await Client.connect();
    assert.deepEqual(welcome.rooms, []);
    assert.equal(welcome.heartbeat_ms, 30000);
    assert.equal(welcome.limits.text_message_bytes, MESSAGE_BYTES_MAX);
    assert.ok(welcome.session && Array.isArray(welcome.features));
  },

  async token_by_header_subprotocol_and_query() {
    const byHeader = await Client.connect("alice", { token: null, headers: { Authorization: `Bearer ${TOKENS.alice}` } });
    const byQuery = await Client.connect();
    const offered = ["tidings.v1", `tidings.token.${TOKENS.alice}`];
    const byProtocol = await Client.connect("alice", { token: null, protocols: offered });
    assert.equal(byProtocol.ws.protocol, "tidings.v1");
    assert.deepEqual([byHeader.welcome.user, byProtocol.welcome.user], [byQuery.welcome.user, byQuery.welcome.user]);
  },

  async each_handshake_refusal() {
    await bothRefused(401, "token_missing");
    await bothRefused(401, "token_malformed", { token: TOKENS.malformed });
    await bothRefused(401, "token_expired", { token: TOKENS.expired });
    await bothRefused(401, "token_signature", { token: TOKENS.wrong_secret });
    await bothRefused(401, "token_claims", { token: TOKENS.wrong_claims });
    await bothRefused(400, "invalid_cursor", { token: TOKENS.alice, query: { last_event_id: "nonsense" } });
    const foreign = { token: TOKENS.alice, headers: { Origin: "http://elsewhere.example" } };
    assert.match((await bothRefused(403, "origin_not_allowed", foreign)).problem.fix, /elsewhere\.example/);
    const plain = await get({ token: TOKENS.alice });
    assert.deepEqual([plain.status, plain.problem.code], [426, "upgrade_required"]);
    const version = await Client.connect("alice", { protocols: ["tidings.v9"] }).catch((refusal) => refusal);
    assert.deepEqual([version.status, version.problem?.code], [409, "client_version"]);
    const upgrade = { Connection: "Upgrade", Upgrade: "websocket", "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==" };
    const old = await get({ token: TOKENS.alice }, { ...upgrade, "Sec-WebSocket-Version": "12" });
    assert.deepEqual([old.status, old.headers["sec-websocket-version"]], [426, "13"]);
    const keyless = await get({ token: TOKENS.alice }, { ...upgrade, "Sec-WebSocket-Key": "no", "Sec-WebSocket-Version": "13" });
    assert.deepEqual([keyless.status, keyless.problem.code], [400, "bad_upgrade"]);
  },

  async connection_limit_and_takeover() {
    const held = [];
    while (held.length < 5) held.push(await Client.connect("limited"));
    const refusal = await bothRefused(429, "connection_limit", { token: TOKENS.limited });
    assert.ok(Number(refusal.headers["retry-after"]) >= 0);
    const { session } = held[0].welcome;
    const heir = await Client.connect("limited", { query: { session } });
    await held[0].closedWith(4009);
    assert.notEqual(heir.welcome.session, session);
  },

  async join_list_leave() {
    const alice = await Client.connect();
    const name = room();
    const ack = await alice.request("room.join", name, {});
    assert.deepEqual([ack.recovery, ack.members, ack.last_event_id], ["fresh", 1, ack.top]);
    assert.equal(offset(ack.top), 0);
    assert.deepEqual(await alice.request("room.list"), { rooms: [name] });
    assert.deepEqual(await alice.request("room.leave", name), {});
    assert.deepEqual(await alice.request("room.list"), { rooms: [] });
    assert.deepEqual(await alice.request("presence.heartbeat"), {});
    assert.ok((await alice.request("session.refresh", undefined, { token: TOKENS.alice })).expires_at);
  },

  async publish_reaches_everyone_with_its_position() {
    const [alice, bob, name] = await two();
    const id = newId();
    const ack = await alice.request("said", name, { content: "Hello" }, id);
    assert.equal(ack.duplicate, false);
    for (const client of [alice, bob]) {
      const said = await client.event("said", name);
      assert.deepEqual([said.id, said.re, said.from], [ack.event_id, id, alice.welcome.user]);
      assert.deepEqual(said.data, { content: "Hello" });
    }
  },

  async data_is_carried_as_it_came() {
    const [alice, bob, name] = await two();
    const data = '{"b":1.0,"a":123456789012345678901234567890,"b":[ ],"c":"\\u00e9"}';
    alice.ws.send(`{"event":"said","room":"${name}","data":${data}}`);
    assert.ok((await bob.event("said", name)).raw.includes(`"data":${data}`));
  },

  async members_and_presence() {
    const [alice, bob, name] = await two();
    const user = bob.welcome.user;
    const came = (await alice.event("presence.join", name)).data;
    assert.equal(came.user, user);
    await bob.request("presence.update", name, { info: { status: "away" } });
    const changed = (await alice.event("presence.update", name)).data;
    assert.deepEqual(changed, { user, info: { status: "away" }, rev: came.rev + 1 });
    const { members, rev } = await alice.request("room.members", name);
    assert.deepEqual(members.map((member) => member.user), [alice.welcome.user, user].sort());
    assert.equal(rev, changed.rev);
    await bob.request("room.leave", name);
    const left = (await alice.event("presence.leave", name)).data;
    assert.deepEqual([left.user, left.rev], [user, changed.rev + 1]);
    await alice.refused("too_large", "presence.update", name, { info: "x".repeat(4097) });
  },

  async history_and_its_pages() {
    const alice = await Client.connect();
    const name = await alice.joined();
    const ids = [];
    for (let n = 0; n < 5; n++) ids.push((await alice.request("said", name, n)).event_id);
    const newest = await alice.request("room.history", name, { limit: 2 });
    assert.deepEqual(newest.events.map((event) => event.id), ids.slice(3));
    const older = await alice.request("room.history", name, { before: newest.next });
    assert.deepEqual(older.events.map((event) => event.data), [0, 1, 2]);
    const bob = await Client.connect("bob");
    assert.equal((await bob.request("room.join", name, { history: 2 })).last_event_id, ids[2]);
    assert.deepEqual(await bob.nextIds(name, 2), ids.slice(3));
  },

  async others_get_it_and_the_sender_a_skip() {
    const [alice, bob, name] = await two();
    await alice.request("others", name, 1);
    const heard = await bob.event("others", name);
    const skip = await alice.event("room.skip", name);
    assert.deepEqual([skip.id, skip.data], [heard.id, { from: offset(heard.id), reason: "excluded" }]);
  },

  async binary_both_ways() {
    const [alice, bob, name] = await two();
    const id = newId();
    const payload = randomBytes(2000);
    const header = Buffer.from(JSON.stringify({ event: "image", room: name, id }));
    const length = Buffer.alloc(2);
    length.writeUInt16BE(header.length);
    alice.ws.send(Buffer.concat([length, header, payload]));
    const ack = await alice.answer(id);
    for (const client of [alice, bob]) {
      const image = await client.event("image", name);
      assert.deepEqual([image.id, image.re, "data" in image], [ack.event_id, id, false]);
      assert.ok(payload.equals(image.payload), "the payload was altered");
    }
  },

  async auto_join_a_cut_and_last_event_id() {
    const alice = await Client.connect();
    await alice.joined("open:auto");
    const before = await Client.connect("auto");
    assert.deepEqual(before.welcome.rooms, ["open:auto"]);
    const start = before.welcome.last_event_id;
    await before.cut();
    const missed = [];
    for (let n = 0; n < 3; n++) missed.push((await alice.request("said", "open:auto", n)).event_id);
    const auto = await Client.connect("auto", { query: { last_event_id: start } });
    missed.push((await alice.request("said", "open:auto", 3)).event_id);
    assert.deepEqual(await auto.nextIds("open:auto", 4), missed);
    const other = (await alice.request("said", await alice.joined(), 1)).event_id;
    const oneId = await Client.connect("auto", { query: { last_event_id: other } });
    assert.equal((await oneId.event("room.reset", "open:auto")).data.reason, "no_position");
  },

  async resume_by_message() {
    const alice = await Client.connect();
    const name = await alice.joined();
    const before = await Client.connect("bob");
    const start = (await before.request("room.join", name, {})).top;
    await before.cut();
    const missed = [];
    for (let n = 0; n < 2; n++) missed.push((await alice.request("said", name, n)).event_id);
    const bob = await Client.connect("bob", { query: { resume: "wait" } });
    const forbidden = room("closed");
    const cursor = `${start},${forbidden}@k3f9a1qz.1`;
    const { rooms } = await bob.request("session.resume", undefined, { last_event_id: cursor });
    assert.deepEqual([rooms[name].recovery, rooms[name].last_event_id, rooms[name].top], ["complete", start, missed[1]]);
    assert.deepEqual(rooms[forbidden], { error: "forbidden" });
    assert.deepEqual(await bob.nextIds(name, 2), missed);
  },

  async positions_that_this_log_never_had() {
    const [alice, bob, name] = await two();
    const { event_id: top } = await alice.request("said", name, 1);
    await bob.nextIn(name);
    const tooFar = `${top.slice(0, top.lastIndexOf("."))}.1000`;
    for (const [position, reason] of [[`${name}@00000000.5`, "unknown_epoch"], [tooFar, "too_far"]]) {
      const ack = await bob.request("room.join", name, { last_event_id: position });
      assert.deepEqual([ack.recovery, ack.top], ["gap", top]);
      const reset = await bob.event("room.reset", name);
      assert.equal(reset.data.reason, reason);
    }
  },

  async checkpoints() {
    const alice = await Client.connect("alice", { query: { checkpoints: 1 } });
    const { top } = await alice.request("room.join", room(), {});
    const holds = (m) => m.event === "session.checkpoint" && m.data.last_event_id.split(",").includes(top);
    await alice.take(holds, "checkpoint");
  },

  async idempotency() {
    const alice = await Client.connect();
    const name = await alice.joined();
    const id = newId();
    const first = await alice.request("said", name, { n: 1 }, id);
    assert.deepEqual(await alice.request("said", name, { n: 1 }, id), { ...first, duplicate: true });
    await alice.refused("idempotency_conflict", "said", name, { n: 2 }, id);
  },

  async handlers_and_refusals() {
    const [alice, bob, name] = await two();
    const ack = await alice.request("message.send", undefined, { channelId: name, content: "Hello" });
    assert.equal(ack.stored, true);
    assert.equal((await bob.event("message.send", name)).data.content, "Hello");
    await alice.request("slow");
    await alice.refused("internal", "panic");
    assert.equal((await alice.refused("schema", "typed", undefined, { n: "one" })).pointer, "/n");
    await alice.refused("unknown_event", "nobody.handles.this");
    await alice.refused("forbidden", "room.join", room("closed"), {});
    await alice.refused("forbidden", "said", await alice.joined(room("read")), 1);
    await alice.refused("unknown_room", "room.join", room("nowhere"), {});
    await alice.refused("not_joined", "said", room(), 1);
  },

  async what_is_no_message() {
    const [alice, , name] = await two();
    const id = newId();
    for (const raw of ["", "{", "[]", '{"data":1}', '{"event":"a b"}', Buffer.from([255, 255, 123])]) await alice.invalid(raw);
    for (const rest of [`"event":"said","room":"${name}","more":1`, '"event":"said","event":"said"', '"event":"room.nuke"']) {
      await alice.invalid(`{"id":"${id}",${rest}}`, id);
    }
    const nested = (depth) => `{"event":"said","room":"${name}","id":"${id}","data":${"[".repeat(depth)}${"]".repeat(depth)}}`;
    await alice.invalid(nested(33), id);
    alice.ws.send(nested(32));
    await alice.answer(id);
    await alice.request("presence.heartbeat");
  },

  async room_limit() {
    const alice = await Client.connect();
    const cursor = Array.from({ length: 101 }, () => `${room()}@k3f9a1qz.0`).join(",");
    const { rooms } = await alice.request("session.resume", undefined, { last_event_id: cursor });
    assert.deepEqual(Object.values(rooms).filter((joined) => joined.error), [{ error: "room_limit" }]);
    await alice.refused("room_limit", "room.join", room(), {});
  },

  async rate_limit() {
    const client = await Client.connect("limited");
    const ids = Array.from({ length: 100 }, newId);
    for (const id of ids) client.send("room.list", undefined, undefined, id);
    const refusals = [];
    for (const id of ids) await client.answer(id).catch((refused) => refusals.push(refused.data));
    assert.ok(refusals.length > 0 && refusals.length <= 60, `${refusals.length} of 100 were refused`);
    for (const data of refusals) assert.ok(data.code === "rate_limited" && data.retry_after_ms > 0, JSON.stringify(data));
  },

  async ping_and_close_are_answered() {
    const alice = await Client.connect();
    const pong = new Promise((resolve) => alice.ws.on("pong", resolve));
    alice.ws.ping("tidings");
    assert.equal(String(await within(pong, "pong")), "tidings");
    alice.ws.close(1000);
    await alice.closedWith(1000);
  },

  async size_limit() {
    const [alice, , name] = await two();
    const frame = (bytes) => {
      const [head, tail] = [`{"event":"said","room":"${name}","data":"`, '"}'];
      return head + "x".repeat(bytes - head.length - tail.length) + tail;
    };
    alice.ws.send(frame(MESSAGE_BYTES_MAX));
    await alice.event("said", name);
    alice.ws.send(frame(MESSAGE_BYTES_MAX + 1));
    await alice.closedWith(1009);
  },

  async broken_frames_close_with_1002_and_1007() {
    const unmasked = await Client.connect();
    unmasked.ws._socket.write(Buffer.from([0x81, 2, 0x7b, 0x7d]));
    await unmasked.closedWith(1002);
    const notUtf8 = await Client.connect();
    notUtf8.ws.send(Buffer.from([0x22, 0xff, 0x22]), { binary: false });
    await notUtf8.closedWith(1007);
  },
};

const only = process.argv.slice(2);
let passed = 0;
let failed = 0;
for (const [name, run] of Object.entries(cases)) {
  if (only.length > 0 && !only.includes(name)) continue;
  try {
    await run();
    passed += 1;
    console.log(`ok ${name}`);
  } catch (error) {
    failed += 1;
    const why = error instanceof Error ? error.message : JSON.stringify(error);
    // The innermost frame of the case itself: the outermost of the stack is the loop that called it.
    const line = String(error?.stack).match(/client\.mjs:\d+/g)?.at(-2);
    console.log(`not ok ${name}: ${line ?? ""} ${String(why).replaceAll("\n", " ")}`);
  }
  // Closed one after the other and awaited, so that the next case finds its users' slots free.
  for (const client of Client.open) {
    client.ws.close();
    await within(client.closed, "close").catch(() => client.ws.terminate());
  }
  Client.open.clear();
}
console.log(`${passed} passed, ${failed} failed, 0 skipped`);
process.exit(failed === 0 ? 0 : 1);
