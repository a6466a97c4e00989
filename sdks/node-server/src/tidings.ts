/** Tidings as a backend sees it: tokens for its users, and everything of the HTTP API (`docs/http-api.md`). */

import { randomUUID } from "node:crypto";

import { Secret, type TokenOptions } from "./keys.ts";
import { Requests, TidingsError } from "./requests.ts";
import { Webhooks, type WebhookHandlers, type WebhookOptions } from "./webhooks.ts";

const TIMEOUT_MS = 5_000;
const CONNECTIONS_MAX = 16;

export interface TidingsOptions {
  /** Where Tidings listens: `http://127.0.0.1:7777`. */
  readonly url: string;
  /** The secret that signs the tokens, as the file has it. The API's key and that of the webhooks come from it. */
  readonly secret?: string | Uint8Array;
  /** A key of its own for the API (`[[api.keys]]`), in the place of the one that comes from the secret. */
  readonly key?: string;
  /** How long to wait for an answer before it is asked again; 5000, if unset. */
  readonly timeoutMs?: number;
  /** Connections that are open at a time; 16, if unset. */
  readonly connectionsMax?: number;
}

export interface PublishOptions {
  /** The session that is not to get it, as `session.welcome` named it, with `excludeUser`, whose it is. */
  readonly excludeSession?: string;
  readonly excludeUser?: string;
  /** Not stored, and without a position: typing, cursors. */
  readonly ephemeral?: boolean;
  /** 1–64 printable ASCII characters: whatever has the same within five minutes is one event. Made, if unset. */
  readonly idempotencyKey?: string;
}

/** An event of a batch, to a room or to a user's own. `data` that is a `Uint8Array` goes as a binary frame. */
export type BatchEvent = PublishOptions & { readonly event: string; readonly data?: unknown } & (
    { readonly room: string } | { readonly user: string }
  );

/** `event_id` is null for an ephemeral event; `duplicate` says that it was published before. */
export interface Published {
  readonly event_id: string | null;
  readonly duplicate: boolean;
}

/** What became of one event of a batch. */
export type BatchResult = Published | { readonly error: { readonly code: string; readonly detail: string } };

export interface Member {
  readonly user: string;
  readonly info: unknown;
}

/** An event as clients get it. */
export interface StoredEvent {
  readonly id: string;
  readonly event: string;
  readonly room: string;
  readonly data?: unknown;
  readonly from?: string;
  readonly at?: number;
  readonly [field: string]: unknown;
}

export interface Session {
  readonly session: string;
  readonly node: string;
  readonly rooms: readonly string[];
}

export interface NodeOfCluster {
  readonly id: string;
  readonly since: unknown;
  readonly connections: number;
  readonly is_this: boolean;
}

/** From where on, and how many. `next` of an answer is the `after`, or `before`, of the next page. */
export interface Page {
  readonly after?: string;
  readonly limit?: number;
}

type Connections = { readonly connections: number };

export class Tidings {
  readonly #secret: Secret | null;
  readonly #requests: Requests;

  constructor({ url, secret, key, timeoutMs = TIMEOUT_MS, connectionsMax = CONNECTIONS_MAX }: TidingsOptions) {
    this.#secret = secret === undefined ? null : new Secret(secret);
    const apiKey = key?.trim() ?? this.#secret?.apiKey;
    if (!apiKey) throw new TypeError("Tidings needs the secret that signs the tokens, or a key of the API");
    this.#requests = new Requests({ url, key: apiKey, timeoutMs, connectionsMax });
  }

  /** A token for one of your users, which his page shows Tidings. Nothing is asked for it. */
  mintToken(options: TokenOptions): string {
    return this.#secretFor("mintToken").mint(options);
  }

