/**
 * A truthful server in a few lines: one log per room, idempotency, resume, acks, presence left out. PROTOCOL.md §2, §3.
 *
 * Its network delays every message and loses what is under way when a connection is cut.
 */

import type { FakeSocket, SimulatedClock } from "./world.ts";

interface Sent {
  event: string;
  room?: string;
  data?: { last_event_id?: string; history?: number };
  id?: string;
}

const EPOCH = "k3f9a1qz";

/** What a connection may send: a bucket of so many messages, refilled at so many a second. */
export interface Rate {
  readonly messages_per_second: number;
  readonly messages_burst: number;
}

export class ModelServer {
  readonly #clock: SimulatedClock;
  readonly #random: () => number;
  readonly logs = new Map<string, object[]>();
  /** Request id to the event that it led to. */
  readonly #published = new Map<string, string>();
  #socket: FakeSocket | null = null;
  readonly #joined = new Set<string>();
  /** So many events are stored per room; older ones are a reset. */
  readonly #historyMax: number;
  #firstStored = new Map<string, number>();
  readonly #rate: Rate | undefined;
  #tokens = 0;
  #refilledAt = 0;
  /** So many messages were above the rate. */
  refused = 0;

  constructor(clock: SimulatedClock, random: () => number, historyMax = Infinity, rate?: Rate) {
    this.#rate = rate;
    this.#clock = clock;
    this.#random = random;
    this.#historyMax = historyMax;
  }

  get hasConnection(): boolean {
    return this.#socket !== null;
  }

  /** Takes a connection over. */
  accept(socket: FakeSocket): void {
    this.#socket = socket;
    this.#joined.clear();
    this.#tokens = this.#rate?.messages_burst ?? Infinity;
    this.#refilledAt = this.#clock.now();
    const limits = this.#rate ?? {};
    this.#reply({ event: "session.welcome", data: { session: "s", user: "me", rooms: [], last_event_id: "", heartbeat_ms: 30000, limits, features: [] } });
  }

  /** Takes what the client has sent by now. A message of which the connection was cut before it is not here. */
  poll(): void {
    for (let sent = this.#socket?.next(); sent; sent = this.#socket?.next()) {
      const [socket, message] = [this.#socket, sent as unknown as Sent];
      this.#later(socket, () => this.#serve(message));
    }
  }

  cut(): void {
    const socket = this.#socket;
    this.#socket = null;
    this.#joined.clear();
    socket?.cut();
  }

  publish(room: string, rest: object): string {
    const log = this.#log(room);
    const id = `${room}@${EPOCH}.${log.length + 1}`;
    const event = { event: "e", room, data: log.length + 1, ...rest, id };
    log.push(event);
    this.#firstStored.set(room, Math.max(1, log.length - this.#historyMax + 1));
    if (this.#joined.has(room)) this.#reply(event);
    return id;
  }

  #log(room: string): object[] {
    let log = this.logs.get(room);
    if (!log) this.logs.set(room, (log = []));
    return log;
  }

  /** Whether a message is above the rate. */
  #isRefused(): boolean {
    if (!this.#rate) return false;
    const { messages_per_second, messages_burst } = this.#rate;
    const now = this.#clock.now();
    this.#tokens = Math.min(messages_burst, this.#tokens + ((now - this.#refilledAt) / 1000) * messages_per_second);
    this.#refilledAt = now;
    if (this.#tokens < 1) return true;
    this.#tokens -= 1;
    return false;
  }

  #serve({ event, room, data, id }: Sent): void {
    if (this.#isRefused()) {
      this.refused += 1;
      return this.#reply({ event: "error", id, data: { code: "rate_limited", message: "", retry_after_ms: 20 } });
    }
    if (event === "presence.heartbeat") return id === undefined ? undefined : this.#reply({ event: "ack", id, data: {} });
    if (event === "room.join" && room) {
      const follow = this.#attach(room, data?.last_event_id, data?.history);
      this.#reply({ event: "ack", id, data: follow.joined });
      follow.events();
    } else if (event === "session.resume") {
      const followed = (data?.last_event_id ?? "").split(",").map((cursor) => {
        const room = cursor.slice(0, cursor.lastIndexOf("@"));
        return { room, ...this.#attach(room, cursor) };
      });
      this.#reply({ event: "ack", id, data: { rooms: Object.fromEntries(followed.map(({ room, joined }) => [room, joined])) } });
      for (const { events } of followed) events();
    } else if (room && id && this.#joined.has(room)) {
      const known = this.#published.get(id);
      const eventId = known ?? this.publish(room, { data, from: "me", re: id });
      this.#published.set(id, eventId);
      this.#reply({ event: "ack", id, data: { event_id: eventId, duplicate: known !== undefined } });
    } else this.#reply({ event: "error", id, data: { code: "not_joined", message: "" } });
  }

  #attach(room: string, cursor?: string, history = 0) {
    const log = this.#log(room);
    const top = log.length;
    const asked = cursor === undefined ? Math.max(0, top - history) : Number(cursor.slice(cursor.lastIndexOf(".") + 1));
    const first = this.#firstStored.get(room) ?? 1;
    const isLost = asked + 1 < first;
    const recovery = cursor === undefined ? "fresh" : isLost ? "gap" : "complete";
    const joined = { recovery, last_event_id: `${room}@${EPOCH}.${asked}`, top: `${room}@${EPOCH}.${top}`, members: 1 };
    const events = () => {
      this.#joined.add(room);
      if (isLost && cursor !== undefined) {
        const lost = { from: asked + 1, to: first - 1 };
        this.#reply({ event: "room.reset", room, id: `${room}@${EPOCH}.${first - 1}`, data: { reason: "expired", lost } });
      }
      for (const event of log.slice(isLost ? first - 1 : asked, top)) this.#reply(event);
    };
    return { joined, events };
  }

  #reply(message: object): void {
    const socket = this.#socket;
    this.#later(socket, () => socket?.receive(message));
  }

  #queues = new WeakMap<FakeSocket, number>();

  /** After 0 to 100 ms, in order; not at all if the connection is gone by then. */
  #later(socket: FakeSocket | null, call: () => void): void {
    if (!socket) return;
    const at = Math.max(this.#queues.get(socket) ?? 0, this.#clock.now() + this.#random() * 100);
    this.#queues.set(socket, at);
    this.#clock.setTimeout(() => {
      if (socket === this.#socket && !socket.isCut) call();
    }, at - this.#clock.now());
  }
}
