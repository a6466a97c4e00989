/**
 * Webhooks (`docs/webhooks.md`): what Tidings asks this application, and what it tells it.
 *
 * Nothing is looked at before its signature is good, and nothing counts twice.
 */

import { createHmac, timingSafeEqual } from "node:crypto";
import type { IncomingHttpHeaders, IncomingMessage, ServerResponse } from "node:http";

/** How old, or how far ahead of this machine's clock, a webhook may be. */
const TOLERANCE_S = 300;
/** Ids that are remembered at most, for as long as their timestamps may be good: beyond it the oldest go. */
const IDS_MAX = 100_000;
const IDS_FOR_MS = 2 * TOLERANCE_S * 1000;
const BODY_BYTES_MAX = 8 * 1024 * 1024;
const TYPE_PREFIX = "dev.tidings.";
/** Whoever is asked has to answer; what is told may be of no interest. */
const ASKED = ["connect", "join", "event"];
const TOLD = ["disconnect", "room.occupied", "room.vacated", "presence"];

type Answer<Value> = Value | Promise<Value>;
type Claims = Readonly<Record<string, unknown>>;

export interface ConnectAnswer {
  readonly allow: boolean;
  /** Rooms that he is joined to at once, beside those of his token. */
  readonly rooms?: readonly string[];
  /** Why not, for the client. */
  readonly reason?: string;
}

export interface EventCall {
  readonly user: string;
  readonly session: string;
  /** Null: what the client sent was for none, and what is published needs one of its own. */
  readonly room: string | null;
  readonly event: string;
  readonly data: unknown;
  /** The client's own id of it, which comes again when he tries again; null, if he has sent none and wants no answer. */
  readonly id: string | null;
  readonly claims: Claims;
}

export type EventAnswer =
  | {
      /** What the client's request is answered with. */
      readonly ack?: unknown;
      /** What is published, in this order; `room` is that of the call, if unset. */
      readonly broadcast?: readonly {
        readonly room?: string;
        readonly event: string;
        readonly data?: unknown;
        readonly to_others?: boolean;
      }[];
    }
  | { readonly error: { readonly code: string; readonly message: string } };

/** What there is to know of any webhook. */
export interface About {
  /** Its id: the same when it is told once more. */
  readonly id: string;
  /** When it was made, as RFC 3339. */
  readonly time: string;
}

/** By the names of the configuration's `events`. The first three are asked, and whoever throws there lets nobody in. */
export interface WebhookHandlers {
  connect?(call: { readonly user: string; readonly claims: Claims }, about: About): Answer<boolean | ConnectAnswer>;
  join?(call: { readonly user: string; readonly room: string; readonly claims: Claims }, about: About): Answer<boolean>;
  event?(call: EventCall, about: About): Answer<EventAnswer | void>;
  disconnect?(
    told: {
      readonly user: string;
      readonly session: string;
      readonly code: number;
      readonly reason: string;
      readonly connected_ms: number;
    },
    about: About,
  ): unknown;
  "room.occupied"?(told: { readonly room: string }, about: About): unknown;
  "room.vacated"?(told: { readonly room: string }, about: About): unknown;
  presence?(
    told: {
      readonly room: string;
      readonly user: string;
      readonly change: "join" | "update" | "leave";
      readonly info: unknown;
    },
    about: About,
  ): unknown;
}

export interface WebhookOptions {
  /** `whsec_…` of the configuration's `secret_file`, in the place of what comes from the secret that signs the tokens. */
  readonly secret?: string;
  /** Told of what a handler threw, where no framework is; `console.error`, if unset. */
  readonly onError?: (error: unknown) => void;
}

export interface WebhookAnswer {
  readonly status: number;
  readonly body: object | null;
}

/** Where webhooks come in: `app.post("/tidings", webhooks.handler)`, or `createServer(webhooks.handler)`. */
export class Webhooks {
  /** For Express, and for `node:http`. Express's own parsers of JSON may stand before it. */
  readonly handler: (
    request: IncomingMessage & { body?: unknown },
    response: ServerResponse,
    next?: (error?: unknown) => void,
  ) => void;
  readonly #handlers: WebhookHandlers;
  readonly #key: Buffer;
  /** What has come, by id, the oldest first; for what is told, what was made of it or is being made. */
  readonly #seen = new Map<string, { readonly at: number; readonly made: Promise<WebhookAnswer> | null }>();

  /** @internal */
  constructor(handlers: WebhookHandlers, secret: string | Buffer, { onError = console.error }: WebhookOptions) {
    this.#handlers = handlers;
    this.#key = typeof secret === "string" ? decoded(secret) : secret;
    this.handler = (request, response, next) => {
      this.#read(request)
        .then(async (body) => {
          const { status, body: answer } = await this.answer(request.headers, body);
          const type = status < 300 ? "application/json" : "application/problem+json";
          if (answer === null) response.writeHead(status).end();
          else response.writeHead(status, { "content-type": type }).end(JSON.stringify(answer));
        })
        .catch((error: unknown) => {
          if (next) return next(error);
          onError(error);
          if (!response.headersSent) response.writeHead(500);
          response.end();
        });
    };
  }

