/**
 * The life of the client's connection: when to connect, when to give one up, when to stop. PROTOCOL.md §1, §5, §6, §7.
 *
 * It knows nothing of rooms and requests.
 */

import { Backoff } from "./backoff.ts";
import { Alarm, type Clock, type Time } from "./clock.ts";
import {
  BUFFERED_BYTES_MAX,
  CONNECT_MAX_MS,
  HEARTBEAT_AFTER_MS,
  PRESSURE_WAIT_MIN_MS,
  SILENCE_MAX_MS,
  STABLE_AFTER_MS,
  TOLD_WAIT_MAX_MS,
} from "./limits.ts";
import { Listeners } from "./listeners.ts";
import { Pace } from "./pace.ts";
import { decodeBinary, decodeText, reaction, type ServerMessage } from "./protocol.ts";

// Why the client closes: only after NORMAL is it gone for good, and the others are told at once.
const NORMAL = 1000;
const HEARTBEAT_TIMEOUT = 4110;
const DRAINING = 4200;

/** `connecting` and `reconnecting` end by themselves; `refused` ends by `reconnect()`; `closed` never. */
export type State = "connecting" | "connected" | "reconnecting" | "refused" | "closed";

/** Why there is no connection, as far as is known. */
export interface ConnectionFault {
  /** The HTTP status of a refused handshake, or the close code of a connection; null for a network, or a token's function, that failed. */
  readonly status: number | null;
  /** The refusal's code (`token_expired`, `connection_limit` …); null for what is none. */
  readonly code: string | null;
  /** In words, for people. */
  readonly message: string;
}

/** A provider is asked at every connect; `fresh` says that the last token was refused. `null`: nobody is logged in. */
export type TokenProvider = (ask: { fresh: boolean }) => string | null | Promise<string | null>;

/** As platforms have them: what they hand over has more to it than what is used. */
type Handler<Event> = { call(event: Event): void }["call"];

/** The part of the standard's WebSocket that is used. */
export interface Socket {
  binaryType: string;
  onmessage: Handler<{ data: unknown }> | null;
  onclose: Handler<{ code: number; reason: string }> | null;
  onerror: Handler<unknown> | null;
  /** Bytes that were sent and have not left; without it nobody is told that a network takes nothing. */
  readonly bufferedAmount?: number;
  send(frame: string | Uint8Array<ArrayBuffer>): void;
  close(code: number): void;
}

/** A WebSocket of the standard's shape: the platform's, or that of the package `ws`. */
export type WebSocketClass = new (url: string, protocols: string[]) => Socket;

/** An answer to a plain request. */
export interface Answer {
  readonly status: number;
  readonly headers: { get(name: string): string | null };
  json(): Promise<unknown>;
}

/** What the client needs of where it runs. */
export interface World {
  readonly clock: Clock;
  /** Draws from [0, 1). */
  readonly random: () => number;
  readonly WebSocket: WebSocketClass;
  readonly fetch: (url: string) => Promise<Answer>;
}

/** The same, with a time that is never set back. */
export type SteadyWorld = World & Time;

/** What a connection needs of its client. */
export interface ConnectionOwner {
  /** Says what the next handshake asks for beside its token. */
  dialled(query: URLSearchParams): void;
  received(message: ServerMessage): void;
  /** There is no connection any more, and what comes is another one, or none if it was the last. */
  lost(wasLast: boolean): void;
  /** A heartbeat, as a frame. */
  heartbeat(): string;
}

export class Connection {
  state: State = "connecting";
  fault: ConnectionFault | null = null;
  readonly states = new Listeners<State>();
  /** The last state that was told, or is being told: listeners may hear of `state` only later. */
  told: State = "connecting";
  /** What the server lets us send; nothing has to wait before it has said so. */
  pace = new Pace({});

  readonly #url: URL;
  readonly #token: string | TokenProvider | undefined;
  readonly #world: SteadyWorld;
  readonly #owner: ConnectionOwner;
  readonly #alarm: Alarm;
  readonly #backoff: Backoff;
  #phase: "waiting" | "opening" | "open" | "over" = "waiting";
  /** When the phase ends by itself; that of an open connection, when `session.reconnect` wants us to move. */
  #until: number;
  // Of an open connection: never, otherwise.
  #stableAt = Infinity;
  #heardAt = Infinity;
  #sentAt = Infinity;
  #socket: Socket | null = null;
  /** What belongs to an earlier attempt is not heard any more. */
  #attempt = 0;
  /** Another 1002, 1003, 1007 or 1009 is one too many. */
  #hasTriedOnce = false;
  #needsFreshToken = false;