  /** The webhooks that Tidings sends to this application. */
  webhooks(handlers: WebhookHandlers, options: WebhookOptions = {}): Webhooks {
    return new Webhooks(handlers, options.secret ?? this.#secretFor("webhooks").webhookKey, options);
  }

  /** Publishes an event in a room: once, however often it has to be sent. Resolves when it is in the room's history. */
  publish(room: string, event: string, data?: unknown, options: PublishOptions = {}): Promise<Published> {
    return this.#publish(["rooms", room, "events"], event, data, options);
  }

  /** Publishes an event to all of a user's devices, those that are away too. */
  publishToUser(user: string, event: string, data?: unknown, options: PublishOptions = {}): Promise<Published> {
    return this.#publish(["users", user, "events"], event, data, options);
  }

  /**
   * Publishes up to 1,000 events with one request. An event that is refused is so alone: each has a result, in order. Such a
   * one is not tried again: where its code is `unavailable` or `rate_limited`, do, under an `idempotencyKey` of your own.
   */
  async batch(events: readonly BatchEvent[]): Promise<readonly BatchResult[]> {
    if (events.length === 0) return [];
    const body = {
      events: events.map(({ event, data, idempotencyKey = randomUUID(), ...rest }) => ({
        ...("room" in rest ? { room: rest.room } : { user: rest.user }),
        ...eventOf(event, data, rest),
        idempotency_key: idempotencyKey,
      })),
    };
    const { results } = await this.#requests.send<{ results: BatchResult[] }>({
      method: "POST",
      path: ["batch"],
      body,
    });
    return results;
  }

  /** The rooms that have members. */
  rooms(
    page: Page & { readonly prefix?: string } = {},
  ): Promise<{ rooms: { room: string; members: number }[]; next?: string }> {
    return this.#get(["rooms"], { ...page });
  }

  /** How many are in a room, and where it stands. */
  room(room: string): Promise<{ room: string; members: number; last_event_id: string }> {
    return this.#get(["rooms", room]);
  }

  /** Who is in a room, on all nodes. */
  members(room: string, page: Page = {}): Promise<{ members: Member[]; next?: string }> {
    return this.#get(["rooms", room, "members"], { ...page });
  }

  /** What was published in a room, ascending: the newest, or what is before an event. */
  history(
    room: string,
    page: { readonly before?: string; readonly limit?: number } = {},
  ): Promise<{ events: StoredEvent[]; next?: string }> {
    return this.#get(["rooms", room, "events"], { ...page });
  }

  /** Takes a stored event out of the history: whoever reads it later finds a skip in its place. */
  async redact(room: string, eventId: string): Promise<void> {
    await this.#requests.send({ method: "DELETE", path: ["rooms", room, "events", eventId] });
  }

  /** Whether a user is connected. */
  presence(user: string): Promise<{ user: string; online: boolean; connections: number }> {
    return this.#get(["users", user, "presence"]);
  }

  async sessions(user: string): Promise<Session[]> {
    return (await this.#get<{ sessions: Session[] }>(["users", user, "sessions"])).sessions;
  }

  /** The rooms that any of a user's connections is in. */
  async userRooms(user: string): Promise<string[]> {
    return (await this.#get<{ rooms: string[] }>(["users", user, "rooms"])).rooms;
  }

  /** Joins a user's connections to a room, whatever its rule says. Resolves with how many they are. */
  join(user: string, room: string): Promise<number> {
    return this.#connections("PUT", ["users", user, "rooms", room]);
  }

  /** Takes a user's connections out of a room. */
  leave(user: string, room: string): Promise<number> {
    return this.#connections("DELETE", ["users", user, "rooms", room]);
  }

  /** Closes a user's connections for good (4006). */
  disconnect(user: string): Promise<number> {
    return this.#connections("POST", ["users", user, "disconnect"]);
  }

  /** Takes back every token that a user has until now, and closes his connections (4001). */
  revoke(user: string): Promise<number> {
    return this.#connections("POST", ["users", user, "revoke"]);
  }

  /** Takes one token back, by its `jti`. */
  async revokeToken(jti: string): Promise<void> {
    await this.#requests.send({ method: "POST", path: ["tokens", jti, "revoke"] });
  }

  async nodes(): Promise<NodeOfCluster[]> {
    return (await this.#get<{ nodes: NodeOfCluster[] }>(["nodes"])).nodes;
  }

  /** Closes the connections that are kept. */
  close(): void {
    this.#requests.close();
  }

  #secretFor(what: string): Secret {
    if (this.#secret) return this.#secret;
    throw new TidingsError("secret_missing", `${what} needs the secret that signs the tokens`, {
      fix: "new Tidings({ url, secret }), beside a key if there is one",
    });
  }

  #publish(path: readonly string[], event: string, data: unknown, options: PublishOptions): Promise<Published> {
    // One key for all tries.
    const { idempotencyKey = randomUUID() } = options;
    return this.#requests.send({ method: "POST", path, body: eventOf(event, data, options), idempotencyKey });
  }

  #get<Result>(
    path: readonly string[],
    query: Readonly<Record<string, string | number | undefined>> = {},
  ): Promise<Result> {
    return this.#requests.send({ method: "GET", path, query });
  }

  async #connections(method: "POST" | "PUT" | "DELETE", path: readonly string[]): Promise<number> {
    return (await this.#requests.send<Connections>({ method, path })).connections;
  }
}

/** An event as the API takes it. */
function eventOf(event: string, data: unknown, { excludeSession, excludeUser, ephemeral }: PublishOptions): object {
  const payload =
    data instanceof Uint8Array
      ? { data: Buffer.from(data).toString("base64"), encoding: "base64" }
      : { data: data ?? null };
  return { event, ...payload, exclude_session: excludeSession, exclude_user: excludeUser, ephemeral };
}