  /**
   * What to answer a webhook with, for any framework: the request's headers, with their names in lower case, and its body
   * as it came. Rejects with what a handler has thrown: answer 500 then.
   */
  async answer(headers: IncomingHttpHeaders, body: Uint8Array): Promise<WebhookAnswer> {
    const [id, timestamp, signatures] = ["webhook-id", "webhook-timestamp", "webhook-signature"].map((name) =>
      String(headers[name] ?? ""),
    );
    const fault = this.#fault(id!, timestamp!, signatures!, body);
    if (fault) return problem(401, "signature_invalid", fault);
    let message: { type?: unknown; time?: unknown; data?: unknown };
    try {
      message = JSON.parse(Buffer.from(body).toString()) as typeof message;
    } catch {
      return problem(400, "invalid", "the body is no JSON");
    }
    const kind = String(message?.type ?? "").replace(TYPE_PREFIX, "");
    const isAsked = ASKED.includes(kind);
    const before = this.#seen.get(id!);
    // What is told comes again if the answer got lost, and was taken then. What is asked is asked once.
    if (before) return before.made ?? problem(409, "replayed", "this id has been asked");
    const made = this.#handle(kind, message.data, { id: id!, time: String(message.time ?? "") });
    this.#remember(id!, isAsked ? null : made);
    return made;
  }

  #remember(id: string, made: Promise<WebhookAnswer> | null): void {
    const now = Date.now();
    for (const [oldest, { at }] of this.#seen) {
      if (this.#seen.size < IDS_MAX && now - at < IDS_FOR_MS) break;
      this.#seen.delete(oldest);
    }
    this.#seen.set(id, { at: now, made });
    // What could not be taken will be told again, and is new then.
    made?.catch(() => this.#seen.delete(id));
  }

  #fault(id: string, timestamp: string, signatures: string, body: Uint8Array): string | null {
    if (!id || !timestamp || !signatures) return "webhook-id, webhook-timestamp and webhook-signature have to be there";
    const ageS = Date.now() / 1000 - Number(timestamp);
    if (!(Math.abs(ageS) <= TOLERANCE_S)) return `the timestamp is more than ${TOLERANCE_S} s off this machine's clock`;
    const expected = createHmac("sha256", this.#key).update(`${id}.${timestamp}.`).update(body).digest();
    const isGood = signatures.split(" ").some((signature) => {
      const [version, value] = signature.split(",");
      const given = Buffer.from(value ?? "", "base64");
      return version === "v1" && given.length === expected.length && timingSafeEqual(given, expected);
    });
    return isGood ? null : "the signature is not that of this secret: both sides have to have the same";
  }

  async #handle(kind: string, data: unknown, about: About): Promise<WebhookAnswer> {
    if (!ASKED.includes(kind) && !TOLD.includes(kind)) return { status: 204, body: null };
    // The shapes are the server's, which has signed them.
    const handlers = this.#handlers as Record<string, ((data: unknown, about: About) => unknown) | undefined>;
    if (!handlers[kind] && ASKED.includes(kind))
      return problem(501, "not_handled", `this application has no handler for ${kind}`);
    const made = await handlers[kind]?.(data, about);
    if (kind === "connect" || kind === "join")
      return { status: 200, body: typeof made === "object" && made ? made : { allow: made === true } };
    if (kind !== "event") return { status: 204, body: null };
    const answer = (made ?? {}) as { error?: unknown; ack?: unknown; broadcast?: unknown };
    return {
      status: 200,
      body: answer.error ? { error: answer.error } : { ack: answer.ack ?? null, broadcast: answer.broadcast ?? [] },
    };
  }

  async #read(request: IncomingMessage & { body?: unknown }): Promise<Uint8Array> {
    // By Express's parser of raw bodies.
    if (request.body instanceof Uint8Array) return request.body;
    if (request.readableEnded)
      throw new Error("the body was parsed before its signature was checked: put webhooks.handler before that parser");
    const chunks: Buffer[] = [];
    let size = 0;
    for await (const chunk of request as AsyncIterable<Buffer>) {
      size += chunk.length;
      if (size > BODY_BYTES_MAX) throw new Error(`a webhook of more than ${BODY_BYTES_MAX} bytes`);
      chunks.push(chunk);
    }
    return Buffer.concat(chunks);
  }
}

function decoded(secret: string): Buffer {
  const key = Buffer.from(secret.trim().replace(/^whsec_/, ""), "base64");
  if (!secret.trim().startsWith("whsec_") || key.length < 24)
    throw new TypeError("a webhook's secret is whsec_ and base64 of at least 24 bytes");
  return key;
}

function problem(status: number, code: string, detail: string): WebhookAnswer {
  return { status, body: { title: code.replaceAll("_", " "), status, code, detail } };
}