  constructor(url: URL, token: string | TokenProvider | undefined, world: SteadyWorld, owner: ConnectionOwner) {
    this.#url = url;
    this.#token = token;
    this.#world = world;
    this.#owner = owner;
    this.#backoff = new Backoff(world.random);
    this.states.add((state) => (this.told = state));
    this.#alarm = new Alarm(world, () => this.#tick());
    this.#until = this.#world.now();
    this.#arm();
  }

  get #isOpen(): boolean {
    return this.#phase === "open";
  }

  /** Whether the network takes what is sent; there must be a connection. */
  get isFlowing(): boolean {
    return (this.#socket?.bufferedAmount ?? 0) <= BUFFERED_BYTES_MAX;
  }

  /** Sends a frame over the connection; there must be one. */
  send(frame: string | Uint8Array<ArrayBuffer>): void {
    this.#sentAt = this.#world.now();
    this.pace.sent(this.#sentAt);
    this.#socket!.send(frame);
  }

  /** Tries again now: after a refusal, or because the network is back. */
  reconnect(): void {
    const isRefused = this.state === "refused";
    if (!isRefused && this.#phase !== "waiting") return;
    this.#needsFreshToken ||= isRefused;
    // What failed while there was no network says nothing about the server.
    this.#backoff.reset();
    this.#end(this.#world.now());
  }

  /** Ends it for good. */
  close(): void {
    this.#end(Infinity, "closed", NORMAL);
  }

  /** Gives a server up that says nothing, or not what it has to, and makes another connection. */
  restart(): void {
    this.#fail(0, "no answer came");
  }

  #arm(): void {
    this.#alarm.set(
      Math.min(this.#until, this.#stableAt, this.#heardAt + SILENCE_MAX_MS, this.#sentAt + HEARTBEAT_AFTER_MS),
    );
  }

  #tick(): void {
    const now = this.#world.now();
    if (this.#stableAt <= now) {
      this.#stableAt = Infinity;
      this.#backoff.reset();
      this.#hasTriedOnce = false;
    }
    if (this.#until <= now && this.#phase === "waiting") void this.#open();
    else if (this.#until <= now && this.#isOpen) this.#end(now, undefined, DRAINING);
    else if (Math.min(this.#until, this.#heardAt + SILENCE_MAX_MS) <= now) this.restart();
    else if (this.#sentAt + HEARTBEAT_AFTER_MS <= now) this.send(this.#owner.heartbeat());
    this.#arm();
  }

  async #open(): Promise<void> {
    const isCurrent = this.#nextAttempt();
    const fresh = this.#needsFreshToken;
    this.#needsFreshToken = false;
    this.#phase = "opening";
    this.#until = this.#world.now() + CONNECT_MAX_MS;
    let token: string | null | undefined;
    try {
      token = typeof this.#token === "function" ? await this.#token({ fresh }) : this.#token;
    } catch (error) {
      if (isCurrent()) this.#fail(0, `no token: ${error}`);
      return;
    }
    if (!isCurrent()) return;
    if (token === null) return this.#fail(Infinity, "nobody is logged in", 401, "token_missing");
    const url = new URL(this.#url);
    this.#owner.dialled(url.searchParams);
    const protocols = ["tidings.v1", ...(token === undefined ? [] : [`tidings.token.${token}`])];
    let socket: Socket;
    try {
      socket = new this.#world.WebSocket(url.href, protocols);
    } catch (error) {
      // The platform takes no such URL, or no such token: trying again would not help.
      return this.#fail(Infinity, String(error));
    }
    socket.binaryType = "arraybuffer";
    socket.onmessage = ({ data }) => {
      if (isCurrent()) this.#received(data);
    };
    // Of a handshake that failed, the WebSocket of Node 22 tells no close behind it; otherwise one follows.
    socket.onerror = () => {
      if (isCurrent() && !this.#isOpen) void this.#askWhy(token, fresh);
    };
    socket.onclose = ({ code, reason }) => {
      if (!isCurrent()) return;
      // 1005 and 1006 are what a browser says when there was no close frame, or one without a code.
      const told = code === 1005 || code === 1006 ? null : code;
      if (this.#isOpen || told) this.#closed(told, reason);
      else void this.#askWhy(token, fresh);
    };
    this.#socket = socket;
  }

  #received(frame: unknown): void {
    const message = typeof frame === "string" ? decodeText(frame) : decodeBinary(new Uint8Array(frame as ArrayBuffer));
    const now = (this.#heardAt = this.#world.now());
    const begins = message.kind === "welcome" && !this.#isOpen;
    if (begins) {
      this.#phase = "open";
      this.#until = Infinity;
      this.#stableAt = now + STABLE_AFTER_MS;
      this.#sentAt = now;
      this.pace = new Pace(message.limits);
      this.fault = null;
      this.state = "connected";
    } else if (message.kind === "reconnect") {
      // The moment is drawn now, and holds also if the close comes earlier.
      const after = Math.min(message.after_ms, TOLD_WAIT_MAX_MS);
      const window = Math.max(0, Math.min(message.within_ms, TOLD_WAIT_MAX_MS) - after);
      this.#until = now + after + this.#world.random() * window;
    }
    this.#arm();
    this.#owner.received(message);
    // Whoever hears of it knows who he is, and may send. A listener may have closed the client.
    if (begins && this.#isOpen) this.#change("connected");
  }

  #closed(status: number | null, message: string): void {
    this.fault = { status, code: null, message };
    const todo = reaction(status);
    const isLast = todo === "stop" || (todo === "try_once" && this.#hasTriedOnce);
    this.#needsFreshToken ||= todo === "refresh_token";
    this.#hasTriedOnce ||= todo === "try_once";
    if (isLast) this.close();
    else if (todo === "reconnect_in_window" && this.#isOpen && this.#until < Infinity) this.#end(this.#until);
    else this.#wait(todo === "back_off_at_least_a_second" ? PRESSURE_WAIT_MIN_MS : 0);
  }

  /** A browser can't tell why a handshake failed: the same URL as a plain request can. */
  async #askWhy(token: string | undefined, tokenWasFresh: boolean): Promise<void> {
    const isCurrent = this.#nextAttempt();
    const url = new URL(this.#url);
    url.protocol = url.protocol.replace("ws", "http");
    if (token !== undefined) url.searchParams.set("token", token);
    let answer: Answer;
    let problem: { code?: string; detail?: string; fix?: string };
    try {
      answer = await this.#world.fetch(url.href);
      problem = ((await answer.json().catch(() => null)) ?? {}) as typeof problem;
    } catch (error) {
      if (isCurrent()) this.#fail(0, String(error));
      return;
    }
    if (!isCurrent()) return;
    const { status, headers } = answer;
    const isStale = (this.#needsFreshToken = status === 401 && !tokenWasFresh);
    // 426 is what a good URL says: then something between here and there stands in the way.
    const isRefused = !isStale && [400, 401, 403, 404, 409].includes(status);
    const retryAfterMs = Math.min(Number(headers.get("retry-after")) * 1000 || 0, TOLD_WAIT_MAX_MS);
    this.#fail(isRefused ? Infinity : retryAfterMs, [problem.detail, problem.fix].filter(Boolean).join("; "), status, problem.code);
  }

  /** There was no connection: for so long at least, or until somebody says that it is worth while. */
  #fail(leastMs: number, message: string, status: number | null = null, code: string | null = null): void {
    this.fault = { status, code, message };
    this.#wait(leastMs);
  }

  /** Backs off, for `leastMs` at least: the draw comes on top, so that nobody comes back in step. */
  #wait(leastMs: number): void {
    this.#end(this.#world.now() + leastMs + this.#backoff.next());
  }

  /** Lets go of the connection, as far as there is one, hears nothing of it any more, and waits until then. */
  #end(
    until: number,
    state: State = until === Infinity ? "refused" : this.state === "connecting" ? this.state : "reconnecting",
    code = HEARTBEAT_TIMEOUT,
  ): void {
    const isCurrent = this.#nextAttempt();
    this.#phase = until < Infinity ? "waiting" : "over";
    this.#until = until;
    this.#stableAt = this.#heardAt = this.#sentAt = Infinity;
    this.#arm();
    this.#socket?.close(code);
    this.#socket = null;
    this.#owner.lost(state === "closed");
    // Unless a listener has closed the client meanwhile.
    if (isCurrent()) this.#change(state);
  }

  /** Whether it is still that one, is what it gives. */
  #nextAttempt(): () => boolean {
    const attempt = ++this.#attempt;
    return () => attempt === this.#attempt;
  }

  #change(state: State): void {
    this.state = state;
    this.states.tell(state);
  }
}
